"""Each model recovers the law that made its data; its shape is the formula's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from results.scaling.models import MODELS, Floats, Model, Scope, fit, models_for

N = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
ERROR = np.full(len(N), 0.01)
LAWS: dict[str, tuple[Callable[[Floats], Floats], tuple[float, ...]]] = {
    "amdahl": (lambda m: 1 / (1 + 0.01 * (m - 1)), (0.01,)),
    "gustafson": (lambda m: 1 - 0.2 * (1 - 1 / m), (0.2,)),
    "usl": (lambda m: 1 / (1 + 0.02 * (m - 1) + 0.0005 * m * (m - 1)), (0.02, 0.0005)),
    "log": (lambda m: 1 / (1 + 0.03 * np.log2(m)), (0.03,)),
    "ring": (lambda m: 1 / (1 + 0.004 * (m - 1) + 0.1 * (1 - 1 / m)), (0.004, 0.1)),
    "tree": (lambda m: 1 / (1 + 0.02 * np.log2(m) + 0.1 * (1 - 1 / m)), (0.02, 0.1)),
    "two_level_ring": (lambda m: 1 / (1 + 0.05 * (m > 1) + 0.004 * (m - 1)), (0.05, 0.0, 0.004)),
    "two_level_tree": (lambda m: 1 / (1 + 0.05 * (m > 1) + 0.02 * np.log2(m)), (0.05, 0.0, 0.02)),
}


def model(name: str) -> Model:
    return next(m for m in MODELS if m.name == name)


def test_there_is_a_law_for_every_model() -> None:
    assert set(LAWS) == {m.name for m in MODELS}


@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_model_finds_the_law_it_is(name: str) -> None:
    law, parameters = LAWS[name]
    found = fit(model(name), Scope(n0=1.0), N, 250.0 * law(N), ERROR)
    assert found.parameters == pytest.approx(parameters, abs=1e-9)
    assert found.throughput([128.0])[0] == pytest.approx(250.0 * law(np.array([128.0]))[0])


@pytest.mark.parametrize("name", sorted(LAWS))
def test_sizes_count_from_the_smallest(name: str) -> None:
    """Slices of 256 chips are n = 256, 512, …: the law is one of n/n₀."""
    law, _ = LAWS[name]
    found = fit(model(name), Scope(n0=256.0, domain=256.0), 256.0 * N, law(N), ERROR)
    assert found.throughput([256.0 * 64.0])[0] == pytest.approx(law(np.array([64.0]))[0])


@pytest.mark.parametrize("name", sorted(LAWS))
def test_no_fit_gains_from_more_chips(name: str) -> None:
    """Weights stay ≥ 0 even where the data rise."""
    found = fit(model(name), Scope(n0=1.0), N, 100.0 + N, ERROR)
    assert (found.weights >= 0).all()
    curve = found.throughput(N)
    assert (np.diff(curve) <= 1e-9).all()


def test_a_domain_that_is_left_costs_a_step() -> None:
    """8 chips share NVLink; beyond, one more stage at 7 % and 1 % per further host."""
    hosts = np.maximum(N / 8.0, 1.0)
    seen = 1 / (1 + 0.03 * (N > 1) + 0.07 * (N > 8) + 0.01 * (hosts - 1))
    found = fit(model("two_level_ring"), Scope(n0=1.0, domain=8.0), N, seen, ERROR)
    assert found.parameters == pytest.approx((0.03, 0.07, 0.01), abs=1e-9)


def test_in_strong_mode_a_collective_weighs_more_the_smaller_the_share() -> None:
    """A step is W/n of work and α(n − 1) + β(1 − 1/n) of exchange; per chip that is n times it."""
    work, alpha, beta = 4.0, 0.001, 0.02
    step_s = work / N + alpha * (N - 1) + beta * (1 - 1 / N)
    scope = Scope(n0=1.0, mode="strong")
    found = fit(model("ring"), scope, N, 1.0 / (N * step_s), ERROR)
    assert found.parameters == pytest.approx((alpha / work, beta / work), rel=1e-6)
    assert "gustafson" not in {m.name for m in models_for(scope)}


def test_a_point_that_is_sure_weighs_more() -> None:
    seen = np.array([1.0, 0.9, 0.7])
    sure = fit(model("log"), Scope(n0=1.0), N[:3], seen, np.array([0.001, 0.001, 0.1]))
    assert sure.throughput([2.0])[0] == pytest.approx(0.9, abs=0.002)
