"""How far measurements are from the forecast on each hardware, and how far an estimate that is made
of these ratios would have been off, had it been made before the measurement. Pure.

Everything is the logarithm of measured / forecast. One configuration counts once on each hardware,
however often it was run. The second question is answered by leaving out: each measurement in turn
is estimated from all others by the very rule that estimates what nobody measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product

import numpy as np

from harness.spec import RunSpec
from results.intervals import t_quantile
from tuners.calibration import MIN_CONFIGS, Seen

# Fewer estimates that were checked say nothing of how far the next may be off.
MIN_CHECKED = 3

Logs = dict[str, dict[str, float]]  # name of a statistic → configuration → log ratio


class Rule(StrEnum):
    """How a ratio is found, the surest first."""

    SHARED = "shared"  # of the configuration elsewhere, over what is usual there, times usual here
    CARRIED = "carried"  # of the configuration elsewhere, as it was
    USUAL = "usual"  # what is usual on this hardware
    BORROWED = "borrowed"  # what is usual on the hardware that most is known of
    NONE = "none"  # nothing was measured that could be a guide


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """``log``: of measured / forecast, as expected. ``source``: the accelerator that the
    configuration was measured on, "" by no transfer; ``calibrated_on``: whose usual ratio is in it,
    over ``num_configs`` configurations."""

    log: float
    rule: Rule
    source: str = ""
    calibrated_on: str = ""
    num_configs: int = 0


@dataclass(frozen=True, slots=True)
class Residuals:
    """``logs`` by accelerator."""

    logs: dict[str, Logs] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        return {name for by_name in self.logs.values() for name in by_name}

    def usual(self, accelerator: str, name: str, without: str = "") -> tuple[float, int] | None:
        """(median over configurations, how many); None where they are too few."""
        known = self.logs.get(accelerator, {}).get(name, {})
        kept = [log for config, log in known.items() if config != without]
        return (float(np.median(kept)), len(kept)) if len(kept) >= MIN_CONFIGS else None

    def expected(
        self,
        accelerator: str,
        name: str,
        config: str,
        *,
        blind: bool = False,
        carry: bool = True,
    ) -> Ratio:
        """Without what was measured of ``config`` on ``accelerator``; ``blind``: without anything
        that was measured on it. Without ``carry`` it counts as measured nowhere else either."""
        here = None if blind else self.usual(accelerator, name, without=config)
        sources = [
            other
            for other, by_name in self.logs.items()
            if carry and other != accelerator and config in by_name.get(name, {})
        ]
        if sources:
            source = max(sources, key=lambda s: (len(self.logs[s][name]), s))
            own, there = self.logs[source][name][config], self.usual(source, name)
            if here is not None and there is not None:
                return Ratio(
                    log=own - there[0] + here[0],
                    rule=Rule.SHARED,
                    source=source,
                    calibrated_on=accelerator,
                    num_configs=here[1],
                )
            return Ratio(log=own, rule=Rule.CARRIED, source=source)
        if here is not None:
            return Ratio(
                log=here[0], rule=Rule.USUAL, calibrated_on=accelerator, num_configs=here[1]
            )
        others = [
            (found[1], other, found[0])
            for other in self.logs
            if other != accelerator and (found := self.usual(other, name)) is not None
        ]
        if not others:
            return Ratio(log=0.0, rule=Rule.NONE)
        number, other, log = max(others)
        return Ratio(log=log, rule=Rule.BORROWED, calibrated_on=other, num_configs=number)

    def errors(self) -> dict[tuple[Rule, str], list[float]]:
        """By rule and name: log(measured / estimate) of every measurement that could have been
        estimated so."""
        found: dict[tuple[Rule, str], list[float]] = defaultdict(list)
        for accelerator, by_name in self.logs.items():
            for name, by_config in by_name.items():
                for config, measured in by_config.items():
                    rules: dict[Rule, float] = {}
                    for blind, carry in product((False, True), (True, False)):
                        ratio = self.expected(accelerator, name, config, blind=blind, carry=carry)
                        rules.setdefault(ratio.rule, measured - ratio.log)
                    for rule, error in rules.items():
                        found[rule, name].append(error)
        return found


def residuals_of(every: Iterable[Seen]) -> Residuals:
    """Repeats of a configuration are one, by their median."""
    logs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for one in every:
        config = config_key(one.spec)
        for name, ratio in one.ratios.items():
            logs[one.hardware.accelerator, name, config].append(math.log(ratio))
    made: dict[str, Logs] = {}
    for (accelerator, name, config), found in logs.items():
        by_name = made.setdefault(accelerator, {})
        by_name.setdefault(name, {})[config] = float(np.median(found))
    return Residuals(made)


def config_key(spec: RunSpec) -> str:
    """Of the deployment and its traffic, whatever hardware it is on and whatever seed it has."""
    traffic = spec.traffic
    shape = (
        ""
        if traffic is None
        else repr((traffic.arrivals, traffic.prompt_tokens, traffic.output_tokens))
    )
    return f"{spec.workload!r} {shape}"


def half_width(errors: Sequence[float]) -> float | None:
    """Of a 95 % interval on the logarithm for one more error of the kind, centred on 0: an estimate
    that is off the same way each time is not more exact for it. None for too few."""
    if len(errors) < MIN_CHECKED:
        return None
    spread = math.sqrt(sum(e * e for e in errors) / len(errors))
    return t_quantile(len(errors), 0.975) * spread
