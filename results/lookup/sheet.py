"""Rows and a question in, columns that can be compared out: replicas, cost, latency. Pure.

Load is never extrapolated beyond what was measured: a replica gets at most the rate at which it was
seen, so replicas are rounded up, and its latencies hold as upper bounds where it gets less. Lengths
are never taken longer than measured (``filters``); where they are shorter, latencies and rate are
bounds in the same sense, and what is counted per token is counted with the asked lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from results.lookup.columns import Bools, Ints
from results.lookup.filters import SAME_LENGTH, Filtered
from results.lookup.once import once
from results.lookup.part import BASE, Doubles, Indices, Part
from results.predictive import at_most
from results.recommendation.observation import STATISTICS
from results.recommendation.profile import Price
from results.recommendation.question import Question, Target

# Columns are 4-byte floats: a value on its limit keeps it.
ROUNDING = 1e-6

_PERCENTILES = tuple(s for s in STATISTICS if s.startswith("p"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """By the snapshot's hardware: chips of one replica, its price or why there is none, and that in
    $ per hour, NaN without one. ``divisor``: the chips that a throughput is shared by, NaN where
    there are none."""

    prices: tuple[Price | str, ...]
    num_chips: Doubles
    usd_per_hour: Doubles
    divisor: Doubles
    any_priced: bool


class Sheet:
    """One entry per row, NaN where it is not known. ``*_each`` are of one replica, the rest of all.

    ``positions`` are those of ``part`` that are in it, as their rows stand in the snapshot. What is
    not given is computed when it is first looked at: few questions look at all of it, and most of
    it is looked at for a few rows only (``among``). It divides by what may be 0 or not known: see
    ``dividing``.
    """

    def __init__(
        self,
        part: Part,
        positions: Indices,
        question: Question,
        hardware: Hardware,
        *,
        any_shorter: bool,
    ) -> None:
        """``any_shorter`` False: no row was measured at lengths above those asked for."""
        self.part = part
        self.positions = positions
        self.question = question
        self.hardware = hardware
        self.any_shorter = any_shorter

    def __len__(self) -> int:
        return len(self.positions)

    def among(self, indices: Indices) -> Sheet:
        """Of these rows of it, in the same order."""
        positions = self.positions.take(indices)
        return Sheet(
            self.part, positions, self.question, self.hardware, any_shorter=self.any_shorter
        )

    def _measured(self, name: str) -> Doubles:
        at = _AT[name]
        column: Doubles
        if len(self) > _FEW:
            column = self.part.base[at].take(self.positions)
        else:
            column = self._all_measured[at]
        return column

    @once
    def _all_measured(self) -> Doubles:
        """Of few rows all columns at once: one by one, most of it would be calling."""
        return self.part.base.take(self.positions, axis=1)

    @once
    def configurations(self) -> Ints:
        """Ascending."""
        return self.part.configuration.take(self.positions)

    @once
    def which(self) -> Indices:
        """The hardware of each."""
        return self.part.hardware.take(self.positions)

    @once
    def input_tokens(self) -> Doubles:
        """To count with."""
        return self._length("input_tokens", self.question.lengths[0])

    @once
    def output_tokens(self) -> Doubles:
        return self._length("output_tokens", self.question.lengths[1])

    def _length(self, name: str, asked: float | None) -> Doubles:
        return self._measured(name) if asked is None else np.full(len(self), float(asked))

    @once
    def shorter(self) -> Bools:
        """Whether the asked lengths are below the measured ones."""
        return self._shorter("input_tokens", self.question.lengths[0]) | self.shorter_output

    @once
    def shorter_output(self) -> Bools:
        return self._shorter("output_tokens", self.question.lengths[1])

    def _shorter(self, name: str, asked: float | None) -> Bools:
        if asked is None or not self.any_shorter:
            return np.zeros(len(self), dtype=bool)
        return self._measured(name) > asked * SAME_LENGTH

    @once
    def output_factor(self) -> Doubles:
        """Measured / asked output tokens, 1 where they are the same."""
        if not self.any_shorter:
            return np.ones(len(self))
        factor = self._measured("output_tokens") / self.output_tokens
        return np.where(self.shorter_output, factor, 1.0)

    @once
    def rate_each(self) -> Doubles:
        return self._measured("rate_rps")

    @once
    def input_per_s_each(self) -> Doubles:
        return self._per_s("input_per_s", "input_tokens")

    @once
    def output_per_s_each(self) -> Doubles:
        return self._per_s("output_per_s", "output_tokens")

    def _per_s(self, name: str, tokens: str) -> Doubles:
        measured = self._measured(name)
        if not self.any_shorter:
            return measured
        return np.where(self.shorter, self.rate_each * getattr(self, tokens), measured)

    @once
    def e2e_s(self) -> Doubles:
        """As measured where it was, for these lengths; else TTFT and a TPOT for each further
        token."""
        further = np.maximum(self.output_tokens - 1.0, 0.0)
        made_up: Doubles = further * self._measured("tpot_s.typical.value")
        made_up += self._measured("ttft_s.typical.value")
        if not self.part.has_e2e:
            return made_up
        measured = self._measured("e2e_s.typical.value")
        return np.where(self.shorter | np.isnan(measured), made_up, measured)

    def _wanted(self) -> Iterator[Doubles]:
        """How many replicas each of what is asked of them all needs."""
        question = self.question
        if question.rate_rps is not None:
            yield question.rate_rps / self.rate_each
        if question.concurrency is not None:
            yield question.concurrency / self._measured("concurrency")
        if question.min_throughput is not None:
            yield question.min_throughput / self.output_per_s_each

    @once
    def replicas(self) -> Doubles:
        """1 where no load is asked."""
        wanted = list(self._wanted())
        if not wanted:
            return np.ones(len(self))
        most: Doubles = wanted[0] if len(wanted) == 1 else np.maximum.reduce(wanted)
        replicas: Doubles = np.maximum(np.ceil(most * (1.0 - ROUNDING)), 1.0)
        return replicas

    @once
    def utilisation(self) -> Doubles:
        """The share of their measured capacity that the asked load uses."""
        if not has_load(self.question):
            return np.full(len(self), np.nan)
        return next(self._wanted()) / self.replicas

    @once
    def usd_each(self) -> Doubles:
        return self.hardware.usd_per_hour.take(self.which)

    @once
    def throughput(self) -> Doubles:
        """Output tokens per second of all replicas at their load point."""
        return self.output_per_s_each * self.replicas

    @once
    def per_chip(self) -> Doubles:
        """Output tokens per second."""
        return self.output_per_s_each / self.hardware.divisor.take(self.which)

    @once
    def num_chips(self) -> Doubles:
        return self.hardware.num_chips.take(self.which) * self.replicas

    @once
    def usd_per_hour(self) -> Doubles:
        return self.usd_each * self.replicas

    @once
    def usd_per_m_each(self) -> Doubles:
        """Per million output tokens, at the profile's own load."""
        each = self.input_per_s_each, self.output_per_s_each
        return _per_million(self.usd_each, *each, self.question)

    @once
    def usd_per_m(self) -> Doubles:
        """Per million output tokens, at the asked load where there is one."""
        rate = self.question.rate_rps
        if rate is None:
            return self.usd_per_m_each
        total = rate * self.input_tokens, rate * self.output_tokens
        return _per_million(self.usd_per_hour, *total, self.question)


_FEW: Final = 256
_AT: Final = {name: at for at, name in enumerate(BASE)}


def dividing() -> np.errstate:
    """What is computed with a sheet is computed within this."""
    return np.errstate(invalid="ignore", divide="ignore")


def has_load(question: Question) -> bool:
    """Whether what all replicas get is asked."""
    return question.rate_rps is not None or question.concurrency is not None


def sheet_of(found: Filtered, question: Question, hardware: Hardware) -> Sheet:
    return Sheet(found.part, found.positions, question, hardware, any_shorter=found.shorter)


def _per_million(usd: Doubles, inputs: Doubles, outputs: Doubles, question: Question) -> Doubles:
    """See ``results.cost``."""
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
    if has_load(question):
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
    one = sheet_of(found, question, hardware)
    for target in question.targets:
        # What is compared as it was measured comes first: the rest is computed of what it leaves.
        if target.metric != "ntpot_s":
            one = _left(one, [_values(one, target) <= target.limit_s * (1.0 + ROUNDING)])
    return _left(one, list(_kept_by(one))) if len(one) else one


def _kept_by(one: Sheet) -> Iterator[Bools]:
    """What ``constraints`` has beside targets that are compared as they were measured."""
    question = one.question
    if has_load(question):
        yield np.isfinite(one.replicas)
    for target in question.targets:
        if target.metric == "ntpot_s":
            yield _values(one, target) <= target.limit_s * (1.0 + ROUNDING)
    for constraint in _others(one):
        yield constraint.kept


def _left(one: Sheet, masks: Sequence[Bools]) -> Sheet:
    """The rows that all of them have."""
    if not masks:
        return one
    kept = masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)
    indices = np.flatnonzero(kept)
    return one if len(indices) == len(one) else one.among(indices)


def _known(one: Sheet) -> Doubles:
    return np.where(np.isfinite(one.replicas), 1.0, np.nan)


def _values(one: Sheet, target: Target) -> Doubles:
    """Of NTPOT with shorter outputs the bound: the whole time over fewer tokens."""
    said = stated(one.part, target).take(one.positions)
    return said * one.output_factor if target.metric == "ntpot_s" else said


def _together(one: Sheet) -> Doubles:
    """Bonferroni's bound over the targets; NaN where any is not known."""
    misses = []
    for target in one.question.targets:
        log_mean, log_spread, runs = (
            stated(one.part, target, what).take(one.positions)
            for what in ("log_mean", "log_spread", "runs")
        )
        if target.metric == "ntpot_s":
            log_mean = log_mean + np.log(one.output_factor)
        misses.append(1.0 - at_most(float(np.log(target.limit_s)), log_mean, log_spread, runs))
    return np.asarray(np.maximum(1.0 - np.sum(misses, axis=0), 0.0))
