"""A rate that changes with time, as the count it is expected to have brought: Λ(t).

An arrival process with that rate is a process of rate 1 seen through the inverse of Λ (the
time-rescaling theorem: Brown et al., Neural Computation 14, 2002). Both directions are closed forms
here, as each segment's rate is a straight line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from results.samples import FloatColumn
from workloads.traffic.spec import PiecewiseArrivals, RateSegment, SpikeArrivals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RateCurve:
    """k segments one after the other. ``repeats``: they begin anew for ever; else the rate is 0
    after the last."""

    edges_s: FloatColumn  # (k + 1,) from 0
    begin_rps: FloatColumn  # (k,) at the segment's first instant
    end_rps: FloatColumn  # (k,) at its last
    expected: FloatColumn  # (k + 1,) Λ at the edges
    repeats: bool

    @property
    def span_s(self) -> float:
        """Length of all segments, played once."""
        return float(self.edges_s[-1])

    @property
    def total(self) -> float:
        """Arrivals expected in all segments, played once."""
        return float(self.expected[-1])


def curve_of(arrivals: PiecewiseArrivals | SpikeArrivals) -> RateCurve:
    """The rate of ``arrivals`` as a curve."""
    if isinstance(arrivals, PiecewiseArrivals):
        return _curve(arrivals.segments, repeats=False)
    calm_s = arrivals.period_s - arrivals.spike_s
    calm = RateSegment(duration_s=calm_s, rate_rps=arrivals.rate_rps)
    spike = RateSegment(duration_s=arrivals.spike_s, rate_rps=arrivals.spike_rate_rps)
    return _curve((calm, spike), repeats=True)


def _curve(segments: tuple[RateSegment, ...], repeats: bool) -> RateCurve:
    length_s = np.array([s.duration_s for s in segments], dtype=np.float64)
    begin = np.array([s.rate_rps for s in segments], dtype=np.float64)
    ends = [s.rate_rps if s.end_rate_rps is None else s.end_rate_rps for s in segments]
    end = np.array(ends, dtype=np.float64)
    return RateCurve(
        edges_s=np.concatenate([[0.0], np.cumsum(length_s)]),
        begin_rps=begin,
        end_rps=end,
        expected=np.concatenate([[0.0], np.cumsum(length_s * (begin + end) / 2)]),
        repeats=repeats,
    )


def expected_by(curve: RateCurve, when_s: float) -> float:
    """Λ(when_s): arrivals expected before that instant; ``inf`` is an instant too."""
    if when_s <= 0:
        return 0.0
    if not curve.repeats and when_s >= curve.span_s:
        return curve.total
    if math.isinf(when_s):
        return math.inf
    laps, rest_s = divmod(when_s, curve.span_s)
    k = min(int(np.searchsorted(curve.edges_s, rest_s, side="right")), len(curve.begin_rps)) - 1
    into_s = rest_s - curve.edges_s[k]
    length_s = curve.edges_s[k + 1] - curve.edges_s[k]
    slope = (curve.end_rps[k] - curve.begin_rps[k]) / length_s
    here = curve.begin_rps[k] * into_s + slope * into_s * into_s / 2
    return float(laps * curve.total + curve.expected[k] + here)


def times_at(curve: RateCurve, expected: FloatColumn) -> FloatColumn:
    """(n,) the instants at which Λ reaches ``expected`` (n,): Λ⁻¹; inf where it never does."""
    laps = np.floor(expected / curve.total) if curve.repeats else np.zeros_like(expected)
    rest = np.maximum(expected - laps * curve.total, 0.0)
    last = len(curve.begin_rps) - 1
    # From the right: a count reached just before a segment without arrivals is met after it.
    k = np.minimum(np.searchsorted(curve.expected, rest, side="right") - 1, last)
    need = rest - curve.expected[k]
    begin, end = curve.begin_rps[k], curve.end_rps[k]
    slope = (end - begin) / (curve.edges_s[k + 1] - curve.edges_s[k])
    # The root of slope/2 t² + begin t = need, in the form that no cancellation hurts.
    root = begin + np.sqrt(np.maximum(begin * begin + 2 * slope * need, 0.0))
    into_s = np.divide(2 * need, root, out=np.zeros_like(need), where=root > 0)
    times: FloatColumn = laps * curve.span_s + curve.edges_s[k] + into_s
    if not curve.repeats:
        times[expected >= curve.total] = np.inf
    return times
