"""Half of a step is the line between the versions that have it and those that do not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reports.compare import Change, Scale, Verdict
from reports.step_side import Side, side_of
from results.metrics import Direction


def change(low: float, mid: float, high: float, scale: Scale = Scale.RATIO) -> Change:
    return Change(
        metric="step_time_s",
        statistic="p50",
        direction=Direction.LOWER,
        scale=scale,
        verdict=Verdict.INCONCLUSIVE,
        num_pairs=5,
        change=mid,
        low=low,
        high=high,
    )


STEP = change(0.4, 0.5, 0.6)
HALF = math.sqrt(1.5) - 1.0  # of a ratio, as a ratio: 22.5 %


@pytest.mark.parametrize(
    ("low", "high", "side"),
    [
        (-0.01, 0.01, Side.BEFORE),
        (0.02, 0.04, Side.BEFORE),  # worse for sure, and not this step
        (-0.3, HALF - 1e-9, Side.BEFORE),
        (HALF + 1e-9, 0.9, Side.AFTER),
        (0.1, 0.4, Side.BETWEEN),
    ],
)
def test_an_interval_has_to_lie_on_one_side(low: float, high: float, side: Side) -> None:
    assert side_of(change(low, (low + high) / 2, high), STEP) is side


def test_a_step_down_is_halved_as_well() -> None:
    down = change(-0.6, -0.5, -0.4)  # half of a throughput: the line is at −29 %
    assert side_of(change(-0.05, 0.0, 0.05), down) is Side.BEFORE
    assert side_of(change(-0.6, -0.5, -0.35), down) is Side.AFTER
    assert side_of(change(-0.6, -0.3, 0.0), down) is Side.BETWEEN


def test_differences_are_halved_as_they_are() -> None:
    step = change(0.08, 0.1, 0.12, Scale.DIFFERENCE)
    assert side_of(change(0.06, 0.09, 0.12, Scale.DIFFERENCE), step) is Side.AFTER
    assert side_of(change(-0.01, 0.0, 0.04, Scale.DIFFERENCE), step) is Side.BEFORE
    assert side_of(change(0.06, 0.09, 0.12), step) is Side.BETWEEN  # of another kind


def test_a_step_that_is_hardly_known_leaves_little_room() -> None:
    """Measured on a machine with ten times more work than cores: +61 % (+12 % to +132 %)."""
    step = change(0.123, 0.615, 1.32)
    assert side_of(change(-0.22, -0.025, 0.219), step) is Side.BETWEEN
    assert side_of(change(-0.05, 0.0, 0.05), step) is Side.BEFORE


def test_few_pairs_tell_nothing() -> None:
    assert side_of(replace(change(-0.01, 0.0, 0.01), num_pairs=4), STEP) is Side.BETWEEN
