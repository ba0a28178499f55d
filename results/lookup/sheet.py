"""Rows and a question in, columns that can be compared out: replicas, cost, latency. Pure.

Load is never extrapolated beyond what was measured: a replica gets at most the rate at which it was
seen, so replicas are rounded up, and its latencies hold as upper bounds where it gets less. Lengths
are never taken longer than measured (``filters``); where they are shorter, latencies and rate are
bounds in the same sense, and what is counted per token is counted with the asked lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.lookup.columns import Bools, Ints, column_name
from results.lookup.filters import SAME_LENGTH
from results.lookup.snapshot import Snapshot
from results.predictive import at_most
from results.recommendation.observation import STATISTICS
from results.recommendation.question import Question, Target

Doubles = npt.NDArray[np.float64]

# Columns are 4-byte floats: a value on its limit keeps it.
ROUNDING = 1e-6

_PERCENTILES = tuple(s for s in STATISTICS if s.startswith("p"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One entry per row, NaN where it is not known. ``*_each`` are of one replica, the rest of all.

    ``shorter``: the asked lengths are below the measured ones. ``usd_per_m``: per million output
    tokens, at the asked load where there is one (``usd_per_m_each``: at the profile's own).
    """

    rows: Ints
    input_tokens: Doubles
    output_tokens: Doubles
    shorter: Bools
    rate_each: Doubles
    output_per_s_each: Doubles
    input_per_s_each: Doubles
    replicas: Doubles
    num_chips: Doubles
    utilisation: Doubles
    usd_per_hour: Doubles
    usd_per_m_each: Doubles
    usd_per_m: Doubles
    e2e_s: Doubles
    per_chip: Doubles
    output_factor: Doubles  # measured / asked output tokens, 1 where they are the same

    @property
    def throughput(self) -> Doubles:
        """Output tokens per second of all replicas at their load point."""
        return self.output_per_s_each * self.replicas


def sheet(snapshot: Snapshot, rows: Ints, question: Question, usd_per_hour_each: Doubles) -> Sheet:
    """``usd_per_hour_each``: of one replica, by the snapshot's hardware; NaN where no price is."""

    def column(name: str) -> Doubles:
        found = snapshot.floats(name)
        if found is None:
            return np.full(len(rows), np.nan)
        return found[rows].astype(np.float64)

    with np.errstate(invalid="ignore", divide="ignore"):
        measured = [column("input_tokens"), column("output_tokens")]
        asked = question.lengths
        used = [
            m if a is None else np.full(len(rows), a) for m, a in zip(measured, asked, strict=True)
        ]
        shorter = (measured[0] > used[0] * SAME_LENGTH) | (measured[1] > used[1] * SAME_LENGTH)
        rate = column("rate_rps")
        output_each = np.where(shorter, rate * used[1], column("output_per_s"))
        input_each = np.where(shorter, rate * used[0], column("input_per_s"))
        replicas, load = _replicas(question, rate, column("concurrency"), output_each)
        hardware = snapshot.ints("hardware")[rows]
        chips_each = snapshot.num_chips[hardware]
        usd_each = usd_per_hour_each[hardware]
        factor = np.where(measured[1] > used[1] * SAME_LENGTH, measured[1] / used[1], 1.0)
        per_m_each = _per_million(usd_each, input_each, output_each, question)
        per_m = per_m_each
        if question.rate_rps is not None:
            total = question.rate_rps * used[0], question.rate_rps * used[1]
            per_m = _per_million(usd_each * replicas, *total, question)
        ttft, tpot, e2e = (column(f"{m}.typical.value") for m in ("ttft_s", "tpot_s", "e2e_s"))
        made_up = ttft + tpot * np.maximum(used[1] - 1.0, 0.0)
        return Sheet(
            rows=rows,
            input_tokens=used[0],
            output_tokens=used[1],
            shorter=shorter,
            rate_each=rate,
            output_per_s_each=output_each,
            input_per_s_each=input_each,
            replicas=replicas,
            num_chips=chips_each * replicas,
            utilisation=load,
            usd_per_hour=usd_each * replicas,
            usd_per_m_each=per_m_each,
            usd_per_m=per_m,
            e2e_s=np.where(shorter | np.isnan(e2e), made_up, e2e),
            per_chip=np.where(chips_each > 0, output_each / np.maximum(chips_each, 1), np.nan),
            output_factor=factor,
        )


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
    shared = inputs / question.output_input_cost_ratio + outputs
    return np.where(outputs > 0, usd / 3600.0 / shared * 1e6, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What rows state of one target: the statistic it needs, or one that bounds it from above."""

    value: Doubles
    log_mean: Doubles
    log_spread: Doubles
    runs: Doubles


def statistics_for(target: Target) -> tuple[str, ...]:
    """Those that answer it, the first that a row has counts. A higher percentile bounds a lower."""
    if target.percentile is None:
        return ("typical",)
    return tuple(s for s in _PERCENTILES if float(s[1:]) >= target.percentile)


def stated(snapshot: Snapshot, one: Sheet, target: Target) -> Stated:
    """Of NTPOT with shorter outputs the bound: the whole time over fewer tokens."""
    names = ("value", "log_mean", "log_spread", "runs")
    found = {name: np.full(len(one.rows), np.nan) for name in names}
    for statistic in reversed(statistics_for(target)):
        value = snapshot.floats(column_name(target.metric, statistic, "value"))
        if value is None:
            continue
        here = np.isfinite(value[one.rows])
        for name in names:
            column = snapshot.floats(column_name(target.metric, statistic, name))
            if column is not None:
                found[name] = np.where(here, column[one.rows], found[name])
    if target.metric == "ntpot_s":
        found["value"] = found["value"] * one.output_factor
        found["log_mean"] = found["log_mean"] + np.log(one.output_factor)
    return Stated(**found)


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


def constraints(snapshot: Snapshot, one: Sheet, question: Question) -> tuple[Constraint, ...]:
    """Everything that the question limits, in the order it is told."""
    found = []
    if question.rate_rps is not None or question.concurrency is not None:
        found.append(Constraint(name="load_known", limit=1.0, found=_known(one), at_least=True))
    of_targets = [stated(snapshot, one, target) for target in question.targets]
    found += [
        Constraint(name=target.name, limit=target.limit_s, found=said.value)
        for target, said in zip(question.targets, of_targets, strict=True)
    ]
    if question.probability is not None and question.targets:
        chance = _together(question.targets, of_targets)
        found.append(
            Constraint(name="probability", limit=question.probability, found=chance, at_least=True)
        )
    if question.max_error_share is not None:
        errors = snapshot.floats("error_share")
        said = np.full(len(one.rows), np.nan) if errors is None else errors[one.rows]
        found.append(
            Constraint(
                name="error_share", limit=question.max_error_share, found=said.astype(np.float64)
            )
        )
    for name, limit, values in (
        ("max_accelerators", question.max_accelerators, one.num_chips),
        ("max_cost_usd_per_hour", question.max_cost_usd_per_hour, one.usd_per_hour),
        (
            "max_cost_usd_per_million_output_tokens",
            question.max_cost_usd_per_million_output_tokens,
            one.usd_per_m,
        ),
    ):
        if limit is not None:
            found.append(Constraint(name=name, limit=float(limit), found=values))
    if question.min_throughput is not None:
        found.append(
            Constraint(
                name="min_throughput",
                limit=question.min_throughput,
                found=one.throughput,
                at_least=True,
            )
        )
    return tuple(found)


def _known(one: Sheet) -> Doubles:
    return np.where(np.isfinite(one.replicas), 1.0, np.nan)


def _together(targets: Sequence[Target], of_targets: Sequence[Stated]) -> Doubles:
    """Bonferroni's bound over the targets; NaN where any is not known."""
    misses = [
        1.0 - at_most(float(np.log(t.limit_s)), s.log_mean, s.log_spread, s.runs)
        for t, s in zip(targets, of_targets, strict=True)
    ]
    return np.asarray(np.maximum(1.0 - np.sum(misses, axis=0), 0.0))
