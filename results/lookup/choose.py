"""Which of the feasible rows, in which order. Pure.

Of each configuration the load point that serves the objective best; of the configurations the best
first. A row that is not feasible is never looked at, so adding one changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.lookup.columns import Bools, Ints
from results.lookup.filters import Indices
from results.lookup.part import Doubles
from results.lookup.sheet import Sheet
from results.recommendation.question import Objective, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``best``: indices into the sheet, the best first. ``num_better``: of each, how many others
    are better in every objective: of the best load points of the other configurations, or, for the
    Pareto objective, of all load points."""

    best: Indices
    num_better: Indices


def choose(one: Sheet, feasible: Bools) -> Choice:
    """At most ``question.limit`` of the rows that are feasible, one at least."""
    question = one.question
    among = np.flatnonzero(feasible)
    if question.objective is Objective.PARETO:
        points = objectives(one, among)
        best = fronts(points, question.limit)
    else:
        keys = [key[among] for key in _keys(one, question)]
        tops = best_of_each(keys, one.configurations[among])
        among = among[tops]
        points = objectives(one, among)
        best = first_of([key[tops] for key in keys], question.limit)
    return Choice(best=among[best], num_better=num_better(points, best))


def first_of(keys: Sequence[Doubles], limit: int) -> Indices:
    """Indices of the ``limit`` smallest, in order, by the first key that differs, then by index:
    as a sort of them all would begin."""
    first = keys[0]
    if len(first) <= 2 * limit:
        return np.asarray(np.lexsort(keys[::-1])[:limit])
    highest = np.partition(first, limit - 1)[limit - 1]
    near = np.flatnonzero(first <= highest)
    order = np.lexsort([key[near] for key in reversed(keys)])
    return np.asarray(near[order[:limit]])


def _keys(one: Sheet, question: Question) -> list[Doubles]:
    """Smaller is better, the first that differs decides; what is not known comes last. The order of
    the snapshot decides what is left."""
    cost = money(one, question)
    e2e = _last(one.e2e_s)
    thrift = _last(-one.per_chip)
    match question.objective:
        case Objective.FASTEST:
            return [e2e, cost, thrift]
        case Objective.THROUGHPUT:
            return [thrift, e2e, cost]
        case _:
            # Without any price the chips themselves are what is paid with.
            chips = one.num_chips if _has_load(question) else thrift
            return [cost, _last(chips), e2e]


def money(one: Sheet, question: Question) -> Doubles:
    """What a deployment is compared by: $ per hour for a load, $ per million tokens without one;
    inf where there is no price."""
    return _last(one.usd_per_hour if _has_load(question) else one.usd_per_m_each)


def _has_load(question: Question) -> bool:
    return (
        question.rate_rps is not None
        or question.concurrency is not None
        or question.min_throughput is not None
    )


def _last(values: Doubles) -> Doubles:
    return np.where(np.isnan(values), np.inf, values)


def best_of_each(keys: Sequence[Doubles], configurations: Ints) -> Indices:
    """The index of the best row of every run of equal ``configurations``; the first of equals."""
    is_start = np.empty(len(configurations), dtype=bool)
    is_start[0] = True
    np.not_equal(configurations[1:], configurations[:-1], out=is_start[1:])
    group = np.cumsum(is_start) - 1
    starts = np.flatnonzero(is_start)
    left = np.arange(len(configurations))
    for key in keys:
        if len(left) == len(starts):
            return left
        among = key[left]
        lowest = np.minimum.reduceat(among, np.searchsorted(left, starts))
        left = left[among == lowest[group[left]]]
    return left[np.searchsorted(left, starts)]


def objectives(one: Sheet, among: Indices) -> list[Doubles]:
    """Of these rows, smaller is better: cost (chips where none of them has a price), end-to-end
    seconds, −output tokens per second per chip."""
    cost = money(one, one.question)[among]
    if np.isinf(cost).all():
        cost = _last(one.num_chips[among])
    return [cost, _last(one.e2e_s[among]), _last(-one.per_chip[among])]


def num_better(points: Sequence[Doubles], of: Indices) -> Indices:
    """How many of ``points`` (one array for each objective) dominate each of those at ``of``:
    nowhere worse, somewhere better."""
    chosen = [column[of] for column in points]
    # What is worse somewhere than all of them dominates none.
    near = np.logical_and.reduce(
        [column <= mine.max() for column, mine in zip(points, chosen, strict=True)]
    )
    pairs = [
        (column[near][None, :], mine[:, None]) for column, mine in zip(points, chosen, strict=True)
    ]
    nowhere_worse = np.logical_and.reduce([theirs <= mine for theirs, mine in pairs])
    somewhere_better = np.logical_or.reduce([theirs < mine for theirs, mine in pairs])
    return np.asarray(np.count_nonzero(nowhere_worse & somewhere_better, axis=1))


def fronts(points: Sequence[Doubles], limit: int) -> Indices:
    """Indices of at most ``limit`` points (one array for each of three objectives): the
    non-dominated ones by the first, then those that are when the former are taken away, and so on.

    The lexicographically smallest of a set is never dominated in it, so the front comes out in
    order, one at a time, and nothing is compared that is not asked for.
    """
    order = np.lexsort(points[::-1])
    x, y, z = (column[order] for column in points)
    left = np.arange(len(order))  # in that order
    chosen: list[int] = []
    while len(left) and len(chosen) < limit:
        later: list[Indices] = []
        while len(left) and len(chosen) < limit:
            first, left = left[0], left[1:]
            chosen.append(int(order[first]))
            others = y[left], z[left]
            # None of them is before the first one in x.
            beaten = (others[0] >= y[first]) & (others[1] >= z[first])
            beaten &= (x[left] > x[first]) | (others[0] > y[first]) | (others[1] > z[first])
            later.append(left[beaten])
            left = left[~beaten]
        left = np.sort(np.concatenate([left, *later]))
    return np.array(chosen, dtype=np.intp)
