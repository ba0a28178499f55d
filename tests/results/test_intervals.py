"""Intervals against scipy's own quantile test, closed forms, and their coverage on known data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results.intervals import (
    mean_interval,
    min_samples,
    min_samples_for_bound,
    quantile_interval,
    quantile_upper_bound,
    share_interval,
)


@pytest.mark.parametrize(
    ("q", "need"), [(0.5, 20), (0.9, 100), (0.95, 200), (0.99, 1000), (0.999, 10000), (0.1, 100)]
)
def test_min_samples_is_ten_beyond_the_percentile(q: float, need: int) -> None:
    assert min_samples(q) == need


@given(
    st.integers(20, 400),
    st.sampled_from([0.1, 0.5, 0.9, 0.95, 0.99]),
    st.sampled_from([0.9, 0.95, 0.99]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_quantile_interval_agrees_with_scipy(n: int, q: float, conf: float, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=n)
    ours = quantile_interval(values, q, conf)
    theirs = stats.quantile_test(values, p=q).confidence_interval(confidence_level=conf)
    if ours is None:
        assert np.isnan(theirs.low) or np.isnan(theirs.high)
    else:
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize(("n", "q"), [(100, 0.5), (500, 0.9), (1000, 0.99)])
def test_quantile_interval_covers_the_true_quantile(n: int, q: float) -> None:
    rng = np.random.default_rng(7)
    truth = stats.expon.ppf(q)
    runs = 2000
    hits = 0
    for _ in range(runs):
        interval = quantile_interval(rng.exponential(size=n), q)
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    # Order statistics are conservative: never under the nominal level but for chance (3 sigma).
    assert hits / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


def test_no_interval_where_the_upper_rank_does_not_exist() -> None:
    assert quantile_interval(np.arange(100.0), 0.99) is None
    assert quantile_interval(np.empty(0), 0.5) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
@settings(deadline=None)
def test_mean_interval_agrees_with_scipy(values: list[float]) -> None:
    column = np.array(values)
    mean, interval = mean_interval(column)
    assert interval is not None
    theirs = stats.ttest_1samp(column, 0.0).confidence_interval(0.95) if np.ptp(column) else None
    assert mean == pytest.approx(np.mean(values))
    if theirs is not None:
        assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-3)


def test_one_run_has_no_interval() -> None:
    assert mean_interval(np.array([3.0])) == (3.0, None)


@pytest.mark.parametrize(("q", "need"), [(0.9, 64), (0.99, 662)])
def test_a_bound_needs_what_mlperf_asks_for(q: float, need: int) -> None:
    """The minimum query counts of LoadGen's early stopping for p90 and p99, at 99 %."""
    assert min_samples_for_bound(q) == need


@given(st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]), st.sampled_from([0.9, 0.95, 0.99]))
def test_a_bound_by_the_largest_sample_needs_its_closed_form(q: float, confidence: float) -> None:
    need = min_samples_for_bound(q, confidence, num_beyond=0)
    assert need == math.ceil(math.log(1 - confidence) / math.log(q))


@given(st.sampled_from([0.9, 0.99]), st.integers(0, 5))
def test_a_bound_needs_no_sample_more_than_the_binomial_says(q: float, beyond: int) -> None:
    need = min_samples_for_bound(q, 0.99, beyond)
    assert stats.binom.cdf(beyond, need, 1 - q) <= 0.01 < stats.binom.cdf(beyond, need - 1, 1 - q)


def test_the_upper_bound_holds_as_often_as_it_says() -> None:
    rng, truth, runs = np.random.default_rng(5), stats.expon.ppf(0.9), 2000
    bounds = [quantile_upper_bound(rng.exponential(size=300), 0.9, 0.95) for _ in range(runs)]
    held = np.mean([b is not None and b >= truth for b in bounds])
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / runs) <= held < 0.99
    assert quantile_upper_bound(np.arange(458.0), 0.99) is None
    assert quantile_upper_bound(np.arange(459.0), 0.99) == 458.0
    assert quantile_upper_bound(np.empty(0), 0.5) is None


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=40, deadline=None)
def test_share_interval_is_clopper_pearson(trial: tuple[int, int]) -> None:
    theirs = stats.binomtest(*trial).proportion_ci(method="exact")
    ours = share_interval(*trial)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
