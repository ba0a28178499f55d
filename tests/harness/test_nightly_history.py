"""Thirty nights of the engine's model in virtual time: a slowdown that was planted in what is
tested is confirmed, one of the machine is told as the machine's, and quiet nights stay quiet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import harness.runner
from harness.cli.nightly_flags import flag_evidence
from harness.cli.nightly_tell import read_nights, told_of
from harness.cli.nightly_work import confirm_suspicions
from harness.nightly.journal import Journal
from harness.nightly.night import Night
from harness.nightly.order import slots_of
from harness.nightly.subject import Subjects
from harness.nightly.suite import read_suite
from harness.nightly.testing import Mood, VirtualDeployer, virtual_workloads
from harness.progress import Silent
from harness.runner import RunContext
from reports.confirm import Cause, Finding
from reports.night_told import NightTold
from results.nights import NightRole
from results.recommendation.flags import read_flags
from results.record import new_run_id
from results.store_files import FileStore
from results.testing import FakeClock

SPEC = """\
name: {name}
workload: {{kind: simulated, accelerator: H100, engine_args: {{max-num-batched-tokens: {tokens}}}}}
hardware: {{accelerator: H100, num_chips: 1}}
traffic:
  arrivals: {{kind: poisson, rate_rps: 12}}
  prompt_tokens: {{kind: fixed, tokens: 1024}}
  output_tokens: {{kind: fixed, tokens: 8}}
  num_requests: 60
"""
SUITE = """\
name: s
runs: [{spec: serve.yaml, repeats: 3, metrics: [ttft_p50, e2e_p50]}]
canaries: [{spec: canary.yaml, metrics: [ttft_p50]}]
confirm: {pairs: 5, max_pairs: 6}
"""


@pytest.fixture
def flagged(tmp_path: Path) -> Callable[[NightTold], int]:
    """How many runs a night flags as evidence that has drifted."""

    def flag(told: NightTold) -> int:
        journal = Journal(tmp_path / "home", told.suite, told.night_id)
        store = FileStore(tmp_path / "store")
        num = flag_evidence(told, store, journal, FakeClock())
        assert not num or len(read_flags(store.objects)[0].run_ids) > 20
        return num

    return flag


@pytest.fixture
def one_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., NightTold]:
    clock, mood = FakeClock(), Mood(spread=0.01)
    monkeypatch.setattr(harness.runner, "workload_for", virtual_workloads(clock, mood))
    store = FileStore(tmp_path / "store")
    first = clock.now_utc()
    (tmp_path / "canary.yaml").write_text(SPEC.format(name="canary", tokens=2048))
    (tmp_path / "suite.yaml").write_text(SUITE)

    def make(index: int, *, factor: float = 1.0, tokens: int = 2048) -> NightTold:
        clock.step_date((first + timedelta(days=index) - clock.now_utc()).total_seconds())
        mood.factor = factor
        (tmp_path / "serve.yaml").write_text(SPEC.format(name="serve", tokens=tokens))
        suite = read_suite(tmp_path / "suite.yaml")
        night_id = new_run_id(clock.now_utc())
        night = Night(
            night_id=night_id,
            date=clock.now_utc().date(),
            suite=suite,
            subjects=Subjects(suite, tmp_path / "checkouts"),
            version=None,
            context=RunContext(
                deployer=VirtualDeployer(clock=clock, mood=mood),
                store=store,
                clock=clock,
                progress=Silent(),
                models_dir="models",
            ),
            journal=Journal(tmp_path / "home", suite.name, night_id),
        )
        for _ in night.run(slots_of(suite)):
            pass
        confirm_suspicions(night, store)
        kept = read_nights(store, suite.name)
        return told_of(kept, night_id, night.journal, suite.name, night.date)

    return make


def test_thirty_nights(
    one_night: Callable[..., NightTold], flagged: Callable[[NightTold], int]
) -> None:
    quiet = [one_night(i) for i in range(22)]
    assert [d for told in quiet for d in told.found(Finding.REGRESSION, Finding.IMPROVEMENT)] == []
    slow = one_night(22, tokens=700)
    (found, *_) = slow.found(Finding.REGRESSION)
    assert (found.suspicion.name, found.cause) == ("serve", Cause.CODE)
    assert found.suspicion.metric in ("ttft_s", "e2e_s") and found.suspicion.change > 0.03
    assert all(d.key.endswith("max-num-batched-tokens") for d in found.differences)
    pairs = [run for run in slow.runs if run.role in (NightRole.GOOD, NightRole.NEW)]
    assert len(pairs) >= 10 and not any(d.suspicion.canary for d in slow.decisions)
    # What was measured before it is no evidence any more; said once.
    assert flagged(slow) > 20 and flagged(slow) == 0
    # It is told as tonight's once; later nights do not pay for it again.
    again = [one_night(i, tokens=700) for i in range(23, 27)]
    assert not [r for told in again for r in told.runs if r.role is NightRole.GOOD]
    for told in again:
        regressions = told.found(Finding.REGRESSION)
        assert {d.confirmation.night for d in regressions if d.confirmation} == {slow.date}
        assert len({d.suspicion.series for d in regressions}) == len(regressions)
    hog = one_night(27, factor=1.25, tokens=700)
    assert hog.found(Finding.ENVIRONMENT)
    assert not [r for r in hog.runs if r.role is NightRole.GOOD]
    calm = [one_night(i, tokens=700) for i in range(28, 30)]
    for told in (hog, *calm):
        nights = [d.confirmation.night for d in told.found(Finding.REGRESSION) if d.confirmation]
        assert set(nights) == {slow.date}
