"""One measured point, judged: who met the SLO, how much the requests say, did the queue grow. Pure.

Requests of one run stand behind one another in a queue: a thousand of them may say as much as
twenty independent ones. Each condition therefore carries its design effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.capacity.slo import Limit
from results.capacity import ConstraintSeen
from results.measure import RequestMetrics, request_metrics
from results.samples import BoolColumn, FloatColumn, IntColumn, RequestSamples

# The server's queue starts empty: what comes before it has filled flatters the server.
SETTLE_SHARE = 0.2
# Autocorrelation is taken from a level that this share of requests exceeds, and three times as many
# as may miss: rarer misses show none, however strongly neighbours depend on each other.
_TAIL_SHARE, _TAIL_OF_ALLOWED, _MAX_TAIL_SHARE = 0.1, 3.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """All ``limits`` must be met by the same request, for a ``wanted`` share of requests."""

    name: str
    limits: tuple[Limit, ...]
    wanted: float


def conditions_of(limits: Sequence[Limit], attainment: float) -> tuple[Condition, ...]:
    """Limits with a percentile stand alone; the others are to be met together."""
    alone = [
        Condition(
            name=f"{limit.words} for {limit.share * 100:g} %", limits=(limit,), wanted=limit.share
        )
        for limit in limits
        if limit.share is not None
    ]
    joint = tuple(limit for limit in limits if limit.share is None)
    if not joint:
        return tuple(alone)
    words = " and ".join(limit.words for limit in joint)
    together = Condition(
        name=f"{words} for {attainment * 100:g} %", limits=joint, wanted=attainment
    )
    return (together, *alone)


def judged(
    samples: RequestSamples, conditions: Sequence[Condition], duration_s: float
) -> tuple[ConstraintSeen, ...]:
    """How each condition did over the part of the schedule that is judged, and each single limit
    of a joint one besides (its ``wanted`` is 0: it decides nothing, it explains)."""
    m = request_metrics(samples)
    rows = settled(samples, duration_s)
    found = []
    for condition in conditions:
        found.append(
            _seen(condition.name, condition.wanted, severity_of(m, condition.limits), rows)
        )
        if len(condition.limits) > 1:
            found += [
                _seen(limit.words, 0.0, severity_of(m, (limit,)), rows)
                for limit in condition.limits
            ]
    return tuple(found)


def settled(samples: RequestSamples, duration_s: float) -> IntColumn:
    """Rows (of the measured requests) that are judged, in the order of their intended send."""
    intended = samples.intended_s[~samples.is_warmup]
    order = np.argsort(intended, kind="stable")
    picked = order[intended[order] >= SETTLE_SHARE * duration_s]
    return picked.astype(np.int64)


def severity_of(m: RequestMetrics, limits: Sequence[Limit]) -> FloatColumn:
    """(n,) the worst of value / limit per request; at most 1: met. Infinite for a failed request;
    0 where the request has no such value (TPOT of a single token), which cannot be missed."""
    worst = np.zeros(len(m.answered))
    for limit in limits:
        values: FloatColumn = getattr(m, limit.metric)
        worst = np.fmax(worst, values / limit.limit_s)
    return np.where(m.answered, worst, np.inf)


def _seen(name: str, wanted: float, severity: FloatColumn, rows: IntColumn) -> ConstraintSeen:
    judged_rows: FloatColumn = severity[rows]
    return ConstraintSeen(
        name=name,
        wanted=wanted,
        num_good=int((judged_rows <= 1.0).sum()),
        num_judged=len(judged_rows),
        design_effect=design_effect(judged_rows, 1.0, wanted),
    )


def design_effect(values: FloatColumn, limit: float, wanted: float) -> float:
    """Requests (in order of time) that say as much about the share above ``limit`` as one that
    depends on no other; ≥ 1.

    The larger of two integrated autocorrelation times: of the misses themselves, and of the largest
    values, met or missed, because few misses show no correlation, or none at all.
    """
    if len(values) < 2:
        return 1.0
    tail = min(max(_TAIL_SHARE, _TAIL_OF_ALLOWED * (1.0 - wanted)), _MAX_TAIL_SHARE)
    level = min(limit, float(np.quantile(np.minimum(values, np.finfo(float).max), 1.0 - tail)))
    return max(_autocorrelation_time(values > limit), _autocorrelation_time(values > level))


def _autocorrelation_time(flags: BoolColumn) -> float:
    """1 + 2 Σ autocorrelations, cut where Geyer's initial monotone sequence ends (Practical Markov
    chain Monte Carlo, Statistical Science 7, 1992, section 3.3)."""
    x = flags.astype(np.float64)
    n = len(x)
    x -= x.mean()
    variance = float(x @ x) / n
    if variance == 0.0:
        return 1.0
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, size)[:n] / (n * variance)
    pairs = correlation[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0.0)
    kept = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    return max(1.0, 2.0 * float(kept.sum()) - 1.0)


def backlog_growth(samples: RequestSamples, duration_s: float) -> float:
    """How much the number of requests without a first token grew from the first third of the
    schedule to its end, in standard deviations of what chance makes of a critical queue.

    Arrivals and services at random let the queue of a server that just keeps up wander like a
    random walk: variance 2 per arrival (M/M/1; less for steadier traffic). More is overload.
    """
    keep = ~samples.is_warmup
    intended = samples.intended_s[keep]
    seen = np.fmin(samples.first_token_s[keep], samples.done_s[keep])
    seen = np.where(np.isnan(seen), np.inf, seen)
    from_s, to_s = duration_s / 3.0, duration_s
    arrivals = int(((intended > from_s) & (intended <= to_s)).sum())
    if not arrivals:
        return 0.0

    def waiting(at_s: float) -> int:
        return int(((intended <= at_s) & (seen > at_s)).sum())

    return (waiting(to_s) - waiting(from_s)) / float(np.sqrt(2.0 * arrivals))
