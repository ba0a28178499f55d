"""Fewer points, the same picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.thinning import ecdf, even_edges, even_with_extremes, is_wide, rates

finite = st.floats(min_value=1e-6, max_value=1e4)


@given(st.lists(finite, min_size=1, max_size=400), st.integers(min_value=12, max_value=100))
def test_a_sample_keeps_both_extremes_and_its_limit(values: list[float], limit: int) -> None:
    column = np.array(values)
    rows = even_with_extremes(column, limit)
    assert len(rows) == min(limit, len(values))
    assert len(np.unique(rows)) == len(rows)
    assert np.all(np.diff(rows) > 0)
    assert column[rows].max() == column.max()
    assert column[rows].min() == column.min()


def test_a_sample_is_even_in_time_and_holds_the_failures() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 1, 20_000)
    failed = np.zeros(20_000, dtype=bool)
    failed[rng.choice(20_000, 40, replace=False)] = True
    values[failed] = np.nan
    rows = even_with_extremes(values, 2000, always=failed)
    assert len(rows) == 2000
    assert failed[rows].sum() == 40
    per_tenth, _ = np.histogram(rows, bins=10, range=(0, 20_000))
    assert per_tenth.min() > 180
    assert per_tenth.max() < 220


def test_many_failures_do_not_push_out_the_rest() -> None:
    failed = np.ones(5000, dtype=bool)
    failed[::10] = False
    rows = even_with_extremes(np.arange(5000.0), 200, always=failed)
    assert len(rows) == 200
    assert 0 in rows
    assert 4999 in rows


@given(st.lists(finite, min_size=1, max_size=600), st.integers(min_value=10, max_value=200))
def test_every_ecdf_point_is_true(values: list[float], limit: int) -> None:
    column = np.array(values)
    x, share = ecdf(column, limit)
    assert len(x) <= limit + 1
    assert x[-1] == column.max()
    assert share[-1] == 1.0
    for value, s in zip(x, share, strict=True):
        assert s == pytest.approx(np.mean(column <= value))
    assert np.all(np.diff(x) > 0)


def test_ecdf_leaves_out_what_did_not_happen_and_may_be_empty() -> None:
    x, share = ecdf(np.array([np.nan, 2.0, 1.0, np.nan]), 100)
    assert x.tolist() == [1.0, 2.0]
    assert share.tolist() == [0.5, 1.0]
    assert len(ecdf(np.array([np.nan]), 100)[0]) == 0


def test_a_thinned_ecdf_is_dense_in_the_tail() -> None:
    _, share = ecdf(np.arange(1.0, 100_001.0), 240)
    assert np.sum(share > 0.999) > 25  # an even thinning would leave none or one


def test_wide_is_told_by_the_positive_values() -> None:
    assert is_wide(np.array([0.001, 0.01, 0.1, 1.0]))
    assert not is_wide(np.array([0.0, 0.02, 0.03]))
    assert not is_wide(np.array([0.0]))


def test_rates_count_everything_once() -> None:
    times = np.array([0.0, 0.1, 5.0, 9.9, 10.0])
    edges = even_edges(0.0, 10.0, 4)
    per_s = rates(times, np.ones(5), edges)
    assert per_s.tolist() == [2 / 2.5, 0.0, 1 / 2.5, 2 / 2.5]
    assert float((per_s * np.diff(edges)).sum()) == 5
