"""From the values of several runs to one value with its interval. Pure.

The run is the unit of replication: an interval comes from how the runs differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from results.intervals import t_quantile
from results.metrics import metric
from results.predictive import MIN_SPREAD
from results.recommendation.profile import Improvement, Statistic


def summarised(name: str, statistic: str, values: Sequence[float]) -> Statistic:
    """Mean over runs with Student's 95 % interval, cut to what the metric can be."""
    n = len(values)
    mean = sum(values) / n
    logs = [math.log(v) for v in values] if min(values) > 0 else []
    log_mean = sum(logs) / n if logs else None
    if n < 2:
        return Statistic(
            metric=name,
            statistic=statistic,
            value=mean,
            num_runs=n,
            log_mean=log_mean,
            reason="one run: no interval",
        )
    half = t_quantile(n - 1, 0.975) * deviation(values) / math.sqrt(n)
    declared = metric(name)
    return Statistic(
        metric=name,
        statistic=statistic,
        value=mean,
        low=max(mean - half, min(declared.low, mean)),
        high=min(mean + half, max(declared.high, mean)),
        num_runs=n,
        log_mean=log_mean,
        log_spread=deviation(logs) if logs else None,
        method=f"mean of {n} runs; Student's 95 % interval over runs",
    )


def deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def improvement(
    ours: Sequence[float], theirs: Sequence[float], baseline: str, name: str
) -> Improvement:
    """Of geometric means, with Welch's 95 % interval on logarithms where both have two runs."""
    sides = [[math.log(v) for v in side] for side in (ours, theirs)]
    difference = sum(sides[0]) / len(ours) - sum(sides[1]) / len(theirs)
    low = high = None
    if min(len(ours), len(theirs)) >= 2:
        parts = [max(deviation(s), MIN_SPREAD) ** 2 / len(s) for s in sides]
        freedom = sum(parts) ** 2 / sum(
            p**2 / (len(s) - 1) for p, s in zip(parts, sides, strict=True)
        )
        half = t_quantile(freedom, 0.975) * math.sqrt(sum(parts))
        low, high = math.exp(difference - half), math.exp(difference + half)
    return Improvement(
        baseline_profile_id=baseline,
        metric=name,
        ratio=math.exp(difference),
        low=low,
        high=high,
    )
