"""The search and the sweep as they run: ask, measure, note, ask again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.capacity.curve import Load
from harness.capacity.judge import Condition
from harness.capacity.measure import MeasurePoint
from harness.capacity.points import at_rate, point_of, salted, with_users
from harness.capacity.search import Measure, Question, next_action
from results.capacity import Capacity, Point
from workloads.traffic.spec import Traffic


def find_capacity(
    question: Question,
    conditions: Sequence[Condition],
    traffic: Traffic,
    measure: MeasurePoint,
    *,
    points: list[Point],
    begin: Callable[[Measure], None],
) -> Capacity:
    """Search until there is an answer. ``points`` grows as they are measured, so that whoever
    interrupts has what is known. ``begin`` is told what is measured next.
    """
    while True:
        action = next_action(question, points)
        if isinstance(action, Capacity):
            return action
        begin(action)
        load = at_rate(traffic, action.rate_rps, action.duration_s)
        load = salted(load, traffic.seed, action.number)
        points.append(point_of(measure(load), load, conditions))


def sweep(
    loads: Sequence[Load],
    conditions: Sequence[Condition],
    traffic: Traffic,
    measure: MeasurePoint,
    *,
    duration_s: float | None,
    think_s: float,
    first_number: int,
    points: list[Point],
    begin: Callable[[int, Load], None],
) -> None:
    """Measure ``loads`` in the order given. ``points`` grows as they are measured."""
    for i, load in enumerate(loads):
        begin(i, load)
        seconds = duration_s or 0.0
        if load.num_users is not None:
            asked = with_users(traffic, load.num_users, seconds, think_s)
        else:
            asked = at_rate(traffic, load.rate_rps or 0.0, seconds)
        if duration_s is None:
            asked = replace(asked, duration_s=None)
        asked = salted(asked, traffic.seed, first_number + i)
        points.append(point_of(measure(asked), asked, conditions, repeat=load.repeat))
