"""Intervals against scipy's own quantile test, closed forms, and their coverage on known data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results.intervals import mean_interval, min_samples, quantile_interval


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
