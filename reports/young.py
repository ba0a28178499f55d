"""Before there is a history: does tonight lie elsewhere than the few nights before it?

How much a metric differs from night to night is told by its earlier nights, as far as there are
any, and by what is usual where there are none: USUAL, which counts as much as USUAL_NIGHTS of
them would (an inverse χ² prior; Gelman et al., Bayesian Data Analysis, 3.3). It is never taken for
less than the repeats of one night differ among themselves; those of earlier nights, where there are
two. ``windtunnel nightly --calibrate`` counts how often the rule is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.compare import MARGIN
from results.intervals import Interval, t_quantile
from results.pairs import Floats, two_sided

USUAL = 0.02  # of a night, as a standard deviation of logarithms
USUAL_NIGHTS = 4.0
# The error is spent where nothing else can tell: on the first night that can be judged, and less as
# the square of the nights before it, down to what is left to each.
SHARE_FIRST, SHARE_LATER = 0.06, 0.001
CLEAR = 0.01  # p-value against the repeats alone, where both sides have some
REPEATS = 3  # of a night that is to be judged by its repeats
ENOUGH = 2 * (REPEATS - 1)  # degrees of freedom of a spread of repeats
NIGHTS = 4  # earlier nights that stand in for repeats
MEDIAN = math.pi / 2.0  # variance of a median over that of a mean, of three values and more


@dataclass(frozen=True, slots=True, kw_only=True)
class Young:
    """``size``: tonight less the level ``before``, of logarithms; ``error``: its standard error,
    known from so many ``degrees_of_freedom``; ``p_value``: how often chance makes as much of it;
    ``called``: whether that is rare enough."""

    size: float
    before: float
    error: float
    degrees_of_freedom: float
    p_value: float
    called: bool

    @property
    def interval(self) -> Interval:
        """95 %."""
        wide = t_quantile(self.degrees_of_freedom, 0.975) * self.error
        return Interval(low=self.size - wide, high=self.size + wide)


def young_jump(earlier: Sequence[Floats], tonight: Floats) -> Young | None:
    """``earlier``: the runs (logarithms) of every night before on this level, in order. None where
    there is too little to compare."""
    n = len(earlier)
    runs = [*earlier, tonight]
    repeated = min(len(r) for r in (*earlier[-1:], tonight)) >= REPEATS
    if n == 0 or (n < NIGHTS and not repeated):
        return None
    values = np.array([float(np.median(night)) for night in earlier])
    level = float(np.median(values))
    size = float(np.median(tonight)) - level
    within, free = _within(runs)
    worth = [_variance_of_median(len(r)) for r in runs]
    own = within * (worth[-1] + sum(worth[:-1]) / n**2)
    squares = float(np.sum((values - values.mean()) ** 2))
    df = USUAL_NIGHTS + n - 1.0
    # What tonight differs by within itself may be what happened to it: a queue that never empties
    # is slow in every run, and differently slow. As soon as earlier nights tell enough, they do.
    usual, known = _within(earlier)
    spread = usual if known >= ENOUGH else within
    night = max((USUAL_NIGHTS * USUAL**2 + squares) / df, spread * sum(worth) / len(worth))
    error = math.sqrt(night * (1.0 + (MEDIAN if n >= REPEATS else 1.0) / n))
    p = two_sided(size / error, df)
    clear = free < ENOUGH or own == 0.0 or two_sided(size / math.sqrt(own), free) <= CLEAR
    return Young(
        size=size,
        before=level,
        error=error,
        degrees_of_freedom=df,
        p_value=p,
        called=clear and p <= max(SHARE_FIRST / n**2, SHARE_LATER) and abs(size) >= least(),
    )


def least() -> float:
    """The smallest difference of logarithms that a young series is told of."""
    return math.log1p(MARGIN)


def _within(runs: Sequence[Floats]) -> tuple[float, float]:
    """Variance of one run about its night, and its degrees of freedom."""
    free = float(sum(len(r) - 1 for r in runs))
    squares = sum(float(np.sum((r - r.mean()) ** 2)) for r in runs)
    return (squares / free if free > 0 else 0.0), free


def _variance_of_median(num_runs: int) -> float:
    return (MEDIAN if num_runs >= REPEATS else 1.0) / num_runs
