"""What a capacity search and a sweep leave behind: values that they make and that reports read.

A *point* is one measured stretch of load at one rate (or one number of users). A *rate* is judged
by all of its points together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from results.measurement import Measurement
from results.record import Doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintSeen:
    """How many requests of one point met one condition of the SLO; failed requests met none.

    ``design_effect`` is the number of requests that say as much as one independent one would:
    effective n = ``num_judged / design_effect``.
    """

    name: str  # "TTFT ≤ 500 ms"
    wanted: float  # share of requests that must meet it
    num_good: int
    num_judged: int
    design_effect: float = 1.0

    @property
    def attainment(self) -> float | None:
        return self.num_good / self.num_judged if self.num_judged else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured point. Exactly one of ``rate_rps`` and ``num_users`` says how it was loaded.

    ``backlog_growth`` is how much the number of requests that wait for their first token grew from
    the first third to the end of the schedule, over what chance alone makes of it (one standard
    deviation). Faults are reasons why the point says nothing about the server: the client was the
    limit, or the load was not the one asked for. ``simulated``: the server says that it is one.
    """

    rate_rps: float | None
    num_users: int | None = None
    duration_s: float  # of the schedule, as asked
    took_s: float  # of the wall clock, warm-up and drain included
    seed: int
    num_requests: int  # measured ones
    num_failed: int
    constraints: tuple[ConstraintSeen, ...] = ()
    backlog_growth: float = 0.0
    measurements: tuple[Measurement, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    client_faults: tuple[str, ...] = ()
    load_faults: tuple[str, ...] = ()
    simulated: bool = False
    repeat: int = 0
    run_id: str = ""

    @property
    def faults(self) -> tuple[str, ...]:
        return (*self.client_faults, *self.load_faults)

    @property
    def is_usable(self) -> bool:
        return not self.faults


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintJudged:
    """One condition over all points of a rate; ``low``/``high`` bound its true share."""

    name: str
    wanted: float
    attainment: float
    low: float
    high: float
    num_judged: int
    effective_n: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RateJudged:
    """``constraints`` stand from the one nearest to failing (or failing worst) on."""

    rate_rps: float
    verdict: Verdict
    num_points: int
    measured_s: float
    saturated: bool  # the queue grew faster than chance makes one grow
    growing: bool  # it may have: enough to keep the rate from passing
    constraints: tuple[ConstraintJudged, ...]


class CapacityKind(StrEnum):
    FOUND = "found"  # between two rates within the tolerance
    BRACKETED = "bracketed"  # between two rates that lie further apart than the tolerance
    AT_LEAST = "at_least"  # the highest rate allowed passed
    BELOW = "below"  # the lowest rate tried failed
    UNDECIDED = "undecided"  # no rate passed and none failed, or only one of both
    CLIENT_LIMITED = "client_limited"  # the load client, not the server, was the limit
    INVALID = "invalid"  # the load was not the one asked for


# What a script may take for an answer.
CONCLUSIVE = frozenset({CapacityKind.FOUND, CapacityKind.AT_LEAST, CapacityKind.BELOW})


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The answer. ``capacity_rps`` is the highest rate that passed; None: none did.

    The true capacity lies between ``capacity_rps`` and ``failed_rps``, the lowest rate above it
    that failed (None: none was seen to fail). ``estimate_rps`` is where the shares that were seen
    cross what is wanted: a guess, decided by nothing. ``why`` says why the search ended.
    """

    kind: CapacityKind
    capacity_rps: float | None
    failed_rps: float | None
    estimate_rps: float | None
    binding: str  # the condition that failed first, in words; "": none failed
    binding_attainment: float | None
    why: str
    tolerance: float
    confidence: float
    rates: tuple[RateJudged, ...]
    violations: tuple[str, ...]  # where a higher rate passed and a lower one failed
    num_points: int
    spent_s: float
    spoiled_rps: float | None = None  # where two points in a row said nothing about the server
    faults: tuple[str, ...] = ()  # and why

    @property
    def is_conclusive(self) -> bool:
        return self.kind in CONCLUSIVE


# In standard deviations of chance: beyond the first a queue is overload (1 in 1,000 for each look
# at a critical queue), beyond the second it may be.
SATURATED, GROWING = 3.29, 1.64
# Less than this share of what was offered came back: with a queue that may grow, that is enough.
_KEPT_UP = 0.9


def growth_of(points: Sequence[Point]) -> float:
    """``backlog_growth`` of several points of one load: they add as normal deviates do."""
    return sum(p.backlog_growth for p in points) / math.sqrt(len(points)) if points else 0.0


def falls_behind(points: Sequence[Point]) -> bool:
    """Whether the server did not keep up with the load of these points: its queue grew faster than
    chance makes one grow, or may have while less came back than was sent, or half of it failed."""
    usable = [p for p in points if p.is_usable]
    num_failed, num = sum(p.num_failed for p in usable), sum(p.num_requests for p in usable)
    growth = growth_of(usable)
    if growth > SATURATED or 2 * num_failed > num:
        return bool(usable)
    rates = [
        (m.value, p.rate_rps)
        for p in usable
        for m in p.measurements
        if m.metric == "achieved_rate" and m.value is not None and p.rate_rps is not None
    ]
    answered, offered = (
        (sum(column) for column in zip(*rates, strict=True)) if rates else (1.0, 1.0)
    )
    return growth > GROWING and answered < _KEPT_UP * offered


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """Where a curve bends: the last load that the server kept up with. ``load`` None: see why."""

    load: float | None
    rule: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTold:
    """What was asked of whom: the head of a sweep's or search's document and page."""

    endpoint: str
    model: str
    evidence: str  # measured or simulated
    slo: str = ""
    traffic: Mapping[str, object] | None = None
    command: str = ""
