"""Which of the feasible rows, in which order. Pure.

Of each configuration the load point that serves the objective best; of the configurations the best
first. A row that is not feasible is never looked at, so adding one changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from results.lookup.columns import Ints
from results.lookup.part import Doubles, Indices
from results.lookup.sheet import Sheet
from results.recommendation.question import Objective, Question


class Choice(NamedTuple):
    """``best``: indices into ``sheet``, the best first. ``num_better``: of each, how many others
    are better in every objective: of the best load points of the other configurations, or, for the
    Pareto objective, of all load points."""

    sheet: Sheet
    best: Indices
    num_better: Indices


def choose(one: Sheet) -> Choice:
    """At most ``question.limit`` of the rows, of which there is one at least; all are feasible."""
    limit = one.question.limit
    if one.question.objective is Objective.PARETO:
        return _of_fronts(one, limit)
    few = near(one, _first_key(one), limit)
    compared = _compared(few)
    tops = _tops(few, compared)
    if few is not one and compared[0][tops].min() == np.inf:
        # That nothing near has a price does not say that nothing has.
        few, compared = one, _compared(one)
        tops = _tops(few, compared)
    best = tops[:limit]
    points = objectives(few, compared, tops)
    return Choice(few, best, num_better(points, np.arange(len(best))))


def _of_fronts(one: Sheet, limit: int) -> Choice:
    """What dominates a row costs no more: of the cheapest rows the first front is what it is of all
    of them, as far as it goes."""
    cost = money(one, one.question)
    for few in _cheapest(one, cost, 2 * _ROWS_EACH * limit):
        points = objectives(few, _compared(few))
        best, num_first = _fronts(points, limit)
        if num_first >= limit:
            break
    better = np.zeros(len(best), np.intp)
    if num_first < len(best):
        better[num_first:] = num_better(points, best[num_first:])
    return Choice(few, best, better)


def near(one: Sheet, key: Doubles, limit: int) -> Sheet:
    """The rows up to some value of ``key``, by which they are compared first: so many that they are
    of ``limit`` configurations, where there are as many.

    What is not among them comes after these, and is better in every objective than none of them.
    """
    for few in _cheapest(one, key, _ROWS_EACH * limit):
        if few is one or num_different(few.configurations) >= limit:
            break
    return few


def _cheapest(one: Sheet, key: Doubles, num: int) -> Iterator[Sheet]:
    """The rows up to the ``num``-th smallest ``key`` (and its equals), four times as many, and so
    on; all of them at last."""
    while num < len(one):
        indices = np.flatnonzero(key <= np.partition(key, num - 1)[num - 1])
        if len(indices) < len(one):
            yield one.among(indices)
        num *= 4
    yield one


_ROWS_EACH = 4


def num_different(ascending: Ints) -> int:
    different = np.count_nonzero(ascending[1:] != ascending[:-1])
    return int(different) + 1 if len(ascending) else 0


def _compared(one: Sheet) -> list[Doubles]:
    """Money, end-to-end seconds, −throughput per chip; smaller is better."""
    return [money(one, one.question), _last(one.e2e_s), _last(-one.per_chip)]


def _first_key(one: Sheet) -> Doubles:
    """The first of ``_keys``."""
    match one.question.objective:
        case Objective.FASTEST:
            return _last(one.e2e_s)
        case Objective.THROUGHPUT:
            return _last(-one.per_chip)
        case _:
            return money(one, one.question)


def _keys(one: Sheet, compared: Sequence[Doubles]) -> list[Doubles]:
    """Smaller is better, the first that differs decides; what is not known comes last. The order of
    the snapshot decides what is left. ``compared``: see ``_compared``."""
    cost, e2e, thrift = compared
    match one.question.objective:
        case Objective.FASTEST:
            return [e2e, cost, thrift]
        case Objective.THROUGHPUT:
            return [thrift, e2e, cost]
        case _:
            # Without any price the chips themselves are what is paid with.
            chips = _last(one.num_chips) if _is_paid_by_hour(one.question) else thrift
            return [cost, chips, e2e]


def _tops(one: Sheet, compared: Sequence[Doubles]) -> Indices:
    """Of each configuration the row that is best, the best first."""
    order = np.lexsort(_keys(one, compared)[::-1])
    first: dict[int, int] = {}
    for index, number in zip(order.tolist(), one.configurations[order].tolist(), strict=True):
        first.setdefault(number, index)
    return np.array(list(first.values()), dtype=np.intp)


def money(one: Sheet, question: Question) -> Doubles:
    """What a deployment is compared by: $ per hour for a load, $ per million tokens without one;
    inf where there is no price."""
    return _last(one.usd_per_hour if _is_paid_by_hour(question) else one.usd_per_m_each)


def _is_paid_by_hour(question: Question) -> bool:
    return (
        question.rate_rps is not None
        or question.concurrency is not None
        or question.min_throughput is not None
    )


def _last(values: Doubles) -> Doubles:
    """What is not known comes last: of a number and NaN ``fmin`` gives the number."""
    return np.fmin(values, np.inf)


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
    theirs = np.array(points)
    mine = theirs.take(of, axis=1)
    if theirs.shape[1] > _MANY:
        # What is worse somewhere than all of them dominates none.
        worst = mine.max(axis=1, keepdims=True)
        theirs = theirs[:, np.logical_and.reduce(theirs <= worst)]
    theirs, mine = theirs[:, None, :], mine[:, :, None]
    nowhere_worse = np.logical_and.reduce(theirs <= mine)
    alike = np.logical_and.reduce(theirs == mine)
    return np.asarray(nowhere_worse.sum(axis=1) - alike.sum(axis=1))


_MANY = 128


def fronts(points: Sequence[Doubles], limit: int) -> Indices:
    """Indices of at most ``limit`` points (one array for each of three objectives): the
    non-dominated ones by the first, then those that are when the former are taken away, and so on.

    The lexicographically smallest of a set is never dominated in it, so the front comes out in
    order, one at a time, and nothing is compared that is not asked for.
    """
    return _fronts(points, limit)[0]


def _fronts(points: Sequence[Doubles], limit: int) -> tuple[Indices, int]:
    """(the indices, how many of them are of the first front)."""
    order = np.lexsort(points[::-1])
    chosen: list[int] = []
    num_first = 0
    while len(order) and len(chosen) < limit:
        x, y, z = (column.take(order) for column in points)
        front = _front(x, y, z, limit - len(chosen))
        chosen += order[front].tolist()
        num_first = num_first or len(chosen)
        order = np.delete(order, front)
    return np.array(chosen, dtype=np.intp), num_first


def _front(x: Doubles, y: Doubles, z: Doubles, limit: int) -> list[int]:
    """At most ``limit`` of the points that no other dominates, in order. They are sorted by x, then
    y, then z: what dominates a point comes before it, and what is equal to it beside it."""
    front: list[int] = []
    left: Indices = np.arange(len(x))
    while len(left) and len(front) < limit:
        first = same = int(left[0])
        lowest = y[first], z[first]
        while same < len(x) and (y[same], z[same]) == lowest and x[same] == x[first]:
            front.append(same)
            same += 1
        left = left[(y.take(left) < lowest[0]) | (z.take(left) < lowest[1])]
    return front[:limit]
