"""On which side of a step does a version lie? The line is half of the step.

A step of 50 % is looked for; a version that is 2 % slower than the good one, with certainty, is
none that has it, and one that is 40 % slower is. Pure.
"""

from __future__ import annotations

import math
from enum import StrEnum

from reports.compare import Change, Scale


class Side(StrEnum):
    BEFORE = "before"
    AFTER = "after"
    BETWEEN = "between"  # the interval holds the line: it cannot be told


def side_of(change: Change, step: Change) -> Side:
    """``step``: the good version against the bad one; ``change``: against the version asked about.
    Both of one metric. The 95 % interval of ``change`` has to lie on one side of the line."""
    if change.scale is not step.scale or step.change is None:
        return Side.BETWEEN
    if change.low is None or change.high is None:
        return Side.BETWEEN
    size, low, high = (_plain(v, step.scale) for v in (step.change, change.low, change.high))
    line = size / 2.0
    if size < 0.0:
        line, low, high = -line, -high, -low
    if low > line:
        return Side.AFTER
    return Side.BEFORE if high < line else Side.BETWEEN


def _plain(value: float, scale: Scale) -> float:
    """Ratios are halved as logarithms."""
    return math.log1p(value) if scale is Scale.RATIO else value
