"""A curve's numbers, load by load: what the page, the picture and the terminal table all show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.capacity import ConstraintSeen, Point, falls_behind
from results.intervals import mean_interval
from results.metrics import metric
from results.units import NOT_AVAILABLE, format_interval, format_value

# Statistics that a row shows, where the points have them.
PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A value with its interval, or why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def words(self, unit: str) -> str:
        return NOT_AVAILABLE if self.value is None else format_value(self.value, unit)

    def interval(self, unit: str) -> str:
        return format_interval(self.low, self.high, unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSeen:
    """One load and all points measured at it."""

    load: float
    is_users: bool
    points: tuple[Point, ...]

    @property
    def behind(self) -> bool:
        return falls_behind(self.points)

    @property
    def words(self) -> str:
        if not self.is_users:
            return f"{self.load:g}/s"
        return f"{self.load:g} user{'' if self.load == 1 else 's'}"

    @property
    def usable(self) -> tuple[Point, ...]:
        return tuple(p for p in self.points if p.is_usable)

    @property
    def num_requests(self) -> int:
        return sum(p.num_requests for p in self.points)

    @property
    def num_failed(self) -> int:
        return sum(p.num_failed for p in self.points)

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f for p in self.points for f in p.faults))

    @property
    def doubts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(d.message for p in self.points for d in p.doubts))

    def number(self, name: str, statistic: str = "value") -> Number:
        """Of one point its own value and interval; of several their mean with the t interval over
        points: the point is the unit of replication. Invalid points do not count.
        """
        found = [
            m
            for p in self.usable
            for m in p.measurements
            if (m.metric, m.statistic) == (name, statistic)
        ]
        known = [m for m in found if m.value is not None]
        if not known:
            why = self.faults or tuple(m.reason for m in found)
            return Number(value=None, reason=why[0] if why else "not measured")
        if len(known) == 1:
            one = known[0]
            return Number(value=one.value, low=one.low, high=one.high)
        mean, interval = mean_interval(np.array([m.value for m in known], dtype=np.float64))
        if interval is None:
            return Number(value=mean)
        declared = metric(name)
        return Number(
            value=mean,
            low=max(interval.low, declared.low),
            high=min(interval.high, declared.high),
        )

    def attainment(self) -> Number:
        """Share of requests that met the conditions that decide; the least one where several do."""
        by_name: dict[str, list[ConstraintSeen]] = {}
        for p in self.usable:
            for c in p.constraints:
                if c.wanted > 0.0 and c.num_judged:
                    by_name.setdefault(c.name, []).append(c)
        shares = [
            sum(c.num_good for c in seen) / sum(c.num_judged for c in seen)
            for seen in by_name.values()
        ]
        return Number(value=min(shares, default=None), reason="" if shares else "no SLO was given")


def loads_seen(points: Sequence[Point]) -> tuple[LoadSeen, ...]:
    """Points by load, ascending."""
    by_load: dict[tuple[bool, float], list[Point]] = {}
    for p in points:
        users = p.num_users is not None
        load = float(p.num_users or 0) if users else float(p.rate_rps or 0.0)
        by_load.setdefault((users, load), []).append(p)
    return tuple(
        LoadSeen(load=load, is_users=users, points=tuple(found))
        for (users, load), found in sorted(by_load.items())
    )
