"""On which side of a step does a version lie? The line is half of the step.

A step of 50 % is looked for; a version that is 2 % slower than the good one, with certainty, is
none that has it, and one that is 40 % slower is. Pure.
"""

from __future__ import annotations

import math
from enum import StrEnum

from reports.compare import MIN_PAIRS, Change, Scale


class Side(StrEnum):
    BEFORE = "before"
    AFTER = "after"
    BETWEEN = "between"  # the interval holds the line: it cannot be told


def side_of(change: Change, step: Change) -> Side:
    """``step``: the good version against the bad one; ``change``: against the version asked about.
    Both of one metric. The 95 % interval of ``change`` has to lie on one side of the line, and
    one before it must not meet the step's own interval either: a step that is hardly known leaves
    little room. Below ``MIN_PAIRS`` pairs nothing is told, as of any verdict."""
    known = (step.change, step.low, step.high, change.low, change.high)
    if change.scale is not step.scale or change.num_pairs < MIN_PAIRS:
        return Side.BETWEEN
    if any(v is None for v in known):
        return Side.BETWEEN
    size, nearest, farthest, low, high = (_plain(v, step.scale) for v in known if v is not None)
    if size < 0.0:
        size, nearest, low, high = -size, -farthest, -high, -low
    if low > size / 2.0:
        return Side.AFTER
    return Side.BEFORE if high < min(size / 2.0, nearest) else Side.BETWEEN


def _plain(value: float, scale: Scale) -> float:
    """Ratios are halved as logarithms."""
    return math.log1p(value) if scale is Scale.RATIO else value
