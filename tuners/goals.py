"""What a study wants: goals to push and bounds to keep, read from a run's measurements. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from results.measurement import Measurement, of_group
from results.metrics import Direction, metric
from tuners.errors import StudyError

_TINY = 1e-300  # a goal of 0 sorts last instead of having no logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One statistic of a metric, pushed the way the metric's own direction says."""

    metric: str
    statistic: str = "value"

    def __post_init__(self) -> None:
        if metric(self.metric).direction is Direction.NEITHER:
            raise StudyError(f"{self.metric} is context, not a goal: neither way of it is better")

    @property
    def name(self) -> str:
        return _name(self.metric, self.statistic)

    @property
    def maximize(self) -> bool:
        return metric(self.metric).direction is Direction.HIGHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A limit that must hold, with a margin kept from it while searching.

    ``limit`` is at most for a metric where lower is better, at least where higher is. ``margin`` is
    a share of the limit: constrained search drives its picks onto the boundary, where noise
    decides. ``of_baseline``: the limit is so many times what the baseline shows; until that is
    known it is None, and the bound holds whatever is seen (see ``Wish.against``).
    """

    metric: str
    limit: float | None
    statistic: str = "value"
    margin: float = 0.05
    of_baseline: float | None = None

    def __post_init__(self) -> None:
        if metric(self.metric).direction is Direction.NEITHER:
            raise StudyError(f"{self.metric} has no better side: a bound on it means nothing")
        if self.limit is None and self.of_baseline is None:
            raise StudyError(f"bound on {self.metric}: it has neither a limit nor a baseline's")
        given = [limit for limit in (self.limit, self.of_baseline) if limit is not None]
        if not all(limit > 0 for limit in given) or not 0 <= self.margin < 1:
            raise StudyError(
                f"bound on {self.metric}: the limit is above 0 and the margin a share from 0 to "
                f"below 1; found {min(given):g} and {self.margin:g}"
            )

    @property
    def name(self) -> str:
        return _name(self.metric, self.statistic)

    def slack(self, value: float, margin: float | None = None) -> float:
        """≤ 0 where the bound holds with the margin; above it, by which share it is broken."""
        if self.limit is None:
            return -1.0
        kept = self.margin if margin is None else margin
        if metric(self.metric).direction is Direction.LOWER:
            return value / (self.limit * (1.0 - kept)) - 1.0
        return 1.0 - value / (self.limit * (1.0 + kept))


def _name(metric_name: str, statistic: str) -> str:
    return metric_name if statistic == "value" else f"{metric_name}_{statistic}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Goals (one, or several for a Pareto front) and bounds."""

    goals: tuple[Goal, ...]
    bounds: tuple[Bound, ...] = ()

    def __post_init__(self) -> None:
        if not self.goals:
            raise StudyError("a study without a goal has nothing to look for")
        for names in ([g.name for g in self.goals], [b.name for b in self.bounds]):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise StudyError(f"{', '.join(sorted(twice))}: given twice")

    @property
    def waits_for_baseline(self) -> bool:
        return any(bound.limit is None for bound in self.bounds)

    def against(self, baseline: Reading) -> Wish:
        """The same wish with every bound that is relative to the baseline made a number. Raises
        StudyError where the baseline's is 0: no multiple of it is a limit."""
        bounds = []
        for bound in self.bounds:
            if bound.of_baseline is not None:
                seen = baseline.bounds[bound.name]
                if not seen > 0:
                    raise StudyError(
                        f"{bound.name} is limited to {bound.of_baseline:g} times the baseline's, "
                        f"which is {seen:g}; give it a limit of its own"
                    )
                bound = replace(bound, limit=seen * bound.of_baseline)
            bounds.append(bound)
        return replace(self, bounds=tuple(bounds))

    def score(self, goals: Mapping[str, float]) -> float:
        """One number to sort by, higher is better: the mean of the goals' logarithms, each the way
        it is better. With one goal it sorts as the goal does; differences are ratios."""
        logs = [
            math.log(max(goals[g.name], _TINY)) * (1.0 if g.maximize else -1.0) for g in self.goals
        ]
        return sum(logs) / len(logs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one run showed: a value per goal, and of each bound the observed value."""

    goals: Mapping[str, float]
    bounds: Mapping[str, float]

    def slacks(self, wish: Wish) -> dict[str, float]:
        return {b.name: b.slack(self.bounds[b.name]) for b in wish.bounds}

    def keeps(self, wish: Wish, margin: float | None = None) -> bool:
        return all(b.slack(self.bounds[b.name], margin) <= 0 for b in wish.bounds)


def read(measurements: Iterable[Measurement], wish: Wish) -> Reading | tuple[str, ...]:
    """The reading of a run, or why there is none: each statistic that is missing, with its
    reason."""
    known = {(m.metric, m.statistic): m for m in of_group(measurements)}
    missing: list[str] = []

    def value(metric_name: str, statistic: str) -> float:
        found = known.get((metric_name, statistic))
        if found is None or found.value is None:
            why = found.reason if found else "this workload does not measure it"
            missing.append(f"{_name(metric_name, statistic)}: {why}")
            return float("nan")
        return found.value

    reading = Reading(
        goals={g.name: value(g.metric, g.statistic) for g in wish.goals},
        bounds={b.name: value(b.metric, b.statistic) for b in wish.bounds},
    )
    return tuple(missing) or reading
