"""The few rows that are answers, as recommendations: everything about them said in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import compress
from typing import NamedTuple

import numpy as np

from results.cost import capacity_to_price, cost_of
from results.lookup.columns import TYPICAL
from results.lookup.made import Makers
from results.lookup.part import Indices
from results.lookup.row import Estimate, Facts, Row, Stated, key_of
from results.lookup.sheet import ROUNDING, Sheet, statistics_for
from results.predictive import at_most_each, together
from results.prices import PriceBook
from results.recommendation.answer import Flag, Recommendation, TargetResult
from results.recommendation.profile import UNSTATED, Cost, Machine, Price
from results.recommendation.question import Question, Target

# Below this share of the measured load a replica's latencies are told to be bounds.
LIGHT_LOAD = 0.5
# Evidence older than this is called stale, unless the question sets an age itself.
STALE_AFTER_DAYS = 90.0

_MOST_PRICES = 4096


class Priced:
    """Prices of machines, each looked up once."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self.find = lru_cache(_MOST_PRICES)(self._find)

    def _find(self, machine: Machine, capacity: str, region: str) -> Price | str:
        return self.book.find(machine, capacity_to_price(machine.capacity, capacity), region)


class Wanted(NamedTuple):
    """A target with what is worked out of it once a question: the statistics that answer it, the
    first that a profile states counts, each with its key in ``Facts.stated``."""

    target: Target
    name: str
    statistics: tuple[tuple[str, str], ...]


def _wanted(target: Target) -> Wanted:
    names = TYPICAL if target.percentile is None else statistics_for(target)
    return Wanted(target, target.name, _keys(target.metric, names))


@lru_cache(256)
def _keys(metric: str, statistics: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple([(name, key_of(metric, name)) for name in statistics])


class Asked(NamedTuple):
    """What an answer is made for. ``now_s``: ``now`` in seconds since 1970."""

    question: Question
    prices: Priced
    now: datetime
    now_s: float
    targets: tuple[Wanted, ...]
    make: Makers


def asking(question: Question, prices: Priced, now: datetime, make: Makers) -> Asked:
    targets = tuple([_wanted(target) for target in question.targets])
    return Asked(question, prices, now, now.timestamp(), targets, make)


class Line(NamedTuple):
    """One row of a sheet as plain numbers; None: not known."""

    position: int
    hardware: int
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


_NUMBERS = Line._fields[3:]


def lines(one: Sheet, indices: Indices) -> list[Line]:
    """Rows of the sheet, all columns at once: one number after the other takes longer."""
    numbers = np.array([getattr(one, name).take(indices) for name in _NUMBERS])
    known = np.isfinite(numbers)
    if known.all():
        columns = numbers.tolist()
    else:
        plain = numbers.astype(object)
        plain[~known] = None
        columns = plain.tolist()
    plainly = [column.take(indices).tolist() for column in (one.positions, one.which, one.shorter)]
    return [Line(*row) for row in zip(*plainly, *columns, strict=True)]


def recommendations(
    asked: Asked,
    prices: Sequence[Price | str],
    rows: Sequence[Row],
    told: Sequence[Line],
    num_better: Sequence[int],
) -> tuple[Recommendation, ...]:
    """``rows`` are what the lines stand for, the best first; ``prices`` those of their hardware."""
    targets = _targets(asked, rows, told) if asked.targets else [()] * len(rows)
    each = zip(rows, told, targets, num_better, strict=True)
    return tuple(
        [
            _recommendation(asked, at, prices[one[1].hardware], *one)
            for at, one in enumerate(each, 1)
        ]
    )


def _recommendation(
    asked: Asked,
    rank: int,
    price: Price | str,
    row: Row,
    line: Line,
    targets: tuple[TargetResult, ...],
    num_better: int,
) -> Recommendation:
    make = asked.make
    replicas = 1 if line.replicas is None else int(line.replicas)
    output_each, rate_each = line.output_per_s_each, line.rate_each
    cost, old = _cost(asked, price, row, line, replicas), is_old(asked, row.facts)
    return make.recommendation(
        rank=rank,
        profile=make.profile(row),
        replicas=replicas,
        num_chips=row.machine.num_chips * replicas,
        rate_rps=None if rate_each is None else rate_each * replicas,
        output_tokens_per_s=None if output_each is None else output_each * replicas,
        output_tokens_per_s_per_chip=line.per_chip,
        e2e_s=line.e2e_s,
        utilisation=line.utilisation,
        cost=cost,
        targets=targets,
        probability=_all_kept(targets) if targets else 1.0,
        pareto_rank=num_better + 1,
        flags=_flags(asked, row, line, replicas, cost, old),
        notes=notes_of(asked, row.facts, old),
    )


def _cost(asked: Asked, price: Price | str, row: Row, line: Line, replicas: int) -> Cost:
    question = asked.question
    startup = row.facts.stated.get(_STARTUP)
    rate = question.rate_rps
    return cost_of(
        price,
        replicas=replicas,
        tokens_per_s=_both(line.input_per_s_each, line.output_per_s_each),
        asked_tokens_per_s=None
        if rate is None
        else _both(line.input_tokens, line.output_tokens, rate),
        utilisation=line.utilisation,
        startup_s=startup.value if startup else None,
        ratio=question.output_input_cost_ratio,
        make=asked.make.cost,
    )


_STARTUP = key_of("startup_s", "value")


def _both(
    inputs: float | None, outputs: float | None, factor: float = 1.0
) -> tuple[float, float] | None:
    if inputs is None or outputs is None:
        return None
    return factor * inputs, factor * outputs


class _Found(NamedTuple):
    """Of a target: the statistic that answers it, what it says, the value for the asked lengths,
    the limit for the measured ones."""

    wanted: Wanted
    statistic: str
    one: Stated
    value_s: float
    limit_s: float


def _targets(
    asked: Asked, rows: Sequence[Row], told: Sequence[Line]
) -> list[tuple[TargetResult, ...]]:
    """Of each row. The probabilities are worked out together: one at a time, most of it would be
    calling."""
    stated = [_stated(asked.targets, row.facts, line) for row, line in zip(rows, told, strict=True)]
    known = [
        (math.log(limit_s), one.log_mean, one.log_spread, one.num_runs)
        for found in stated
        for _, _, one, _, limit_s in found
        if one.num_runs >= 2 and one.log_mean is not None and one.log_spread is not None
    ]
    chances = iter(at_most_each(known))
    make = asked.make.target
    results = []
    for line, found in zip(told, stated, strict=True):
        is_less = line.shorter or (line.utilisation is not None and line.utilisation < LIGHT_LOAD)
        results.append(tuple([_target(make, is_less, chances, one) for one in found]))
    return results


def _stated(targets: Sequence[Wanted], facts: Facts, line: Line) -> list[_Found]:
    found = []
    for wanted in targets:
        statistic, one = _statistic_of(facts, wanted.statistics)
        if one is not None:
            limit_s = wanted.target.limit_s
            if wanted.target.metric != "ntpot_s":
                found.append(_Found(wanted, statistic, one, one.value, limit_s))
                continue
            factor = math.nan if line.output_factor is None else line.output_factor
            found.append(_Found(wanted, statistic, one, one.value * factor, limit_s / factor))
    return found


def _target(
    make: Callable[..., TargetResult], is_less: bool, chances: Iterator[float], found: _Found
) -> TargetResult:
    """``is_less``: lengths or load are below the measured."""
    wanted, statistic, one, value_s, _ = found
    limit_s = wanted.target.limit_s
    probability, reason = None, ""
    if one.num_runs < 2:
        reason = "one run says nothing about the next" if one.num_runs else "never measured"
    elif one.log_mean is None or one.log_spread is None:
        reason = "a run's value is 0"
    else:
        probability = next(chances)
    return make(
        target=wanted.name,
        statistic=statistic,
        limit_s=limit_s,
        value_s=value_s,
        headroom=1.0 - value_s / limit_s,
        met=value_s <= limit_s * (1.0 + ROUNDING),
        probability=probability,
        reason=reason,
        is_bound=is_less
        or (wanted.target.percentile is not None and statistic != wanted.statistics[0][0]),
    )


def _statistic_of(facts: Facts, statistics: Iterable[tuple[str, str]]) -> tuple[str, Stated | None]:
    """What a profile states that answers a target: as ``sheet.stated`` has it in columns."""
    for name, key in statistics:
        if (one := facts.stated.get(key)) is not None:
            return name, one
    return "", None


def _all_kept(targets: tuple[TargetResult, ...]) -> float | None:
    found = []
    for target in targets:
        if target.probability is None:
            return None
        found.append(target.probability)
    return together(found)


def _flags(
    asked: Asked, row: Row, line: Line, replicas: int, cost: Cost, old: bool
) -> tuple[Flag, ...]:
    facts, measured_on = row.facts, row.machine.capacity
    load, price = line.utilisation, cost.price
    is_elsewhere = price is not None and measured_on not in ("", price.capacity)
    told = (
        line.shorter,
        not facts.lengths_known,
        load is not None and load < LIGHT_LOAD,
        facts.rate_derived,
        replicas > 1,
        facts.has_unstated and _is_unstated(facts, asked),
        facts.repeats == 1,
        facts.stale or old,
        facts.superseded,
        price is None,
        is_elsewhere,
        bool(facts.failures),
    )
    flags = tuple(compress(_FLAGS, told))
    return flags if facts.estimate is None else (*_estimate_flags(facts.estimate), *flags)


def _estimate_flags(one: Estimate) -> Iterator[Flag]:
    """First of all: nobody is to take one for a measurement."""
    yield Flag(one.kind)
    if not one.has_interval:
        yield Flag.NO_INTERVAL


_FLAGS = (
    Flag.LENGTHS_BELOW_MEASURED,
    Flag.LENGTHS_UNKNOWN,
    Flag.LOAD_BELOW_MEASURED,
    Flag.RATE_DERIVED,
    Flag.REPLICAS_ASSUMED_ALIKE,
    Flag.STATISTIC_UNSTATED,
    Flag.SINGLE_RUN,
    Flag.STALE,
    Flag.SUPERSEDED,
    Flag.NO_PRICE,
    Flag.PRICED_FOR_OTHER_CAPACITY,
    Flag.RUNS_FAILED,
)


def _is_unstated(facts: Facts, asked: Asked) -> bool:
    """Whether a latency that was compared (TTFT, where none was) is of no stated statistic."""
    used = (_statistic_of(facts, one.statistics)[0] for one in asked.targets or _SHOWN)
    return UNSTATED in used


_SHOWN = (_wanted(Target(metric="ttft_s", limit_s=1.0)),)


def is_old(asked: Asked, facts: Facts) -> bool:
    limit = asked.question.max_age_days or STALE_AFTER_DAYS
    return facts.age_days(asked.now_s) > limit


def notes_of(asked: Asked, facts: Facts, old: bool) -> tuple[str, ...]:
    """Sentences; ``old``: ``is_old`` of it."""
    estimate = facts.estimate
    if not (old or facts.failures or facts.num_invalid or facts.why_stale or estimate):
        return ()
    notes = [estimate.words] if estimate is not None and estimate.words else []
    if failed := sum(facts.failures.values()):
        kinds = ", ".join(f"{n} × {error}" for error, n in sorted(facts.failures.items()))
        total = failed + facts.repeats + facts.num_invalid
        notes.append(f"{failed} of {total} runs of this configuration failed: {kinds}")
    if facts.num_invalid:
        notes.append(f"{facts.num_invalid} runs are invalid and count for nothing")
    if facts.why_stale:
        notes.append(f"stale: {facts.why_stale}")
    elif old:
        notes.append(f"stale: last measured {facts.age_days(asked.now_s):.0f} days ago")
    return tuple(notes)
