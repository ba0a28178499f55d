"""Two configurations, the run as the unit of replication: which run is paired with which, and what
the pairs say about the change.

Runs of one machine on one day share its mood, and the mood wanders. Runs that stand next to each
other in time share most of it: their difference keeps the change and loses the mood. Under a random
walk of 1 % a run plus 1 % of white noise, "all A, then all B" finds a change that is not there in
39 % of all comparisons at a nominal 5 %; interleaved pairs in 5 % (``docs/detection.md``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

import numpy as np
import numpy.typing as npt

from results.beta import beta_share
from results.intervals import Interval, t_quantile

Floats = npt.NDArray[np.float64]


class Design(StrEnum):
    """How the runs of the two sides lay in time."""

    PAIRED = "paired"  # neighbours, one of each side: ABBA, ABAB, or drawn by lot in pairs
    CYCLES = "cycles"  # blocks that alternate at least twice: AABBAABB; a pair is two blocks
    BLOCKED = "blocked"  # all of one side, then all of the other: drift looks like a change


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """``pairs``: indices into the sequence of sides, those of the first side and those of the
    second. ``unpaired``: indices that have no partner."""

    design: Design
    pairs: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    unpaired: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """The mean difference of second − first, its 95 % interval and the 90 % one that equivalence
    is judged by (two one-sided tests at 5 %; Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987).

    ``p_value`` is two-sided. ``spread`` is the standard deviation of one pair's difference."""

    mean: float
    interval: Interval
    equivalence: Interval
    p_value: float
    spread: float
    num: int
    degrees_of_freedom: float


def pair_up(sides: Sequence[bool]) -> Pairing:
    """``sides``: False for the first, True for the second side, in order of start."""
    couples = [(i, i + 1) for i in range(0, len(sides) - 1, 2)]
    if couples and all(sides[i] != sides[j] for i, j in couples):
        pairs = tuple(((i,), (j,)) if not sides[i] else ((j,), (i,)) for i, j in couples)
        odd: tuple[int, ...] = (len(sides) - 1,) if len(sides) % 2 else ()
        return Pairing(design=Design.PAIRED, pairs=pairs, unpaired=odd)
    blocks = [tuple(g) for _, g in groupby(range(len(sides)), key=lambda i: sides[i])]
    cycles = [(blocks[i], blocks[i + 1]) for i in range(0, len(blocks) - 1, 2)]
    if len(cycles) >= 2:
        ordered = tuple((a, b) if not sides[a[0]] else (b, a) for a, b in cycles)
        left = blocks[-1] if len(blocks) % 2 else ()
        return Pairing(design=Design.CYCLES, pairs=ordered, unpaired=left)
    return Pairing(design=Design.BLOCKED, pairs=(), unpaired=tuple(range(len(sides))))


def paired_shift(differences: Floats) -> Shift | None:
    """From one difference per pair (k,); None below two."""
    k = len(differences)
    if k < 2:
        return None
    spread = float(np.std(differences, ddof=1))
    mean = float(np.mean(differences))
    return _shift(mean, spread / math.sqrt(k), k - 1.0, spread, k)


def unpaired_shift(first: Floats, second: Floats) -> Shift | None:
    """Welch's (Biometrika 34, 1947), of runs in blocks; None with fewer than two on a side."""
    a, b = len(first), len(second)
    if a < 2 or b < 2:
        return None
    va, vb = float(np.var(first, ddof=1)) / a, float(np.var(second, ddof=1)) / b
    total = va + vb
    df = total**2 / (va**2 / (a - 1) + vb**2 / (b - 1)) if total > 0.0 else a + b - 2.0
    spread = math.sqrt(total * a * b / (a + b)) * math.sqrt(2.0)
    return _shift(float(second.mean() - first.mean()), math.sqrt(total), df, spread, min(a, b))


def _shift(mean: float, error: float, df: float, spread: float, num: int) -> Shift:
    # Values that are all equal differ in floating point's last digits, which is no spread.
    error = 0.0 if error < 1e-12 * abs(mean) else error
    wide, narrow = t_quantile(df, 0.975) * error, t_quantile(df, 0.95) * error
    return Shift(
        mean=mean,
        interval=Interval(low=mean - wide, high=mean + wide),
        equivalence=Interval(low=mean - narrow, high=mean + narrow),
        p_value=two_sided(mean / error, df) if error > 0.0 else float(mean == 0.0),
        spread=spread,
        num=num,
        degrees_of_freedom=df,
    )


def two_sided(t: float, degrees_of_freedom: float) -> float:
    """P(|T| ≥ |t|) of Student's t, by the incomplete beta function (Abramowitz & Stegun 26.7.1)."""
    df = degrees_of_freedom
    return beta_share(0.5 * df, 0.5, df / (df + t * t))


def detectable(spread: float, num_pairs: int) -> float:
    """The smallest difference that so many pairs find in four of five comparisons."""
    df = num_pairs - 1.0
    return (t_quantile(df, 0.975) + t_quantile(df, 0.8)) * spread / math.sqrt(num_pairs)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted for as many tests as there are, whatever their dependence (Holm, Scand. J. Stat. 6,
    1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return tuple(adjusted)
