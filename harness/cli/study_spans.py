"""When a trial started, waited and was loaded, by the dates of its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from harness.cli.tune_runs import waited_of
from reports.study_told import SpanPart, SpanTold
from results.record import Failed, RunRecord


def spans_of(records: Sequence[RunRecord], zero: datetime) -> tuple[SpanTold, ...]:
    """Of the records of one trial, oldest first, in seconds since ``zero``; a run whose end is only
    when it was found dead has none."""
    return tuple(span for record in records for span in _spans(record, zero))


def _spans(record: RunRecord, zero: datetime) -> Iterator[SpanTold]:
    begun_s = (record.started_at - zero).total_seconds()
    end_s = begun_s + record.duration_s
    ready_s = loaded_s = begun_s
    if isinstance(record.outcome, Failed) and record.outcome.stage in ("lost", "plan"):
        return
    if record.startup is not None:
        ready_s = loaded_s = begun_s + record.startup.ready_s
        turn: Any = (record.resolved.get("observed") or {}).get("turn")
        if turn:
            loaded_s = (datetime.fromisoformat(turn["came_at"]) - zero).total_seconds()
            ready_s = loaded_s - waited_of(record)
    elif isinstance(record.outcome, Failed) and record.outcome.stage != "load":
        ready_s = loaded_s = end_s
    for part, start_s, stop_s in (
        (SpanPart.START, begun_s, ready_s),
        (SpanPart.WAIT, ready_s, loaded_s),
        (SpanPart.LOAD, loaded_s, end_s),
    ):
        if stop_s > start_s:
            yield SpanTold(part=part, start_s=start_s, end_s=stop_s)
