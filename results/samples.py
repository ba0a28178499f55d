"""What was seen, request by request and step by step, as columns.

Times are seconds on one monotonic clock, counted from the start of the load (requests) or of the
job (steps); NaN means "did not happen". Counts use −1 for "not known", because zero is a count.
Each type goes to an Arrow table and back without loss; the table is what the store keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

FloatColumn = npt.NDArray[np.float64]
IntColumn = npt.NDArray[np.int64]
BoolColumn = npt.NDArray[np.bool_]
TextColumn = npt.NDArray[np.object_]


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

    @property
    def num_requests(self) -> int:
        return len(self.intended_s)

    def to_table(self) -> pa.Table:
        """One row per request; the stream events become two list columns."""
        columns: dict[str, Any] = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if not f.name.startswith("event_") and f.name != "error"
        }
        columns["error"] = pa.array(list(self.error), type=pa.string())
        offsets = pa.array(self.event_offset, type=pa.int32())
        for name in ("event_s", "event_tokens"):
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(getattr(self, name)))
        return pa.table(columns)

    @classmethod
    def from_table(cls, table: pa.Table) -> RequestSamples:
        """The inverse of ``to_table``; columns added by a newer program are ignored."""
        table = table.combine_chunks()
        events = _list_column(table, "event_s")
        tokens = _list_column(table, "event_tokens")
        flat = {
            f.name: table.column(f.name).to_numpy()
            for f in fields(cls)
            if not f.name.startswith("event_") and f.name != "error"
        }
        return cls(
            **flat,
            error=np.array(table.column("error").to_pylist(), dtype=object),
            event_offset=events.offsets.to_numpy().astype(np.int64),
            event_s=events.values.to_numpy(),
            event_tokens=tokens.values.to_numpy(),
        )


def _list_column(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepSamples:
    """One row per (step, rank) of a training job; n rows."""

    step: IntColumn  # (n,) 0-based, warm-up steps included
    rank: IntColumn  # (n,)
    start_s: FloatColumn  # (n,) on the rank's own clock, from the start of its job
    duration_s: FloatColumn  # (n,) one optimizer step
    data_wait_s: FloatColumn  # (n,) the part of it spent waiting for input
    num_tokens: IntColumn  # (n,) tokens of this rank
    loss: FloatColumn  # (n,) cross-entropy in nats
    memory_bytes: IntColumn  # (n,) peak so far; −1: not known
    is_warmup: BoolColumn  # (n,)

    @property
    def num_rows(self) -> int:
        return len(self.step)

    def to_table(self) -> pa.Table:
        return pa.table({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def from_table(cls, table: pa.Table) -> StepSamples:
        table = table.combine_chunks()
        return cls(**{f.name: table.column(f.name).to_numpy() for f in fields(cls)})


Samples = RequestSamples | StepSamples
