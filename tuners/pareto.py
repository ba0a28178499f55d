"""Which readings no other beats, and how much of the space between best and worst they cover. Pure.

All of it on points where more is better in every coordinate; ``points_of`` makes them from goals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tuners.goals import Goal

Points = npt.NDArray[np.float64]  # (n, goals), more is better


def points_of(readings: Sequence[Mapping[str, float]], goals: Sequence[Goal]) -> Points:
    signs = np.array([1.0 if goal.maximize else -1.0 for goal in goals])
    values = np.array([[goal_values[g.name] for g in goals] for goal_values in readings])
    points: Points = values.reshape(len(readings), len(goals)) * signs
    return points


def on_front(points: Points) -> npt.NDArray[np.bool_]:
    """(n,): whether no other point is at least as good in everything and better in something.
    Equal points stand or fall together."""
    kept = np.ones(len(points), dtype=np.bool_)
    for i, point in enumerate(points):
        at_least = (points >= point).all(axis=1)
        better = (points > point).any(axis=1)
        kept[i] = not bool((at_least & better).any())
    return kept


def hypervolume(points: Points, reference: npt.NDArray[np.float64]) -> float:
    """The volume between ``reference`` (goals,) and the points better than it in everything.

    By slicing along the last coordinate (While et al., "A faster algorithm for calculating
    hypervolume", IEEE Trans. Evol. Comput. 10(1), 2006, section II: HSO); exact, and fast enough
    for the fronts of a study.
    """
    inside = points[(points > reference).all(axis=1)]
    return _volume(np.unique(inside, axis=0) - reference) if len(inside) else 0.0


def _volume(points: Points) -> float:
    points = points[on_front(points)]
    if points.shape[1] == 1:
        return float(points.max())
    levels = np.unique(points[:, -1])
    below, total = 0.0, 0.0
    for level in levels:
        slab = points[points[:, -1] >= level, :-1]
        total += (float(level) - below) * _volume(slab)
        below = float(level)
    return total


def hypervolumes(points: Points) -> npt.NDArray[np.float64]:
    """(n,): the share of the box between the worst and the best value of each coordinate that the
    first 1 … n points cover. A coordinate that never changes counts as covered."""
    if not len(points):
        return np.zeros(0)
    low, high = points.min(axis=0), points.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    # A point on the edge of the box covers nothing by itself: the reference lies a little below.
    scaled = np.where(high > low, (points - low) / width, 1.0)
    reference = np.full(points.shape[1], -0.1)
    whole = float((1.0 - reference).prod())
    found = np.zeros(len(points))
    front = np.zeros((0, points.shape[1]))
    for i, point in enumerate(scaled):
        if not len(front) or not (front >= point).all(axis=1).any():
            front = np.vstack([front, point])
            front = front[on_front(front)]
            found[i] = hypervolume(front, reference) / whole
        else:
            found[i] = found[i - 1]
    return found
