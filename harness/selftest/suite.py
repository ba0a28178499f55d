"""All scenarios, one after another, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.load.driver import HttpLoadDriver
from harness.selftest.check import Check
from harness.selftest.endings import ENDINGS
from harness.selftest.scenarios import SCENARIOS, Scenario, Setting
from results.clock import Clock, SystemClock
from results.metrics import Unit
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

ALL: tuple[Scenario, ...] = (*SCENARIOS, *ENDINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    scenario: Scenario
    checks: tuple[Check, ...]
    took_s: float

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


def real_drive(target: ServerTarget, traffic: Traffic, deadline_s: float) -> RequestSamples:
    """The client that every run and benchmark uses."""
    return HttpLoadDriver().drive(target, traffic, _say_nothing, deadline_s=deadline_s)


def _say_nothing(num_done: int, num_total: int, elapsed_s: float) -> None:
    """The scenario's name is all that is shown while it runs."""


def run_scenarios(
    setting: Setting,
    scenarios: Iterable[Scenario] = ALL,
    announce: Callable[[Scenario], None] = lambda _: None,
    clock: Clock | None = None,
) -> Sequence[ScenarioResult]:
    """Every scenario's result. A client that raises has failed the scenario, in its own words."""
    clock = clock or SystemClock()
    results = []
    for scenario in scenarios:
        announce(scenario)
        begun_s = clock.monotonic_s()
        try:
            checks = scenario.run(setting)
        except Exception as error:  # whatever the client raises is the finding
            checks = (_raised(error),)
        took_s = clock.monotonic_s() - begun_s
        results.append(ScenarioResult(scenario=scenario, checks=checks, took_s=took_s))
    return results


def _raised(error: Exception) -> Check:
    return Check(
        name="the load",
        unit=Unit.COUNT,
        measured=None,
        truth=None,
        tolerance=0.0,
        why=f"{type(error).__name__}: {error}",
    )
