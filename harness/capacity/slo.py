"""An SLO as conditions on shares of requests: what a search can decide.

``results.slo`` reads what people write. Here a limit on a percentile becomes the share of requests
that must be within it: p99 of the TTFT is at most 500 ms where 99 % of requests have one.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import SpecError
from results import slo as written
from results.errors import InvalidSlo, UnknownMetric
from results.slo import PER_REQUEST, parse_slo
from results.units import format_value, metric_label


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
    attainment: float = written.DEFAULT_ATTAINMENT
    text: str = ""

    @property
    def per_request(self) -> dict[str, float]:
        """Metric → limit in seconds, the tightest where there are two."""
        found: dict[str, float] = {}
        for limit in self.limits:
            found[limit.metric] = min(limit.limit_s, found.get(limit.metric, limit.limit_s))
        return found


def slo_of(text: str) -> Slo:
    """``chat`` or ``ttft_p99=500ms,tpot=50ms`` → limits. Raises SpecError."""
    try:
        slo = parse_slo(text)
    except (InvalidSlo, UnknownMetric) as error:
        raise SpecError(f"--slo: {error}") from None
    limits = tuple(_limit(text, limit) for limit in slo.limits)
    return Slo(limits=limits, attainment=slo.attainment, text=text.strip())


def _limit(text: str, limit: written.Limit) -> Limit:
    if limit.metric not in PER_REQUEST or limit.statistic == "mean":
        raise SpecError(
            f"--slo {text!r}: {limit} holds for no share of requests; limit one of "
            f"{', '.join(PER_REQUEST)}, of every request or at a percentile"
        )
    share = float(limit.statistic.removeprefix("p")) / 100.0 if limit.statistic else None
    if share == 0.0:
        raise SpecError(f"--slo {text!r}: {limit} asks it of no request at all")
    return Limit(metric=limit.metric, limit_s=limit.limit_s, share=share)
