"""The limits of a service-level objective, out of the text a user writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import SpecError
from results.units import format_value, metric_label

DEFAULT_ATTAINMENT = 0.99
_METRICS = ("ttft", "tpot", "ntpot", "e2e")
_PART = re.compile(
    rf"(?P<metric>{'|'.join(_METRICS)})(?:_s)?(?:_p(?P<percentile>\d{{1,2}}(?:\.\d+)?))?"
    r"\s*(?:=|<=|<|≤)\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>ms|s)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """``metric`` of a request must be at most ``limit_s``, for this ``share`` of all requests.

    ``share`` None: the limit is one of those that a request must meet together.
    """

    metric: str  # a latency metric that a request has
    limit_s: float
    share: float | None = None

    @property
    def words(self) -> str:
        return f"{metric_label(self.metric)} ≤ {format_value(self.limit_s, 's')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """``attainment``: the share of requests that must meet all limits that have no share of their
    own."""

    limits: tuple[Limit, ...]
    attainment: float = DEFAULT_ATTAINMENT
    text: str = ""


def _limits(share: float | None, **limits_s: float) -> tuple[Limit, ...]:
    return tuple(Limit(metric=f"{k}_s", limit_s=v, share=share) for k, v in limits_s.items())


def _distserve(ttft: float, tpot: float) -> Slo:
    """DistServe (OSDI 2024), section 6: what its applications ask of 90 % of requests."""
    return Slo(limits=_limits(None, ttft=ttft, tpot=tpot), attainment=0.9)


def _mlperf(ttft: float, tpot: float) -> Slo:
    """MLPerf Inference's loadgen/mlperf.conf: the 99th percentile of each by itself."""
    return Slo(limits=_limits(0.99, ttft=ttft, tpot=tpot))


PRESETS: Mapping[str, Slo] = {
    "chat": _distserve(0.25, 0.1),
    "code-completion": _distserve(0.125, 0.2),
    "summarisation": _distserve(15.0, 0.15),
    "mlperf-llama2-70b-server": _mlperf(2.0, 0.2),
    "mlperf-llama2-70b-interactive": _mlperf(0.45, 0.04),
    "mlperf-llama3.1-405b-server": _mlperf(6.0, 0.175),
    "mlperf-llama3.1-405b-interactive": _mlperf(4.5, 0.08),
    "mlperf-llama3.1-8b-server": _mlperf(2.0, 0.1),
    "mlperf-llama3.1-8b-interactive": _mlperf(0.5, 0.03),
}


def slo_of(text: str) -> Slo:
    """``chat`` or ``ttft_p99=500ms,tpot=50ms`` → limits. Raises SpecError."""
    if (preset := PRESETS.get(text.strip())) is not None:
        return Slo(limits=preset.limits, attainment=preset.attainment, text=text.strip())
    limits = tuple(_limit(text, part.strip()) for part in text.split(","))
    return Slo(limits=limits, text=text.strip())


def _limit(text: str, part: str) -> Limit:
    found = _PART.fullmatch(part)
    if found is None or float(found["value"]) <= 0:
        raise SpecError(
            f"--slo {text!r}: {part!r} is no limit; write "
            f"{{{'|'.join(_METRICS)}}}[_pNN]=NUMBERms|s, for example ttft_p99=500ms, "
            f"or one of {', '.join(PRESETS)}"
        )
    percentile = found["percentile"]
    share = float(percentile) / 100.0 if percentile else None
    if share == 0.0:
        raise SpecError(f"--slo {text!r}: {part!r} asks it of no request at all")
    return Limit(
        metric=f"{found['metric']}_s",
        limit_s=float(found["value"]) * (1e-3 if found["unit"] == "ms" else 1.0),
        share=share,
    )
