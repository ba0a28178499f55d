"""The few rows that are answers, as recommendations: everything about them said in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from results.cost import capacity_to_price, cost_of
from results.lookup.columns import TYPICAL
from results.lookup.filters import Indices
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
    has_unstated: bool  # any statistic that its source does not name


def known(profile: Profile) -> Known:
    stated = {(s.metric, s.statistic): s for s in profile.statistics if s.value is not None}
    unstated = UNSTATED in [statistic for _, statistic in stated]
    return Known(profile=profile, stated=stated, has_unstated=unstated)


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


class Line(NamedTuple):
    """One row of a sheet as plain numbers; None: not known."""

    position: int
    shorter: bool
    replicas: float | None
    utilisation: float | None
    input_tokens: float | None
    output_tokens: float | None
    rate_each: float | None
    input_per_s_each: float | None
    output_per_s_each: float | None
    per_chip: float | None
    e2e_s: float | None
    output_factor: float | None


_NUMBERS = Line._fields[2:]


def lines(one: Sheet, indices: Indices) -> list[Line]:
    """Rows of the sheet, all columns at once: one number after the other takes longer."""
    numbers = np.column_stack([getattr(one, name)[indices] for name in _NUMBERS])
    plain = numbers.astype(object)
    plain[~np.isfinite(numbers)] = None
    positions, shorter = one.positions[indices].tolist(), one.shorter[indices].tolist()
    return [Line(*row) for row in zip(positions, shorter, *plain.T.tolist(), strict=True)]


def recommendation(
    asked: Asked, found: Known, line: Line, rank: int, num_better: int
) -> Recommendation:
    """``found`` is what the line's row encodes."""
    profile = found.profile
    replicas = 1 if line.replicas is None else int(line.replicas)
    targets = tuple(_targets(found, line, asked.question)) if asked.question.targets else ()
    output_each, rate_each = line.output_per_s_each, line.rate_each
    cost, is_old = _cost(asked, found, line, replicas), _is_old(asked, profile)
    return Recommendation(
        rank=rank,
        profile=profile,
        replicas=replicas,
        num_chips=profile.machine.num_chips * replicas,
        rate_rps=None if rate_each is None else rate_each * replicas,
        output_tokens_per_s=None if output_each is None else output_each * replicas,
        output_tokens_per_s_per_chip=line.per_chip,
        e2e_s=line.e2e_s,
        utilisation=line.utilisation,
        cost=cost,
        targets=targets,
        probability=_all_kept(targets),
        pareto_rank=num_better + 1,
        flags=_flags(asked, found, line, replicas, cost, is_old),
        notes=_notes(asked, profile, is_old),
    )


def _cost(asked: Asked, found: Known, line: Line, replicas: int) -> Cost:
    question = asked.question
    startup = found.stated.get(("startup_s", "value"))
    rate = question.rate_rps
    return cost_of(
        asked.prices.find(found.profile.machine, question.capacity, question.region),
        replicas=replicas,
        tokens_per_s=_both(line.input_per_s_each, line.output_per_s_each),
        asked_tokens_per_s=None
        if rate is None
        else _both(line.input_tokens, line.output_tokens, rate),
        utilisation=line.utilisation,
        startup_s=startup.value if startup else None,
        ratio=question.output_input_cost_ratio,
    )


def _both(
    inputs: float | None, outputs: float | None, factor: float = 1.0
) -> tuple[float, float] | None:
    if inputs is None or outputs is None:
        return None
    return factor * inputs, factor * outputs


def _targets(known: Known, line: Line, question: Question) -> Iterator[TargetResult]:
    is_light = line.utilisation is not None and line.utilisation < LIGHT_LOAD
    for target in question.targets:
        found = statistic_of(known.stated, target)
        if found is None or found.value is None:
            continue
        factor = 1.0
        if target.metric == "ntpot_s":
            factor = math.nan if line.output_factor is None else line.output_factor
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
            is_bound=line.shorter or is_light or higher,
        )


def statistic_of(stated: Mapping[tuple[str, str], Statistic], target: Target) -> Statistic | None:
    """The statistic of a profile that answers a target: as ``sheet.stated`` has it in columns."""
    names = TYPICAL if target.percentile is None else statistics_for(target)
    for name in names:
        if (one := stated.get((target.metric, name))) is not None:
            return one
    return None


def chance(one: Statistic, limit_s: float) -> tuple[float | None, str]:
    """(probability that the next run keeps the limit, or None; why there is none)."""
    if one.num_runs < 2:
        return None, "one run says nothing about the next"
    if one.log_mean is None or one.log_spread is None:
        return None, "a run's value is 0"
    return at_most_one(math.log(limit_s), one.log_mean, one.log_spread, one.num_runs), ""


def _all_kept(targets: tuple[TargetResult, ...]) -> float | None:
    if not targets:
        return 1.0
    found = [t.probability for t in targets if t.probability is not None]
    return together(found) if len(found) == len(targets) else None


def _flags(
    asked: Asked, found: Known, line: Line, replicas: int, cost: Cost, is_old: bool
) -> tuple[Flag, ...]:
    profile, evidence = found.profile, found.profile.evidence
    load, price = line.utilisation, cost.price
    told = (
        (Flag.LENGTHS_BELOW_MEASURED, line.shorter),
        (Flag.LENGTHS_UNKNOWN, profile.load.input_tokens is None),
        (Flag.LOAD_BELOW_MEASURED, load is not None and load < LIGHT_LOAD),
        (Flag.RATE_DERIVED, profile.load.derived.startswith("rate")),
        (Flag.REPLICAS_ASSUMED_ALIKE, replicas > 1),
        (Flag.STATISTIC_UNSTATED, _is_unstated(found, asked.question)),
        (Flag.SINGLE_RUN, evidence.repeats < 2),
        (Flag.STALE, evidence.stale or is_old),
        (Flag.SUPERSEDED, bool(profile.superseded_by)),
        (Flag.NO_PRICE, price is None),
        (
            Flag.PRICED_FOR_OTHER_CAPACITY,
            price is not None and profile.machine.capacity not in ("", price.capacity),
        ),
        (Flag.RUNS_FAILED, bool(evidence.failures)),
    )
    return tuple([flag for flag, is_so in told if is_so])


def _is_unstated(found: Known, question: Question) -> bool:
    """Whether a latency that was compared (TTFT, where none was) is of no stated statistic."""
    if not found.has_unstated:
        return False
    used = (statistic_of(found.stated, target) for target in question.targets or _SHOWN)
    return any(one is not None and one.statistic == UNSTATED for one in used)


_SHOWN = (Target(metric="ttft_s", limit_s=1.0),)


def _is_old(asked: Asked, profile: Profile) -> bool:
    limit = asked.question.max_age_days or STALE_AFTER_DAYS
    return profile.evidence.age_days(asked.now) > limit


def _notes(asked: Asked, profile: Profile, is_old: bool) -> tuple[str, ...]:
    evidence = profile.evidence
    if not (is_old or evidence.failures or evidence.num_invalid or evidence.why_stale):
        return ()
    notes = []
    if failed := sum(evidence.failures.values()):
        kinds = ", ".join(f"{n} × {error}" for error, n in sorted(evidence.failures.items()))
        total = failed + evidence.repeats + evidence.num_invalid
        notes.append(f"{failed} of {total} runs of this configuration failed: {kinds}")
    if evidence.num_invalid:
        notes.append(f"{evidence.num_invalid} runs are invalid and count for nothing")
    if evidence.why_stale:
        notes.append(f"stale: {evidence.why_stale}")
    elif is_old:
        notes.append(f"stale: last measured {evidence.age_days(asked.now):.0f} days ago")
    return tuple(notes)
