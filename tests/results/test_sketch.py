"""The sketch against sorted values: its error, its merging, its way to another process."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.sketch import Sketch, empty_sketch

VALUES = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-9, 1e6), st.floats(min_value=1e-300, max_value=1e300)),
    max_size=60,
)
ALPHAS = st.sampled_from([0.001, 0.01, 0.05])


def sketch(values: list[float], alpha: float) -> Sketch:
    return empty_sketch(alpha).added(values)


@given(VALUES.filter(bool), ALPHAS, st.floats(0, 1))
def test_a_quantile_is_within_the_stated_error_of_a_value(
    values: list[float], alpha: float, q: float
) -> None:
    truth = float(np.quantile(values, q, method="lower"))
    found = sketch(values, alpha).quantile(q)
    # A hair more: logarithms and powers round.
    assert abs(found - truth) <= alpha * truth * (1 + 1e-9) + 1e-300


@given(VALUES, VALUES, VALUES, ALPHAS)
@settings(deadline=None)
def test_merging_is_exact_and_its_order_does_not_matter(
    a: list[float], b: list[float], c: list[float], alpha: float
) -> None:
    x, y, z = (sketch(part, alpha) for part in (a, b, c))
    whole = sketch([*a, *b, *c], alpha)
    assert x.merged(y).merged(z) == whole
    assert x.merged(y.merged(z)) == whole
    assert z.merged(x).merged(y) == whole
    assert whole.merged(empty_sketch(alpha)) == whole
    assert whole.num_values == len(a) + len(b) + len(c)


@given(VALUES, ALPHAS)
def test_the_way_to_another_process_and_back_changes_nothing(
    values: list[float], alpha: float
) -> None:
    before = sketch(values, alpha)
    assert pickle.loads(pickle.dumps(before)) == before


def test_many_values_are_taken_in_blocks() -> None:
    values = np.random.default_rng(0).lognormal(-3, 1, 2_500_000)
    values[::1000] = np.nan
    found = empty_sketch(0.005).added(values)
    known = values[~np.isnan(values)]
    assert found.num_values == len(known)
    assert (found.minimum, found.maximum) == (known.min(), known.max())
    for q in (0.01, 0.5, 0.99, 0.9999):
        truth = np.quantile(known, q, method="lower")
        assert found.quantile(q) == pytest.approx(truth, rel=0.005001)
    # A bucket per 1 % of growth, not per value.
    assert len(found.keys) < 2000


def test_what_a_sketch_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="finite ones from 0"):
        empty_sketch().added([1.0, -1e-9])
    with pytest.raises(ValueError, match="finite ones from 0"):
        empty_sketch().added([math.inf])
    with pytest.raises(ValueError, match="do not add up"):
        empty_sketch(0.01).merged(empty_sketch(0.02))
    with pytest.raises(ValueError, match="between 0 and 1"):
        empty_sketch(1.0)


def test_an_empty_sketch_has_no_quantile() -> None:
    assert math.isnan(empty_sketch().added([math.nan]).quantile(0.5))
    assert empty_sketch().num_values == 0
