"""Warm-up and steady state of a run, found in its own latencies.

A mean over a queue that still fills, or over a server that slows down half-way, depends on how long
one measures. The verdict names the window from which on nothing changes, or says that there is
none; it never removes a row by itself.

1. How long the transient takes: MSER-5 (White, Simulation 69, 1997) on the logarithm of the
   latency, for a change is a factor. A transient of more than a third of the run is no transient.
2. Whether the rest holds still: the largest deviation of the cumulative sum of batch means (CUSUM),
   with the spread estimated from neighbouring batches, so that a change does not hide itself. It
   must be too large for chance, and the medians on its two sides must differ by a factor that
   matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from results.autocorrelation import batch_sums
from results.samples import FloatColumn, RequestSamples

# Below this many values there is no verdict.
MIN_VALUES = 30
MAX_TRANSIENT_SHARE = 1 / 3
# Supremum of a Brownian bridge: exceeded by chance once in 300 (Kolmogorov's distribution).
MAX_CUSUM = 1.8
# The change that matters: a fifth, or a doubling where few values make medians uncertain.
MIN_CHANGE, MIN_CHANGE_OF_FEW, FEW = 1.2, 2.0, 200
_MSER_BATCH = 5
# Latencies below a microsecond are the clock's, not the server's.
_FLOOR_S = 1e-6


class Verdict(StrEnum):
    STEADY = "steady"
    NO_STEADY_STATE = "no_steady_state"
    TOO_FEW = "too_few"  # too few values to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """``first`` is the index of the first value of the steady window, counted among the values that
    were looked at; it lasts to the end. ``why`` is a sentence for people.
    """

    verdict: Verdict
    first: int
    num_values: int
    why: str


def steady_state(values: FloatColumn, times_s: FloatColumn | None = None) -> SteadyState:
    """The verdict on latencies (n,) in order of time, without NaN. ``times_s`` (n,) are for the
    words only."""
    n = len(values)
    if n < MIN_VALUES:
        why = f"{n} values; a verdict needs {MIN_VALUES}"
        return SteadyState(verdict=Verdict.TOO_FEW, first=0, num_values=n, why=why)

    def when(index: int) -> str:
        return f"request {index}" if times_s is None else f"{times_s[index] - times_s[0]:.3g} s"

    logs = np.log(np.maximum(values, _FLOOR_S))
    matters = math.log(MIN_CHANGE if n >= FEW else MIN_CHANGE_OF_FEW)
    first = transient_end(logs)
    if first > n * MAX_TRANSIENT_SHARE:
        change = float(np.median(logs[first:]) - np.median(logs[:first]))
        if abs(change) > matters:
            return SteadyState(
                verdict=Verdict.NO_STEADY_STATE,
                first=0,
                num_values=n,
                why=f"{_changed(values[:first], values[first:])} and had not settled before "
                f"{when(first)}, more than a third of the run",
            )
        first = 0
    rest, kept = logs[first:], values[first:]
    size, at = cusum(rest)
    if size > MAX_CUSUM and abs(float(np.median(rest[at:]) - np.median(rest[:at]))) > matters:
        return SteadyState(
            verdict=Verdict.NO_STEADY_STATE,
            first=0,
            num_values=n,
            why=f"{_changed(kept[:at], kept[at:])} at {when(first + at)}",
        )
    why = f"steady from {when(first)} on" if first else "steady from the start"
    return SteadyState(verdict=Verdict.STEADY, first=first, num_values=n, why=why)


def _changed(before: FloatColumn, after: FloatColumn) -> str:
    return f"the median went from {np.median(before):.3g} s to {np.median(after):.3g} s"


def transient_end(values: FloatColumn) -> int:
    """MSER-5: the start of the window whose mean has the least standard error, among all that keep
    a tenth of ``values`` (n,) and at least ten batches of five."""
    num = len(values) // _MSER_BATCH
    batches = values[: num * _MSER_BATCH].reshape(num, _MSER_BATCH).mean(axis=1)
    # Taken from the mean, so that squares of like numbers do not cancel.
    batches = batches - batches.mean()
    left = np.arange(num, 0, -1)
    mean = np.cumsum(batches[::-1])[::-1] / left
    square = np.cumsum(batches[::-1] ** 2)[::-1] / left
    error = np.maximum(square - mean**2, 0.0) / left
    last = max(num - max(num // 10, 10), 0)
    return int(np.argmin(error[: last + 1])) * _MSER_BATCH


def cusum(values: FloatColumn) -> tuple[float, int]:
    """(the largest deviation of the cumulative sum, scaled to a Brownian bridge; where it stands).

    Batches are long against the memory of the queue or the answer is "changed": a run that is short
    against that memory has seen no steady state either.
    """
    n = len(values)
    num = 20 if n >= FEW else 10
    means = batch_sums(values, num) / batch_sums(np.ones(n), num)
    steps = np.diff(means)
    spread = math.sqrt(max(float(steps @ steps) / (2 * (num - 1)), 0.0))
    path = np.cumsum(means - means.mean())[:-1]
    worst = int(np.argmax(np.abs(path)))
    at = (worst + 1) * n // num
    height = float(np.abs(path[worst]))
    # Rounding leaves a trace where all values are equal.
    if height <= 1e-9:
        return 0.0, at
    return height / (spread * math.sqrt(num)) if spread > 0.0 else math.inf, at


def steady_state_of(samples: RequestSamples) -> SteadyState:
    """The verdict on the TTFT of the measured requests, in order of their intended sends; on e2e
    where no time of a first token is known."""
    values, times, _ = _latencies(samples)
    return steady_state(values, times)


def steady_only(samples: RequestSamples) -> tuple[RequestSamples, SteadyState]:
    """``samples`` with the requests before the steady window counted among the warm-up, and the
    verdict; as they were where there is no such window."""
    values, times, rows = _latencies(samples)
    state = steady_state(values, times)
    if state.verdict is not Verdict.STEADY or state.first == 0:
        return samples, state
    starts = samples.intended_s[rows[state.first]]
    warm = samples.is_warmup | (samples.intended_s < starts)
    return replace(samples, is_warmup=warm), state


def _latencies(samples: RequestSamples) -> tuple[FloatColumn, FloatColumn, np.ndarray]:
    measured = ~samples.is_warmup & (samples.error == "")
    order = np.argsort(samples.intended_s, kind="stable")
    ends = samples.first_token_s
    if np.all(np.isnan(ends[measured])):
        ends = samples.done_s
    latency = ends - samples.intended_s
    rows = order[(measured & ~np.isnan(latency))[order]]
    return latency[rows], samples.intended_s[rows], rows
