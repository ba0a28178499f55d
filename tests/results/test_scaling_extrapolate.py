"""Predictions: right on simulated laws as often as they say, and refused where nothing speaks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from results.scaling.extrapolate import (
    REFUSED_BEYOND,
    Curve,
    Prediction,
    curve_of,
    extrapolate,
)
from results.scaling.models import Floats

N = (1.0, 2.0, 4.0, 8.0)
Law = Callable[[Floats], Floats]


def curve(law: Law, spread: float, rng: np.random.Generator, repeats: int = 3) -> Curve:
    return curve_of(
        [(n, law(np.array([n]))[0] * np.exp(spread * rng.standard_normal(repeats))) for n in N]
    )


def mixed_law(rng: np.random.Generator) -> Law:
    """One to three of the terms that models have, 2 to 15 % of loss at 8."""
    terms: list[Law] = [
        lambda m: (m > 1) * 1.0,
        np.log2,
        lambda m: m - 1.0,
        lambda m: 1.0 - 1.0 / m,
    ]
    weights = np.zeros(len(terms))
    at_8 = np.array([8.0])
    for i in rng.choice(len(terms), rng.integers(1, 4), replace=False):
        weights[i] = rng.exponential() / terms[i](at_8)[0]
    weights *= rng.uniform(0.02, 0.15) / sum(
        w * t(at_8)[0] for w, t in zip(weights, terms, strict=True)
    )
    return lambda m: 1.0 / (1.0 + sum(w * t(m) for w, t in zip(weights, terms, strict=True)))


def power_law(rng: np.random.Generator) -> Law:
    """No model of the list: a loss that grows as a power of m, with or without a first step."""
    power, step = rng.uniform(0.2, 1.1), rng.exponential() * rng.integers(0, 2)
    at_8 = 1.0 + step
    scale = rng.uniform(0.02, 0.15) / at_8
    return lambda m: 1.0 / (1.0 + scale * (((m - 1.0) / 7.0) ** power + step * (m > 1)))


def bent_law(rng: np.random.Generator) -> Law:
    """A law of the list up to 8, and a further loss per doubling that begins there."""
    before, more = mixed_law(rng), rng.uniform(0.005, 0.03)
    return lambda m: 1.0 / (1.0 / before(m) + more * np.log2(np.maximum(m / 8.0, 1.0)))


@pytest.mark.parametrize("law_of", [mixed_law, power_law, bent_law])
def test_nine_intervals_of_ten_hold(law_of: Callable[[np.random.Generator], Law]) -> None:
    """Against what a further run at twice and four times the largest size would show. Where the
    truth is no law of the list the votes' mean errs less than the nearest model."""
    rng = np.random.default_rng(5)
    held, errors, of_nearest = [], [], []
    for _ in range(30):
        law, spread = law_of(rng), rng.uniform(0.002, 0.01)
        seen = curve(law, spread, rng)
        found = extrapolate(seen, [16, 32], seed=1)
        for p in found.predictions:
            truth = law(np.array([p.n]))[0] * np.exp(spread * rng.standard_normal())
            truth /= seen.throughput[0]
            assert p.efficiency is not None and p.low is not None and p.high is not None
            held.append(p.low <= truth <= p.high)
            errors.append(abs(p.efficiency - truth))
            of_nearest.append(abs(dict(p.by_model)[found.chosen] - truth))
    assert np.mean(held) >= 0.88
    assert np.mean(errors) < 0.03
    if law_of is power_law:
        assert np.mean(errors) < np.mean(of_nearest)


def test_a_clear_law_is_found_and_sharp() -> None:
    """With a spread of 0.1 % and 5 sizes the logarithm is told from the line."""
    seen = curve_of([(n, [1 / (1 + 0.04 * np.log2(n))] * 2) for n in (1, 2, 4, 8, 16, 32)])
    found = extrapolate(seen, [64])
    assert found.predictions[0].efficiency == pytest.approx(1 / 1.24, abs=0.02)
    assert found.chosen in {"log", "tree", "two_level_tree"}
    assert sum(m.weight for m in found.models) == pytest.approx(1.0)


def test_models_that_fit_alike_share_one_vote() -> None:
    seen = curve_of([(n, [1 / (1 + 0.01 * (n - 1))]) for n in N])
    weights = {m.name: m.weight for m in extrapolate(seen, [16]).models}
    # The line is amdahl's, and usl, ring and two_level_ring become it: a quarter each of one vote.
    alike = ("amdahl", "usl", "ring", "two_level_ring")
    assert len({round(weights[name], 6) for name in alike}) == 1
    assert weights["amdahl"] < weights["log"] * 4


def one(n: float, **changes: float) -> Prediction:
    seen = curve_of([(m, [1 / (1 + 0.02 * np.log2(m))]) for m in N])
    return extrapolate(seen, [n], **changes).predictions[0]  # type: ignore[arg-type]


def test_beyond_four_times_the_interval_widens_and_says_so() -> None:
    near, far = one(32), one(64)
    assert near.low is not None and near.high is not None
    assert far.low is not None and far.high is not None
    assert not any("widened" in note for note in near.notes)
    assert any("widened" in note for note in far.notes)
    assert far.high - far.low > near.high - near.low


def test_beyond_sixteen_times_there_is_none() -> None:
    assert one(8 * REFUSED_BEYOND).efficiency is not None
    beyond = one(8 * REFUSED_BEYOND + 1)
    assert beyond.efficiency is None
    assert "measure up to 8.06" in beyond.reason


def test_a_domain_nobody_left_refuses_what_lies_outside() -> None:
    assert one(16, domain=16).efficiency is not None
    outside = one(32, domain=16)
    assert outside.efficiency is None
    assert "leaves the fast domain of 16" in outside.reason
    assert one(32, domain=4).efficiency is not None
    assert any("only one size" in note for note in one(32, domain=4).notes)
    assert any("was not given" in note for note in one(32).notes)


def test_a_batch_that_cannot_be_shared_and_a_size_already_measured_are_refused() -> None:
    seen = curve_of([(m, [1 / m]) for m in N])
    found = extrapolate(seen, [8, 16, 32], mode="strong", global_batch=24).predictions
    assert "within what was measured" in found[0].reason
    assert found[1].efficiency is not None
    assert found[2].reason == "a global batch of 24 cannot be shared by 32"


def test_two_sizes_are_too_few() -> None:
    found = extrapolate(curve_of([(8, [5762.0]), (128, [5605.0])]), [512])
    assert found.models == () and found.chosen == ""
    assert found.predictions[0].efficiency is None
    assert "3 are needed" in found.predictions[0].reason


def test_the_same_data_give_the_same_interval() -> None:
    assert one(32) == one(32)


def test_the_spread_is_pooled_over_sizes() -> None:
    runs = [(2.0, [100.0, 104.0]), (1.0, [120.0, 126.0, 123.0])]
    found = curve_of(runs)
    assert list(found.n) == [1.0, 2.0]
    groups = [np.log(values) for _, values in runs]
    pooled = np.sqrt(sum((len(g) - 1) * np.var(g, ddof=1) for g in groups) / 3)
    assert found.spread == pytest.approx(pooled)
    assert found.dof == 3
    assert found.relative_error == pytest.approx(pooled / np.sqrt([3, 2]))
    assert curve_of([(1.0, [5.0]), (2.0, [4.0])]).dof == 0


def test_data_that_no_model_fits_have_a_spread_of_their_own() -> None:
    """Sizes that scatter by some 20 % cannot have one of 0.5 %; nor is more than all predicted."""
    wild = extrapolate(curve_of([(1, [1.0]), (2, [1.4]), (4, [1.1]), (8, [1.3])]), [16])
    p = wild.predictions[0]
    assert p.efficiency is not None and p.low is not None
    assert p.efficiency <= 1.0 and p.low < 0.85
    assert any("which is assumed for one run per size" in note for note in p.notes)
    calm = extrapolate(curve_of([(n, [1 / (1 + 0.02 * np.log2(n))]) for n in N]), [16])
    assert not any("no model fits" in note for note in calm.predictions[0].notes)
