"""Coverage on sequences whose truth is known in closed form, where independence fails badly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import signal, stats

from results.autocorrelation import (
    MAX_LENGTH,
    autocorrelation_time,
    autocovariance,
    batch_sums,
    effective_size,
    sum_spread,
)
from results.intervals import quantile_interval
from results.serial import mean, quantile, rank_positions, ratio_mean, share

Column = np.ndarray


def ar1(n: int, phi: float, rng: np.random.Generator) -> Column:
    """Stationary, standard normal margins; its autocorrelation time is (1 + φ)/(1 − φ)."""
    noise = rng.standard_normal(n) * np.sqrt(1 - phi**2)
    noise[0] = rng.standard_normal()
    return np.asarray(signal.lfilter([1.0], [1.0, -phi], noise))


def mm1_waits(n: int, load: float, rng: np.random.Generator) -> Column:
    """Waiting times of an M/M/1 queue of service rate 1 (Lindley), started in its steady state."""
    first = 0.0 if rng.random() < 1 - load else rng.exponential(1 / (1 - load))
    steps = rng.exponential(1, n) - rng.exponential(1 / load, n)
    path = np.concatenate([[first], first + np.cumsum(steps[:-1])])
    return path - np.minimum(np.minimum.accumulate(path), 0.0)


def mm1_quantile(load: float) -> Callable[[float], float]:
    """P(W > w) = ρ e^{−(1 − ρ)w}."""
    return lambda q: 0.0 if q < 1 - load else float(np.log(load / (1 - q))) / (1 - load)


@dataclass(frozen=True)
class Case:
    make: Callable[[int, np.random.Generator], Column]
    truth: Callable[[float], float]
    mean: float
    n: int


CASES = {
    "ar1 0.9": Case(lambda n, g: ar1(n, 0.9, g), stats.norm.ppf, 0.0, 3000),
    "mm1 0.7": Case(lambda n, g: mm1_waits(n, 0.7, g), mm1_quantile(0.7), 0.7 / 0.3, 10_000),
    "mm1 0.8": Case(lambda n, g: mm1_waits(n, 0.8, g), mm1_quantile(0.8), 0.8 / 0.2, 16_000),
}
RUNS = 150
# Three standard errors of a share of 0.95 over that many runs are 0.053.
AT_LEAST = 0.95 - 3 * np.sqrt(0.95 * 0.05 / RUNS)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("q", [0.5, 0.9])
def test_quantile_intervals_cover_where_independence_fails(name: str, q: float) -> None:
    case, rng = CASES[name], np.random.default_rng(11)
    truth = case.truth(q)
    ours = iid = 0
    for _ in range(RUNS):
        values = case.make(case.n, rng)
        found = quantile(values, np.sort(values), q).interval
        naive = quantile_interval(values, q)
        assert found is not None and naive is not None
        ours += found.low <= truth <= found.high
        iid += naive.low <= truth <= naive.high
    # Seen: ours 0.93 to 0.98, by independence 0.23 to 0.48.
    assert ours / RUNS >= AT_LEAST
    assert iid / RUNS < 0.6


@pytest.mark.parametrize("name", CASES)
def test_mean_intervals_cover_where_independence_fails(name: str) -> None:
    case, rng = CASES[name], np.random.default_rng(12)
    ours = iid = 0
    for _ in range(RUNS):
        values = case.make(case.n, rng)
        found = mean(values).interval
        assert found is not None
        ours += found.low <= case.mean <= found.high
        naive = stats.ttest_1samp(values, case.mean).pvalue
        iid += naive >= 0.05
    # Seen: ours 0.94 to 0.96, by independence 0.13 to 0.33.
    assert ours / RUNS >= AT_LEAST
    assert iid / RUNS < 0.5


def test_a_far_percentile_without_enough_independent_values_has_no_interval() -> None:
    """10,000 waits at 80 % load hold too little about p99: an interval there would miss more often
    than not. Counting "no interval" as honest, at most one run in twenty misleads."""
    rng, truth, misled, none = np.random.default_rng(13), mm1_quantile(0.8)(0.99), 0, 0
    for _ in range(RUNS):
        values = mm1_waits(10_000, 0.8, rng)
        interval = quantile(values, np.sort(values), 0.99).interval
        none += interval is None
        misled += interval is not None and not interval.low <= truth <= interval.high
    assert none / RUNS > 0.9
    assert misled / RUNS <= 0.05


@pytest.mark.parametrize(("n", "q"), [(300, 0.5), (2000, 0.9), (2000, 0.99)])
def test_independent_values_keep_nearly_their_own_interval(n: int, q: float) -> None:
    rng, truth = np.random.default_rng(14), stats.expon.ppf(q)
    hits, ratios = 0, []
    for _ in range(RUNS):
        values = rng.exponential(size=n)
        found, naive = quantile(values, np.sort(values), q), quantile_interval(values, q)
        assert found.interval is not None and naive is not None
        hits += found.interval.low <= truth <= found.interval.high
        ratios.append((found.interval.high - found.interval.low) / (naive.high - naive.low))
    assert hits / RUNS >= AT_LEAST
    # Not knowing that they are independent costs a seventh to a fourth of the width.
    assert 1.0 <= np.median(ratios) <= 1.3


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_autocorrelation_time_of_ar1_is_its_closed_form(phi: float) -> None:
    rng = np.random.default_rng(15)
    found = [autocorrelation_time(ar1(20_000, phi, rng)) for _ in range(10)]
    assert np.mean(found) == pytest.approx((1 + phi) / (1 - phi), rel=0.08)


def test_autocovariance_agrees_with_the_sum_written_out() -> None:
    values = np.random.default_rng(16).standard_normal(37)
    centred = values - values.mean()
    slow = [np.sum(centred[: 37 - k] * centred[k:]) / 37 for k in range(37)]
    assert autocovariance(values) == pytest.approx(np.array(slow))


def test_batches_are_even_and_add_up() -> None:
    sums = batch_sums(np.ones(109))
    assert sums.sum() == 109
    assert set(sums) == {5.0, 6.0}


def test_a_long_series_is_summed_first_and_varies_the_same() -> None:
    rng = np.random.default_rng(17)
    n = 3 * MAX_LENGTH
    values = ar1(n, 0.9, rng)
    assert effective_size(values) == pytest.approx(n / 19.0, rel=0.25)


def test_few_values_have_no_spread_and_equal_ones_no_dependence() -> None:
    assert sum_spread(np.zeros(19)) is None
    assert autocorrelation_time(np.ones(3)) == 1.0
    same = np.full(100, 0.05)
    found = quantile(same, same, 0.5)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high, found.num_effective) == (0.05, 0.05, 100.0)
    few = mean(np.arange(5.0))
    assert (few.value, few.interval, few.num_effective) == (2.0, None, None)


def test_ties_at_the_estimate_do_not_hide_dependence() -> None:
    # Blocks of a hundred equal values, the largest of which is p99: all values are at most that.
    values = np.repeat(np.random.default_rng(20).exponential(size=20), 100)
    found = quantile(values, np.sort(values), 0.99)
    assert found.value == values.max()
    assert found.num_effective is not None and found.num_effective < 40
    assert found.interval is None


def test_clusters_count_as_clusters() -> None:
    """Thousand requests whose ten gaps are all alike hold a thousand values, not ten thousand."""
    rng = np.random.default_rng(18)
    levels = rng.exponential(size=1000)
    found = ratio_mean(10 * levels, np.full(1000, 10.0))
    single = mean(levels)
    assert found.value == pytest.approx(single.value)
    assert found.interval is not None and single.interval is not None
    assert found.interval.low == pytest.approx(single.interval.low)
    assert found.num_effective == pytest.approx(single.num_effective)


def test_ranks_of_as_many_as_there_are_are_the_order_statistics_themselves() -> None:
    # Binomial(1000, 0.9): scipy's own ranks.
    low = int(stats.binom.ppf(0.025, 1000, 0.9))
    high = int(stats.binom.ppf(0.975, 1000, 0.9)) + 1
    assert rank_positions(0.9, 1000, 1000.0) == (low, high)
    assert rank_positions(0.99, 100_000, 661.9) is None
    assert rank_positions(0.99, 100_000, 662.0) is not None


def test_a_share_of_independent_trials_has_nearly_clopper_pearsons_interval() -> None:
    good = np.random.default_rng(19).random(5000) < 0.97
    exact = stats.binomtest(int(good.sum()), 5000).proportion_ci(method="exact")
    found = share(good).interval
    assert found is not None
    assert found.low <= exact.low and found.high >= exact.high
    assert found.high - found.low <= 1.5 * (exact.high - exact.low)
    whole = share(np.ones(500, dtype=bool)).interval
    assert whole is not None
    assert (whole.low, whole.high) == (pytest.approx(0.025 ** (1 / 500)), 1.0)
