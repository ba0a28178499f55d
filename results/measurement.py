"""A measurement: one statistic of one metric of one run, with its interval or why it has none.

``value`` is None exactly when the statistic cannot be estimated from what was seen; ``reason`` then
says why. None is never zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from results.errors import InvalidMeasurement
from results.metrics import metric

_STATISTIC = re.compile(r"value|mean|p\d{1,2}(\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """``statistic`` is ``value`` (the run has one such number), ``mean`` or ``p50``…``p99.9``.

    ``n`` counts the samples behind it. ``low``/``high`` bound the interval at ``confidence``;
    both are None when no honest interval exists. ``method`` names how value and interval were made.
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

    def __post_init__(self) -> None:
        declared = metric(self.metric)
        label = f"{self.metric} {self.statistic}"
        if not _STATISTIC.fullmatch(self.statistic):
            raise InvalidMeasurement(f"{label}: a statistic is value, mean or pNN")
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
