"""One metric's values as measurements: mean and percentiles, each with its interval or the reason
there is no value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from results.gaps import GapPool
from results.intervals import MIN_SAMPLES_BEYOND, min_samples, min_samples_for_bound
from results.measurement import Measurement
from results.metrics import metric as declared
from results.samples import FloatColumn
from results.serial import BOUND_CONFIDENCE, MIN_EFFECTIVE, Estimate, mean, quantile

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
# Printed only where the samples hold it: most runs are too short for it.
FAR_PERCENTILE = 0.999

_PERCENTILE = "linear percentile; order statistics"
_MEAN = "arithmetic mean; batch means"
_POOLED = " over requests as clusters, gaps in 32-bit floats"


def percentile_name(q: float) -> str:
    """0.99 → ``p99``, 0.999 → ``p99.9``."""
    return f"p{round(q * 100, 6):g}"


def single(
    metric: str, value: float | None, n: int, reason: str = "", group: str = ""
) -> Measurement:
    """A metric the run has one number of."""
    return Measurement(
        metric=metric, statistic="value", value=value, n=n, reason=reason, group=group
    )


def shared(metric: str, estimate: Estimate, n: int, group: str = "") -> Measurement:
    """A share of ``n`` > 0 requests, with its interval."""
    return _measurement(
        metric, "value", estimate, n, "share of requests; Korn–Graubard", 0.0, group
    )


def distribution(
    metric: str, values: FloatColumn, why_empty: str = "", group: str = ""
) -> tuple[Measurement, ...]:
    """Mean and percentiles of one metric's values (n,) in order of time; NaN rows are left out and
    not counted."""
    values = values[~np.isnan(values)]
    if not len(values):
        return _empty(metric, why_empty, group)
    ordered = np.sort(values)
    return _statistics(
        metric, len(values), lambda: mean(values), lambda q: quantile(values, ordered, q), "", group
    )


def gap_distribution(
    metric: str, pool: GapPool, why_empty: str = "", group: str = ""
) -> tuple[Measurement, ...]:
    """As ``distribution``, of all gaps of a pool."""
    if not pool.num_gaps:
        return _empty(metric, why_empty, group)
    return _statistics(metric, pool.num_gaps, pool.mean, pool.quantile, _POOLED, group)


def _empty(metric: str, why_empty: str, group: str) -> tuple[Measurement, ...]:
    reason = f"no sample{': ' + why_empty if why_empty else ''}"
    return tuple(
        Measurement(metric=metric, statistic=name, value=None, n=0, reason=reason, group=group)
        for name in ("mean", *(percentile_name(q) for q in PERCENTILES))
    )


def _statistics(
    metric: str,
    n: int,
    mean_of: Callable[[], Estimate],
    quantile_of: Callable[[float], Estimate],
    how: str,
    group: str,
) -> tuple[Measurement, ...]:
    found = [_measurement(metric, "mean", mean_of(), n, _MEAN + how, MIN_EFFECTIVE, group)]
    for q in PERCENTILES if n < min_samples(FAR_PERCENTILE) else (*PERCENTILES, FAR_PERCENTILE):
        if n >= min_samples(q):
            needs = min_samples_for_bound(max(q, 1.0 - q), BOUND_CONFIDENCE)
            name = percentile_name(q)
            method = _PERCENTILE + how
            found.append(_measurement(metric, name, quantile_of(q), n, method, needs, group))
        else:
            found.append(
                Measurement(
                    metric=metric,
                    statistic=percentile_name(q),
                    value=None,
                    n=n,
                    method=f"at least {MIN_SAMPLES_BEYOND} samples must lie beyond a percentile",
                    reason=f"n = {n}; needs at least {min_samples(q)}",
                    group=group,
                )
            )
    return tuple(found)


def _measurement(
    metric: str,
    statistic: str,
    estimate: Estimate,
    n: int,
    method: str,
    needs: float,
    group: str,
) -> Measurement:
    interval, legal = estimate.interval, declared(metric)
    return Measurement(
        metric=metric,
        statistic=statistic,
        value=estimate.value,
        n=n,
        low=max(interval.low, legal.low) if interval else None,
        high=min(interval.high, legal.high) if interval else None,
        method=f"{method}; {_worth(estimate, n, needs)}",
        group=group,
    )


def _worth(estimate: Estimate, n: int, needs: float) -> str:
    """What the interval rests on, or why there is none."""
    effective = estimate.num_effective
    if effective is None:
        return "too few requests for an interval"
    worth = f"n = {n} is worth {effective:.0f} independent values within this run"
    return worth if estimate.interval else f"{worth}, an interval needs {needs:.0f}"
