"""A stop rule within one load: ``ttft_p99 ±5%`` ends it once the interval is that narrow."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import SpecError
from results.samples import RequestSamples

_METRICS = ("ttft", "itl", "inter_chunk", "tpot", "ntpot", "e2e")
_RULE = re.compile(
    rf"({'|'.join(_METRICS)})(?:_s)?_(p50|p90|p95|p99)\s*(?:±|\+-|\+/-)\s*(\d+(?:\.\d+)?)\s*%"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Met when the 95 % interval of the percentile reaches at most ``share`` of its value to either
    side. An interval within one run speaks of that run."""

    metric: str
    statistic: str
    share: float

    def __call__(self, samples: RequestSamples) -> bool:
        from results.measure import measure_requests  # brings scipy; not before the load has begun

        for found in measure_requests(samples, {}, 0):
            if (found.metric, found.statistic) != (self.metric, self.statistic):
                continue
            if found.value is None or found.low is None or found.high is None:
                return False
            worst = max(found.value - found.low, found.high - found.value)
            return worst <= self.share * found.value
        return False


def until_of(text: str) -> Precision:
    """Raises SpecError."""
    found = _RULE.fullmatch(text.strip())
    if found is None or not float(found[3]) > 0:
        raise SpecError(
            f"--until {text!r} is no stop rule; write METRIC_pNN ±N%, for example "
            f"'ttft_p99 ±5%'; metrics are {', '.join(_METRICS)}, percentiles 50, 90, 95 and 99"
        )
    return Precision(metric=f"{found[1]}_s", statistic=found[2], share=float(found[3]) / 100.0)
