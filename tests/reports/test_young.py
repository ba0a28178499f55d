"""Series too young for a history: what asks for a confirmation, against scipy and by counting."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from reports.history import read_history
from reports.series import Night, Series
from reports.suspicion import Kind
from reports.young import USUAL, USUAL_NIGHTS, Young, young_jump
from results.metrics import Direction

FIRST = date(2026, 1, 1)
REPEATS = np.array([-0.002, 0.0, 0.002])


def nights(levels: list[float], repeats: np.ndarray = REPEATS) -> Series:
    made = tuple(
        Night(night=FIRST + timedelta(days=i), values=tuple(np.exp(x + repeats)))
        for i, x in enumerate(levels)
    )
    return Series(
        key="h100/chat/ttft_s p50",
        name="chat",
        pool="h100",
        metric="ttft_s",
        statistic="p50",
        direction=Direction.LOWER,
        nights=made,
    )


def jump(levels: list[float], repeats: np.ndarray = REPEATS) -> Young | None:
    runs = [x + repeats for x in levels]
    return young_jump(runs[:-1], runs[-1])


def called(levels: list[float], repeats: np.ndarray = REPEATS) -> bool:
    found = jump(levels, repeats)
    assert found is not None
    return found.called


def test_the_p_value_is_that_of_a_known_prior() -> None:
    """t of the prior's nights and the series' own together (scipy)."""
    earlier, tonight = [0.0, 0.01, -0.02, 0.005], 0.06
    found = young_jump([x + REPEATS for x in earlier], tonight + REPEATS)
    assert found is not None
    df = USUAL_NIGHTS + 3.0
    variance = (USUAL_NIGHTS * USUAL**2 + np.var(earlier) * 4.0) / df
    error = math.sqrt(variance * (1.0 + math.pi / 2.0 / 4.0))
    assert found.size == pytest.approx(tonight - np.median(earlier))
    assert found.p_value == pytest.approx(2.0 * stats.t.sf(found.size / error, df))
    low, high = stats.t.interval(0.95, df, loc=found.size, scale=error)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))


def test_calm_nights_sharpen_it_and_wild_ones_blunt_it() -> None:
    calm = called([0.0, 0.002, -0.001, 0.001, 0.0, -0.002, 0.001, 0.0, 0.002, -0.001, 0.06])
    wild = called([0.05, -0.05, 0.04, -0.06, 0.05, -0.04, 0.05, -0.05, 0.04, -0.05, 0.06])
    assert calm and not wild
    assert called([0.0, 0.10]) and not called([0.0, 0.06])


def test_repeats_that_differ_are_not_clear() -> None:
    loud = np.array([-0.06, 0.0, 0.06])
    assert not called([0.0, 0.10], loud) and called([0.0, 0.10])


def test_one_run_a_night_needs_four_nights() -> None:
    alone = np.array([0.0])
    assert jump([0.0, 0.3], alone) is None and jump([0.0, 0.0, 0.0, 0.3], alone) is None
    assert called([0.0, 0.01, 0.0, -0.01, 0.3], alone)


def test_a_level_is_asked_about_once() -> None:
    calm = [0.0, 0.004, -0.003, 0.002, -0.001]
    first = read_history([nights([*calm, 0.15])])
    (found,) = first.new
    assert found.kind is Kind.JUMP and found.num_before == 5
    assert found.change == pytest.approx(math.expm1(0.15), abs=0.01)
    assert found.low < found.change < found.high
    assert read_history([nights([*calm, 0.15, 0.151])]).new == ()
    (back,) = read_history([nights([*calm, 0.15, 0.0])]).new or [None]
    assert back is None or back.change < 0.0


def test_a_faster_night_is_asked_about_as_well() -> None:
    (found,) = read_history([replace(nights([0.0, -0.12]), direction=Direction.LOWER)]).new
    assert not found.worse


def test_nights_that_differ_as_usual_seldom_ask() -> None:
    """2 % a night, of three runs that differ by 1 %: 16 nights, counted."""
    rng = np.random.default_rng(4)
    runs = 0.02 * rng.standard_normal((150, 16, 1)) + 0.01 * rng.standard_normal((150, 16, 3))
    asked = sum(
        any((j := young_jump(list(one[:n]), one[n])) is not None and j.called for n in range(1, 16))
        for one in runs
    )
    assert asked <= 14  # at a true 5 %, 15 and more of 150 have a chance of 1 in 100


def test_a_night_that_shatters_does_not_hide_in_its_own_spread() -> None:
    """TTFT p50 in ms of a vLLM server on two cores, four nights of three runs: in the last it got
    one place in its batch instead of sixteen, and the queue never emptied."""
    calm = [[80.8, 70.4, 76.3], [123.9, 75.6, 79.6], [66.2, 84.7, 75.2]]
    shattered = [507.9, 4777.8, 686.1]
    found = young_jump([np.log(night) for night in calm], np.log(shattered))
    assert found is not None and found.called
    again = young_jump([np.log(night) for night in calm[:2]], np.log(calm[2]))
    assert again is not None and not again.called
