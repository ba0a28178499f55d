"""Nights on which nothing happened, made up: what a detector must keep silent on.

Logarithms of a metric, one per night. PROMISED are the ones that the alarm rate is
promised for; OTHERS are there so that it does not hold by accident of those, and the table of the
null is made of both. UNSEEN had no say in how the detector was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Family = Callable[[np.random.Generator, int, int], Floats]  # generator, series, nights → (S, T)

SIGMA = 0.03  # of a night, where the family has one
DRIFT = 0.01  # a night, of the level's walk, beside as much white noise
_SETTLE = 50  # nights before the first, so that autocorrelated noise has no beginning


def white(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    return SIGMA * rng.standard_normal((num_series, num_nights))


def autocorrelated(phi: float) -> Family:
    """AR(1) with standard deviation SIGMA."""

    def made(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
        shocks = SIGMA * np.sqrt(1.0 - phi**2)
        noise = shocks * rng.standard_normal((num_series, num_nights + _SETTLE))
        for t in range(1, noise.shape[1]):
            noise[:, t] += phi * noise[:, t - 1]
        settled: Floats = noise[:, _SETTLE:]
        return settled

    return made


def drifting(step: float = DRIFT, beside: float = DRIFT) -> Family:
    """A random walk of ``step`` a night, with white noise ``beside`` it."""

    def made(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
        shape = (num_series, num_nights)
        walk = np.cumsum(step * rng.standard_normal(shape), axis=1)
        noise: Floats = walk + beside * rng.standard_normal(shape)
        return noise

    return made


def student(degrees_of_freedom: float) -> Family:
    def made(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
        return 0.02 * rng.standard_t(degrees_of_freedom, (num_series, num_nights))

    return made


def spiked(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """One night in thirty is 30 % slow: a neighbour, a backup, a retry."""
    shape = (num_series, num_nights)
    spikes = np.where(rng.random(shape) < 0.03, np.log(1.3), 0.0)
    noise: Floats = white(rng, *shape) + spikes
    return noise


def heavy(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Half of the series Student's t with 3 degrees of freedom, half with spikes."""
    half = num_series // 2
    return np.concatenate(
        [student(3.0)(rng, half, num_nights), spiked(rng, num_series - half, num_nights)]
    )


def skewed(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Never faster than the machine can, often slower: 1 + an exponential of 5 %."""
    noise: Floats = np.log1p(0.05 * rng.exponential(1.0, (num_series, num_nights)))
    return noise


def two_moods(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Three nights in ten are 8 % slower: two memory layouts, two hosts."""
    shape = (num_series, num_nights)
    noise: Floats = 0.02 * rng.standard_normal(shape) + np.where(
        rng.random(shape) < 0.3, np.log(1.08), 0.0
    )
    return noise


def garch(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """GARCH(1, 1), 0.15 and 0.8 (Bollerslev, J. Econometrics 31, 1986): wild nights in spells."""
    noise = np.zeros((num_series, num_nights + _SETTLE))
    variance = np.ones(num_series)
    for t in range(noise.shape[1]):
        noise[:, t] = np.sqrt(variance) * rng.standard_normal(num_series)
        variance = 0.05 + 0.15 * noise[:, t] ** 2 + 0.8 * variance
    made: Floats = SIGMA * noise[:, _SETTLE:]
    return made


def two_variances(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Calm for 40 nights (1.5 %), loud for 15 (5 %), on average."""
    loud = rng.random(num_series) < 0.3
    noise = np.empty((num_series, num_nights))
    for t in range(num_nights):
        loud = loud ^ (rng.random(num_series) < np.where(loud, 1.0 / 15.0, 1.0 / 40.0))
        noise[:, t] = np.where(loud, 0.05, 0.015) * rng.standard_normal(num_series)
    return noise


def two_bad_nights(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """Bad nights come in twos, 25 % off, three times in 200 nights."""
    shape = (num_series, num_nights)
    bad = rng.random(shape) < 0.015
    noise = 0.02 * rng.standard_normal(shape)
    made: Floats = noise + 0.25 * (bad | np.roll(bad, 1, axis=1))
    return made


def heavy_and_slow(rng: np.random.Generator, num_series: int, num_nights: int) -> Floats:
    """AR(0.6) of Student's t with 4 degrees of freedom."""
    noise = 0.02 * rng.standard_t(4.0, (num_series, num_nights + _SETTLE))
    for t in range(1, noise.shape[1]):
        noise[:, t] += 0.6 * noise[:, t - 1]
    made: Floats = noise[:, _SETTLE:]
    return made


PROMISED: Mapping[str, Family] = MappingProxyType(
    {
        "white": white,
        "AR(0.3)": autocorrelated(0.3),
        "AR(0.6)": autocorrelated(0.6),
        "random-walk drift": drifting(),
        "heavy tails": heavy,
        "skewed": skewed,
    }
)
OTHERS: Mapping[str, Family] = MappingProxyType(
    {
        "drift alone": drifting(beside=0.0),
        "slow drift": drifting(step=0.3 * DRIFT),
        "hidden drift": drifting(step=0.1 * DRIFT),
        "Student t, 2 degrees": student(2.0),
        "spikes": spiked,
        "two moods": two_moods,
        "GARCH": garch,
        "calm and loud spells": two_variances,
        "bad nights in twos": two_bad_nights,
        "AR(0.6) of Student t": heavy_and_slow,
    }
)
