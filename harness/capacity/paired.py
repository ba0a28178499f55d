"""Two short loads of the same requests, pair by pair: how much better one did, and at most. Pure.

The requests in order are cut into batches, or the schedule into slices, and each gives one
logarithm of how much better one side did. Batches, not requests: those of one queue depend on their
neighbours, so batches are merged until neighbours no longer look alike. Wilcoxon's signed ranks
(Biometrics Bulletin 1, 1945) then say what can be ruled out, and Hodges and Lehmann (Annals of
Mathematical Statistics 34, 1963) turn that test round, so that its answer is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.capacity.judge import SETTLE_SHARE
from results.gaps import chunk_gaps, token_gaps
from results.measure import RequestMetrics, good_requests, request_metrics
from results.samples import BoolColumn, FloatColumn, IntColumn, RequestSamples
from results.units import counted

# Fewer pairs rule out nothing at any level in use (2⁻⁶ < 2 %); more say little more.
MIN_PAIRS, MAX_PAIRS = 6, 16
# A slice with fewer answers says more of where they fell than of the server.
_ANSWERS_IN_A_SLICE = 4
# Neighbours whose correlation is above this are merged.
_ALIKE = 0.3
# For a pair of which one side has nothing: further off than all others, and no infinity.
_FAR = 10.0

LATENCIES = ("ttft_s", "ttfa_s", "e2e_s", "tpot_s", "ntpot_s", "itl_s", "inter_chunk_s")
RATES = (
    "achieved_rate",
    "output_throughput",
    "output_throughput_per_chip",
    "prompt_throughput",
    "goodput_rate",
    "goodput_token_rate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a short load left. ``duration_s``: of its schedule. ``num_chips``: 0 without any."""

    samples: RequestSamples
    duration_s: float
    num_chips: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How many times as good: as far as seen, and ``at_most`` at the error asked. None with the
    reason where that cannot be said."""

    ratio: float | None
    at_most: float | None
    num_pairs: int
    why_none: str = ""


def compared(
    mine: Probe,
    theirs: Probe,
    metric: str,
    statistic: str,
    *,
    error: float,
    slo: Mapping[str, float] | None = None,
) -> Compared:
    """How many times as good ``mine`` is as ``theirs``, by a goal. ``slo``: what goodput counts,
    metric → seconds."""

    def none(why: str) -> Compared:
        return Compared(ratio=None, at_most=None, num_pairs=0, why_none=why)

    both = request_metrics(mine.samples), request_metrics(theirs.samples)
    if metric in LATENCIES:
        found = _by_batches(both, metric, statistic)
    elif metric in RATES:
        found = _by_slices((mine, theirs), both, metric, slo or {})
    else:
        return none(f"{metric} is no figure of a few requests")
    if isinstance(found, str):
        return none(found)
    logs = independent(found)
    if len(logs) < MIN_PAIRS:
        return none(f"only {counted(len(logs), 'pair')} that do not depend on their neighbours")
    high = upper_bound(logs, error)
    return Compared(
        ratio=math.exp(float(np.median(_walsh(logs)))),
        at_most=None if high is None else math.exp(high),
        num_pairs=len(logs),
        why_none="" if high is not None else f"{counted(len(logs), 'pair')} are too few",
    )


# ---- the test ----


def upper_bound(logs: FloatColumn, error: float) -> float | None:
    """The location of these differences is above it with a probability of ``error`` at most: every
    larger one is rejected by the signed-rank test, one-sided. None where there are too few."""
    n = len(logs)
    counts = np.ones(1)
    for rank in range(1, n + 1):  # in how many ways ranks up to this one add up to each sum
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts
        longer[rank:] += counts
        counts = longer
    critical = int((np.cumsum(counts) / 2.0**n <= error).sum()) - 1
    if critical < 0:
        return None
    walsh = np.sort(_walsh(logs))
    return float(walsh[len(walsh) - 1 - critical])


def _walsh(logs: FloatColumn) -> FloatColumn:
    """(n (n + 1) / 2,) the mean of every two, and each itself."""
    i, j = np.triu_indices(len(logs))
    means: FloatColumn = (logs[i] + logs[j]) / 2.0
    return means


def independent(logs: FloatColumn) -> FloatColumn:
    """Merged two by two, in order, until neighbours are not alike, or too few are left."""
    while len(logs) >= MIN_PAIRS and _neighbours_alike(logs):
        logs = logs[: len(logs) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return logs


def _neighbours_alike(logs: FloatColumn) -> bool:
    x = logs - np.median(logs)
    total = float(x @ x)
    return total > 0.0 and float(x[:-1] @ x[1:]) / total > _ALIKE


# ---- the pairs ----


def _by_batches(
    both: tuple[RequestMetrics, RequestMetrics], metric: str, statistic: str
) -> FloatColumn | str:
    """(pairs,) log of theirs / mine, of batches of the same requests in the schedule's order."""
    level = None if statistic == "mean" else float(statistic.removeprefix("p")) / 100.0
    mine, theirs = (_sent(m.samples) for m in both)
    _, at_mine, at_theirs = np.intersect1d(mine[1], theirs[1], return_indices=True)
    least = 2 if level is None else max(2, math.ceil(1.0 / max(1.0 - level, 1e-6)))
    num = min(len(at_mine) // least, MAX_PAIRS)
    if num < MIN_PAIRS:
        return (
            f"{counted(len(at_mine), 'request')} of a probe are too few for {MIN_PAIRS} batches "
            f"that have a {statistic} of {metric}"
        )
    values = [
        np.array([_statistic(m, metric, level, batch) for batch in np.array_split(rows, num)])
        for m, rows in zip(both, (mine[0][at_mine], theirs[0][at_theirs]), strict=True)
    ]
    return _logs(values[1], values[0])


def _sent(samples: RequestSamples) -> tuple[IntColumn, IntColumn]:
    """Rows of the measured requests, and their numbers in the schedule."""
    rows = np.flatnonzero(~samples.is_warmup).astype(np.int64)
    return rows, samples.index[rows]


def _statistic(m: RequestMetrics, metric: str, level: float | None, batch: IntColumn) -> float:
    """Over some rows of the samples; infinite where requests that failed decide it, NaN where none
    has a value."""
    rows: BoolColumn = np.zeros(m.samples.num_requests, dtype=np.bool_)
    rows[batch] = True
    if metric in ("itl_s", "inter_chunk_s"):
        gaps = token_gaps if metric == "itl_s" else chunk_gaps
        values = np.asarray(gaps(m.samples, rows & m.rows), dtype=np.float64)
    else:
        column: FloatColumn = getattr(m, metric)
        values = np.where(m.answered, column, np.inf)[rows[~m.samples.is_warmup]]
        values = values[~np.isnan(values)]
    if not len(values):
        return math.nan
    if level is None:
        return float(values.mean())
    return float(np.quantile(values, level, method="inverted_cdf"))


def _by_slices(
    probes: tuple[Probe, Probe],
    both: tuple[RequestMetrics, RequestMetrics],
    metric: str,
    slo: Mapping[str, float],
) -> FloatColumn | str:
    """(pairs,) log of mine / theirs of what came back in the same slices of the schedule."""
    end_s = min(probe.duration_s for probe in probes)
    begin_s = SETTLE_SHARE * end_s
    came = [_came(m, metric, slo) for m in both]
    answers = min(
        int(((begin_s <= done_s) & (done_s < end_s)).sum())
        for done_s in (m.samples.done_s[m.rows] for m in both)
    )
    num = min(answers // _ANSWERS_IN_A_SLICE, MAX_PAIRS)
    if num < MIN_PAIRS:
        return f"{counted(answers, 'answer')} in a probe are too few for {MIN_PAIRS} slices of it"
    edges = np.linspace(begin_s, end_s, num + 1)
    per_chip = metric == "output_throughput_per_chip"
    amounts = [
        np.histogram(at_s, bins=edges, weights=weights)[0]
        / (max(probe.num_chips, 1) if per_chip else 1)
        for probe, (at_s, weights) in zip(probes, came, strict=True)
    ]
    return _logs(amounts[0], amounts[1])


def _came(
    m: RequestMetrics, metric: str, slo: Mapping[str, float]
) -> tuple[FloatColumn, FloatColumn]:
    """When something came back, and how much of what the metric counts. Output tokens come chunk by
    chunk, all else with the end of its answer."""
    samples = m.samples
    if metric in ("output_throughput", "output_throughput_per_chip"):
        of_answered = np.repeat(m.rows, np.diff(samples.event_offset))
        tokens = samples.event_tokens.astype(np.float64)
        return samples.event_s[of_answered], np.maximum(tokens, 1.0)[of_answered]
    answered = m.answered
    done_s: FloatColumn = samples.done_s[~samples.is_warmup][answered]
    weights = np.ones(len(answered))
    if metric == "prompt_throughput":
        weights = np.nan_to_num(m.prompt_tokens)
    elif metric == "goodput_token_rate":
        weights = np.nan_to_num(m.output_tokens)
    if metric.startswith("goodput"):
        weights = weights * good_requests(m, slo)
    kept: FloatColumn = weights[answered]
    return done_s, kept


def _logs(better: FloatColumn, worse: FloatColumn) -> FloatColumn:
    """log(better / worse), with what is not there far off; pairs that say nothing are left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: FloatColumn = np.log(better) - np.log(worse)
    kept: FloatColumn = np.clip(logs[~np.isnan(logs)], -_FAR, _FAR)
    return kept
