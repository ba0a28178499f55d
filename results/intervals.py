"""Intervals that hold: order statistics for a percentile, Student's t for a mean over runs.

The run is the unit of replication. Within one run requests share a queue and a machine, so an
interval over them speaks of that run only; an interval over runs speaks of the configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Not scipy.stats: it takes a second to import, and every command would pay it.
from scipy import special

# A percentile needs this many samples beyond it before it is printed at all.
MIN_SAMPLES_BEYOND = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    low: float
    high: float


def min_samples(q: float) -> int:
    """Samples needed to print quantile ``q`` in (0, 1): 10/(1 − q), rounded up.

    Symmetric for low quantiles, where it is the lower tail that runs short.
    """
    tail = min(q, 1.0 - q)
    # 10/(1 − 0.9) is 100.00000000000001 in floating point: round before the ceiling.
    return math.ceil(round(MIN_SAMPLES_BEYOND / tail, 6))


def quantile_interval(
    values: npt.NDArray[np.float64], q: float, confidence: float = 0.95
) -> Interval | None:
    """Distribution-free interval of quantile ``q``: two order statistics of ``values`` (n,).

    The number of samples at or below the true quantile is binomial(n, q); the ranks are the
    tightest whose two tails each hold at most (1 − confidence)/2 (David & Nagaraja, Order
    Statistics, 3rd ed., section 7.1). None when a rank falls outside the sample.
    """
    n = len(values)
    if n == 0:
        return None
    tail = (1.0 - confidence) / 2.0
    # P(B < low) ≤ tail and P(B ≥ high) ≤ tail, ranks counted from 1.
    at_most = special.bdtr(np.arange(n + 1), n, q)  # P(B ≤ k), k = 0…n
    low = int(np.searchsorted(at_most, tail))
    high = int(np.searchsorted(at_most, 1.0 - tail)) + 1
    if low < 1 or high > n:
        return None
    ordered = np.sort(values)
    return Interval(low=float(ordered[low - 1]), high=float(ordered[high - 1]))


def mean_interval(
    values: npt.NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, Interval | None]:
    """Mean of independent values (n,) — one per run — and its t interval; None below two runs."""
    mean = float(np.mean(values))
    n = len(values)
    if n < 2:
        return mean, None
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2.0)) * error
    return mean, Interval(low=mean - half, high=mean + half)
