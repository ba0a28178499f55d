"""The self-test must pass an honest client, and fail a dishonest one or a truth that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli import selftest as command
from harness.cli.app import app
from harness.selftest import endings, scenarios
from harness.selftest.check import at_most, equal, near
from harness.selftest.scenarios import Scenario, Setting
from harness.selftest.suite import ALL, ScenarioResult, real_drive, run_scenarios
from harness.selftest.truth import queued_latency_s, told
from results.metrics import Unit
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.simulated.process import GoldenProcess
from workloads.traffic.spec import Traffic

pytestmark = pytest.mark.alone

# What the tests ask about is whether a fault is found, not how quiet this machine is.
ROOMY = Setting(drive=real_drive, rel=0.9, tail_s=0.3, scale=0.08)


def only(name: str) -> Scenario:
    (found,) = (scenario for scenario in ALL if scenario.name == name)
    return found


def run(name: str, setting: Setting = ROOMY) -> ScenarioResult:
    (result,) = run_scenarios(setting, [only(name)])
    return result


def failed(result: ScenarioResult) -> set[str]:
    return {check.name for check in result.checks if not check.passed}


def lying(change: Callable[[RequestSamples], RequestSamples]) -> Setting:
    """The real client, whose columns are then changed."""

    def drive(target: ServerTarget, traffic: Traffic, deadline_s: float) -> RequestSamples:
        return change(real_drive(target, traffic, deadline_s))

    return replace(ROOMY, drive=drive)


# An honest client.


@pytest.mark.parametrize("name", ["constant", "latency", "chunks", "reasoning", "failures"])
def test_an_honest_client_passes(name: str) -> None:
    result = run(name)
    assert failed(result) == set()
    assert len(result.checks) > 2


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["death", "hang"])
def test_a_client_that_ends_and_says_so_passes(name: str) -> None:
    assert failed(run(name)) == set()


# Dishonest ones.


def test_a_client_that_waits_for_the_server_is_found_out() -> None:
    """It counts from when a slot was free, as clients do that send the next after the last."""

    def omit(samples: RequestSamples) -> RequestSamples:
        return replace(samples, intended_s=samples.done_s - 0.3)

    found = failed(run("omission", replace(lying(omit), rel=0.3)))
    assert {"e2e_s mean", "e2e_s of the last", "e2e_s against the closed form, worst"} <= found


def test_a_client_that_forgets_failures_is_found_out() -> None:
    def forget(samples: RequestSamples) -> RequestSamples:
        return replace(samples, error=np.full_like(samples.error, ""))

    assert "requests failed" in failed(run("failures", lying(forget)))


def test_a_client_that_counts_a_chunk_as_a_token_is_found_out() -> None:
    def count(samples: RequestSamples) -> RequestSamples:
        return replace(samples, event_tokens=np.ones_like(samples.event_tokens))

    assert "share of itl_s that is 0" in failed(run("chunks", lying(count)))


def test_a_client_that_sends_by_another_schedule_is_found_out() -> None:
    def drive(target: ServerTarget, traffic: Traffic, deadline_s: float) -> RequestSamples:
        from workloads.traffic.spec import ConstantArrivals

        evenly = replace(traffic, arrivals=ConstantArrivals(rate_rps=150.0))
        return real_drive(target, evenly, deadline_s)

    found = failed(run("poisson", replace(ROOMY, drive=drive, scale=0.4, tail_s=0.05)))
    assert "KS distance of the gaps at the server from exponential ones" in found
    assert "mean gap of arrivals at the server" in found


def test_a_client_that_raises_has_failed_in_its_own_words() -> None:
    def drive(target: ServerTarget, traffic: Traffic, deadline_s: float) -> RequestSamples:
        raise RuntimeError("no sockets today")

    result = run("constant", replace(ROOMY, drive=drive))
    assert not result.passed
    assert result.checks[0].why == "RuntimeError: no sockets today"


# A truth that is none.


def test_a_server_that_lies_about_its_times_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = GoldenProcess.served

    def early(self: GoldenProcess, *, with_tokens: bool = True) -> dict[str, Any]:
        document = honest(self, with_tokens=with_tokens)
        document["arrived_s"] = [at_s + 0.04 for at_s in document["arrived_s"]]
        return document

    monkeypatch.setattr(GoldenProcess, "served", early)
    found = failed(run("latency", replace(ROOMY, rel=0.3)))
    assert "ttft_s p50" in found


def test_a_server_that_did_not_see_the_requests_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = GoldenProcess.served

    def blind(self: GoldenProcess, *, with_tokens: bool = True) -> dict[str, Any]:
        document = honest(self, with_tokens=with_tokens)
        return document | {"num_requests": document["num_requests"] // 2}

    monkeypatch.setattr(GoldenProcess, "served", blind)
    assert "requests answered in full" in failed(run("chunks"))


# The parts.


def test_near_is_within_a_share_or_a_floor() -> None:
    assert near("x", 10.4, 10.0, rel=0.05).passed
    assert not near("x", 10.6, 10.0, rel=0.05).passed
    assert near("x", 10.6, 10.0, rel=0.05, floor=1.0).passed
    assert not near("x", float("nan"), 10.0, rel=1.0, floor=100.0).passed
    assert not near("x", 10.0, float("nan"), rel=1.0, floor=100.0).passed
    assert equal("x", 3.0, 3.0).passed
    assert not equal("x", 3.0, 4.0).passed
    assert at_most("x", 0.9, 1.0).passed
    assert not at_most("x", 1.1, 1.0).passed


@pytest.mark.parametrize(("rate", "slots", "service_s"), [(40.0, 4, 0.3), (10.0, 1, 0.2)])
def test_the_queue_on_paper_is_that_of_its_slots(rate: float, slots: int, service_s: float) -> None:
    free_s = [0.0] * slots
    for i in range(50):
        slot = min(range(slots), key=lambda k: free_s[k])
        free_s[slot] = max(free_s[slot], i / rate) + service_s
        waited_s = free_s[slot] - i / rate
        assert queued_latency_s(i, rate, slots, service_s) == pytest.approx(waited_s)


def test_the_truth_is_read_from_the_last_requests() -> None:
    document = {
        "num_requests": 3,
        "arrived_s": [3.0, 1.0, 2.0],
        "first_token_s": [3.5, None, 2.25],
        "ended_s": [4.5, None, 2.5],
        "fault": ["", "status_500", ""],
        "num_prompt_tokens": [5, 6, 7],
        "token_s": [[3.5, 4.5], [], [2.25, 2.5]],
        "planned_s": [[3.5, 4.25], [], [2.25, 2.5]],
        "chunk_tokens": [[1, 4], [], [1, 1]],
    }
    first, last = told(document, 2)
    assert (first.num_prompt_tokens, last.num_prompt_tokens) == (7, 5)
    assert (last.ttft_s, last.e2e_s, last.tpot_s) == (0.5, 1.5, 0.25)
    assert list(last.chunk_gaps_s()) == [1.0]
    assert list(last.token_gaps_s()) == [1.0, 0.0, 0.0, 0.0]
    assert list(last.late_s) == [0.0, 0.25]


# The command.


def answer(passes: bool) -> Scenario:
    check = near("ttft_s p50", 0.05 if passes else 0.09, 0.05, rel=0.05)
    return Scenario(name="quick", about="a check on paper", run=lambda _: (check,))


@pytest.mark.parametrize(("passes", "code", "word"), [(True, 0, "pass"), (False, 4, "FAIL")])
def test_the_command_prints_both_numbers_and_its_exit_code_tells(
    monkeypatch: pytest.MonkeyPatch, passes: bool, code: int, word: str
) -> None:
    monkeypatch.setattr(command, "ALL", (answer(passes),))
    shown = CliRunner().invoke(app, ["selftest"])
    assert shown.exit_code == code
    assert word in shown.stdout
    assert "50.0 ms" in shown.stdout
    done = CliRunner().invoke(app, ["selftest", "--json"])
    assert done.exit_code == code
    document = json.loads(done.stdout)
    assert document["schema"] == "windtunnel.selftest/1"
    assert document["ok"] is passes
    (only_check,) = document["scenarios"][0]["checks"]
    assert only_check["truth"] == 0.05
    assert only_check["unit"] == Unit.SECONDS
    assert only_check["passed"] is passes


def test_a_scenario_that_does_not_exist_is_usage() -> None:
    done = CliRunner().invoke(app, ["selftest", "--only", "nonsense"])
    assert done.exit_code == 2
    assert "omission" in done.output


def test_every_scenario_of_both_modules_is_run() -> None:
    assert set(ALL) == {*scenarios.SCENARIOS, *endings.ENDINGS}
    assert len({scenario.name for scenario in ALL}) == len(ALL)
