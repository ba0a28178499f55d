"""A measurement: one statistic of one metric of one run, with its interval or why it has none.

``value`` is None exactly when the statistic cannot be estimated from what was seen; ``reason`` then
says why. None is never zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from results.errors import InvalidMeasurement
from results.metrics import REGISTRY, metric

_STATISTIC = re.compile(r"value|mean|unstated|p\d{1,2}(\.\d+)?")
_NAME = re.compile(r"(?P<metric>[a-z][a-z0-9_]*?)(?:_(?P<statistic>p\d{1,2}(?:\.\d+)?|mean))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """``statistic`` is ``value`` (the run has one such number), ``mean`` or ``p50``…``p99.9``;
    ``unstated`` for a figure of another tool that says neither.

    ``n`` counts the samples behind it. ``low``/``high`` bound the interval at ``confidence``;
    both are None when no honest interval exists. ``method`` names how value and interval were made.
    ``group`` names the part of the traffic that it speaks of (the model or adapter asked); "" is
    the whole run, and the only one in records written before there were groups.
    Raises UnknownMetric or InvalidMeasurement when made wrongly.
    """

    metric: str
    statistic: str
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    method: str = ""
    reason: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        declared = metric(self.metric)
        label = f"{self.metric} {self.statistic}{f' of {self.group}' if self.group else ''}"
        if not _STATISTIC.fullmatch(self.statistic):
            raise InvalidMeasurement(f"{label}: a statistic is value, mean, pNN or unstated")
        if self.n < 0:
            raise InvalidMeasurement(f"{label}: n = {self.n}")
        if self.value is None:
            if not self.reason:
                raise InvalidMeasurement(f"{label}: no value, and no reason why")
            return
        declared.check(self.value)
        for bound in (self.low, self.high):
            if bound is not None:
                declared.check(bound)
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise InvalidMeasurement(f"{label} = {self.value} outside its interval {low}…{high}")


def of_group(measurements: Iterable[Measurement], group: str = "") -> tuple[Measurement, ...]:
    """The measurements of one group; by default those of the whole run."""
    return tuple(m for m in measurements if m.group == group)


def groups_of(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    """The groups there are beside the whole run, in order of appearance."""
    return tuple(dict.fromkeys(m.group for m in measurements if m.group))


def statistic_named(text: str) -> tuple[str, str]:
    """``ttft_p99``, ``ttft_s_p99``, ``ttft p99`` → (``ttft_s``, ``p99``); without a statistic "".

    Raises UnknownMetric with the nearest names.
    """
    found = _NAME.fullmatch("_".join(text.strip().lower().replace("-", "_").split()))
    if found is None:
        return metric(text.strip()).name, ""
    for name in (found["metric"], f"{found['metric']}_s"):
        if name in REGISTRY:
            return name, found["statistic"] or ""
    return metric(found["metric"]).name, ""


# Many samples of one run; every other duration is one value of it.
_SAMPLED = frozenset(
    {"ttft_s", "ttfa_s", "itl_s", "inter_chunk_s", "tpot_s", "ntpot_s", "e2e_s", "step_time_s"}
)


def one_statistic(text: str) -> tuple[str, str]:
    """``statistic_named``, and where it names none: the median of what has many samples, else the
    ``value``. Raises UnknownMetric."""
    name, statistic = statistic_named(text)
    return name, statistic or ("p50" if name in _SAMPLED else "value")
