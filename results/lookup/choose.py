"""Which of the feasible rows, in which order. Pure.

Of each configuration the load point that serves the objective best; of the configurations the best
first. A row that is not feasible is never looked at, so adding one changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.lookup.columns import Bools, Ints
from results.lookup.part import Doubles, Indices
from results.lookup.sheet import Sheet
from results.recommendation.question import Objective, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``best``: indices into the sheet, the best first. ``num_better``: of each, how many others
    are better in every objective: of the best load points of the other configurations, or, for the
    Pareto objective, of all load points."""

    best: Indices
    num_better: Indices


def choose(one: Sheet) -> Choice:
    """At most ``question.limit`` of the rows, of which there is one at least; all are feasible."""
    question = one.question
    compared = [money(one, question), _last(one.e2e_s), _last(-one.per_chip)]
    if question.objective is Objective.PARETO:
        points = objectives(one, compared)
        best, num_first = _fronts(points, question.limit)
        better = np.zeros(len(best), np.intp)
        if num_first < len(best):
            better[num_first:] = num_better(points, best[num_first:])
        return Choice(best=best, num_better=better)
    keys = _keys(one, compared)
    tops = best_of_each(keys, one.configurations)
    best = first_of([key[tops] for key in keys], question.limit)
    points = objectives(one, compared, tops)
    return Choice(best=tops[best], num_better=num_better(points, best))


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


def _keys(one: Sheet, compared: Sequence[Doubles]) -> list[Doubles]:
    """Smaller is better, the first that differs decides; what is not known comes last. The order of
    the snapshot decides what is left. ``compared``: money, e2e, −throughput per chip."""
    cost, e2e, thrift = compared
    match one.question.objective:
        case Objective.FASTEST:
            return [e2e, cost, thrift]
        case Objective.THROUGHPUT:
            return [thrift, e2e, cost]
        case _:
            # Without any price the chips themselves are what is paid with.
            chips = _last(one.num_chips) if _has_load(one.question) else thrift
            return [cost, chips, e2e]


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
    """What is not known comes last: of a number and NaN ``fmin`` gives the number."""
    return np.fmin(values, np.inf)


def best_of_each(keys: Sequence[Doubles], configurations: Ints) -> Indices:
    """The index of the best row of every run of equal ``configurations``; the first of equals."""
    changes = np.flatnonzero(configurations[1:] != configurations[:-1])
    bounds = np.zeros(len(changes) + 2, np.intp)  # of the runs
    bounds[1:-1], bounds[-1] = changes + 1, len(configurations)
    starts = bounds[:-1]
    sizes = bounds[1:] - starts
    is_best: Bools = np.ones(len(configurations), dtype=bool)
    for key in keys:
        among = np.where(is_best, key, np.inf)
        is_lowest = key == np.repeat(np.minimum.reduceat(among, starts), sizes)
        is_best = is_best & is_lowest
        if np.count_nonzero(is_best) == len(starts):
            break
    left = np.flatnonzero(is_best)
    return left if len(left) == len(starts) else left[np.searchsorted(left, starts)]


def objectives(
    one: Sheet, compared: Sequence[Doubles], among: Indices | None = None
) -> list[Doubles]:
    """Of these rows (None: all), smaller is better: cost (chips where none of them has a price),
    end-to-end seconds, −output tokens per second per chip."""
    points = [column if among is None else column[among] for column in compared]
    if points[0].min() == np.inf:
        chips = _last(one.num_chips)
        points[0] = chips if among is None else chips[among]
    return points


def num_better(points: Sequence[Doubles], of: Indices) -> Indices:
    """How many of ``points`` (one array for each objective) dominate each of those at ``of``:
    nowhere worse, somewhere better."""
    chosen = [column[of] for column in points]
    # What is worse somewhere than all of them dominates none.
    near = np.flatnonzero(
        _all_of([c <= mine.max() for c, mine in zip(points, chosen, strict=True)])
    )
    pairs = [(c[near], mine[:, None]) for c, mine in zip(points, chosen, strict=True)]
    nowhere_worse = _all_of([theirs <= mine for theirs, mine in pairs])
    alike = _all_of([theirs == mine for theirs, mine in pairs])
    return np.asarray(np.count_nonzero(nowhere_worse & ~alike, axis=1))


def _all_of(masks: Sequence[Bools]) -> Bools:
    found = masks[0]
    for mask in masks[1:]:
        found = found & mask
    return found


def fronts(points: Sequence[Doubles], limit: int) -> Indices:
    """Indices of at most ``limit`` points (one array for each of three objectives): the
    non-dominated ones by the first, then those that are when the former are taken away, and so on.

    The lexicographically smallest of a set is never dominated in it, so the front comes out in
    order, one at a time, and nothing is compared that is not asked for.
    """
    return _fronts(points, limit)[0]


def _fronts(points: Sequence[Doubles], limit: int) -> tuple[Indices, int]:
    """(the indices, how many of them are of the first front)."""
    left: Indices = np.arange(len(points[0]))
    chosen: list[int] = []
    num_first = 0
    while len(left) and len(chosen) < limit:
        later: list[Indices] = []
        x, y, z = (column[left] for column in points)
        while len(left) and len(chosen) < limit:
            first = _smallest(x, y, z)
            chosen.append(int(left[first]))
            # None of them is before the first one in x.
            beaten = (y >= y[first]) & (z >= z[first])
            beaten &= (x > x[first]) | (y > y[first]) | (z > z[first])
            later.append(left[beaten])
            beaten[first] = True
            keep = np.flatnonzero(~beaten)
            x, y, z, left = x[keep], y[keep], z[keep], left[keep]
        num_first = num_first or len(chosen)
        left = np.sort(np.concatenate([left, *later]))
    return np.array(chosen, dtype=np.intp), num_first


def _smallest(x: Doubles, y: Doubles, z: Doubles) -> int:
    """The index of the lexicographically smallest, the first of equals."""
    at = np.flatnonzero(x == x.min())
    for column in (y, z):
        if len(at) == 1:
            break
        among = column[at]
        at = at[among == among.min()]
    return int(at[0])
