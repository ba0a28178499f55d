"""Clock offsets against clocks whose true offset is known because the test made them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load.clocks import (
    NUM_EXCHANGES,
    ClockOffset,
    ClockReading,
    Exchange,
    boot_id,
    drifted,
    measure_offset,
    offset_of,
)

HERE = "boot-here"
delays = st.floats(min_value=0.0, max_value=1.0)


def exchange(sent_s: float, there_s: float, back_s: float, true_offset_s: float) -> Exchange:
    """A question that takes ``there_s`` to arrive and whose answer takes ``back_s``."""
    return Exchange(
        sent_s=sent_s,
        received_s=sent_s + there_s + back_s,
        theirs=ClockReading(boot_id="elsewhere", monotonic_s=sent_s + there_s - true_offset_s),
    )


@given(
    true_offset_s=st.floats(min_value=-1e6, max_value=1e6),
    trips=st.lists(st.tuples(delays, delays), min_size=1, max_size=8),
)
def test_the_true_offset_lies_within_the_resolution(
    true_offset_s: float, trips: list[tuple[float, float]]
) -> None:
    asked = [exchange(100.0 + i, *trip, true_offset_s) for i, trip in enumerate(trips)]
    found = offset_of(asked, HERE)
    rounding_s = 1e-9 * (1.0 + abs(true_offset_s))
    assert abs(found.offset_s - true_offset_s) <= found.resolution_s + rounding_s
    assert found.resolution_s == pytest.approx(min(map(sum, trips)) / 2, abs=1e-9)


def test_the_shortest_round_trip_wins_however_late_it_came() -> None:
    found = offset_of([exchange(0.0, 0.5, 0.0, 7.0), exchange(10.0, 0.001, 0.001, 7.0)], HERE)
    assert found.offset_s == pytest.approx(7.0)
    assert found.resolution_s == pytest.approx(0.001)


def test_one_boot_has_one_clock() -> None:
    seen = Exchange(sent_s=5.0, received_s=5.4, theirs=ClockReading(boot_id=HERE, monotonic_s=5.3))
    assert offset_of([seen], HERE) == ClockOffset(offset_s=0.0, resolution_s=0.0)


def test_a_container_with_a_clock_of_its_own_is_not_believed_to_share_ours() -> None:
    seen = Exchange(
        sent_s=5.0, received_s=5.4, theirs=ClockReading(boot_id=HERE, monotonic_s=905.2)
    )
    assert offset_of([seen], HERE).offset_s == pytest.approx(-900.0)


def test_a_boot_that_cannot_be_told_is_asked_like_another_host() -> None:
    seen = Exchange(sent_s=5.0, received_s=5.4, theirs=ClockReading(boot_id="", monotonic_s=5.2))
    assert offset_of([seen], "").resolution_s == pytest.approx(0.2)


def test_our_own_clock_is_asked_once_and_another_several_times() -> None:
    now = iter(float(i) for i in range(100))
    asked: list[str] = []

    def ask(boot: str) -> ClockReading:
        asked.append(boot)
        # Half way between the question and its answer, on this test's clock.
        return ClockReading(boot_id=boot, monotonic_s=2.0 * (len(asked) - 1) + 0.5)

    assert measure_offset(lambda: ask(boot_id()), lambda: next(now)) == ClockOffset()
    assert len(asked) == 1
    asked.clear()
    now = iter(float(i) for i in range(100))
    found = measure_offset(lambda: ask("elsewhere"), lambda: next(now))
    assert len(asked) == NUM_EXCHANGES
    assert found == ClockOffset(offset_s=0.0, resolution_s=0.5)


def test_clocks_that_went_apart_during_the_load_widen_the_error() -> None:
    before = ClockOffset(offset_s=3.0, resolution_s=0.001)
    after = ClockOffset(offset_s=3.01, resolution_s=0.002)
    assert drifted(before, before) == before
    assert drifted(before, after).offset_s == 3.0
    assert drifted(before, after).resolution_s == pytest.approx(0.01)
