"""When a run, or a series of runs, has measured enough: rules as text, decisions as values. Pure.

``ttft_p99 ±5%`` is met when both ends of the interval lie within 5 % of the estimate. The estimate
is looked at more than once, and stopping at the first narrow interval favours those that are narrow
by luck. Two things keep the promise of 95 %: within a run the looks are spaced geometrically, so
that there are few; and the interval that must fit is one of 97.5 %, at every look. Simulated with
the looks used here, the interval at the stop covers in 96 to 99 % of series (M/M/1 queues at 50 and
70 % load, AR(1) at 0.95); with plain 95 % intervals it would in 88 to 93 %. Across runs, looking
after each from the third on, the same halving gives 95 to 98 % for a spread of 1 to 8 % between
runs, against 90 to 96 %.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from results.errors import InvalidStopRule, UnknownMetric
from results.gaps import gap_pools
from results.intervals import Interval, mean_interval, min_samples
from results.measure import RequestMetrics, good_requests, request_metrics
from results.measurement import Measurement, statistic_named
from results.metrics import Unit, metric
from results.samples import FloatColumn, RequestSamples
from results.serial import Estimate, mean, quantile, share
from results.units import format_interval, format_value

CONFIDENCE = 0.975
FIRST_LOOK = 200
LOOK_RATIO = 1.5
MIN_RUNS = 3

_COLUMNS = ("ttft_s", "ttfa_s", "e2e_s", "tpot_s", "ntpot_s", "dispatch_lag_s")
_POOLS = ("itl_s", "inter_chunk_s")
_SHARES = ("slo_attainment", "error_share")
_RULE = re.compile(
    r"(?P<name>.*?)\s*(?:±|\+-|\+/-|<=|≤)\s*(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>%|[a-zµ]*)"
)
_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """The interval of ``metric``'s ``statistic`` reaches at most ``half_width`` either way: a share
    of the estimate where ``relative``, else in the metric's unit."""

    metric: str
    statistic: str
    half_width: float
    relative: bool

    def __str__(self) -> str:
        size = (
            f"{self.half_width * 100:g}%"
            if self.relative
            else format_value(self.half_width, metric(self.metric).unit)
        )
        of = "" if self.statistic == "value" else f" {self.statistic}"
        return f"{self.metric.removesuffix('_s')}{of} ±{size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One rule at one look. ``value`` and ``interval`` are None where there is none yet."""

    rule: StopRule
    is_met: bool
    value: float | None
    interval: Interval | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue:
    progress: tuple[Progress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Every rule is met; ``reason`` is a sentence for people."""

    progress: tuple[Progress, ...]
    reason: str


Decision = Continue | Stop


def parse_until(text: str) -> tuple[StopRule, ...]:
    """``ttft_p99 ±5%, itl_mean +- 0.2ms``: one rule per comma, all of which must be met.

    ``±``, ``+-`` and ``<=`` mean the same. Raises InvalidStopRule.
    """
    return tuple(_rule(part.strip()) for part in text.split(","))


def _rule(text: str) -> StopRule:
    found = _RULE.fullmatch(text)
    if found is None or not found["name"]:
        raise InvalidStopRule(f"{text!r} is no stop rule: write METRIC ±WIDTH, say 'ttft_p99 ±5%'")
    try:
        name, statistic = statistic_named(found["name"])
    except UnknownMetric as error:
        raise InvalidStopRule(f"{text!r}: {error}") from error
    if not statistic and name in (*_COLUMNS, *_POOLS, "step_time_s"):
        stem = name.removesuffix("_s")
        raise InvalidStopRule(f"{text!r}: which {stem}? Say {stem}_p50, {stem}_p99 or {stem}_mean")
    unit, number = found["unit"], float(found["number"])
    if unit == "%":
        width = number / 100.0
    elif metric(name).unit is Unit.SECONDS and unit in _UNITS_S:
        width = number * _UNITS_S[unit]
    elif metric(name).unit is not Unit.SECONDS and not unit:
        width = number
    else:
        raise InvalidStopRule(
            f"{text!r}: a width is a percentage of the estimate (5%)"
            f"{' or a time (2ms)' if metric(name).unit is Unit.SECONDS else ' or a plain number'}"
        )
    if width <= 0.0:
        raise InvalidStopRule(f"{text!r}: a width is above zero")
    return StopRule(
        metric=name, statistic=statistic or "value", half_width=width, relative=unit == "%"
    )


def check_within(rules: Sequence[StopRule], slo: Mapping[str, float]) -> None:
    """Raise InvalidStopRule for a rule that no single run can meet, because its statistic has no
    interval within a run."""
    for rule in rules:
        if rule.metric not in (*_COLUMNS, *_POOLS, *_SHARES):
            raise InvalidStopRule(
                f"'{rule}': one run has one {rule.metric}, without an interval; "
                "it can be judged across runs only"
            )
        if rule.metric == "slo_attainment" and not slo:
            raise InvalidStopRule(f"'{rule}': there is no slo to attain")


def look_size(look: int) -> int:
    """How many measured requests must have ended before look ``look`` = 1, 2, …"""
    return math.ceil(FIRST_LOOK * LOOK_RATIO ** (look - 1))


def next_look(num_ended: int) -> int:
    """The first look whose size is above ``num_ended``: at most one look per size is taken."""
    look = 1
    while look_size(look) <= num_ended:
        look += 1
    return look


def decide_within(
    rules: Sequence[StopRule], samples: RequestSamples, slo: Mapping[str, float] | None = None
) -> Decision:
    """Judge the samples so far. Call it when ``look_size(look)`` measured requests have ended, with
    all requests *intended* before the oldest that has not: leaving out slow ones that are still
    under way would favour the quick."""
    m = request_metrics(samples)
    return _decision([_progress(rule, *_within(rule, m, slo or {})) for rule in rules])


def decide_across(rules: Sequence[StopRule], runs: Sequence[Sequence[Measurement]]) -> Decision:
    """Judge whole runs by a t interval over the one value that each has. ``runs`` holds the
    measurements of the valid runs so far."""
    return _decision([_progress(rule, *_across(rule, runs)) for rule in rules])


def _decision(progress: Sequence[Progress]) -> Decision:
    if not progress or not all(p.is_met for p in progress):
        return Continue(progress=tuple(progress))
    return Stop(progress=tuple(progress), reason="; ".join(p.why for p in progress))


def _progress(rule: StopRule, estimate: Estimate | None, why_none: str) -> Progress:
    if estimate is None or estimate.interval is None:
        value = estimate.value if estimate is not None else None
        return Progress(rule=rule, is_met=False, value=value, interval=None, why=why_none)
    value, interval = estimate.value, estimate.interval
    half = max(interval.high - value, value - interval.low)
    allowed = rule.half_width * (abs(value) if rule.relative else 1.0)
    unit = metric(rule.metric).unit
    at = f"{format_value(value, unit)} ({format_interval(interval.low, interval.high, unit)})"
    is_met = half <= allowed
    why = f"'{rule}' {'met' if is_met else 'not yet met'}: {at}"
    return Progress(rule=rule, is_met=is_met, value=value, interval=interval, why=why)


def _within(
    rule: StopRule, m: RequestMetrics, slo: Mapping[str, float]
) -> tuple[Estimate | None, str]:
    if rule.metric in _SHARES:
        if not len(m.answered):
            return None, f"'{rule}': no request has ended"
        good = good_requests(m, slo) if rule.metric == "slo_attainment" else ~m.answered
        return share(good[m.order], CONFIDENCE), f"'{rule}': too few requests for an interval"
    if rule.metric in _POOLS:
        pool = gap_pools(m.samples, m.rows)[_POOLS.index(rule.metric)]
        n = pool.num_gaps
        estimate = _statistic(
            rule, n, lambda: pool.mean(CONFIDENCE), lambda q: pool.quantile(q, CONFIDENCE)
        )
    elif rule.metric in _COLUMNS:
        column: FloatColumn = getattr(m, rule.metric)[m.order]
        values = column[~np.isnan(column)]
        n = len(values)
        estimate = _statistic(
            rule,
            n,
            lambda: mean(values, CONFIDENCE),
            lambda q: quantile(values, np.sort(values), q, CONFIDENCE),
        )
    else:
        return None, f"'{rule}': {rule.metric} has no interval within a run"
    worth = estimate.num_effective if estimate is not None else None
    worth_words = f", worth {worth:.0f} independent ones" if worth is not None else ""
    return estimate, f"'{rule}': {n} samples{worth_words}, too few for an interval"


def _statistic(
    rule: StopRule,
    n: int,
    mean_of: Callable[[], Estimate],
    quantile_of: Callable[[float], Estimate],
) -> Estimate | None:
    if not n:
        return None
    if rule.statistic == "mean":
        return mean_of()
    q = float(rule.statistic.removeprefix("p")) / 100.0
    return quantile_of(q) if n >= min_samples(q) else None


def _across(rule: StopRule, runs: Sequence[Sequence[Measurement]]) -> tuple[Estimate | None, str]:
    values = [
        m.value
        for run in runs
        for m in run
        if (m.metric, m.statistic, m.group) == (rule.metric, rule.statistic, "")
        and m.value is not None
    ]
    n = len(values)
    if n < MIN_RUNS:
        return None, f"'{rule}': {n} runs have a value; at least {MIN_RUNS} must"
    value, interval = mean_interval(np.array(values), CONFIDENCE)
    return Estimate(value=value, interval=interval, num_effective=float(n)), ""
