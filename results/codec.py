"""Records as JSON text, and back, whatever schema wrote them.

Writing is strict: what cannot be read again as it was is refused, NaN and infinities among it.
Reading is strict about types and lenient about extra keys: a program of the same schema may have
added fields, and a field that this program does not know changes nothing it does know. A record of
a *newer schema* is refused, because there a known field may mean something else.

A schema step is one function in ``UPGRADES``: the document of schema n in, that of n + 1 out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from results.errors import RecordFormatError, ResultsError
from results.record import SCHEMA_VERSION, RunRecord
from results.store import OpenRun

Document = dict[str, Any]
Value = TypeVar("Value")

WRITE_TOKEN: Final = "write_token"  # tells one write from another; no part of the value

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_MAYBE_HUGE: Final = re.compile(r"[eE]\+?\d{3}")

_RECORD: TypeAdapter[RunRecord] = TypeAdapter(RunRecord)
_OPEN_RUN: TypeAdapter[OpenRun] = TypeAdapter(OpenRun)


def _from_0(old: Document) -> Document:
    """Schema 0 called the duration ``wall_s`` and kept a doubt as its bare code."""
    new = dict(old)
    new["duration_s"] = new.pop("wall_s")
    new["doubts"] = [{"code": code, "message": code} for code in old.get("doubts", [])]
    return new


def _from_1(old: Document) -> Document:
    """Schema 1 kept nothing about the client."""
    return {**old, "client": None}


def _from_2(old: Document) -> Document:
    """Schema 2 judged an SLO nowhere; its verdicts are not made up afterwards."""
    return {**old, "slo": []}


UPGRADES: Final[Mapping[int, Callable[[Document], Document]]] = {
    0: _from_0,
    1: _from_1,
    2: _from_2,
}


def dumps_record(record: RunRecord, write_token: str = "") -> str:
    """The record as one JSON document, keys in the order of the fields.

    Lone surrogates in text (a log line that was no UTF-8) become U+FFFD. Raises RecordFormatError
    when a value is not finite, has no time zone, or is of a type that JSON does not have.
    """
    if type(record) is not RunRecord:
        raise RecordFormatError(f"{record.run_id}: a brief is no record, and is never written")
    if record.schema_version != SCHEMA_VERSION:
        raise RecordFormatError(
            f"record {record.run_id} says schema {record.schema_version}; "
            f"this program writes schema {SCHEMA_VERSION}"
        )
    _check_zones(record)
    return _dumps(_RECORD, record, f"record {record.run_id}", write_token)


def loads_record(text: str | bytes) -> RunRecord:
    """The record in ``text``, brought to the present schema.

    Raises RecordFormatError for anything else, a record of a newer schema included.
    """
    document = _parse(text)
    upgraded = _upgraded(document)
    current = text if upgraded is document else to_json(upgraded)
    record: RunRecord = _validated(_RECORD, current)
    _check_zones(record)
    return record


def dumps_open_run(run: OpenRun, write_token: str = "") -> str:
    """As ``dumps_record``."""
    _check_zone(run.started_at, f"open run {run.run_id}: started_at")
    return _dumps(_OPEN_RUN, run, f"open run {run.run_id}", write_token)


def loads_open_run(text: str | bytes) -> OpenRun:
    """As ``loads_record``; an open run has no schema number: its fields only ever grow."""
    _parse(text)
    run: OpenRun = _validated(_OPEN_RUN, text)
    _check_zone(run.started_at, f"open run {run.run_id}: started_at")
    return run


def dumps_document(adapter: TypeAdapter[Any], value: Any, label: str) -> str:
    """Any other value of ours, as strictly as a record."""
    return _dumps(adapter, value, label, "")


def loads_document(adapter: TypeAdapter[Value], text: str | bytes) -> Value:
    """As ``loads_record``, for values whose fields only ever grow."""
    _parse(text)
    value: Value = _validated(adapter, text)
    return value


def _dumps(adapter: TypeAdapter[Any], value: Any, label: str, write_token: str) -> str:
    try:
        document = _writable(adapter.dump_python(value, mode="python", warnings="error"), label)
    except PydanticSerializationError as error:
        raise RecordFormatError(f"{label} cannot be written: {error}") from error
    if write_token:
        document[WRITE_TOKEN] = write_token
    text = to_json(document, indent=1)
    try:
        _validated(adapter, text)  # the serializer lets a None through where text should be
    except RecordFormatError as error:
        raise RecordFormatError(f"{label} cannot be written: {error}") from error
    return text.decode()


def _writable(value: Any, path: str) -> Any:
    """``value`` as JSON has it, or RecordFormatError naming the path of what JSON does not have."""
    if isinstance(value, str):  # StrEnum members among them
        return _LONE_SURROGATE.sub("\ufffd", value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RecordFormatError(f"{path} is {value}; a record holds finite numbers and nulls")
        return float(value)
    if isinstance(value, date):  # datetime among it
        return value.isoformat()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RecordFormatError(f"{path} has the key {key!r}; JSON has text keys only")
        return {_writable(k, path): _writable(v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(v, f"{path}[{i}]") for i, v in enumerate(value)]
    raise RecordFormatError(f"{path} is a {type(value).__name__}; JSON has no such type")


def _parse(text: str | bytes) -> Document:
    if not text:
        raise RecordFormatError("zero bytes")
    try:
        document = from_json(text, allow_inf_nan=False)
        if _MAYBE_HUGE.search(text if isinstance(text, str) else text.decode()):
            json.dumps(document, allow_nan=False)  # 1e999 is JSON, and no finite number
    except ValueError as error:
        raise RecordFormatError(f"not a JSON document: {error}") from error
    if not isinstance(document, dict):
        raise RecordFormatError(f"a JSON {type(document).__name__} where an object should be")
    return document


def _upgraded(document: Document) -> Document:
    version = document.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise RecordFormatError(f"schema_version is {version!r}; a record has a whole number there")
    if version > SCHEMA_VERSION:
        raise RecordFormatError(
            f"written with record schema {version}; this program reads up to {SCHEMA_VERSION}: "
            "use a newer windtunnel"
        )
    while version < SCHEMA_VERSION:
        try:
            document = dict(UPGRADES[version](document))
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordFormatError(
                f"says schema {version} and cannot be brought to {version + 1}: {error!r}"
            ) from error
        version += 1
        document["schema_version"] = version
    return document


def _validated(adapter: TypeAdapter[Any], text: str | bytes) -> Any:
    # Strict JSON mode reads lists as tuples and ISO text as dates, and converts nothing else;
    # pydantic has that mode for JSON text only, hence text and not the parsed document.
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordFormatError(
            f"{error.error_count()} fields do not fit; first: {where}: {first['msg']}"
        ) from error
    except ResultsError as error:  # a metric that this program does not declare, say
        raise RecordFormatError(f"not a record of this program's metrics: {error}") from error


def _check_zones(record: RunRecord) -> None:
    for name in ("started_at", "ended_at"):
        _check_zone(getattr(record, name), f"record {record.run_id}: {name}")


def _check_zone(when: datetime, label: str) -> None:
    if when.tzinfo is None:
        raise RecordFormatError(f"{label} is {when}, which has no time zone")
