"""A stop rule within one load: ``ttft_p99 ±5%`` ends it once the interval is that narrow.

The rules and their looks are those of ``results.stopping``; this is their place in a load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from results.samples import RequestSamples
from results.stopping import Stop, StopRule, check_within, decide_within, parse_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Precise:
    """True once every rule is met by the rows so far. An interval within one run speaks of it."""

    rules: tuple[StopRule, ...]
    slo: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, samples: RequestSamples) -> bool:
        return isinstance(decide_within(self.rules, samples, self.slo), Stop)


def until_of(text: str, slo: Mapping[str, float]) -> Precise:
    """Raises InvalidStopRule, also for a rule that no single run can meet."""
    rules = parse_until(text)
    check_within(rules, slo)
    return Precise(rules=rules, slo=slo)
