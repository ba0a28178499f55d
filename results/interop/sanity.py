"""What no measurement can have said, whichever tool's file says it. Pure.

One seam for all readers: each gives a ``ForeignRun``, and none of these becomes a record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from results.errors import InvalidMeasurement
from results.interop.foreign import EARLIEST, ForeignRun, Nonsense, Reported
from results.metrics import Area, metric

LATEST = timedelta(days=2)  # a clock may be wrong, a time zone forgotten
# What is rounded may descend by the last of six digits.
ROUNDING = 1e-6
_RATES = ("achieved_rate", "output_throughput")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row of a file that is not imported. ``row`` counts from 1; of a CSV its header is none."""

    file: str
    row: int
    field: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.field} is {self.found}; wanted: {self.wanted}"


def refuse_nonsense(run: ForeignRun, now: datetime) -> None:
    """Raises Nonsense, the first that is found."""
    for found in _nonsense(run, now):
        raise found


def _nonsense(run: ForeignRun, now: datetime) -> Iterator[Nonsense]:
    if run.duration_s is not None and not 0.0 <= run.duration_s < math.inf:
        yield Nonsense("the duration", f"{run.duration_s:g} s", "0 s or more")
    for r in run.reported:
        try:
            metric(r.metric).check(r.value)
        except InvalidMeasurement:
            high = metric(r.metric).high
            legal = "a finite number, 0 or more" if math.isinf(high) else f"between 0 and {high:g}"
            yield Nonsense(_name(r), _said(r), legal)
    yield from _descending(run)
    yield from _standing_still(run)
    when = run.started_at
    if when is not None and not EARLIEST <= _utc(when) <= now + LATEST:
        wanted = f"a date from {EARLIEST:%Y-%m-%d} to {now:%Y-%m-%d}"
        yield Nonsense("the date of the measurement", when.isoformat(), wanted)
    if run.num_requests < 0 or not 0 <= run.num_failed <= run.num_requests:
        counts = f"{run.num_failed} of {run.num_requests} requests failed"
        yield Nonsense("the number of requests", counts, "counts of 0 or more")
    if run.serving is not None:
        for field in ("input_tokens", "output_tokens", "concurrency"):
            value = getattr(run.serving, field)
            if value is not None and not 0.0 < value < math.inf:
                yield Nonsense(field, f"{value:g}", "more than 0")


def _descending(run: ForeignRun) -> Iterator[Nonsense]:
    """A percentile is no less than one below it, and lies between the least and the greatest."""
    for name in dict.fromkeys(r.metric for r in run.reported):
        ranked = [r for r in run.reported if r.metric == name and _rank(r) is not None]
        for lower, upper in pairwise(sorted(ranked, key=lambda r: _rank(r) or 0.0)):
            if upper.value < lower.value - ROUNDING * abs(lower.value):
                wanted = f"no less than {_name(lower)}, which is {_said(lower)}"
                yield Nonsense(_name(upper), _said(upper), wanted)


def _rank(r: Reported) -> float | None:
    """Where a statistic stands among those of its metric; None for one that has no place."""
    if r.statistic in ("min", "max"):
        return 0.0 if r.statistic == "min" else 100.0
    share = r.statistic.removeprefix("p")
    return float(share) if share != r.statistic else None


def _standing_still(run: ForeignRun) -> Iterator[Nonsense]:
    """Who has answered, has answered at some rate."""
    latency = next(
        (r for r in run.reported if metric(r.metric).area is Area.LATENCY and r.value > 0.0), None
    )
    for r in run.reported:
        if r.metric in _RATES and r.value == 0.0 and latency is not None:
            wanted = f"more than 0, since {_name(latency)} is {_said(latency)}"
            yield Nonsense(_name(r), "0", wanted)


def _name(r: Reported) -> str:
    return r.source.partition(";")[0]


def _said(r: Reported) -> str:
    return f"{r.value:g} {metric(r.metric).unit}"


def _utc(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)
