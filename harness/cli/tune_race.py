"""A study's race: which trials are stopped after their probe, and what is told of those.

What is told are bounds: the best that each goal and limit can be by what the probe has ruled out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.capacity.ascent import Ascent, Seen, given_up
from harness.capacity.curve import Load
from harness.capacity.judge import Condition, conditions_of
from harness.capacity.paired import LATENCIES, RATES
from harness.capacity.race import Race
from harness.capacity.slo import slo_of
from harness.spec import RunSpec
from results.metrics import Direction, metric
from results.slo import parse_slo
from tuners.errors import TunerError
from tuners.goals import Wish
from tuners.outcome import Stopped
from tuners.race_spec import LEAST_REQUESTS
from tuners.study_spec import StudySpec, wish_of
from workloads.traffic.spec import ClosedLoop, ConstantArrivals, GammaArrivals, PoissonArrivals

# Where a probe has no interval of a figure, it may be off by so much.
_DOUBT = 0.25


def race_of(study: StudySpec, wish: Wish) -> Race | None:
    """Without a rival yet. None where the study's file wants none."""
    if study.race is None:
        return None
    goal = wish.goals[0] if len(wish.goals) == 1 else None
    known = goal is not None and goal.metric in (*LATENCIES, *RATES)
    limits = slo_of(study.slo) if study.slo and not _means(study.slo) else None
    return Race(
        metric=goal.metric if goal is not None and known else "",
        statistic=goal.statistic if goal is not None and known else "value",
        conditions=conditions_of(limits.limits, limits.attainment) if limits else (),
        margin=study.race.margin,
        error=study.race.error,
        slo=limits.per_request if limits else {},
    )


def _means(slo: str) -> bool:
    """A limit on a mean, or on what is no request's, is no share of requests."""
    return any(
        limit.statistic == "mean" or limit.metric not in LATENCIES[:5]
        for limit in parse_slo(slo).limits
    )


def own_ascent(study: StudySpec, base: RunSpec) -> Ascent | str:
    """The run's own load as a trial of one window after a probe; or why there is no probe."""
    if study.race is None or study.race.probe_s == 0:
        return "switched off in the study's file"
    traffic = base.traffic
    if traffic is None:
        return f"{base.name} has no traffic: a training is measured whole"
    if any(name.startswith("startup") for name in _wanted(study)):
        return "what a start takes is known before any load"
    steady = (ClosedLoop, ConstantArrivals, PoissonArrivals, GammaArrivals)
    if not isinstance(traffic.arrivals, steady) or traffic.sessions is not None:
        return "its arrivals are no steady load, of which a part stands for the whole"
    if not traffic.duration_s or traffic.num_requests is not None:
        return "a number of requests ends its load; give traffic.duration_s alone"
    probe_s = study.race.probe_of(traffic.duration_s)
    if not probe_s:
        return f"its window of {traffic.duration_s:g} s is short by itself"
    rate = getattr(traffic.arrivals, "rate_rps", None)
    if study.race.probe_s is None and rate is not None and rate * probe_s < LEAST_REQUESTS:
        return (
            f"a probe of {probe_s:g} s would have {rate * probe_s:.0f} requests, which is too few "
            f"({LEAST_REQUESTS}); race.probe_s asks for a longer one"
        )
    return Ascent(loads=(Load(),), duration_s=traffic.duration_s, probe_s=probe_s)


def _wanted(study: StudySpec) -> list[str]:
    try:
        wish = wish_of(study)
    except TunerError:
        return []  # told elsewhere
    return [*(goal.metric for goal in wish.goals), *(bound.metric for bound in wish.bounds)]


def stopped_of(ascent: Ascent, seen: Sequence[Seen], wish: Wish) -> Stopped | None:
    """What is told of a trial whose probes are all that there is; None of any other."""
    why = given_up(ascent, seen)
    if not why or ascent.race is None:
        return None
    first = seen[0]  # the lightest load: where the limits are broken least
    limits = [s for s in seen if s.raced is not None and s.raced.stop == "limits"]
    return Stopped(
        rule="limits" if limits and len(limits) == len(seen) else "goal",
        why=why,
        goals=_goals_at_best(ascent.race, seen, wish),
        bounds={**_seen_at_best(first, _bounds(wish)), **_ruled_out(ascent.race, first)},
        saved_s=ascent.duration_s,
    )


def _bounds(wish: Wish) -> Mapping[str, tuple[str, str]]:
    return {bound.name: (bound.metric, bound.statistic) for bound in wish.bounds}


def _goals_at_best(race: Race, seen: Sequence[Seen], wish: Wish) -> dict[str, float]:
    """The best over the loads; the one goal of a race by its pairs, where they could tell."""
    asked = {goal.name: (goal.metric, goal.statistic) for goal in wish.goals}
    found: dict[str, float] = {}
    for one in seen:
        at_best = _seen_at_best(one, asked)
        pairs = one.raced.compared.at_most if one.raced is not None else None
        if pairs is not None and race.value is not None:
            goal = wish.goals[0]
            at_best[goal.name] = race.value * pairs if goal.maximize else race.value / pairs
        for goal in wish.goals:
            if goal.name in at_best:
                both = [at_best[goal.name], found.get(goal.name, at_best[goal.name])]
                found[goal.name] = max(both) if goal.maximize else min(both)
    return found


def _seen_at_best(one: Seen, asked: Mapping[str, tuple[str, str]]) -> dict[str, float]:
    """The better end of what the probe itself has measured."""
    found = {}
    by_name = {(m.metric, m.statistic): m for m in one.point.measurements}
    for name, which in asked.items():
        m = by_name.get(which)
        if m is None or m.value is None:
            continue
        if metric(m.metric).direction is Direction.HIGHER:
            found[name] = m.value * (1.0 + _DOUBT) if m.high is None else m.high
        else:
            found[name] = m.value * (1.0 - _DOUBT) if m.low is None else m.low
    return found


def _ruled_out(race: Race, one: Seen) -> dict[str, float]:
    """By the names of a study's bounds: what its broken conditions are at best."""
    if one.raced is None:
        return {}
    found = {}
    for condition in race.conditions:
        if condition.name not in one.raced.slowest:
            continue
        limit = condition.limits[0]
        if _is_alone(condition):
            slowest = one.raced.slowest[condition.name] * limit.limit_s
            found[f"{limit.metric}_p{100.0 * (limit.share or 0.0):g}"] = slowest
        else:
            found["slo_attainment"] = one.raced.attained[condition.name]
    return found


def _is_alone(condition: Condition) -> bool:
    return len(condition.limits) == 1 and condition.limits[0].share is not None
