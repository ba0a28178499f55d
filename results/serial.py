"""Intervals within one run: statistics of values in order of time, dependent as they are.

A percentile's interval is made in two steps. How much the share of values at or below the estimate
varies is found by ``autocorrelation.sum_spread``, which says how many independent values the run is
worth; two order statistics are then taken at the ranks for that many (Woodruff, JASA 47, 1952, with
the correction of Korn & Graubard for a variance known from few batches).

The same holds for pooled gaps: a request is a cluster of them, and clusters follow each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from results.autocorrelation import NUM_BATCHES, sum_spread, widening
from results.intervals import (
    Interval,
    min_samples_for_bound,
    order_ranks,
    share_interval,
    t_quantile,
)
from results.samples import BoolColumn, FloatColumn

# A mean of fewer independent values than this has no interval: its spread is guesswork.
MIN_EFFECTIVE = 10.0
# An interval of quantile q needs as many *independent* values as a bound at this confidence does.
BOUND_CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """``num_effective``: independent values that the samples are worth; None: not known."""

    value: float
    interval: Interval | None
    num_effective: float | None


def ratio_mean(
    numerators: FloatColumn, denominators: FloatColumn, confidence: float = 0.95
) -> Estimate:
    """Σ numerators / Σ denominators of clusters (n,) in order of time; Σ denominators > 0.

    With denominators of one it is the mean of the numerators.
    """
    total = float(denominators.sum())
    value = float(numerators.sum()) / total
    residuals = numerators - value * denominators
    spread = sum_spread(residuals)
    if spread is None:
        return Estimate(value=value, interval=None, num_effective=None)
    effective = len(numerators) / spread.inflation
    if effective < MIN_EFFECTIVE:
        return Estimate(value=value, interval=None, num_effective=effective)
    half = t_quantile(NUM_BATCHES - 1, 0.5 + confidence / 2.0) * math.sqrt(spread.variance) / total
    return Estimate(
        value=value,
        interval=Interval(low=value - half, high=value + half),
        num_effective=effective,
    )


def mean(values: FloatColumn, confidence: float = 0.95) -> Estimate:
    """Mean of ``values`` (n,), n > 0."""
    return ratio_mean(values, np.ones(len(values)), confidence)


def effective_number(
    counts_at_most: FloatColumn, counts: FloatColumn, confidence: float = 0.95
) -> float | None:
    """Independent values that all clusters (n,) are worth for the share that ``counts_at_most`` is
    of ``counts``; never more than there are values. None with fewer clusters than batches."""
    total = float(counts.sum())
    share = float(counts_at_most.sum()) / total
    spread = sum_spread(counts_at_most - share * counts)
    if spread is None:
        return None
    if spread.variance <= 0.0:
        return total
    variance = spread.variance / total**2
    effective = share * (1.0 - share) / variance / widening(confidence) ** 2
    return min(effective, total)


def effective_number_at(
    q: float,
    at_most: Callable[[], FloatColumn],
    below: Callable[[], FloatColumn],
    counts: FloatColumn,
    confidence: float = 0.95,
) -> float | None:
    """``effective_number`` at an estimate of quantile ``q``.

    Where many values equal the estimate, the share at or below it is not ``q``, and may be all: it
    then tells nothing. The share strictly below it is looked at as well, and the worse one counts.
    """
    upto, total = at_most(), float(counts.sum())
    found = effective_number(upto, counts, confidence)
    if found is None or abs(float(upto.sum()) - q * total) <= 1.0:
        return found
    other = effective_number(below(), counts, confidence)
    return found if other is None else min(found, other)


def rank_positions(
    q: float, num_values: int, num_effective: float, confidence: float = 0.95
) -> tuple[int, int] | None:
    """Ranks from 1 among ``num_values`` sorted values that bound quantile ``q``, when they are
    worth ``num_effective`` independent ones; None when those are too few."""
    effective = math.floor(num_effective)
    if effective < min_samples_for_bound(max(q, 1.0 - q), BOUND_CONFIDENCE):
        return None
    ranks = order_ranks(q, effective, confidence)
    if ranks is None:
        return None
    scale = (num_values + 1) / (effective + 1)
    low, high = math.floor(ranks[0] * scale), math.ceil(ranks[1] * scale)
    return max(low, 1), min(high, num_values)


def linear_position(q: float, num_values: int) -> tuple[int, int, float]:
    """(rank below, rank above, weight of the one above) of numpy's linear percentile, from 1."""
    at = q * (num_values - 1)
    below = math.floor(at)
    return below + 1, min(below + 2, num_values), at - below


def quantile(
    values: FloatColumn, ordered: FloatColumn, q: float, confidence: float = 0.95
) -> Estimate:
    """Quantile ``q`` of ``values`` (n,) in order of time; ``ordered`` holds the same, sorted."""
    n = len(values)
    low, high, weight = linear_position(q, n)
    value = float(ordered[low - 1] + weight * (ordered[high - 1] - ordered[low - 1]))
    one = np.ones(n)
    effective = effective_number_at(
        q,
        lambda: (values <= value).astype(np.float64),
        lambda: (values < value).astype(np.float64),
        one,
        confidence,
    )
    ranks = rank_positions(q, n, effective, confidence) if effective is not None else None
    interval = None
    if ranks is not None:
        interval = Interval(
            low=min(float(ordered[ranks[0] - 1]), value),
            high=max(float(ordered[ranks[1] - 1]), value),
        )
    return Estimate(value=value, interval=interval, num_effective=effective)


def share(good: BoolColumn, confidence: float = 0.95) -> Estimate:
    """Share of true values in ``good`` (n,), n > 0, with the interval of Korn & Graubard.

    Values that are all alike say nothing about their dependence and are taken for independent.
    """
    n = len(good)
    value = float(good.mean())
    effective = effective_number(good.astype(np.float64), np.ones(n), confidence)
    if effective is None:
        return Estimate(value=value, interval=None, num_effective=None)
    bounds = share_interval(value * effective, effective, confidence)
    return Estimate(
        value=value,
        interval=Interval(low=min(bounds.low, value), high=max(bounds.high, value)),
        num_effective=effective,
    )
