"""The process against closed forms and a plain solve, and against surfaces whose shape is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from tuners.surrogate import ALONE, AROUND_FORECAST, Array, Seen, Surrogate, _loss, _squares, fit

OWNER = np.array([0, 1, 2, 2])


def seen(n: int, seed: int = 0, around: bool = False) -> Seen:
    generator = np.random.default_rng(seed)
    x = generator.random((n, 4))
    slope = generator.normal(size=n) if around else np.zeros(n)
    return Seen(x=x, owner=OWNER, y=generator.normal(size=n), mean=0.5 * np.ones(n), slope=slope)


def covariance(process: Surrogate, a: Array, b: Array) -> Array:
    """By the Matérn-5/2 formula, pair by pair (Rasmussen & Williams, equation 4.17)."""
    lengths = np.exp(process.theta[:-2])[OWNER]
    found = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            r = math.sqrt((((one - other) / lengths) ** 2).sum())
            near = (1 + math.sqrt(5) * r + 5 * r * r / 3) * math.exp(-math.sqrt(5) * r)
            found[i, j] = math.exp(2 * process.theta[-2]) * near + process.prior.factor**2
    return found


def test_the_posterior_is_that_of_the_plain_solve() -> None:
    told = seen(7)
    process = fit(told, ALONE)
    x = np.random.default_rng(5).random((4, 4))
    matrix = covariance(process, told.x, told.x) + (process.noise**2 + 1e-8) * np.eye(7)
    cross = covariance(process, x, told.x)
    mean = 0.5 + cross @ np.linalg.solve(matrix, told.y - 0.5)
    variance = np.diag(covariance(process, x, x) - cross @ np.linalg.solve(matrix, cross.T))
    found, spread = process.at(x, 0.5 * np.ones(4), np.zeros(4))
    assert found == pytest.approx(mean)
    assert spread**2 == pytest.approx(variance, rel=1e-5)


def test_the_loss_is_the_density_and_its_gradient() -> None:
    told = seen(6, around=True)
    theta = np.array([-0.2, 0.3, -0.5, -1.0, -2.0])
    apart = _squares(told.x, told.x, OWNER)
    process = Surrogate(
        seen=told, prior=AROUND_FORECAST, theta=theta, evidence=0.0, lower=apart, alpha=told.y
    )
    matrix = covariance(process, told.x, told.x)
    matrix += AROUND_FORECAST.power**2 * np.outer(told.slope, told.slope)
    matrix += (math.exp(-4.0) + 1e-8) * np.eye(6)
    density = stats.multivariate_normal.logpdf(told.y, told.mean, matrix)
    p = AROUND_FORECAST
    priors = [*[p.length] * 3, p.amplitude, p.noise]
    penalty = sum(0.5 * ((t - m) / s) ** 2 for t, (m, s) in zip(theta, priors, strict=True))
    value, gradient = _loss(theta, told, AROUND_FORECAST, apart)
    assert value == pytest.approx(penalty - density)
    plain = optimize.approx_fprime(theta, lambda t: _loss(t, told, AROUND_FORECAST, apart)[0], 1e-7)
    assert gradient == pytest.approx(plain, rel=1e-4, abs=1e-4)


def test_what_is_imagined_at_its_mean_changes_no_mean_and_narrows() -> None:
    told = seen(8)
    process = fit(told, ALONE)
    x = np.random.default_rng(6).random((5, 4))
    half, none = 0.5 * np.ones(5), np.zeros(5)
    imagined, residuals = process.imagined(x[:2], half[:2], none[:2], np.zeros((1, 2)))
    means = imagined.means_at(x, half, none, residuals)
    before, spread = process.at(x, half, none)
    assert means[0] == pytest.approx(before, abs=1e-5)
    assert (imagined.at(x, half, none)[1][:2] < spread[:2]).all()


def test_imagined_ends_are_spread_as_the_process_says() -> None:
    process = fit(seen(8), ALONE)
    x = np.random.default_rng(7).random((1, 4))
    draws = np.random.default_rng(8).standard_normal((4000, 1))
    _, residuals = process.imagined(x, np.array([0.5]), np.zeros(1), draws)
    _, spread = process.at(x, np.array([0.5]), np.zeros(1))
    assert residuals[:, -1].std() == pytest.approx(math.hypot(spread[0], process.noise), rel=0.05)


def test_nothing_seen_is_the_prior() -> None:
    process = fit(
        Seen(**dict.fromkeys(("y", "mean", "slope"), np.zeros(0)), x=np.zeros((0, 4)), owner=OWNER),
        ALONE,
    )
    mean, spread = process.at(np.zeros((1, 4)), np.array([2.0]), np.zeros(1))
    assert mean == pytest.approx([2.0])
    assert spread**2 == pytest.approx([0.8**2 + ALONE.factor**2])
