"""What was seen, request by request and step by step, as columns.

Times are seconds on one monotonic clock, counted from the start of the load (requests) or of the
job (steps); NaN means "did not happen". Counts use −1 for "not known", because zero is a count.
Each type goes to an Arrow table and back without loss; the table is what the store keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from results.arrow import array_of, column_of, list_array_of, list_column_of

FloatColumn = npt.NDArray[np.float64]
IntColumn = npt.NDArray[np.int64]
BoolColumn = npt.NDArray[np.bool_]
TextColumn = npt.NDArray[np.object_]


_DEFAULT_COLUMNS: dict[str, Callable[[int], Any]] = {
    "index": np.arange,
    "num_bytes": lambda n: np.full(n, -1, dtype=np.int64),
    "own_prompt_tokens": lambda n: np.full(n, -1, dtype=np.int64),
    "own_output_tokens": lambda n: np.full(n, -1, dtype=np.int64),
    "cached_tokens": lambda n: np.full(n, -1, dtype=np.int64),
    "first_answer_s": lambda n: np.full(n, np.nan),
    "model": lambda n: np.full(n, "", dtype=object),
    "event_reasoning": lambda n: np.zeros(n, dtype=np.bool_),
}
# Of a table of requests: what its writer works on at once, which is also what a reader may.
ROWS_PER_CHUNK = 1 << 16
EVENTS_PER_CHUNK = 1 << 18
# A column of the table that is made of others when it is written: do the server's token counts
# differ from ours? Null: they cannot be compared.
MISMATCH = "token_mismatch"
# A cross-entropy is never negative, and NaN is what a training that went wrong has.
LOSS_NOT_TOLD = -1.0
_LIST_COLUMNS = ("event_s", "event_tokens", "event_reasoning")


def _left_out() -> Any:
    """A column that may be left out; it is made when the number of rows is known."""
    return field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestSamples:
    """One row per request of the schedule, sent or not; n rows.

    The stream events are ragged: request i owns ``event_s[event_offset[i]:event_offset[i + 1]]``,
    one entry per non-empty chunk, and ``event_tokens`` holds the tokens of each (−1: not known).
    """

    intended_s: FloatColumn  # (n,) when the schedule wanted it sent
    dispatched_s: FloatColumn  # (n,) when the client handed it to its HTTP stack
    written_s: FloatColumn  # (n,) when the request's last byte was written
    first_byte_s: FloatColumn  # (n,) first byte of the response
    first_token_s: FloatColumn  # (n,) first non-empty token
    done_s: FloatColumn  # (n,) last byte of the response, or the failure
    prompt_tokens: IntColumn  # (n,) the server's count
    output_tokens: IntColumn  # (n,) the server's count
    status: IntColumn  # (n,) HTTP status; −1: no response
    error: TextColumn  # (n,) "" for a request answered in full
    is_warmup: BoolColumn  # (n,) kept, never measured
    worker: IntColumn  # (n,) which load worker sent it
    event_offset: IntColumn  # (n + 1,)
    event_s: FloatColumn  # (events,)
    event_tokens: IntColumn  # (events,)
    # Columns below may be missing in old tables; each then says "not known".
    # index: the request's number in the schedule. num_bytes: of the response's body.
    # own_prompt_tokens, own_output_tokens: counted by us, by tokenizer or chunk, not by the server.
    # cached_tokens: prompt tokens that the server took from its prefix cache.
    # first_answer_s: first token that is no reasoning. model: model or adapter asked; "": the
    # target's own. event_reasoning: the chunk is reasoning, not answer.
    index: IntColumn = _left_out()  # (n,)
    num_bytes: IntColumn = _left_out()  # (n,)
    own_prompt_tokens: IntColumn = _left_out()  # (n,)
    own_output_tokens: IntColumn = _left_out()  # (n,)
    cached_tokens: IntColumn = _left_out()  # (n,)
    first_answer_s: FloatColumn = _left_out()  # (n,)
    model: TextColumn = _left_out()  # (n,)
    event_reasoning: BoolColumn = _left_out()  # (events,)

    def __post_init__(self) -> None:
        n, events = self.num_requests, len(self.event_s)
        for name, made in _DEFAULT_COLUMNS.items():
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, made(events if name.startswith("event_") else n))

    @property
    def num_requests(self) -> int:
        return len(self.intended_s)

    def to_table(self) -> pa.Table:
        """One row per request; the stream events become list columns, and one column more says
        where ``token_mismatch`` is known and true. Chunks of ROWS_PER_CHUNK rows, or of fewer where
        they have more than EVENTS_PER_CHUNK events: a list column cannot count beyond 2³¹. Numbers
        are not copied."""
        mismatch = token_mismatch(self)
        return pa.concat_tables([self._chunk(rows, *mismatch) for rows in self._chunks()])

    def _chunks(self) -> Iterator[slice]:
        start, n = 0, self.num_requests
        while True:
            most_events = self.event_offset[start] + EVENTS_PER_CHUNK
            fits = int(np.searchsorted(self.event_offset, most_events, side="right")) - 1
            end = min(max(fits, start + 1), start + ROWS_PER_CHUNK, n)
            yield slice(start, end)
            if (start := end) >= n:
                return

    def _chunk(self, rows: slice, comparable: BoolColumn, differs: BoolColumn) -> pa.Table:
        offsets = self.event_offset[rows.start : rows.stop + 1]
        events = slice(int(offsets[0]), int(offsets[-1]))
        columns = {
            f.name: array_of(getattr(self, f.name)[rows])
            for f in fields(self)
            if not f.name.startswith("event_")
        }
        for name in _LIST_COLUMNS:
            columns[name] = list_array_of(offsets - offsets[0], getattr(self, name)[events])
        columns[MISMATCH] = array_of(differs[rows], known=comparable[rows])
        return pa.Table.from_arrays(list(columns.values()), names=list(columns))

    @classmethod
    def from_table(cls, table: pa.Table) -> RequestSamples:
        """The inverse of ``to_table``; columns added by a newer program are ignored, and those that
        an older one did not know are "not known". Without a copy where the table is one chunk."""
        known = {f.name for f in fields(cls)} & set(table.column_names)
        events = {name: list_column_of(table, name) for name in _LIST_COLUMNS if name in known}
        return cls(
            **{name: column_of(table, name) for name in known - {*_LIST_COLUMNS}},
            event_offset=events["event_s"][0],
            **{name: values for name, (_, values) in events.items()},
        )


def token_mismatch(samples: RequestSamples) -> tuple[BoolColumn, BoolColumn]:
    """(n,) requests of which the server and we both counted prompt or output, and (n,) those of
    them whose counts differ."""
    comparable = np.zeros(samples.num_requests, dtype=np.bool_)
    differs = comparable.copy()
    for theirs, ours in (
        (samples.prompt_tokens, samples.own_prompt_tokens),
        (samples.output_tokens, samples.own_output_tokens),
    ):
        both = (theirs >= 0) & (ours >= 0)
        comparable |= both
        differs |= both & (theirs != ours)
    return comparable, differs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepSamples:
    """One row per (step, rank) of a training job; n rows."""

    step: IntColumn  # (n,) 0-based, warm-up steps included
    rank: IntColumn  # (n,)
    start_s: FloatColumn  # (n,) on the rank's own clock, from the start of its job
    duration_s: FloatColumn  # (n,) one optimizer step
    data_wait_s: FloatColumn  # (n,) the part of it spent waiting for input
    num_tokens: IntColumn  # (n,) tokens of this rank; −1: not known
    loss: FloatColumn  # (n,) cross-entropy in nats; LOSS_NOT_TOLD: the training does not say
    memory_bytes: IntColumn  # (n,) peak so far; −1: not known
    is_warmup: BoolColumn  # (n,)
    # Columns below may be missing in old tables; each then says "not known" (NaN), or attempt 0.
    # comm_s: the part of the step in which the rank did nothing but communicate: what overlaps
    # with computing is not in it. optimizer_s: the part of it that the optimizer's update took.
    # checkpoint_s: saving after the step, which duration_s does not count; 0: nothing was saved.
    # attempt: 0 until the job was restarted for the first time.
    comm_s: FloatColumn = _left_out()  # (n,)
    optimizer_s: FloatColumn = _left_out()  # (n,)
    checkpoint_s: FloatColumn = _left_out()  # (n,)
    attempt: IntColumn = _left_out()  # (n,)

    def __post_init__(self) -> None:
        n = self.num_rows
        for name in ("comm_s", "optimizer_s", "checkpoint_s"):
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, np.full(n, np.nan))
        if len(self.attempt) == 0:
            object.__setattr__(self, "attempt", np.zeros(n, dtype=np.int64))

    @property
    def num_rows(self) -> int:
        return len(self.step)

    def to_table(self) -> pa.Table:
        return pa.table({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def from_table(cls, table: pa.Table) -> StepSamples:
        """The inverse of ``to_table``; tolerant of older and newer programs' columns."""
        table = table.combine_chunks()
        known = {f.name for f in fields(cls)} & set(table.column_names)
        return cls(**{name: table.column(name).to_numpy() for name in known})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CollectiveSamples:
    """One row per (round, collective, size, rank) of a measurement of collectives; n rows."""

    collective: TextColumn  # (n,) a name of results.collectives.COLLECTIVES
    size_bytes: IntColumn  # (n,) S, as nccl-tests count it
    num_ranks: IntColumn  # (n,)
    round: IntColumn  # (n,) 0-based; each visits every collective and size once
    rank: IntColumn  # (n,)
    start_s: FloatColumn  # (n,) on the rank's own clock
    call_s: FloatColumn  # (n,) one call, the mean of the round's calls back to back
    num_wrong: IntColumn  # (n,) elements of the result that are wrong; −1: not looked at

    @property
    def num_rows(self) -> int:
        return len(self.size_bytes)

    def to_table(self) -> pa.Table:
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        columns["collective"] = pa.array(list(self.collective), type=pa.string())
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table) -> CollectiveSamples:
        """The inverse of ``to_table``; columns of a newer program are ignored."""
        table = table.combine_chunks()
        columns = {
            f.name: table.column(f.name).to_numpy() for f in fields(cls) if f.name != "collective"
        }
        names = np.array(table.column("collective").to_pylist(), dtype=object)
        return cls(collective=names, **columns)


Samples = RequestSamples | StepSamples | CollectiveSamples
