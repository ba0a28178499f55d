"""Service level objectives: limits as people write them, and presets with their sources.

A limit holds for a request (``tpot=50ms``: each request is good or not, and enough must be) or for
a percentile of the run (``ttft_p99=500ms``). Goodput counts a request as good when it meets every
limit, however it was stated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from results.errors import InvalidSlo
from results.measurement import statistic_named
from results.metrics import REGISTRY, Area, Unit, metric

# The share of requests that must meet every limit, where nothing else is said.
DEFAULT_ATTAINMENT = 0.99

_UNITS_S = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_VALUE = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>[a-zµ]*)")
# As a spec has them: ``ttft_s`` of each request, ``ttft_p99_s`` of the run.
ATTAINMENT = "attainment"
_KEY = re.compile(r"(?P<metric>[a-z][a-z0-9_]*?)(?:_(?P<statistic>p\d{1,2}(?:\.\d+)?|mean))?_s")
# Latencies that a single request has; a pooled gap belongs to no request.
PER_REQUEST = ("ttft_s", "ttfa_s", "tpot_s", "ntpot_s", "e2e_s")
# What a spec's limits may be called, with one percentile for all: any other will do too.
SLO_KEYS = (*PER_REQUEST, "ttft_p99_s", "itl_p99_s", ATTAINMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """``metric`` ≤ ``limit_s``, for each request, or for ``statistic`` (``p99``, ``mean``) of the
    run where one is named."""

    metric: str
    limit_s: float
    statistic: str = ""

    def __str__(self) -> str:
        of = f" {self.statistic}" if self.statistic else ""
        limit = f"{self.limit_s:g} s" if self.limit_s >= 1 else f"{self.limit_s * 1e3:g} ms"
        return f"{self.metric.removesuffix('_s')}{of} ≤ {limit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """``attainment``: the share of all requests, failures among them, that must be good."""

    limits: tuple[Limit, ...]
    attainment: float = DEFAULT_ATTAINMENT
    source: str = ""

    @property
    def per_request(self) -> dict[str, float]:
        """Metric → limit in seconds, as ``measure_requests`` takes it: every limit on a metric that
        a request has, the tightest where there are two."""
        found: dict[str, float] = {}
        for limit in self.limits:
            if limit.metric in PER_REQUEST and limit.statistic != "mean":
                found[limit.metric] = min(limit.limit_s, found.get(limit.metric, limit.limit_s))
        return found

    @property
    def of_run(self) -> tuple[Limit, ...]:
        """The limits on a statistic of the whole run."""
        return tuple(limit for limit in self.limits if limit.statistic)


def _slo(source: str, attainment: float, **limits_s: float) -> Slo:
    """Limits that hold for each request."""
    return Slo(
        limits=tuple(Limit(metric=f"{k}_s", limit_s=v) for k, v in limits_s.items()),
        attainment=attainment,
        source=source,
    )


def _mlperf(ttft_ms: float, tpot_ms: float, scenario: str) -> Slo:
    """MLPerf judges the 99th percentile of either metric by itself."""
    return Slo(
        limits=(
            Limit(metric="ttft_s", limit_s=ttft_ms / 1e3, statistic="p99"),
            Limit(metric="tpot_s", limit_s=tpot_ms / 1e3, statistic="p99"),
        ),
        source=f"MLPerf Inference, loadgen/mlperf.conf (August 2026), {scenario}",
    )


_DISTSERVE = "DistServe (OSDI 2024), section 6 and its artifact's end-to-end scripts: "

PRESETS: Mapping[str, Slo] = {
    "chat": _slo(f"{_DISTSERVE}ShareGPT, OPT-13B", 0.9, ttft=0.25, tpot=0.1),
    "code-completion": _slo(f"{_DISTSERVE}HumanEval, OPT-66B", 0.9, ttft=0.125, tpot=0.2),
    "summarisation": _slo(f"{_DISTSERVE}LongBench, OPT-66B", 0.9, ttft=15.0, tpot=0.15),
    "mlperf-llama2-70b-server": _mlperf(2000, 200, "llama2-70b Server"),
    "mlperf-llama2-70b-interactive": _mlperf(450, 40, "llama2-70b Interactive"),
    "mlperf-llama3.1-8b-server": _mlperf(2000, 100, "llama3.1-8b Server"),
    "mlperf-llama3.1-8b-interactive": _mlperf(500, 30, "llama3.1-8b Interactive"),
    "mlperf-llama3.1-405b-server": _mlperf(6000, 175, "llama3.1-405b Server"),
    "mlperf-llama3.1-405b-interactive": _mlperf(4500, 80, "llama3.1-405b Interactive"),
    "mlperf-deepseek-r1-server": _mlperf(2000, 80, "deepseek-r1 Server"),
    "mlperf-deepseek-r1-interactive": _mlperf(1500, 15, "deepseek-r1 Interactive"),
    "mlperf-gpt-oss-120b-server": _mlperf(3000, 80, "gpt-oss-120b Server"),
    "mlperf-gpt-oss-120b-interactive": _mlperf(2000, 15, "gpt-oss-120b Interactive"),
}


def parse_slo(text: str) -> Slo:
    """A preset's name, or limits: ``ttft_p99=500ms,tpot=50ms,attainment=95%``.

    Metrics with or without their ``_s``; ``=``, ``<`` or ``<=``; every time has a unit. Raises
    UnknownMetric or InvalidSlo.
    """
    if text.strip() in PRESETS:
        return PRESETS[text.strip()]
    limits: list[Limit] = []
    attainment = DEFAULT_ATTAINMENT
    for part in (p.strip() for p in text.split(",")):
        name, sign, value = (p.strip() for p in _split(part))
        if not sign or not value:
            raise InvalidSlo(
                f"{part!r} is no limit: write METRIC=TIME, say ttft_p99=500ms, or a preset: "
                f"{', '.join(PRESETS)}"
            )
        if name == "attainment":
            attainment = _attainment(value)
        else:
            limits.append(_limit(name, value))
    if not limits:
        raise InvalidSlo(f"{text!r} limits nothing: an slo needs at least one METRIC=TIME")
    seen = [(limit.metric, limit.statistic) for limit in limits]
    for key in seen:
        if seen.count(key) > 1:
            raise InvalidSlo(f"{text!r} limits {' '.join(key).strip()} twice")
    return Slo(limits=tuple(limits), attainment=attainment)


def _split(part: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"([^<=≤]*)(<=|≤|=|<)(.*)", part)
    return (found[1], found[2], found[3]) if found else (part, "", "")


def _limit(name: str, value: str) -> Limit:
    known, statistic = statistic_named(name)
    amount = _VALUE.fullmatch(value)
    if amount is None or amount["unit"] not in _UNITS_S:
        raise InvalidSlo(f"{name}={value}: a limit is a time with its unit: 500ms, 0.5s")
    if metric(known).unit is not Unit.SECONDS:
        raise InvalidSlo(f"{name}={value}: {known} is no latency; an slo limits latencies")
    if not statistic and known not in PER_REQUEST:
        raise InvalidSlo(
            f"{name}={value}: a request has no {known} of its own; limit a percentile of it, say "
            f"{name}_p99={value}, or one of {', '.join(PER_REQUEST)}"
        )
    limit_s = float(amount["number"]) * _UNITS_S[amount["unit"]]
    if limit_s <= 0:
        raise InvalidSlo(f"{name}={value}: a limit is above zero")
    return Limit(metric=known, limit_s=limit_s, statistic=statistic)


def _attainment(value: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)", value)
    share = float(found[1]) / (100.0 if found[2] else 1.0) if found else 0.0
    if not 0.0 < share <= 1.0:
        raise InvalidSlo(f"attainment={value}: a share above 0 and at most 1: 0.99 or 99%")
    return share


# ---- as a spec has them ----


def slo_faults(limits: Mapping[str, float]) -> dict[str, str]:
    """What is wrong with a spec's limits, by key: what is accepted instead."""
    wrong = {}
    for key, value in limits.items():
        if key == ATTAINMENT:
            if not 0.0 < value <= 1.0:
                wrong[key] = "a share above 0 and at most 1"
        elif _limit_at(key, value) is None:
            wrong[key] = ""
        elif not (math.isfinite(value) and value > 0):
            wrong[key] = "seconds, more than 0"
    return wrong


def slo_of(limits: Mapping[str, float]) -> Slo:
    """``{"ttft_s": 0.5, "tpot_p99_s": 0.05, "attainment": 0.95}``: seconds, of each request or of a
    statistic of the run. Raises InvalidSlo."""
    for key, accepted in slo_faults(limits).items():
        raise InvalidSlo(f"{key} = {limits[key]}: {accepted or 'no latency metric'}")
    found = [_limit_at(k, v) for k, v in limits.items() if k != ATTAINMENT]
    return Slo(
        limits=tuple(limit for limit in found if limit is not None),
        attainment=limits.get(ATTAINMENT, DEFAULT_ATTAINMENT),
    )


def as_limits(slo: Slo) -> dict[str, float]:
    """``slo_of`` backwards; the source of a preset is not in it, nor is the usual attainment."""
    found = {
        f"{limit.metric.removesuffix('_s')}{f'_{limit.statistic}' if limit.statistic else ''}_s": (
            limit.limit_s
        )
        for limit in slo.limits
    }
    return found if slo.attainment == DEFAULT_ATTAINMENT else {**found, ATTAINMENT: slo.attainment}


def _limit_at(key: str, limit_s: float) -> Limit | None:
    found = _KEY.fullmatch(key)
    name = f"{found['metric']}_s" if found else ""
    statistic = found["statistic"] or "" if found else ""
    declared = REGISTRY.get(name)
    if declared is None or declared.area is not Area.LATENCY:
        return None
    if not statistic and name not in PER_REQUEST:
        return None
    return Limit(metric=name, limit_s=limit_s, statistic=statistic)
