"""Recorded traffic, as the public traces have it: when each request came and how long it was.

Formats: Mooncake's JSON lines (milliseconds, lengths, and the hashes of 512-token blocks), the CSV
of the Azure LLM inference traces of 2023 and 2024 (date and time, context and generated tokens) and
BurstGPT's CSV (seconds, request and response tokens). Columns beside these are passed over.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, NoReturn, TextIO

import numpy as np

from results.samples import FloatColumn, IntColumn
from workloads.traffic.arrivals import MAX_REQUESTS
from workloads.traffic.files import (
    Stamp,
    json_object,
    kind_name,
    opened,
    refuse,
    stamp_of,
    whole_number,
)
from workloads.traffic.spec import TraceReplay
from workloads.traffic.trace_tables import BLOCK_TOKENS, COLUMNS, TraceColumns, quick_columns

_MAX_HASH = 2**63  # what a column of whole numbers holds

# (seconds since anything, prompt tokens, output tokens, block hashes, conversation or "")
_Row = tuple[float, int, int, Sequence[int], str]

SESSION_FIELDS = {"mooncake": "session_id", "burstgpt": "Session ID"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceRows:
    """n rows, by time. Row i has the block hashes
    ``block_hashes[block_offset[i]:block_offset[i + 1]]``; none where the trace has none."""

    times_s: FloatColumn  # (n,) ascending, the first is 0; speed is not yet in it
    prompt_tokens: IntColumn  # (n,) at least 1
    output_tokens: IntColumn  # (n,) at least 1
    block_hashes: IntColumn  # (all blocks,)
    block_offset: IntColumn  # (n + 1,)
    session: IntColumn  # (n,) rows of one conversation have the same; −1: not read, or none named
    num_raised: int  # rows of which the file has 0 prompt or output tokens; each asks for 1


def read_trace(arrivals: TraceReplay, *, with_sessions: bool = False) -> TraceRows:
    """The rows that ``arrivals`` names. Raises TrafficFileUnusable, with file and line; with
    ``with_sessions`` also where no row names its conversation.

    A row without prompt or answer (BurstGPT's failures) asks for one token of it: its arrival was
    one. Rows that are out of order are put in order.
    """
    stamp = stamp_of(arrivals.path)
    part = (arrivals.format, arrivals.offset, arrivals.limit)
    rows = _read(arrivals.path, stamp, *part, with_sessions)
    if with_sessions and np.all(rows.session < 0):
        refuse(
            arrivals.path,
            None,
            f"no row has a {SESSION_FIELDS[arrivals.format]}, which sessions go by; without "
            "sessions every row comes at its own time, and equal hash_ids are equal tokens still",
        )
    return rows


def replayed_s(rows: TraceRows, arrivals: TraceReplay) -> FloatColumn:
    """(n,) when the rows are meant to be sent."""
    return rows.times_s / arrivals.speed


@lru_cache(maxsize=2)
def _read(
    path: str, _: Stamp, form: str, offset: int, limit: int | None, with_sessions: bool
) -> TraceRows:
    found = None if with_sessions else quick_columns(path, form, offset, limit, MAX_REQUESTS)
    if found is None:
        found = _row_by_row(path, form, offset, limit)
    if len(found.times_s) > MAX_REQUESTS:
        refuse(path, None, f"more than {MAX_REQUESTS} rows; take fewer with limit")
    return _in_order(found)


def _row_by_row(path: str, form: str, offset: int, limit: int | None) -> TraceColumns:
    times, prompts, outputs = array("d"), array("q"), array("q")
    hashes, offsets = array("q"), array("q", [0])
    sessions, numbers = array("q"), dict[str, int]()
    last = None if limit is None else offset + limit
    with opened(path) as stream:
        for time_s, prompt, output, blocks, name in _FORMATS[form](path, stream, offset, last):
            sessions.append(numbers.setdefault(name, len(numbers)) if name else -1)
            times.append(time_s)
            prompts.append(prompt)
            outputs.append(output)
            hashes.extend(blocks)
            offsets.append(len(hashes))
            if len(times) > MAX_REQUESTS:
                break
    if not times:
        refuse(path, None, f"has no row from offset {offset} on")
    return TraceColumns(
        times_s=np.array(times),
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        block_hashes=np.array(hashes, dtype=np.int64),
        block_offset=np.array(offsets),
        session=np.array(sessions, dtype=np.int64),
    )


def rows_at(rows: TraceRows, order: IntColumn) -> TraceRows:
    """The rows with these numbers (m,), in this order; their times as they are."""
    hashes, at = _blocks_at(rows.block_hashes, rows.block_offset, order)
    return replace(
        rows,
        times_s=rows.times_s[order],
        prompt_tokens=rows.prompt_tokens[order],
        output_tokens=rows.output_tokens[order],
        block_hashes=hashes,
        block_offset=at,
        session=rows.session[order],
    )


def _blocks_at(hashes: IntColumn, at: IntColumn, order: IntColumn) -> tuple[IntColumn, IntColumn]:
    """Block hashes and offsets of the rows with these numbers (m,), in this order."""
    counts = np.diff(at)[order]
    moved = np.concatenate([[0], np.cumsum(counts)])
    # Each block's place before: its row's start there plus its place within the row.
    within = np.arange(int(moved[-1])) - np.repeat(moved[:-1], counts)
    return hashes[np.repeat(at[:-1][order], counts) + within], moved


def _in_order(found: TraceColumns) -> TraceRows:
    order = np.argsort(found.times_s, kind="stable")
    hashes, at = found.block_hashes, found.block_offset
    if not np.array_equal(order, np.arange(len(order))):
        hashes, at = _blocks_at(hashes, at, order)
    times = found.times_s[order]
    prompts, outputs = found.prompt_tokens[order], found.output_tokens[order]
    return TraceRows(
        times_s=times - times[0],
        prompt_tokens=np.maximum(prompts, 1),
        output_tokens=np.maximum(outputs, 1),
        block_hashes=hashes,
        block_offset=at,
        session=found.session[order],
        num_raised=int(np.sum((prompts < 1) | (outputs < 1))),
    )


# ---- one row of each format ----


def _mooncake(path: str, stream: TextIO, first: int, last: int | None) -> Iterator[_Row]:
    lines = ((n, line) for n, line in enumerate(stream, start=1) if line.strip())
    for number, line in islice(lines, first, last):
        row = json_object(path, number, line)
        time_ms = row.get("timestamp")
        if isinstance(time_ms, bool) or not isinstance(time_ms, int | float):
            _refuse_field(path, number, row, "timestamp", "a number of milliseconds")
        prompt = _json_count(path, number, row, "input_length")
        output = _json_count(path, number, row, "output_length")
        blocks = _hashes(path, number, row, prompt)
        yield _time(path, number, time_ms / 1e3), prompt, output, blocks, _session(row)


def _session(row: dict[str, Any]) -> str:
    """The conversation of a row of JSON: whatever tells it from others."""
    name = row.get(SESSION_FIELDS["mooncake"])
    return "" if name is None else str(name)


def _hashes(path: str, number: int, row: dict[str, Any], prompt: int) -> Sequence[int]:
    found: Any = row.get("hash_ids", [])
    fine = isinstance(found, list) and all(
        isinstance(h, int) and not isinstance(h, bool) and 0 <= h < _MAX_HASH for h in found
    )
    if not fine:
        refuse(path, number, "hash_ids: accepted: a list of whole numbers, 0 or more")
    if len(found) > math.ceil(max(prompt, 1) / BLOCK_TOKENS):
        refuse(
            path,
            number,
            f"hash_ids: found {len(found)} blocks of {BLOCK_TOKENS} tokens for input_length = "
            f"{prompt}; accepted: at most {math.ceil(max(prompt, 1) / BLOCK_TOKENS)}",
        )
    blocks: list[int] = found
    return blocks


def _json_count(path: str, number: int, row: dict[str, Any], name: str) -> int:
    count = whole_number(row.get(name))
    if count is None or count < 0:
        _refuse_field(path, number, row, name, "a whole number of tokens, 0 or more")
    return count


def _refuse_field(
    path: str, number: int, row: dict[str, Any], name: str, accepted: str
) -> NoReturn:
    found = "is missing" if name not in row else f"found {kind_name(row[name])}"
    refuse(path, number, f"{name}: {found}; accepted: {accepted}")


def _csv(
    columns: tuple[str, str, str], time_of: Callable[[str], float], accepted: str
) -> Callable[[str, TextIO, int, int | None], Iterator[_Row]]:
    """A reader of CSV whose columns for time, prompt and output tokens have these names."""

    def read(path: str, stream: TextIO, first: int, last: int | None) -> Iterator[_Row]:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            refuse(path, 1, f"no column {', '.join(missing)}; found {', '.join(header) or 'none'}")
        at = [header.index(name) for name in columns]
        session = SESSION_FIELDS["burstgpt"]
        named_at = header.index(session) if session in header else None
        for fields in islice((f for f in reader if f), first, last):
            number = reader.line_num
            if len(fields) <= max([*at, named_at or 0]):
                refuse(path, number, f"found {len(fields)} fields; the header has {len(header)}")
            when, prompt, output = (fields[i].strip() for i in at)
            try:
                time_s = time_of(when)
            except ValueError:
                refuse(path, number, f"{columns[0]}: found {when!r}; accepted: {accepted}")
            yield (
                _time(path, number, time_s),
                _csv_count(path, number, columns[1], prompt),
                _csv_count(path, number, columns[2], output),
                (),
                fields[named_at].strip() if named_at is not None else "",
            )

    return read


def _csv_count(path: str, number: int, name: str, text: str) -> int:
    try:
        count = whole_number(float(text))
    except (ValueError, OverflowError):
        count = None
    if count is None or count < 0:
        refuse(path, number, f"{name}: found {text!r}; accepted: a whole number, 0 or more")
    return count


def _time(path: str, number: int, time_s: float) -> float:
    if not math.isfinite(time_s):
        refuse(path, number, f"time: found {time_s}; accepted: a finite number")
    return time_s


def _azure_seconds(text: str) -> float:
    """``2023-11-16 18:15:46.6805900`` or ``2024-05-10 00:00:00.009930+00:00``, in UTC where the
    file says nothing. Digits below a microsecond are dropped."""
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


_FORMATS = {
    "mooncake": _mooncake,
    "azure": _csv(
        COLUMNS["azure"],
        _azure_seconds,
        "a date and time such as 2023-11-16 18:15:46.6805900",
    ),
    "burstgpt": _csv(COLUMNS["burstgpt"], float, "a number of seconds"),
}
