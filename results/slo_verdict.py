"""An SLO against what was measured: met, not met, or undecided. Pure.

The 95 % interval decides: all of it on one side of the limit, or nothing is decided. A value
without an interval is undecided too, however far from the limit: nothing tells how far it may be
off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from results.measurement import Measurement, of_group
from results.slo import Slo

SHARE = "slo_attainment"


class Verdict(StrEnum):
    MET = "met"
    NOT_MET = "not_met"
    UNDECIDED = "undecided"

    @property
    def words(self) -> str:
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitVerdict:
    """One limit and its verdict; ``limit``, ``value``, ``low`` and ``high`` in the unit of
    ``metric``. ``slo_attainment`` has to reach its limit, a latency to stay within it."""

    asked: str
    metric: str
    statistic: str
    limit: float
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""  # of a verdict that is undecided


def judge_slo(slo: Slo, measurements: Sequence[Measurement]) -> tuple[LimitVerdict, ...]:
    """One verdict for each limit on a statistic of the run, and one for the share of requests that
    were good where any limit is one of each request."""
    by_key = {(m.metric, m.statistic): m for m in of_group(measurements)}
    found = []
    for limit in slo.of_run:
        blank = LimitVerdict(
            asked=str(limit),
            metric=limit.metric,
            statistic=limit.statistic,
            limit=limit.limit_s,
            verdict=Verdict.UNDECIDED,
        )
        found.append(_decided(blank, by_key.get((limit.metric, limit.statistic))))
    of_each = [limit for limit in slo.limits if not limit.statistic]
    if of_each:
        limits = " and ".join(map(str, of_each))
        blank = LimitVerdict(
            asked=f"{limits} for {100 * slo.attainment:.6g} % of the requests",
            metric=SHARE,
            statistic="value",
            limit=slo.attainment,
            verdict=Verdict.UNDECIDED,
        )
        share = _decided(blank, by_key.get((SHARE, "value")))
        is_mixed = slo.per_request != {limit.metric: limit.limit_s for limit in of_each}
        found.append(_of_a_mixture(share) if is_mixed else share)
    return tuple(found)


def _of_a_mixture(share: LimitVerdict) -> LimitVerdict:
    """A request that met this limit may have been counted as bad for one on a percentile."""
    if share.verdict is not Verdict.NOT_MET:
        return share
    return replace(
        share,
        verdict=Verdict.UNDECIDED,
        reason="good requests are within the limits on percentiles too; at least this share met it",
    )


def _decided(blank: LimitVerdict, seen: Measurement | None) -> LimitVerdict:
    if seen is None:
        return replace(blank, reason=f"{blank.metric} {blank.statistic} was not measured")
    found = replace(blank, value=seen.value, low=seen.low, high=seen.high)
    if seen.value is None:
        return replace(found, reason=seen.reason)
    if seen.low is None or seen.high is None:
        return replace(found, reason=f"no interval: {seen.method.rpartition('; ')[2]}")
    if found.metric == SHARE:
        is_met, is_missed = seen.low >= found.limit, seen.high < found.limit
    else:
        is_met, is_missed = seen.high <= found.limit, seen.low > found.limit
    if not is_met and not is_missed:
        return replace(found, reason="the limit is within the interval")
    return replace(found, verdict=Verdict.MET if is_met else Verdict.NOT_MET)
