"""How long a rank did nothing but communicate, from the spans that a profiler saw. Pure.

Communication that runs beside computing costs nothing; what is left over is exposed. With C the
time in which any communication was under way, A the time in which the rank computed, and B the
part of A in which what computed was itself waiting for communication:

    exposed = |C − (A − B)|
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Intervals = list[tuple[float, float]]  # sorted, apart from each other


class Span(NamedTuple):
    start_s: float
    end_s: float


def exposed_s(
    communication: Iterable[Span], computing: Iterable[Span], blocked: Iterable[Span] = ()
) -> float:
    """``blocked`` are spans of communication that the computing thread itself stood in."""
    busy = without(union(computing), union(blocked))
    return sum(end - start for start, end in without(union(communication), busy))


def union(spans: Iterable[Span]) -> Intervals:
    merged: Intervals = []
    for start, end in sorted((span.start_s, span.end_s) for span in spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif end > start:
            merged.append((start, end))
    return merged


def without(these: Intervals, those: Intervals) -> Intervals:
    """What is in the first and not in the second."""
    left: Intervals = []
    at = 0
    for start, end in these:
        while at < len(those) and those[at][1] <= start:
            at += 1
        here = at
        while start < end:
            if here == len(those) or those[here][0] >= end:
                left.append((start, end))
                break
            if those[here][0] > start:
                left.append((start, those[here][0]))
            start = max(start, those[here][1])
            here += 1
    return left
