"""Rows and a question in, columns that can be compared out: replicas, cost, latency. Pure.

Load is never extrapolated beyond what was measured: a replica gets at most the rate at which it was
seen, so replicas are rounded up, and its latencies hold as upper bounds where it gets less. Lengths
are never taken longer than measured (``filters``); where they are shorter, latencies and rate are
bounds in the same sense, and what is counted per token is counted with the asked lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from results.lookup.columns import Bools, Ints
from results.lookup.filters import SAME_LENGTH, Filtered
from results.lookup.part import Doubles, Indices, Part
from results.predictive import at_most
from results.recommendation.observation import STATISTICS
from results.recommendation.question import Question, Target

# Columns are 4-byte floats: a value on its limit keeps it.
ROUNDING = 1e-6

_PERCENTILES = tuple(s for s in STATISTICS if s.startswith("p"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """By the snapshot's hardware: chips of one replica and its $ per hour, NaN without a price.
    ``divisor``: the chips that a throughput is shared by, NaN where there are none."""

    num_chips: Doubles
    usd_per_hour: Doubles
    divisor: Doubles


@dataclass(kw_only=True, eq=False)  # a frozen one takes 8 µs to make
class Sheet:
    """One entry per row, NaN where it is not known. ``*_each`` are of one replica, the rest of all.

    ``positions`` are those of ``part`` that are in it. ``shorter``: the asked lengths are below the
    measured ones. What not every question needs is computed when it is first looked at.
    """

    part: Part
    positions: Indices
    question: Question
    input_tokens: Doubles
    output_tokens: Doubles
    shorter: Bools
    rate_each: Doubles
    output_per_s_each: Doubles
    input_per_s_each: Doubles
    replicas: Doubles
    utilisation: Doubles
    hardware: Hardware
    which: Indices  # hardware of each
    usd_each: Doubles
    e2e_s: Doubles
    output_factor: Doubles  # measured / asked output tokens, 1 where they are the same

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def configurations(self) -> Ints:
        """Ascending."""
        return self.part.configuration[self.positions]

    @cached_property
    def chips_each(self) -> Doubles:
        return self.hardware.num_chips[self.which]

    @cached_property
    def throughput(self) -> Doubles:
        """Output tokens per second of all replicas at their load point."""
        return self.output_per_s_each * self.replicas

    @cached_property
    def per_chip(self) -> Doubles:
        """Output tokens per second."""
        return self.output_per_s_each / self.hardware.divisor[self.which]

    @cached_property
    def num_chips(self) -> Doubles:
        return self.chips_each * self.replicas

    @cached_property
    def usd_per_hour(self) -> Doubles:
        return self.usd_each * self.replicas

    @cached_property
    def usd_per_m_each(self) -> Doubles:
        """Per million output tokens, at the profile's own load."""
        each = self.input_per_s_each, self.output_per_s_each
        return _per_million(self.usd_each, *each, self.question)

    @cached_property
    def usd_per_m(self) -> Doubles:
        """Per million output tokens, at the asked load where there is one."""
        rate = self.question.rate_rps
        if rate is None:
            return self.usd_per_m_each
        total = rate * self.input_tokens, rate * self.output_tokens
        return _per_million(self.usd_each * self.replicas, *total, self.question)


def sheet(part: Part, positions: Indices, question: Question, hardware: Hardware) -> Sheet:
    """Everything that is computed for these rows."""
    base = part.base.take(positions, axis=1)
    measured, rate, concurrency = base[:2], base[2], base[3]
    input_asked, output_asked = question.lengths
    with np.errstate(invalid="ignore", divide="ignore"):
        inputs, shorter_input = _length(measured[0], input_asked)
        outputs, shorter_output = _length(measured[1], output_asked)
        shorter = shorter_input | shorter_output
        is_any = bool(shorter.any())
        output_each = np.where(shorter, rate * outputs, base[5]) if is_any else base[5]
        input_each = np.where(shorter, rate * inputs, base[4]) if is_any else base[4]
        replicas, load = _replicas(question, rate, concurrency, output_each)
        which = part.hardware[positions]
        return Sheet(
            part=part,
            positions=positions,
            question=question,
            input_tokens=inputs,
            output_tokens=outputs,
            shorter=shorter,
            rate_each=rate,
            output_per_s_each=output_each,
            input_per_s_each=input_each,
            replicas=replicas,
            utilisation=load,
            hardware=hardware,
            which=which,
            usd_each=hardware.usd_per_hour[which],
            e2e_s=_e2e(part, base, outputs, shorter),
            output_factor=np.where(shorter_output, measured[1] / outputs, 1.0)
            if is_any
            else np.ones(len(positions)),
        )


def _length(measured: Doubles, asked: float | None) -> tuple[Doubles, Bools]:
    """(tokens to count with, whether those are fewer than were measured)."""
    if asked is None:
        return measured, np.zeros(len(measured), dtype=bool)
    return np.full(len(measured), float(asked)), measured > asked * SAME_LENGTH


def _e2e(part: Part, base: Doubles, outputs: Doubles, shorter: Bools) -> Doubles:
    """As measured where it was, for these lengths; else TTFT and a TPOT for each further token."""
    ttft, tpot, measured = base[6:9]
    made_up: Doubles = ttft + tpot * np.maximum(outputs - 1.0, 0.0)
    if not part.has_e2e:
        return made_up
    return np.where(shorter | np.isnan(measured), made_up, measured)


def _replicas(
    question: Question, rate: Doubles, concurrency: Doubles, output_each: Doubles
) -> tuple[Doubles, Doubles]:
    """(replicas, share of their measured capacity that the asked load uses). One replica and no
    share where no load is asked."""
    wants = [
        asked / each
        for asked, each in (
            (question.rate_rps, rate),
            (question.concurrency, concurrency),
            (question.min_throughput, output_each),
        )
        if asked is not None
    ]
    if not wants:
        return np.ones(len(rate)), np.full(len(rate), np.nan)
    replicas = np.maximum(np.ceil(np.maximum.reduce(wants) * (1.0 - ROUNDING)), 1.0)
    has_load = question.rate_rps is not None or question.concurrency is not None
    return replicas, wants[0] / replicas if has_load else np.full(len(rate), np.nan)


def _per_million(usd: Doubles, inputs: Doubles, outputs: Doubles, question: Question) -> Doubles:
    """See ``results.cost``."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shared = inputs / question.output_input_cost_ratio + outputs
        return np.where(outputs > 0, usd / 3600.0 / shared * 1e6, np.nan)


def statistics_for(target: Target) -> tuple[str, ...]:
    """Those that answer it, the first that a row has counts. A higher percentile bounds a lower."""
    return ("typical",) if target.percentile is None else _at_least(target.percentile)


@lru_cache(256)
def _at_least(percentile: float) -> tuple[str, ...]:
    return tuple(s for s in _PERCENTILES if float(s[1:]) >= percentile)


def stated(part: Part, target: Target, what: str = "value") -> Doubles:
    """What rows state of one target: ``what`` of the statistic it needs, or of one that bounds it
    from above."""
    return part.stated(target.metric, statistics_for(target), what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """``found`` is to be at most ``limit`` (at least, where ``at_least``); NaN: not known."""

    name: str
    limit: float
    found: Doubles
    at_least: bool = False

    @property
    def kept(self) -> Bools:
        with np.errstate(invalid="ignore"):
            if self.at_least:
                return self.found >= self.limit * (1.0 - ROUNDING)
            return self.found <= self.limit * (1.0 + ROUNDING)

    @property
    def excess(self) -> Doubles:
        """By which share it is broken: 0 where it is kept, inf where nothing is known."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.limit / self.found if self.at_least else self.found / self.limit
            over = np.where(self.kept, 0.0, np.maximum(ratio - 1.0, 0.0))
        return np.where(np.isnan(self.found), np.inf, over)


def constraints(one: Sheet) -> Iterator[Constraint]:
    """Everything that the question limits, in the order it is told."""
    question = one.question
    if question.rate_rps is not None or question.concurrency is not None:
        yield Constraint(name="load_known", limit=1.0, found=_known(one), at_least=True)
    for target in question.targets:
        yield Constraint(name=target.name, limit=target.limit_s, found=_values(one, target))
    yield from _others(one)


def _others(one: Sheet) -> Iterator[Constraint]:
    """What is neither a target nor asks whether the load is known."""
    question = one.question
    if question.probability is not None and question.targets:
        yield Constraint(
            name="probability", limit=question.probability, found=_together(one), at_least=True
        )
    if question.max_error_share is not None:
        errors = one.part.column("error_share")
        said = np.full(len(one), np.nan) if errors is None else errors.take(one.positions)
        yield Constraint(
            name="error_share", limit=question.max_error_share, found=said.astype(np.float64)
        )
    if question.max_accelerators is not None:
        limit = float(question.max_accelerators)
        yield Constraint(name="max_accelerators", limit=limit, found=one.num_chips)
    if question.max_cost_usd_per_hour is not None:
        limit = question.max_cost_usd_per_hour
        yield Constraint(name="max_cost_usd_per_hour", limit=limit, found=one.usd_per_hour)
    if question.max_cost_usd_per_million_output_tokens is not None:
        yield Constraint(
            name="max_cost_usd_per_million_output_tokens",
            limit=question.max_cost_usd_per_million_output_tokens,
            found=one.usd_per_m,
        )
    if question.min_throughput is not None:
        yield Constraint(
            name="min_throughput",
            limit=question.min_throughput,
            found=one.throughput,
            at_least=True,
        )


def feasible_of(found: Filtered, question: Question, hardware: Hardware) -> Sheet:
    """A sheet of the rows that keep every limit."""
    part, positions = found.part, found.positions
    for target in question.targets:
        # What is compared as it was measured needs no sheet to be dropped.
        if target.metric != "ntpot_s":
            said = stated(part, target).take(positions)
            positions = positions[said <= target.limit_s * (1.0 + ROUNDING)]
    one = sheet(part, positions, question, hardware)
    if not len(one):
        return one
    feasible = np.ones(len(one), dtype=bool)
    if question.rate_rps is not None or question.concurrency is not None:
        feasible &= np.isfinite(one.replicas)
    for target in question.targets:
        if target.metric == "ntpot_s":
            feasible &= _values(one, target) <= target.limit_s * (1.0 + ROUNDING)
    for constraint in _others(one):
        feasible &= constraint.kept
    return one if feasible.all() else sheet(part, positions[feasible], question, hardware)


def _known(one: Sheet) -> Doubles:
    return np.where(np.isfinite(one.replicas), 1.0, np.nan)


def _values(one: Sheet, target: Target) -> Doubles:
    """Of NTPOT with shorter outputs the bound: the whole time over fewer tokens."""
    said = stated(one.part, target)[one.positions]
    return said * one.output_factor if target.metric == "ntpot_s" else said


def _together(one: Sheet) -> Doubles:
    """Bonferroni's bound over the targets; NaN where any is not known."""
    misses = []
    for target in one.question.targets:
        log_mean, log_spread, runs = (
            stated(one.part, target, what)[one.positions]
            for what in ("log_mean", "log_spread", "runs")
        )
        if target.metric == "ntpot_s":
            log_mean = log_mean + np.log(one.output_factor)
        misses.append(1.0 - at_most(float(np.log(target.limit_s)), log_mean, log_spread, runs))
    return np.asarray(np.maximum(1.0 - np.sum(misses, axis=0), 0.0))
