"""Intervals for independent values: order statistics for a percentile, Student's t for a mean.

The run is the unit of replication. Within one run requests share a queue and a machine, so they are
not independent: ``results.serial`` finds how many independent values they are worth, and uses the
ranks from here with that number. An interval over runs speaks of the configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from results.beta import beta_quantile, binomial_share, student_quantile

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


@lru_cache(maxsize=1024)
def min_samples_for_bound(q: float, confidence: float = 0.99, num_beyond: int = 1) -> int:
    """Independent samples needed before the (``num_beyond`` + 1)-th largest bounds quantile ``q``
    from above with ``confidence``.

    The smallest n with P(B(n, 1 − q) ≤ num_beyond) ≤ 1 − confidence. With one sample allowed
    beyond, as in the early-stopping rule of MLPerf's LoadGen: 64 for p90 and 662 for p99, both at
    99 %. With none, ⌈ln(1 − confidence)/ln q⌉.
    """

    def enough(n: int) -> bool:
        return binomial_share(num_beyond, n, 1.0 - q) <= 1.0 - confidence

    low, high = num_beyond, max(2 * num_beyond, 2)
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def order_ranks(q: float, n: int, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks, counted from 1, of the two order statistics that bound quantile ``q`` of n samples.

    The number of samples at or below the true quantile is binomial(n, q); the ranks are the
    tightest whose two tails each hold at most (1 − confidence)/2 (David & Nagaraja, Order
    Statistics, 3rd ed., section 7.1). None when a rank falls outside the sample.
    """
    if n < 1:
        return None
    tail = (1.0 - confidence) / 2.0
    # P(B < low) ≤ tail and P(B ≥ high) ≤ tail.
    low = _first_rank(tail, n, q)
    high = _first_rank(1.0 - tail, n, q) + 1
    return (low, high) if low >= 1 and high <= n else None


def _first_rank(probability: float, n: int, q: float) -> int:
    """The smallest k with P(B(n, q) ≤ k) ≥ probability."""
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_share(middle, n, q) >= probability:
            high = middle
        else:
            low = middle
    return high


def quantile_interval(
    values: npt.NDArray[np.float64], q: float, confidence: float = 0.95
) -> Interval | None:
    """Distribution-free interval of quantile ``q`` of independent ``values`` (n,): two of their
    order statistics; None when the sample is too small to hold both."""
    ranks = order_ranks(q, len(values), confidence)
    if ranks is None:
        return None
    ordered = np.sort(values)
    return Interval(low=float(ordered[ranks[0] - 1]), high=float(ordered[ranks[1] - 1]))


def quantile_upper_bound(
    values: npt.NDArray[np.float64], q: float, confidence: float = 0.99
) -> float | None:
    """One-sided bound: the smallest order statistic of independent ``values`` (n,) that is at or
    above quantile ``q`` with ``confidence``; None when not even the largest is."""
    n = len(values)
    if n == 0:
        return None
    rank = _first_rank(confidence, n, q) + 1
    return float(np.partition(values, rank - 1)[rank - 1]) if rank <= n else None


def share_interval(num_good: float, n: float, confidence: float = 0.95) -> Interval:
    """Clopper–Pearson interval of a share: ``num_good`` of ``n`` independent trials, n > 0.

    Neither need be whole: with an effective number of trials it is the interval of Korn & Graubard
    (Survey Methodology 24, 1998).
    """
    tail = (1.0 - confidence) / 2.0
    bad = n - num_good
    low = beta_quantile(num_good, bad + 1.0, tail) if num_good > 0 else 0.0
    high = beta_quantile(num_good + 1.0, bad, 1.0 - tail) if bad > 0 else 1.0
    return Interval(low=low, high=high)


def t_quantile(degrees_of_freedom: float, probability: float) -> float:
    """Student's t."""
    return student_quantile(degrees_of_freedom, probability)


def normal_quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def mean_interval(
    values: npt.NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, Interval | None]:
    """Mean of independent values (n,) — one per run — and its t interval; None below two runs."""
    mean = float(np.mean(values))
    n = len(values)
    if n < 2:
        return mean, None
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half = t_quantile(n - 1, 0.5 + confidence / 2.0) * error
    return mean, Interval(low=mean - half, high=mean + half)
