"""Several witnesses, several clocks, one timeline; every instant worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.startup import (
    CALL_RESOLUTION_S,
    Anchor,
    DriverMarks,
    ServerMarks,
    anchor,
    assemble,
    before_the_job,
    log_reader,
    merge,
)
from results.startup import PhaseSource, StartupPhase, StartupTimeline

DRIVER = DriverMarks(
    placed_s=2.0,
    prepared_s=3.0,
    actor_started_s=4.0,
    first_token_sent_s=40.5,
    first_token_s=41.0,
    first_token_resolution_s=0.001,
    placed_detail="a [spot]",
)
SERVER = ServerMarks(
    started_s=0.5, started_resolution_s=0.002, healthy_s=36.0, healthy_resolution_s=0.05
)
ZERO = Anchor(origin_s=4.0, resolution_s=0.01)


def phase(
    name: str,
    start_s: float,
    end_s: float,
    source: PhaseSource = PhaseSource.LOG,
    resolution_s: float = 0.001,
) -> StartupPhase:
    return StartupPhase(
        name=name, start_s=start_s, end_s=end_s, source=source, resolution_s=resolution_s
    )


def spans_of(timeline: StartupTimeline) -> dict[str, tuple[float, float, PhaseSource, float]]:
    return {p.name: (p.start_s, p.end_s, p.source, p.resolution_s) for p in timeline.phases}


def test_every_witness_is_put_on_the_drivers_clock() -> None:
    timeline = assemble(
        DRIVER,
        SERVER,
        ZERO,
        log_phases=(phase("imports", 0.0, 10.0), phase("weights loaded", 12.0, 20.0)),
        page_cache=0.25,
    )
    assert spans_of(timeline) == {
        "placed": (0.0, 2.0, PhaseSource.RAY, CALL_RESOLUTION_S),
        "launch prepared": (2.0, 3.0, PhaseSource.DRIVER, CALL_RESOLUTION_S),
        "actor start": (2.0, 4.0, PhaseSource.RAY, CALL_RESOLUTION_S),
        "process start": (4.0, 4.5, PhaseSource.PROCESS, 0.01),
        "imports": (4.5, 14.5, PhaseSource.LOG, 0.01),
        "weights loaded": (16.5, 24.5, PhaseSource.LOG, 0.01),
        "healthy": (40.0, 40.0, PhaseSource.HTTP, 0.05),
        "first token": (40.5, 41.0, PhaseSource.CLIENT, 0.001),
    }
    assert timeline.phases[0].detail == "a [spot]"
    assert timeline.ready_s == 41.0
    assert timeline.page_cache == 0.25
    # By hand: 14.5…16.5 and 24.5…40.5 are told of by nobody.
    assert timeline.unattributed_s == pytest.approx(18.0)


def test_a_second_attempt_is_a_phase_of_its_own() -> None:
    timeline = assemble(DRIVER, replace(SERVER, retried_s=3.0, started_s=3.5), ZERO)
    spans = spans_of(timeline)
    assert spans["port retry"] == (4.0, 7.0, PhaseSource.PROCESS, 0.01)
    assert spans["process start"] == (7.0, 7.5, PhaseSource.PROCESS, 0.01)


def test_nothing_read_from_a_log_stays_unattributed() -> None:
    timeline = assemble(DRIVER, SERVER, ZERO)
    assert timeline.unattributed_s == pytest.approx(40.5 - 4.5)


def test_two_clocks_are_never_subtracted_only_bounded() -> None:
    # The call took 0.8 s here, of which the other side counted 0.5: its zero lies within 0.3 s.
    found = anchor(sent_s=10.0, received_s=10.8, elapsed_s=0.5)
    assert found.origin_s == pytest.approx(10.3)
    assert found.resolution_s == pytest.approx(0.3 + CALL_RESOLUTION_S)


def test_one_clock_of_one_host_is_exact() -> None:
    found = anchor(sent_s=10.0, received_s=10.8, elapsed_s=0.5, same_clock_s=10.1)
    assert found == Anchor(origin_s=10.1, resolution_s=CALL_RESOLUTION_S)


@pytest.mark.parametrize("reading_s", [9.9, 10.4, 5000.0])
def test_a_reading_that_cannot_be_of_the_same_clock_is_not_believed(reading_s: float) -> None:
    found = anchor(sent_s=10.0, received_s=10.8, elapsed_s=0.5, same_clock_s=reading_s)
    assert found.origin_s == pytest.approx(10.3)


times = st.floats(0.0, 1e4)


@given(sent=times, out=times, away=times, back=times)
def test_the_true_zero_lies_within_the_anchors_bounds(
    sent: float, out: float, away: float, back: float
) -> None:
    zero = sent + out
    found = anchor(sent_s=sent, received_s=zero + away + back, elapsed_s=away)
    slack = 1e-6
    assert found.origin_s - found.resolution_s - slack <= zero <= found.origin_s + slack


def test_a_span_wins_over_a_line_of_the_same_phase() -> None:
    line = phase("Weights loaded", 1.0, 5.0)
    span = phase("weights_loaded", 1.1, 4.9, PhaseSource.OTEL)
    assert merge([line], [span]) == (span,)


def test_the_finer_witness_wins() -> None:
    line = phase("weights loaded", 1.0, 5.0, resolution_s=0.001)
    span = phase("weights loaded", 0.0, 5.0, PhaseSource.OTEL, resolution_s=1.0)
    assert merge([line], [span]) == (line,)


def test_phases_of_one_witness_and_of_many_workers_are_all_kept_in_order() -> None:
    first = phase("load", 1.0, 5.0, PhaseSource.OTEL)
    second = phase("load", 1.5, 4.0, PhaseSource.OTEL)
    other = phase("imports", 0.0, 1.0)
    assert merge([other], [second, first]) == (other, first, second)


def test_a_phase_that_ends_before_it_begins_is_dropped() -> None:
    assert merge([phase("broken", 2.0, 1.0)], []) == ()


intervals = st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 10.0))


@given(st.lists(intervals, max_size=6))
def test_attributed_and_unattributed_make_up_the_whole(pairs: list[tuple[float, float]]) -> None:
    logged = tuple(phase(f"p{i}", a, a + b) for i, (a, b) in enumerate(pairs))
    timeline = assemble(DRIVER, SERVER, ZERO, log_phases=logged)
    # The union, by counting millisecond cells instead of sorting intervals.
    cells = [False] * 41000
    for p in timeline.phases:
        for cell in range(round(p.start_s * 1000), min(round(p.end_s * 1000), 41000)):
            cells[cell] = True
    slack_s = 0.002 * (len(timeline.phases) + 1)
    assert timeline.unattributed_s == pytest.approx(cells.count(False) / 1000, abs=slack_s)


def test_before_the_job() -> None:
    placed, prepared = before_the_job(2.0, 1.5, "a")
    assert (placed.start_s, placed.end_s, placed.detail) == (0.0, 2.0, "a")
    assert prepared.start_s == prepared.end_s == 2.0


def test_a_reader_is_named_by_its_path() -> None:
    assert log_reader("") is None
    assert log_reader("json:loads") is __import__("json").loads
    with pytest.raises(AttributeError):
        log_reader("json:no_such_reader")
