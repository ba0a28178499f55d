"""The checkpoint interval that a simulated campaign does best with, beside Young's and Daly's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from results.checkpointing import daly_interval_s, young_interval_s
from results.samples import FloatColumn
from workloads.simulated.training.campaign import run_campaign
from workloads.simulated.training.failures import FailureTrace
from workloads.simulated.training.model import FailureModel, Recovery

_FACTORS = 2.0 ** np.arange(-3.0, 3.01, 0.5)  # of Daly's interval: an eighth to eight times
_NEAR = 5  # points of the grid around its best one that the parabola goes through
_NUM_RESAMPLES = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntervalSearch:
    """``interval_s`` (k,) tried and ``goodput`` (seeds, k) found, on the same failures for each
    interval. ``best_s`` with its 90 % interval over the seeds."""

    interval_s: FloatColumn
    goodput: FloatColumn
    best_s: float
    low_s: float
    high_s: float
    young_s: float
    daly_s: float


def search_interval(
    traces: list[FailureTrace],
    failures: FailureModel,
    recovery: Recovery,
    *,
    step_s: FloatColumn,
    mtbf_s: float,
    horizon_s: float,
    rng: np.random.Generator,
) -> IntervalSearch:
    """``step_s`` (seeds,): each seed's mean step. Saving that takes no time has no optimum: then
    every step is saved, and the grid shows it."""
    save_s = max(recovery.save_s, 1e-3)
    daly_s = daly_interval_s(save_s, mtbf_s)
    intervals: FloatColumn = np.asarray(daly_s * _FACTORS, dtype=np.float64)
    goodput = np.array(
        [
            [
                run_campaign(
                    trace,
                    failures,
                    recovery,
                    step_s=float(own_step_s),
                    interval_s=float(interval_s),
                    horizon_s=horizon_s,
                ).share
                for interval_s in intervals
            ]
            for trace, own_step_s in zip(traces, step_s, strict=True)
        ]
    )
    n = len(traces)
    resampled = [
        _peak_s(intervals, goodput[rng.integers(0, n, n)].mean(axis=0))
        for _ in range(_NUM_RESAMPLES)
    ]
    low_s, high_s = np.quantile(resampled, [0.05, 0.95])
    best_s = _peak_s(intervals, goodput.mean(axis=0))
    return IntervalSearch(
        interval_s=intervals,
        goodput=goodput,
        best_s=best_s,
        low_s=min(float(low_s), best_s),
        high_s=max(float(high_s), best_s),
        young_s=young_interval_s(save_s, mtbf_s),
        daly_s=daly_s,
    )


def _peak_s(intervals_s: FloatColumn, goodput: FloatColumn) -> float:
    """The top of the parabola in log τ through the best point and its neighbours; the best point
    itself where it lies at the grid's edge or the points do not bend down."""
    best = int(np.argmax(goodput))
    first = min(max(0, best - _NEAR // 2), len(goodput) - _NEAR)
    near = slice(first, first + _NEAR)
    x = np.log(intervals_s[near] / intervals_s[best])
    bend, slope, _ = np.polyfit(x, goodput[near], 2)
    if bend >= 0 or best in (0, len(goodput) - 1):
        return float(intervals_s[best])
    return float(intervals_s[best] * np.exp(np.clip(-slope / (2.0 * bend), x[0], x[-1])))
