"""Ended exchanges in, columns out. Runs after the load, or beside it for a look."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise
from typing import Any

import numpy as np

from harness.load.reading import Reading, read_stream, read_whole, status_error
from harness.load.response import Response, body_of
from harness.load.spool import Ended
from results.columns import GrowingColumn
from results.samples import FloatColumn, RequestSamples

MAX_ERROR_CHARS = 200
_EVENTS_PER_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HowToRead:
    """What is known of the requests. ``secrets`` are blotted out of error texts: a server may quote
    the key it was given. ``num_prompt_tokens(index)`` is our own count of what was sent, −1: not
    known; ``count_tokens(text)`` that of an answer."""

    is_stream: bool = True
    worker: int = 0
    secrets: tuple[str, ...] = ()
    model_of: Callable[[int], str] = lambda _: ""
    num_prompt_tokens: Callable[[int], int] = lambda _: -1
    count_tokens: Callable[[str], int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """A request that never went out, and why."""

    index: int
    intended_s: float
    is_warmup: bool
    error: str


def response_of(ended: Ended) -> Response:
    """``body_end`` has one entry per read, less those after the end of the response."""
    raw, ends = memoryview(ended.raw), ended.part_end
    return body_of(raw[start:end] for start, end in pairwise((0, *ends)))


def read_answer(ended: Ended, response: Response, how: HowToRead) -> Reading:
    """What the client itself saw go wrong is the first word on it."""
    if 200 <= response.status < 300:
        is_stream = how.is_stream or response.content_type.startswith("text/event-stream")
        reading = (
            read_stream(response.body, keep_text=how.count_tokens is not None)
            if is_stream
            else read_whole(response.body)
        )
    elif response.status >= 0:
        reading = Reading(error=status_error(response.status, response.body))
    else:
        reading = Reading(error="no_response: the connection ended before a status line")
    if ended.error:
        reading.error = ended.error
    return reading


def event_times(ended: Ended, response: Response, reading: Reading) -> FloatColumn:
    """(events,) when the read that held each event's last byte of data returned."""
    reads = np.searchsorted(response.body_end, reading.event_end)
    times: FloatColumn = np.frombuffer(ended.read_s)[reads] if len(reads) else np.empty(0)
    return times


class _Columns:
    """Grows by a row at a time; typed arrays, because a million rows of objects are a gigabyte. The
    events, of which there are many more, go to a file where they are too many."""

    def __init__(self, origin_s: float) -> None:
        self.floats = {name: array("d") for name in _FLOATS}
        self.counts = {name: array("q") for name in _COUNTS}
        self.errors: list[str] = []
        self.models: list[str] = []
        self.is_warmup = array("b")
        self.event_offset = array("q", [0])
        self.event_s = GrowingColumn(np.float64)
        self.event_tokens = GrowingColumn(np.int64)
        self.event_reasoning = GrowingColumn(np.bool_)
        self._origin_s = origin_s
        self._begin_block()

    def _begin_block(self) -> None:
        self._times = array("d")
        self._tokens = array("q")
        self._reasoning = array("b")

    def add(
        self,
        floats: Sequence[float],
        counts: Sequence[int],
        *,
        is_warmup: bool,
        error: str,
        model: str,
        times: FloatColumn | None = None,
        tokens: Sequence[int] = (),
        reasoning: Sequence[bool] = (),
    ) -> None:
        for column, value in zip(self.floats.values(), floats, strict=True):
            column.append(value)
        for number, count in zip(self.counts.values(), counts, strict=True):
            number.append(count)
        self.is_warmup.append(is_warmup)
        self.errors.append(error)
        self.models.append(model)
        self.event_offset.append(self.event_offset[-1] + len(tokens))
        if times is None:
            return
        self._times.frombytes(times.tobytes())
        self._tokens.extend(tokens)
        self._reasoning.extend(reasoning)
        if len(self._times) >= _EVENTS_PER_BLOCK:
            self.end_block()

    def end_block(self) -> None:
        """Hand the events over; after the last row, too."""
        self.event_s.extend(_view(self._times, np.float64) - self._origin_s)
        self.event_tokens.extend(_view(self._tokens, np.int64))
        self.event_reasoning.extend(_view(self._reasoning, np.bool_))
        self._begin_block()


_FLOATS = (
    "intended_s",
    "dispatched_s",
    "written_s",
    "first_byte_s",
    "first_token_s",
    "first_answer_s",
    "done_s",
)
_COUNTS = (
    "index",
    "status",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "own_prompt_tokens",
    "own_output_tokens",
    "num_bytes",
)


def collect(
    ended: Iterable[Ended],
    unsent: Iterable[Unsent] = (),
    *,
    origin_s: float,
    how: HowToRead = HowToRead(),
) -> RequestSamples:
    """One row per request, in order of index. Times count from ``origin_s``.

    ``ended`` are in that order; one of them at a time is held.
    """
    columns = _Columns(origin_s)
    rows: Iterator[Ended | Unsent] = merge(ended, sorted(unsent, key=_index), key=_index)
    for one in rows:
        if isinstance(one, Ended):
            _add_ended(columns, one, how)
        else:
            _add_unsent(columns, one, how)
    columns.end_block()
    return _samples(columns, origin_s, how.worker)


def _index(one: Any) -> int:
    index: int = one.index
    return index


def _add_unsent(columns: _Columns, missing: Unsent, how: HowToRead) -> None:
    nan = np.nan
    columns.add(
        (missing.intended_s, nan, nan, nan, nan, nan, nan),
        (missing.index, -1, -1, -1, -1, -1, -1, -1),
        is_warmup=missing.is_warmup,
        error=missing.error,
        model=how.model_of(missing.index),
    )


def _add_ended(columns: _Columns, ended: Ended, how: HowToRead) -> None:
    response = response_of(ended)
    reading = read_answer(ended, response, how)
    times = event_times(ended, response, reading)
    nan = np.nan
    reasoning = reading.event_reasoning
    first_answer_s = times[reasoning.index(False)] if False in reasoning else nan
    own_output = -1
    if how.count_tokens is not None and not reading.error:
        own_output = how.count_tokens(reading.text)
    columns.add(
        (
            ended.intended_s,
            ended.dispatched_s,
            ended.written_s,
            ended.read_s[0] if ended.read_s else nan,
            times[0] if len(times) else nan,
            first_answer_s,
            ended.done_s,
        ),
        (
            ended.index,
            response.status,
            reading.prompt_tokens,
            reading.output_tokens,
            reading.cached_tokens,
            how.num_prompt_tokens(ended.index),
            own_output,
            len(response.body) if response.status >= 0 else -1,
        ),
        is_warmup=ended.is_warmup,
        error=short_error(reading.error, how.secrets),
        model=how.model_of(ended.index),
        times=times,
        tokens=reading.event_tokens,
        reasoning=reasoning,
    )


def _samples(columns: _Columns, origin_s: float, worker: int) -> RequestSamples:
    """The same memory as numpy columns."""
    floats: dict[str, Any] = {name: _view(v, np.float64) for name, v in columns.floats.items()}
    for times in floats.values():
        times -= origin_s
    return RequestSamples(
        **floats,
        **{name: _view(v, np.int64) for name, v in columns.counts.items()},
        error=np.array(columns.errors, dtype=object),
        model=np.array(columns.models, dtype=object),
        is_warmup=_view(columns.is_warmup, np.bool_),
        worker=np.full(len(columns.errors), worker, dtype=np.int64),
        event_offset=_view(columns.event_offset, np.int64),
        event_s=columns.event_s.finished(),
        event_tokens=columns.event_tokens.finished(),
        event_reasoning=columns.event_reasoning.finished(),
    )


def _view(values: array[Any], dtype: type) -> Any:
    return np.frombuffer(values, dtype=dtype) if values else np.empty(0, dtype=dtype)


def short_error(error: str, secrets: Iterable[str] = ()) -> str:
    """One line of at most MAX_ERROR_CHARS, with every secret blotted out."""
    for secret in secrets:
        error = error.replace(secret, "***")
    error = " ".join(error.split())
    return error if len(error) <= MAX_ERROR_CHARS else error[: MAX_ERROR_CHARS - 1] + "…"
