"""The probability of the next run against scipy's own interval, and who wins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tuners.goals import Bound, Reading, Wish
from tuners.remeasure import (
    Candidate,
    Verdict,
    as_good,
    choose,
    judge,
    keeps_next,
    may_beat,
)
from tuners.space import Value

BOUND = Bound(metric="ttft_s", statistic="p99", limit=0.5, margin=0.1)


def reading(goal: float, ttft_s: float) -> Reading:
    return Reading(goals={"output_throughput": goal}, bounds={"ttft_s_p99": ttft_s})


def candidate(*runs: tuple[float, float], overrides: int = 1, failed: int = 0) -> Candidate:
    config: dict[str, Value] = {f"k{i}": 1 if i < overrides else None for i in range(4)}
    return Candidate(
        config=config,
        searched=reading(999.0, 0.1),
        fresh=tuple(reading(*run) for run in runs),
        num_failed=failed,
    )


def test_the_probability_is_the_prediction_interval_read_backwards() -> None:
    """A 90 % two-sided prediction interval's upper end is exceeded by 5 % of next values."""
    values = [0.40, 0.42, 0.43, 0.41]
    logs = np.log(values)
    upper = logs.mean() + stats.t.ppf(0.95, 3) * logs.std(ddof=1) * math.sqrt(1 + 1 / 4)
    bound = Bound(metric="ttft_s", limit=math.exp(upper), statistic="p99")
    assert keeps_next(bound, values) == pytest.approx(0.95)
    floor = Bound(metric="output_throughput", limit=math.exp(2 * logs.mean() - upper))
    assert keeps_next(floor, values) == pytest.approx(0.95)


def test_the_probability_is_kept_by_simulation() -> None:
    """Of next runs whose probability was said to be p, p keep the bound: over many samples."""
    generator = np.random.default_rng(0)
    said, kept = [], []
    for _ in range(4000):
        runs = np.exp(generator.normal(math.log(0.46), 0.05, 4))
        said.append(keeps_next(BOUND, list(runs[:3])))
        kept.append(runs[3] <= 0.5)
    told, held = np.array(said), np.array(kept)
    sure = told >= 0.9
    assert sure.sum() > 300
    assert held[sure].mean() == pytest.approx(told[sure].mean(), abs=0.05)


def test_identical_runs_are_not_certainty_on_the_boundary() -> None:
    assert keeps_next(BOUND, [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert keeps_next(BOUND, [0.4, 0.4, 0.4]) > 0.99
    assert keeps_next(BOUND, [0.4]) == 0.5  # one run says nothing about the next


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (candidate(), Verdict.MEASURE),
        (candidate((100, 0.3), (100, 0.31)), Verdict.MEASURE),
        (candidate((100, 0.3), (100, 0.31), (101, 0.3)), Verdict.PASSED),
        (candidate((100, 0.6), (100, 0.61)), Verdict.REJECTED),  # nothing to hope for
        (candidate((100, 0.48), (100, 0.49), (100, 0.47)), Verdict.MEASURE),
        (
            candidate((100, 0.48), (100, 0.52), (100, 0.47), (100, 0.5), (100, 0.49)),
            Verdict.REJECTED,
        ),
        (candidate((100, 0.3), failed=1), Verdict.REJECTED),
    ],
)
def test_a_candidate_is_measured_until_it_is_sure(
    made: Candidate, verdict: Verdict, wish: Wish
) -> None:
    assert judge(made, wish, probability=0.95, max_runs=5).verdict is verdict


def test_without_bounds_a_candidate_only_has_to_run(wish: Wish) -> None:
    made = candidate((100, 9.0), (100, 9.0), (100, 9.0))
    assert judge(made, Wish(goals=wish.goals), 0.95, 5).verdict is Verdict.PASSED


def test_within_the_noise_fewer_overrides_win(wish: Wish) -> None:
    best = candidate((100, 0.3), (104, 0.3), (102, 0.3), overrides=4)
    plain = candidate((99, 0.3), (103, 0.3), (101, 0.3), overrides=1)
    slow = candidate((60, 0.3), (61, 0.3), (60, 0.3), overrides=0)
    assert choose([slow, best, plain], wish) is plain
    assert choose([slow, best], wish) is best
    assert choose([], wish) is None


def test_the_noise_is_welchs_interval(wish: Wish) -> None:
    """Against scipy's own, for samples whose spread is above the floor: on either side of it."""
    best = np.array([100.0, 104.0, 98.0, 103.0])
    for worse in np.linspace(1.015, 1.08, 14):
        other = np.array([97.0, 104.0, 100.0]) / worse
        t = stats.ttest_ind(np.log(best), np.log(other), equal_var=False)
        expected = bool(t.confidence_interval(0.9).low <= 0)
        a = candidate(*((goal, 0.3) for goal in other))
        b = candidate(*((goal, 0.3) for goal in best))
        assert as_good(a, b, wish) is expected


def test_what_the_search_saw_never_counts(wish: Wish) -> None:
    """Both were seen at 999 by the search; only fresh runs tell them apart."""
    low, high = candidate((50, 0.3), (51, 0.3)), candidate((90, 0.3), (91, 0.3))
    assert choose([low, high], wish) is high


@pytest.mark.parametrize("hour", [1.0, 0.5])
def test_only_what_is_believed_to_be_better_may_beat_what_passed(hour: float, wish: Wish) -> None:
    """Whether the machine is as fast as while searching, or half as fast."""
    fresh = [(believed, seen * hour) for believed, seen in ((120, 100), (110, 110), (108, 108))]
    again = [
        replace(candidate((seen, 0.4)), believed=math.log(believed)) for believed, seen in fresh
    ]
    said = {105.0: True, 100.5: False, 80.0: False}
    for believed, better in said.items():
        one = replace(candidate(), believed=math.log(believed))
        assert may_beat(one, again, again[0], wish) is better
    assert not may_beat(candidate(), again, again[0], wish)
