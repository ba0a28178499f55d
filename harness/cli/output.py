"""stdout carries the result and nothing else: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from results.record import RunRecord

# Tables keep their width when they go to a file, so that nothing is folded or lost.
PLAIN_WIDTH = 140


def stdout() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def stderr() -> Console:
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PLAIN_WIDTH)


def print_json(schema: str, body: Mapping[str, Any]) -> None:
    """One document: ``{"schema": "windtunnel.<what>/<version>", …}``. Refuses NaN and infinity."""
    print(json_text(schema, body))  # noqa: T201


def json_text(schema: str, body: Mapping[str, Any]) -> str:
    document = {"schema": schema, **body}
    return json.dumps(document, indent=2, allow_nan=False, default=str)


def record_document(record: RunRecord) -> dict[str, Any]:
    """The record as the store keeps it."""
    from results.codec import dumps_record  # brings pydantic, which most commands never need

    document: dict[str, Any] = json.loads(dumps_record(record))
    return document
