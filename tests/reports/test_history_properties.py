"""What may not matter to a history: units, direction, the order and the company of series."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.history import read_history
from reports.noise import PROMISED
from reports.series import Night, Series
from reports.steps import judge, judge_newest
from reports.suspicion import History, Suspicion
from results.metrics import Direction
from results.pairs import Floats

FIRST = date(2026, 1, 1)
FAMILIES = st.sampled_from(sorted(PROMISED))
SEEDS = st.integers(0, 10_000)


def series(logs: np.ndarray, name: str = "chat", scale: float = 1.0) -> Series:
    return Series(
        key=f"h100/{name}/ttft_s p50",
        name=name,
        pool="h100",
        metric="ttft_s",
        statistic="p50",
        direction=Direction.LOWER,
        nights=tuple(
            Night(night=FIRST + timedelta(days=i), values=(scale * math.exp(x),))
            for i, x in enumerate(logs)
        ),
    )


def noise(family: str, seed: int, num_nights: int = 80, step: float = 0.15) -> Floats:
    """One series with a step that most are found with."""
    made: Floats = PROMISED[family](np.random.default_rng(seed), 2, num_nights)[0]
    made[60:] += step
    return made


def told(history: History) -> list[tuple[object, ...]]:
    return [
        (s.series, s.kind, s.found, s.earliest, s.likely, s.latest, s.num_before)
        for s in sorted(history.suspicions, key=lambda s: (s.series, s.found))
    ]


def changes(history: History) -> list[float]:
    return [s.change for s in sorted(history.suspicions, key=lambda s: (s.series, s.found))]


@settings(max_examples=5, deadline=None)
@given(FAMILIES, SEEDS, st.sampled_from([1e-9, 1e-3, 60.0, 1e6]))
def test_the_unit_does_not_matter(family: str, seed: int, scale: float) -> None:
    logs = noise(family, seed)
    seconds, others = read_history([series(logs)]), read_history([series(logs, scale=scale)])
    assert told(seconds) == told(others)
    assert changes(seconds) == pytest.approx(changes(others))


@settings(max_examples=5, deadline=None)
@given(FAMILIES, SEEDS)
def test_better_and_worse_are_judged_alike(family: str, seed: int) -> None:
    """A time and its rate move in opposite ways: the same nights are told of."""
    logs = noise(family, seed)
    times, rates = read_history([series(logs)]), read_history([series(-logs)])
    assert told(times) == told(rates)
    assert [math.log1p(c) for c in changes(times)] == pytest.approx(
        [-math.log1p(c) for c in changes(rates)]
    )
    rising = read_history([replace(series(-logs), direction=Direction.HIGHER)])
    assert [s.worse for s in rising.suspicions] == [s.worse for s in times.suspicions]


@settings(max_examples=4, deadline=None)
@given(SEEDS, st.permutations(range(6)))
def test_the_order_of_series_does_not_matter(seed: int, order: list[int]) -> None:
    many = [
        series(noise(family, seed + i, step=0.05 * i), f"s{i}")
        for i, family in enumerate(sorted(PROMISED))
    ]
    one, other = read_history(many), read_history([many[i] for i in order])
    assert told(one) == told(other)
    assert {s.series: s for s in one.states} == {s.series: s for s in other.states}
    assert one.expected_false == other.expected_false


@settings(max_examples=5, deadline=None)
@given(FAMILIES, SEEDS, st.floats(0.5, 5.0))
def test_noise_and_step_scale_together(family: str, seed: int, factor: float) -> None:
    """The evidence is of quotients: twice the noise and twice the step are the same evidence."""
    logs = noise(family, seed)[None]
    segment = np.zeros(logs.shape, np.int64)
    for judged in (judge, judge_newest):
        one, other = judged(logs, segment), judged(factor * logs, segment)
        # All but for the floor under a spread of 0.01 %.
        np.testing.assert_allclose(one.evidence, other.evidence, rtol=0.05, atol=0.05)


@settings(max_examples=5, deadline=None)
@given(FAMILIES, SEEDS)
def test_a_night_like_the_last_changes_nothing_that_was_told(family: str, seed: int) -> None:
    logs = noise(family, seed)
    level = float(np.median(logs[-7:]))
    before = read_history([series(logs)])
    after = read_history([series(np.append(logs, level))])
    steps = [s for s in after.suspicions if s.found < after.night]
    assert [s for s in steps if s.p_value is not None] == _steps(before)


def _steps(history: History) -> list[Suspicion]:
    return [s for s in history.suspicions if s.p_value is not None]


def test_a_metric_that_never_varies_is_never_suspected() -> None:
    steady = read_history([series(np.zeros(120))])
    assert steady.suspicions == () and steady.num_tested == 1
    (moved,) = read_history([series(np.where(np.arange(120) >= 100, 0.02, 0.0))]).suspicions
    assert moved.likely == FIRST + timedelta(days=100)
