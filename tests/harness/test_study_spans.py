"""Records become spans on a study's axis of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from harness.cli.study_spans import spans_of
from reports.study_told import SpanPart
from results.record import Failed, RunRecord
from results.testing import EPOCH, make_record

START, WAIT, LOAD = SpanPart.START, SpanPart.WAIT, SpanPart.LOAD


def record(begun_s: float, took_s: float, ready_s: float | None) -> RunRecord:
    made = make_record(duration_s=took_s)
    assert made.startup is not None
    startup = None if ready_s is None else replace(made.startup, ready_s=ready_s)
    begun = EPOCH + timedelta(seconds=begun_s)
    return replace(made, started_at=begun, startup=startup, resolved={})


def waiting(made: RunRecord, waited_s: float, came_s: float) -> RunRecord:
    came_at = (EPOCH + timedelta(seconds=came_s)).isoformat()
    turn = {"waited_s": waited_s, "came_at": came_at}
    return replace(made, resolved={"observed": {"turn": turn}})


def parts(*records: RunRecord) -> list[tuple[SpanPart, float, float]]:
    return [(s.part, s.start_s, s.end_s) for s in spans_of(records, EPOCH)]


def test_a_start_then_a_load() -> None:
    assert parts(record(10, 60, 25)) == [(START, 10, 35), (LOAD, 35, 70)]


def test_a_wait_lies_between_and_ends_where_its_turn_came() -> None:
    made = waiting(record(10, 60, 25), 7.0, 43.0)
    # 1 s went before its start was asked for: it is part of the start.
    assert parts(made) == [(START, 10, 36), (WAIT, 36, 43), (LOAD, 43, 70)]


def test_later_loads_of_one_start_are_loads_alone() -> None:
    second = waiting(record(70, 20, None), 7.0, 43.0)
    assert parts(record(10, 60, 25), second)[2:] == [(LOAD, 70, 90)]


def test_a_failed_start_is_all_start_and_a_lost_run_is_nothing() -> None:
    failed = Failed(stage="startup", error="out_of_memory", message="")
    lost = Failed(stage="lost", error="driver_died", message="")
    assert parts(replace(record(0, 30, None), outcome=failed)) == [(START, 0, 30)]
    assert parts(replace(record(0, 30, None), outcome=lost)) == []
