"""Null nights of kinds that had no say in how the detector was made: neither in its table nor in
its limits. What it does on them is told, not promised."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from reports.noise import SIGMA, Family, autocorrelated
from results.pairs import Floats


def weekly(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Weekends are 6 % slower."""
    day = (np.arange(num_nights) + rng.integers(0, 7, (num_series, 1))) % 7
    noise = 0.02 * rng.standard_normal((num_series, num_nights))
    made: Floats = noise + np.where(day >= 5, np.log(1.06), 0.0)
    return made


def rounded(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Whole numbers about 14."""
    exact = 14.0 * np.exp(SIGMA * rng.standard_normal((num_series, num_nights)))
    made: Floats = np.log(np.round(exact))
    return made


def missing(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """AR(0.6), of which every night is missing with a chance of one in four."""
    whole = autocorrelated(0.6)(rng, num_series, 2 * num_nights)
    kept = np.argsort(rng.random(whole.shape) < 0.25, axis=1, kind="stable")[:, :num_nights]
    made: Floats = np.take_along_axis(whole, kept, axis=1)
    return made


def outliers(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """One night in twenty is 10 to 50 % off, up or down."""
    shape = (num_series, num_nights)
    off = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 0.5, shape)
    noise = 0.02 * rng.standard_normal(shape)
    made: Floats = noise + np.where(rng.random(shape) < 0.05, off, 0.0)
    return made


def moving_average(theta: float) -> Family:
    """e(t) + ``theta`` e(t − 1) with standard deviation SIGMA."""

    def made(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
        e = rng.standard_normal((num_series, num_nights + 1))
        noise: Floats = SIGMA * (e[:, 1:] + theta * e[:, :-1]) / np.sqrt(1.0 + theta**2)
        return noise

    return made


def season(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Up and down by 2 % in thirty nights, beside 2 % of white noise."""
    phase = 2.0 * np.pi * (np.arange(num_nights) + rng.integers(0, 30, (num_series, 1))) / 30.0
    noise = 0.02 * rng.standard_normal((num_series, num_nights))
    made: Floats = noise + 0.02 * np.sin(phase)
    return made


def trend(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """1.5 % slower a month, beside 2 % of white noise."""
    noise = 0.02 * rng.standard_normal((num_series, num_nights))
    made: Floats = noise + 0.0005 * np.arange(num_nights)
    return made


def ever_wilder(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """From 1 % a night to 4 %."""
    noise = rng.standard_normal((num_series, num_nights))
    made: Floats = noise * np.linspace(0.01, 0.04, num_nights)
    return made


def slow_and_spiked(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """AR(0.3), and one night in fifty 10 to 40 % slow."""
    shape = (num_series, num_nights)
    spikes = np.where(rng.random(shape) < 0.02, rng.uniform(0.1, 0.4, shape), 0.0)
    made: Floats = autocorrelated(0.3)(rng, *shape) + spikes
    return made


UNSEEN: Mapping[str, Family] = MappingProxyType(
    {
        "AR(0.8)": autocorrelated(0.8),
        "AR(0.6), nights missing": missing,
        "MA(1), -0.6": moving_average(-0.6),
        "MA(1), 0.8": moving_average(0.8),
        "weekends": weekly,
        "season of 30 nights": season,
        "rounded": rounded,
        "outliers": outliers,
        "trend": trend,
        "ever wilder": ever_wilder,
        "AR(0.3) and spikes": slow_and_spiked,
    }
)
