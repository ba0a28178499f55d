"""The few rows that are answers, as recommendations: everything about them said in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from results.cost import capacity_to_price, cost_of
from results.lookup.columns import TYPICAL
from results.lookup.sheet import ROUNDING, Sheet, statistics_for
from results.predictive import at_most_one, together
from results.prices import PriceBook
from results.recommendation.answer import Flag, Recommendation, TargetResult
from results.recommendation.profile import UNSTATED, Cost, Machine, Price, Profile, Statistic
from results.recommendation.question import Question, Target

# Below this share of the measured load a replica's latencies are told to be bounds.
LIGHT_LOAD = 0.5
# Evidence older than this is called stale, unless the question sets an age itself.
STALE_AFTER_DAYS = 90.0

_MOST_PRICES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A profile with what it states, by metric and statistic: found once, asked often."""

    profile: Profile
    stated: Mapping[tuple[str, str], Statistic]


def known(profile: Profile) -> Known:
    stated = {(s.metric, s.statistic): s for s in profile.statistics if s.value is not None}
    return Known(profile=profile, stated=stated)


class Priced:
    """Prices of machines, each looked up once."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self.find = lru_cache(_MOST_PRICES)(self._find)

    def _find(self, machine: Machine, capacity: str, region: str) -> Price | str:
        return self.book.find(machine, capacity_to_price(machine.capacity, capacity), region)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an answer is made for."""

    question: Question
    prices: Priced
    now: datetime


def recommendation(
    asked: Asked, found: Known, one: Sheet, index: int, rank: int, num_better: int
) -> Recommendation:
    """Row ``index`` of the sheet; ``found`` is what that row encodes."""
    question, profile = asked.question, found.profile
    replicas = int(one.replicas[index]) if math.isfinite(one.replicas[index]) else 1
    utilisation = _number(one.utilisation[index])
    targets = tuple(_targets(found, one, index, question, utilisation))
    output_each = _number(one.output_per_s_each[index])
    rate_each = _number(one.rate_each[index])
    startup = found.stated.get(("startup_s", "value"))
    cost = _cost(asked, profile, one, index, replicas, startup)
    return Recommendation(
        rank=rank,
        profile=profile,
        replicas=replicas,
        num_chips=profile.machine.num_chips * replicas,
        rate_rps=None if rate_each is None else rate_each * replicas,
        output_tokens_per_s=None if output_each is None else output_each * replicas,
        output_tokens_per_s_per_chip=_number(one.per_chip[index]),
        e2e_s=_number(one.e2e_s[index]),
        utilisation=utilisation,
        cost=cost,
        targets=targets,
        probability=_all_kept(targets),
        pareto_rank=num_better + 1,
        flags=_flags(asked, found, one, index, replicas, cost),
        notes=_notes(asked, profile),
    )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cost(
    asked: Asked,
    profile: Profile,
    one: Sheet,
    index: int,
    replicas: int,
    startup: Statistic | None,
) -> Cost:
    question = asked.question
    each = _number(one.input_per_s_each[index]), _number(one.output_per_s_each[index])
    of_load = None
    if question.rate_rps is not None:
        lengths = _number(one.input_tokens[index]), _number(one.output_tokens[index])
        if lengths[0] is not None and lengths[1] is not None:
            of_load = question.rate_rps * lengths[0], question.rate_rps * lengths[1]
    return cost_of(
        asked.prices.find(profile.machine, question.capacity, question.region),
        replicas=replicas,
        tokens_per_s=(each[0], each[1]) if each[0] is not None and each[1] is not None else None,
        asked_tokens_per_s=of_load,
        utilisation=_number(one.utilisation[index]),
        startup_s=startup.value if startup else None,
        ratio=question.output_input_cost_ratio,
    )


def _targets(
    known: Known, one: Sheet, index: int, question: Question, utilisation: float | None
) -> Iterator[TargetResult]:
    is_light = utilisation is not None and utilisation < LIGHT_LOAD
    for target in question.targets:
        found = statistic_of(known.stated, target)
        if found is None or found.value is None:
            continue
        factor = float(one.output_factor[index]) if target.metric == "ntpot_s" else 1.0
        value_s = found.value * factor
        probability, reason = chance(found, target.limit_s / factor)
        higher = target.percentile is not None and found.statistic != f"p{target.percentile:g}"
        yield TargetResult(
            target=target.name,
            statistic=found.statistic,
            limit_s=target.limit_s,
            value_s=value_s,
            headroom=1.0 - value_s / target.limit_s,
            met=value_s <= target.limit_s * (1.0 + ROUNDING),
            probability=probability,
            reason=reason,
            is_bound=bool(one.shorter[index]) or is_light or higher,
        )


def statistic_of(stated: Mapping[tuple[str, str], Statistic], target: Target) -> Statistic | None:
    """The statistic of a profile that answers a target: as ``sheet.stated`` has it in columns."""
    names = TYPICAL if target.percentile is None else statistics_for(target)
    return next((s for n in names if (s := stated.get((target.metric, n))) is not None), None)


def chance(one: Statistic, limit_s: float) -> tuple[float | None, str]:
    """(probability that the next run keeps the limit, or None; why there is none)."""
    if one.num_runs < 2:
        return None, "one run says nothing about the next"
    if one.log_mean is None or one.log_spread is None:
        return None, "a run's value is 0"
    return at_most_one(math.log(limit_s), one.log_mean, one.log_spread, one.num_runs), ""


def _all_kept(targets: tuple[TargetResult, ...]) -> float | None:
    found = [t.probability for t in targets if t.probability is not None]
    return together(found) if len(found) == len(targets) else None


def _flags(
    asked: Asked, found: Known, one: Sheet, index: int, replicas: int, cost: Cost
) -> tuple[Flag, ...]:
    profile, evidence = found.profile, found.profile.evidence
    load = one.utilisation[index]
    price = cost.price
    told = {
        Flag.LENGTHS_BELOW_MEASURED: bool(one.shorter[index]),
        Flag.LENGTHS_UNKNOWN: profile.load.input_tokens is None,
        Flag.LOAD_BELOW_MEASURED: bool(load < LIGHT_LOAD),
        Flag.RATE_DERIVED: profile.load.derived.startswith("rate"),
        Flag.REPLICAS_ASSUMED_ALIKE: replicas > 1,
        Flag.STATISTIC_UNSTATED: _is_unstated(found, asked.question),
        Flag.SINGLE_RUN: evidence.repeats < 2,
        Flag.STALE: evidence.stale or _is_old(asked, profile),
        Flag.SUPERSEDED: bool(profile.superseded_by),
        Flag.NO_PRICE: price is None,
        Flag.PRICED_FOR_OTHER_CAPACITY: price is not None
        and profile.machine.capacity not in ("", price.capacity),
        Flag.RUNS_FAILED: bool(evidence.failures),
    }
    return tuple(flag for flag, is_so in told.items() if is_so)


def _is_unstated(found: Known, question: Question) -> bool:
    """Whether a latency that was compared (TTFT, where none was) is of no stated statistic."""
    used = (statistic_of(found.stated, target) for target in question.targets or _SHOWN)
    return any(one is not None and one.statistic == UNSTATED for one in used)


_SHOWN = (Target(metric="ttft_s", limit_s=1.0),)


def _is_old(asked: Asked, profile: Profile) -> bool:
    limit = asked.question.max_age_days or STALE_AFTER_DAYS
    return profile.evidence.age_days(asked.now) > limit


def _notes(asked: Asked, profile: Profile) -> tuple[str, ...]:
    evidence = profile.evidence
    notes = []
    failed = sum(evidence.failures.values())
    if failed:
        kinds = ", ".join(f"{n} × {error}" for error, n in sorted(evidence.failures.items()))
        total = failed + evidence.repeats + evidence.num_invalid
        notes.append(f"{failed} of {total} runs of this configuration failed: {kinds}")
    if evidence.num_invalid:
        notes.append(f"{evidence.num_invalid} runs are invalid and count for nothing")
    if evidence.why_stale:
        notes.append(f"stale: {evidence.why_stale}")
    elif _is_old(asked, profile):
        notes.append(f"stale: last measured {evidence.age_days(asked.now):.0f} days ago")
    return tuple(notes)
