"""What all points of one rate say together: pass, fail, or not decided. Pure.

A rate passes when the lower bound of every condition's share reaches what was wanted, and the queue
did not grow; it fails when one upper bound stays below, or the queue grew faster than chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike

# Not scipy.stats: it takes a second to import, and every command would pay it.
from scipy import special

from results.capacity import (
    GROWING,
    SATURATED,
    ConstraintJudged,
    ConstraintSeen,
    Point,
    RateJudged,
    Verdict,
    growth_of,
)
from results.samples import FloatColumn

# A search decides near the edge about this many times; each time it may be wrong on either side.
DECISIONS_NEAR_THE_EDGE = 5
_TINY = 1e-300


def error_share(confidence: float) -> float:
    """What one decision may be wrong by, so that a search's interval holds at ``confidence``."""
    return (1.0 - confidence) / DECISIONS_NEAR_THE_EDGE


def share_bounds(good: ArrayLike, n: ArrayLike, error: float) -> tuple[FloatColumn, FloatColumn]:
    """One-sided Clopper–Pearson bounds of a share, ``error`` on each side, by quantiles of the beta
    distribution (Brown, Cai & DasGupta, Statistical Science 16, 2001, section 4.2.1); any shape.

    ``n`` may be an effective number, so neither count needs to be whole. Nothing seen: (0, 1).
    """
    good, n = np.asarray(good, dtype=np.float64), np.asarray(n, dtype=np.float64)
    bad = np.maximum(n - good, 0.0)
    low = np.where(good > 0, special.betaincinv(np.maximum(good, _TINY), bad + 1.0, error), 0.0)
    high = special.betaincinv(good + 1.0, np.maximum(bad, _TINY), 1.0 - error)
    return low, np.where(bad > 0, high, 1.0)


def least_n(wanted: float, error: float) -> int:
    """Independent requests without one miss that are needed to pass: ln(error) / ln(wanted)."""
    return math.ceil(math.log(error) / math.log(wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alone:
    """What the points of one rate say by themselves; ``seen`` is (good, effective n) of each
    condition."""

    rate_rps: float
    points: tuple[Point, ...]
    growth: float
    seen: tuple[tuple[float, float], ...]


def judged_rates(
    points: Sequence[Point], error: float, shortest_s: float = 0.0
) -> tuple[RateJudged, ...]:
    """Every rate that has a usable point, ascending.

    More load never helps: so what is good at a higher rate speaks for the lower one, and what is
    bad at a lower rate speaks against the higher one. A rate's share is therefore at least the mean
    share over it and the rates above, and at most that over it and the rates below; the sharpest of
    those bounds is taken. No rate passes when all points of it and of those above are shorter than
    ``shortest_s``: a queue that grows slowly would not have shown.
    """
    usable = sorted(
        (p for p in points if p.is_usable and p.rate_rps is not None), key=lambda p: p.rate_rps or 0
    )
    alone = [
        _alone(rate or 0.0, tuple(of_rate))
        for rate, of_rate in groupby(usable, key=lambda p: p.rate_rps)
    ]
    return tuple(_judged(alone, i, error, shortest_s) for i in range(len(alone)))


def _alone(rate: float, points: tuple[Point, ...]) -> _Alone:
    seen = []
    for column in zip(*(p.constraints for p in points), strict=True):
        n = sum(c.num_judged for c in column)
        # Weighted: a short point sees nothing of a dependence that outlasts it, and says little.
        effect = sum(c.num_judged * c.design_effect for c in column) / n if n else 1.0
        good = sum(c.num_good for c in column)
        seen.append((good / effect, n / effect))
    return _Alone(rate_rps=rate, points=points, growth=growth_of(points), seen=tuple(seen))


def _judged(alone: Sequence[_Alone], at: int, error: float, shortest_s: float) -> RateJudged:
    own = alone[at]
    constraints = [
        _constraint(c, [a.seen[k] for a in alone], at, error)
        for k, c in enumerate(_columns(own.points))
    ]
    deciding = [c for c in constraints if c.wanted > 0.0]
    saturated, growing = own.growth > SATURATED, own.growth > GROWING
    longest_s = max(p.duration_s for a in alone[at:] for p in a.points)
    if saturated or any(c.verdict is Verdict.FAIL for c in deciding):
        verdict = Verdict.FAIL
    elif growing or longest_s < shortest_s or any(c.verdict is not Verdict.PASS for c in deciding):
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.PASS
    return RateJudged(
        rate_rps=own.rate_rps,
        verdict=verdict,
        num_points=len(own.points),
        measured_s=sum(p.duration_s for p in own.points),
        saturated=saturated,
        growing=growing,
        # Stable: of two alike the first stays first, and a joint condition stands before its parts.
        constraints=tuple(sorted(constraints, key=_room)),
    )


def _columns(points: Sequence[Point]) -> list[tuple[ConstraintSeen, ...]]:
    return list(zip(*(p.constraints for p in points), strict=True))


def _room(constraint: ConstraintJudged) -> float:
    """Misses seen over misses allowed, the most first; what decides nothing stands last."""
    if constraint.wanted == 0.0:
        return 1.0 + constraint.attainment
    return -(1.0 - constraint.attainment) / max(1.0 - constraint.wanted, 1e-9)


def _constraint(
    column: Sequence[ConstraintSeen],
    by_rate: Sequence[tuple[float, float]],
    at: int,
    error: float,
) -> ConstraintJudged:
    wanted = column[0].wanted
    good, n = by_rate[at]
    attainment = good / n if n else 0.0
    low, high = _sharpest(by_rate, at, error)
    passed = low >= wanted and attainment >= wanted
    failed = high < wanted and attainment < wanted
    return ConstraintJudged(
        name=column[0].name,
        wanted=wanted,
        attainment=attainment,
        low=min(low, attainment),
        high=max(high, attainment),
        num_judged=sum(c.num_judged for c in column),
        effective_n=n,
        verdict=Verdict.PASS if passed else Verdict.FAIL if failed else Verdict.UNDECIDED,
    )


def _sharpest(by_rate: Sequence[tuple[float, float]], at: int, error: float) -> tuple[float, float]:
    """The best lower bound by it and the rates above, the best upper one by it and those below."""
    seen = np.array(by_rate, dtype=np.float64)
    above = np.cumsum(seen[at:], axis=0)
    below = np.cumsum(seen[at::-1], axis=0)
    low, _ = share_bounds(above[:, 0], above[:, 1], error)
    _, high = share_bounds(below[:, 0], below[:, 1], error)
    return float(low.max()), float(high.min())


def leans_to_fail(rate: RateJudged, doubtful: float = 0.3) -> bool:
    """Which way an undecided rate looks: down when the share that was seen would be that low in
    fewer than ``doubtful`` of the cases in which the rate is good."""
    if rate.verdict is not Verdict.UNDECIDED:
        return rate.verdict is Verdict.FAIL
    return any(
        share_bounds(c.attainment * c.effective_n, c.effective_n, doubtful)[1] < c.wanted
        for c in rate.constraints
        if c.wanted > 0.0
    )
