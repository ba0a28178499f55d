"""The values of this room as JSON and back, as strictly as records: a night is kept, and its page
is built from what was kept."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter

from results.codec import dumps_document, loads_document

Value = TypeVar("Value")


def dumps(kind: type[Value], value: Value) -> str:
    """Raises RecordFormatError for what could not be read again as it was."""
    return dumps_document(TypeAdapter(kind), value, kind.__name__)


def loads(kind: type[Value], text: str | bytes) -> Value:
    """Raises RecordFormatError for anything else."""
    return loads_document(TypeAdapter(kind), text)
