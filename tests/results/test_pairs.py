"""Pairs of runs against scipy's tests, and the orders in which runs come."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.pairs import (
    Design,
    detectable,
    holm,
    pair_up,
    paired_shift,
    two_sided,
    unpaired_shift,
)

RNG = np.random.default_rng(5)


def sides(text: str) -> list[bool]:
    return [letter == "B" for letter in text]


@pytest.mark.parametrize(
    ("order", "design", "pairs", "unpaired"),
    [
        ("ABBAABBA", Design.PAIRED, [(0, 1), (3, 2), (4, 5), (7, 6)], ()),
        ("ABABAB", Design.PAIRED, [(0, 1), (2, 3), (4, 5)], ()),
        ("ABBAA", Design.PAIRED, [(0, 1), (3, 2)], (4,)),
        ("AB", Design.PAIRED, [(0, 1)], ()),
        ("AAAABBBB", Design.BLOCKED, [], tuple(range(8))),
        ("AABBBAAAA", Design.BLOCKED, [], tuple(range(9))),
        ("A", Design.BLOCKED, [], (0,)),
    ],
)
def test_neighbours_are_paired(
    order: str, design: Design, pairs: list[tuple[int, int]], unpaired: tuple[int, ...]
) -> None:
    found = pair_up(sides(order))
    assert found.design is design
    assert [(a[0], b[0]) for a, b in found.pairs] == pairs
    assert found.unpaired == unpaired


def test_alternating_blocks_count_once_each() -> None:
    found = pair_up(sides("AABBBBAAAB"))
    assert found.design is Design.CYCLES
    assert found.pairs == (((0, 1), (2, 3, 4, 5)), ((6, 7, 8), (9,)))


@pytest.mark.parametrize("k", [2, 5, 8, 40])
def test_the_paired_interval_is_students(k: int) -> None:
    d = RNG.normal(0.01, 0.02, k)
    found, truth = paired_shift(d), stats.ttest_1samp(d, 0.0)
    assert found is not None
    wide, narrow = (truth.confidence_interval(level) for level in (0.95, 0.90))
    assert found.interval.low == pytest.approx(wide.low)
    assert found.interval.high == pytest.approx(wide.high)
    assert found.equivalence.low == pytest.approx(narrow.low)
    assert found.p_value == pytest.approx(truth.pvalue)


def test_the_unpaired_interval_is_welchs() -> None:
    a, b = RNG.normal(0, 1, 5), RNG.normal(0.5, 3, 9)
    found = unpaired_shift(a, b)
    truth = stats.ttest_ind(b, a, equal_var=False)
    assert found is not None
    interval = truth.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(truth.pvalue)


def test_two_sided_is_scipys() -> None:
    for t, df in ((0.0, 4.0), (1.3, 2.0), (-2.2, 7.5), (9.0, 60.0)):
        assert two_sided(t, df) == pytest.approx(2.0 * stats.t.sf(abs(t), df))


def test_too_few_runs_have_no_interval() -> None:
    assert paired_shift(np.array([0.1])) is None
    assert unpaired_shift(np.array([1.0]), np.array([1.0, 2.0])) is None


def test_values_that_never_vary_are_sure() -> None:
    same, moved = paired_shift(np.zeros(5)), paired_shift(np.full(5, 0.1))
    assert same is not None and (same.p_value, same.interval.high) == (1.0, 0.0)
    assert moved is not None and moved.p_value == 0.0
    assert moved.interval.low == moved.interval.high == pytest.approx(0.1)


def test_the_detectable_difference_is_found_in_four_of_five() -> None:
    k, spread = 8, 0.02
    truth = detectable(spread, k)
    d = RNG.normal(truth, spread, (20_000, k))
    p = stats.ttest_1samp(d, 0.0, axis=1).pvalue
    # The formula adds two quantiles where the noncentral t has the exact answer: near enough.
    assert np.mean(p <= 0.05) == pytest.approx(0.8, abs=0.03)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04 → never falling.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
