"""Closed forms of training at scale, against published figures, scipy and other closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from results.checkpointing import daly_interval_s, goodput_share, young_interval_s
from results.collective_time import (
    Link,
    all_reduce_s,
    ring_all_reduce_s,
    tree_all_reduce_s,
    two_level_all_reduce_s,
)
from results.goodput import Part
from results.metrics import REGISTRY, Area
from results.simulated_training import range_of
from results.stragglers import expected_max_lognormal, lognormal_sigma

LINK = Link(alpha_s=1e-5, beta_s_per_byte=1e-9)


@pytest.mark.parametrize(
    ("mtbf_min", "interval_min"), [(24 * 60, 117.0), (6 * 60, 57.0), (15, 9.1)]
)
def test_dalys_interval_is_that_of_his_figures(mtbf_min: float, interval_min: float) -> None:
    """Captions of figures 3 to 5 in Daly 2006: δ = 5 min, R = 10 min."""
    got_min = daly_interval_s(5.0 * 60.0, mtbf_min * 60.0) / 60.0
    assert got_min == pytest.approx(interval_min, rel=0.01)


def test_a_save_longer_than_failures_allow() -> None:
    assert daly_interval_s(100.0, 50.0) == 50.0
    assert young_interval_s(2.0, 100.0) == pytest.approx(20.0)


@pytest.mark.parametrize(("save_s", "mtbf_s"), [(10.0, 3600.0), (300.0, 3600.0), (60.0, 1e6)])
def test_dalys_interval_is_nearly_the_best_of_the_exact_goodput(
    save_s: float, mtbf_s: float
) -> None:
    best = optimize.minimize_scalar(
        lambda t: -goodput_share(t, save_s, mtbf_s, 120.0), bounds=(1.0, mtbf_s), method="bounded"
    )
    assert daly_interval_s(save_s, mtbf_s) == pytest.approx(best.x, rel=0.01)


def test_goodput_without_failures_is_what_saving_leaves() -> None:
    assert goodput_share(100.0, 10.0, 1e12, 60.0) == pytest.approx(100.0 / 110.0)
    assert goodput_share(1e6, 10.0, 100.0, 60.0) == 0.0


def test_a_rings_bus_bandwidth_is_the_links() -> None:
    """nccl-tests: busbw = S/t · 2(n − 1)/n, which without α is 1/β whatever n is."""
    free = Link(alpha_s=0.0, beta_s_per_byte=1e-9)
    for n in (2, 8, 199):
        t = ring_all_reduce_s(n, 1e9, free)
        assert 1e9 / t * 2 * (n - 1) / n == pytest.approx(1e9)


def test_rings_and_trees_by_hand() -> None:
    assert ring_all_reduce_s(4, 4e6, LINK) == pytest.approx(6 * 1e-5 + 1.5 * 4e6 * 1e-9)
    assert tree_all_reduce_s(5, 4e6, LINK) == pytest.approx(6 * 1e-5 + 2 * 4e6 * 1e-9)
    assert all_reduce_s("ring", 1, 1e9, LINK) == all_reduce_s("tree", 1, 1e9, LINK) == 0.0


def test_two_levels_are_a_ring_inside_and_one_of_shares_between() -> None:
    got = two_level_all_reduce_s("ring", 3, 4, 4e6, LINK, Link(alpha_s=1e-3, beta_s_per_byte=1e-8))
    inside = 6 * 1e-5 + 1.5 * 4e6 * 1e-9
    between = 4 * 1e-3 + 4 / 3 * 1e6 * 1e-8
    assert got == pytest.approx(inside + between)


@pytest.mark.parametrize("cv", [0.01, 0.1, 0.5])
def test_the_slowest_of_two_has_a_closed_form(cv: float) -> None:
    """E[max(X, Y)] = 2·E[X]·Φ(σ/√2) for independent log-normals."""
    want = 2.0 * stats.norm.cdf(lognormal_sigma(cv) / math.sqrt(2.0))
    assert expected_max_lognormal(2, cv) == pytest.approx(want, rel=1e-6)
    assert expected_max_lognormal(1, cv) == pytest.approx(1.0, rel=1e-6)


def test_the_slowest_of_fifty_thousand_as_scipy_integrates_it() -> None:
    n, cv = 50_944, 0.05
    law = stats.lognorm(s=lognormal_sigma(cv), scale=math.exp(-(lognormal_sigma(cv) ** 2) / 2))
    x = np.linspace(1.0, 1.6, 60_001)
    want = 1.0 + np.trapezoid(1.0 - law.cdf(x) ** n, x)  # E[max] = ∫ P(max > x) dx
    assert expected_max_lognormal(n, cv) == pytest.approx(want, rel=1e-4)


def test_a_range_holds_the_next_seed_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        values = rng.exponential(size=20)
        got = range_of(values)
        assert got.low is not None and got.high is not None
        held += got.low <= rng.exponential() <= got.high
    assert held / 2000 > 0.88  # 19/21 = 0.905 expected
    assert range_of(np.arange(5.0)).low is None


def test_every_part_of_the_time_is_a_declared_metric() -> None:
    for part in Part:
        name = "goodput_productive_s" if part is Part.PRODUCTIVE else f"badput_{part.value}_s"
        assert REGISTRY[name].area is Area.TRAINING
