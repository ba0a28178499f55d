"""The process against closed forms and a plain solve, and against surfaces whose shape is known."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import optimize, stats

from tuners.surrogate import (
    ALONE,
    AROUND_FORECAST,
    Array,
    Prior,
    Seen,
    _apart,
    _loss,
    fit,
    rows_of,
)

OWNER = np.array([0, 1, 2, 2])


def seen(n: int, seed: int = 0, around: bool = False) -> Seen:
    generator = np.random.default_rng(seed)
    x = generator.random((n, 4))
    slope = generator.normal(size=n) if around else np.zeros(n)
    return Seen(x=x, owner=OWNER, y=generator.normal(size=n), mean=0.5 * np.ones(n), slope=slope)


def covariance(theta: Array, prior: Prior, a: Array, b: Array) -> Array:
    """Pair by pair: Matérn-5/2 along each knob (Rasmussen & Williams, equation 4.17), and of each
    order the mean over its combinations of knobs."""
    lengths, shares = np.exp(theta[:3]), np.exp(2 * theta[3:6])
    found = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            alike = []
            for knob in range(3):
                apart = (one - other)[knob == OWNER]
                r = math.sqrt((apart**2).sum()) / lengths[knob]
                alike.append((1 + math.sqrt(5) * r + 5 * r * r / 3) * math.exp(-math.sqrt(5) * r))
            for share, order in zip(shares, (1, 2, 3), strict=True):
                found[i, j] += share * np.mean([math.prod(c) for c in combinations(alike, order)])
    whole: Array = found + prior.factor**2
    return whole


def test_the_posterior_is_that_of_the_plain_solve() -> None:
    told = seen(7)
    process = fit(told, ALONE)
    x = np.random.default_rng(5).random((4, 4))
    matrix = covariance(process.theta, ALONE, told.x, told.x)
    matrix += (process.noise**2 + 1e-8) * np.eye(7)
    cross = covariance(process.theta, ALONE, x, told.x)
    mean = 0.5 + cross @ np.linalg.solve(matrix, told.y - 0.5)
    own = covariance(process.theta, ALONE, x, x)
    variance = np.diag(own - cross @ np.linalg.solve(matrix, cross.T))
    found, spread = process.at(rows_of(x, OWNER), 0.5 * np.ones(4), np.zeros(4))
    assert found == pytest.approx(mean)
    assert spread**2 == pytest.approx(variance, rel=1e-5)


def test_the_loss_is_the_density_and_its_gradient() -> None:
    told = seen(6, around=True)
    theta = np.array([-0.2, 0.3, -0.5, -1.0, -0.7, -1.2, -2.0])
    apart = _apart(told.x, OWNER)
    matrix = covariance(theta, AROUND_FORECAST, told.x, told.x)
    matrix += AROUND_FORECAST.power**2 * np.outer(told.slope, told.slope)
    matrix += (math.exp(-4.0) + 1e-8) * np.eye(6)
    density = stats.multivariate_normal.logpdf(told.y, told.mean, matrix)
    p = AROUND_FORECAST
    priors = [*[p.length] * 3, p.alone, p.pairs, p.whole, p.noise]
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
    means, _ = imagined.means_at(rows_of(x, OWNER), half, none, residuals)
    before, spread = process.at(rows_of(x, OWNER), half, none)
    assert means[0] == pytest.approx(before, abs=1e-5)
    assert (imagined.at(rows_of(x, OWNER), half, none)[1][:2] < spread[:2]).all()


def test_imagined_ends_are_spread_as_the_process_says() -> None:
    process = fit(seen(8), ALONE)
    x = np.random.default_rng(7).random((1, 4))
    draws = np.random.default_rng(8).standard_normal((4000, 1))
    _, residuals = process.imagined(x, np.array([0.5]), np.zeros(1), draws)
    _, spread = process.at(rows_of(x, OWNER), np.array([0.5]), np.zeros(1))
    assert residuals[:, -1].std() == pytest.approx(math.hypot(spread[0], process.noise), rel=0.05)


def test_nothing_seen_is_the_prior() -> None:
    process = fit(
        Seen(**dict.fromkeys(("y", "mean", "slope"), np.zeros(0)), x=np.zeros((0, 4)), owner=OWNER),
        ALONE,
    )
    mean, spread = process.at(rows_of(np.zeros((1, 4)), OWNER), np.array([2.0]), np.zeros(1))
    assert mean == pytest.approx([2.0])
    parts = [math.exp(2 * m) for m, _ in (ALONE.alone, ALONE.pairs, ALONE.whole)]
    assert spread**2 == pytest.approx([sum(parts) + ALONE.factor**2])


def test_what_knobs_do_by_themselves_is_learned_from_trials_that_differ_in_all() -> None:
    """Of 12 trials of a sum over knobs, none a neighbour of another, the rest is foretold."""
    generator = np.random.default_rng(3)
    x = np.column_stack([generator.permutation(12) / 11 for _ in range(3)])
    owner = np.arange(3)

    def truth(at: Array) -> Array:
        found: Array = 1.5 * at[:, 0] - 0.8 * at[:, 1] ** 2 + 0.5 * at[:, 2]
        return found

    told = Seen(x=x, owner=owner, y=truth(x), mean=np.zeros(12), slope=np.zeros(12))
    fresh = generator.random((50, 3))
    mean, _ = fit(told, ALONE).at(rows_of(fresh, owner), np.zeros(50), np.zeros(50))
    assert np.abs(mean - truth(fresh)).max() < 0.15
