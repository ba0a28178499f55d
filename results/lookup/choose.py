"""Which of the feasible rows, in which order. Pure.

Of each configuration the load point that serves the objective best; of the configurations the best
first. A row that is not feasible is never looked at, so adding one changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.lookup.columns import Bools, Ints
from results.lookup.sheet import Doubles, Sheet
from results.recommendation.question import Objective, Question

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``best``: indices into the sheet, the best first. ``num_better``: of each, how many others
    are better in every objective: of the best load points of the other configurations, or, for the
    Pareto objective, of all load points."""

    best: Indices
    num_better: Indices


def choose(one: Sheet, feasible: Bools, configurations: Ints, question: Question) -> Choice:
    """At most ``question.limit`` of the rows that are feasible, one at least. ``configurations``:
    of every row of the sheet, ascending."""
    among = np.flatnonzero(feasible)
    if question.objective is Objective.PARETO:
        points = objectives(one, question)[among]
        best = fronts(points, question.limit)
    else:
        keys = [key[among] for key in _keys(one, question)]
        tops = _best_of_each(keys, configurations[among])
        among = among[tops]
        points = objectives(one, question)[among]
        best = np.lexsort([key[tops] for key in reversed(keys)])[: question.limit]
    return Choice(best=among[best], num_better=num_better(points, best))


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


def _best_of_each(keys: list[Doubles], configurations: Ints) -> Indices:
    """The index of the best row of every run of equal ``configurations``."""
    starts = np.flatnonzero(np.r_[True, configurations[1:] != configurations[:-1]])
    lengths = np.diff(np.r_[starts, len(configurations)])
    alive = np.ones(len(configurations), dtype=bool)
    for key in keys:
        among = np.where(alive, key, np.inf)
        lowest = np.repeat(np.minimum.reduceat(among, starts), lengths)
        still = alive & (among == lowest)
        # A group whose last ones are all inf keeps them: none is better than another.
        alive = np.where(np.isinf(lowest), alive, still)
    positions = np.where(alive, np.arange(len(configurations)), len(configurations))
    return np.asarray(np.minimum.reduceat(positions, starts))


def objectives(one: Sheet, question: Question) -> npt.NDArray[np.float64]:
    """(n, 3), smaller is better: cost (chips where nothing has a price), end-to-end seconds,
    −output tokens per second per chip."""
    cost = money(one, question)
    if np.isinf(cost).all():
        cost = _last(one.num_chips)
    return np.column_stack([cost, _last(one.e2e_s), _last(-one.per_chip)])


def num_better(points: npt.NDArray[np.float64], of: Indices) -> Indices:
    """How many of ``points`` dominate each of those at ``of``: nowhere worse, somewhere better."""
    chosen = points[of]
    nowhere_worse = np.ones((len(of), len(points)), dtype=bool)
    somewhere_better = np.zeros_like(nowhere_worse)
    for k in range(points.shape[1]):
        nowhere_worse &= points[None, :, k] <= chosen[:, None, k]
        somewhere_better |= points[None, :, k] < chosen[:, None, k]
    return np.asarray(np.count_nonzero(nowhere_worse & somewhere_better, axis=1))


def fronts(points: npt.NDArray[np.float64], limit: int) -> Indices:
    """Indices of at most ``limit`` points: the non-dominated ones by the first column, then those
    that are when the former are taken away, and so on.

    The lexicographically smallest of a set is never dominated in it, so the front comes out in
    order, one at a time, and nothing is compared that is not asked for.
    """
    left = np.lexsort(points.T[::-1])
    chosen: list[int] = []
    while len(left) and len(chosen) < limit:
        later: list[npt.NDArray[np.int64]] = []
        while len(left) and len(chosen) < limit:
            first, rest = left[0], left[1:]
            chosen.append(int(first))
            beaten = (points[rest] >= points[first]).all(axis=1) & (
                points[rest] > points[first]
            ).any(axis=1)
            later.append(rest[beaten])
            left = rest[~beaten]
        left = np.concatenate(later)
        left = left[np.lexsort(points[left].T[::-1])]
    return np.array(chosen, dtype=np.int64)
