"""One workload on GPUs and on TPUs in the nights of one suite, side by side on the page. The engine
is its model in virtual time, and the page says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import harness.runner
from harness.cli.nightly_tell import read_nights, told_of
from harness.nightly.journal import Journal
from harness.nightly.night import Night
from harness.nightly.order import slots_of
from harness.nightly.subject import Subjects
from harness.nightly.suite import read_suite
from harness.nightly.testing import Mood, VirtualDeployer, virtual_workloads
from harness.progress import Silent
from harness.runner import RunContext
from reports.model import Table
from reports.night_pools import pools_section
from reports.night_report import night_report
from reports.night_told import NightTold
from results.record import new_run_id
from results.store_files import FileStore
from results.testing import FakeClock

SPEC = """\
name: {name}
workload: {{kind: simulated, model: llama-3.1-8b}}
hardware: {hardware}
traffic:
  arrivals: {{kind: poisson, rate_rps: 12}}
  prompt_tokens: {{kind: fixed, tokens: 1024}}
  output_tokens: {{kind: fixed, tokens: 8}}
  num_requests: 60
"""
SUITE = """\
name: gpu-and-tpu
runs:
  - {spec: h100.yaml, repeats: 3, metrics: [ttft_p50, e2e_p50, output_throughput]}
  - {spec: v6e.yaml, repeats: 3, metrics: [ttft_p50, e2e_p50, output_throughput]}
canaries: [{spec: canary.yaml, metrics: [ttft_p50]}]
"""
GPU = "{accelerator: H100, num_chips: 1, pools: [h100]}"
TPU = "{accelerator: TPU-V6E, num_chips: 1, pools: [v6e]}"
Nights = Callable[[int], NightTold]


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    """So many nights; tells the last one."""
    clock, mood = FakeClock(), Mood(spread=0.01)
    monkeypatch.setattr(harness.runner, "workload_for", virtual_workloads(clock, mood))
    store = FileStore(tmp_path / "store")
    for name, hardware in (("h100", GPU), ("v6e", TPU), ("canary", GPU)):
        text = SPEC.format(name=f"chat-{name}", hardware=hardware)
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "suite.yaml").write_text(SUITE)
    suite, first = read_suite(tmp_path / "suite.yaml"), clock.now_utc()
    deployer = VirtualDeployer(clock=clock, mood=mood, pools=("h100", "v6e"), tpus={"v6e": "1x1"})

    def one(index: int) -> NightTold:
        clock.step_date((first + timedelta(days=index) - clock.now_utc()).total_seconds())
        night_id = new_run_id(clock.now_utc())
        night = Night(
            night_id=night_id,
            date=clock.now_utc().date(),
            suite=suite,
            subjects=Subjects(suite, tmp_path / "checkouts"),
            version=None,
            context=RunContext(
                deployer=deployer,
                store=store,
                clock=clock,
                progress=Silent(),
                models_dir="models",
            ),
            journal=Journal(tmp_path / "home", suite.name, night_id),
        )
        assert all(run.record.outcome.kind == "succeeded" for run in night.run(slots_of(suite)))
        kept = read_nights(store, suite.name)
        return told_of(kept, night_id, night.journal, suite.name, night.date)

    return lambda count: [one(index) for index in range(count)][-1]


def test_a_workload_on_two_pools_is_told_side_by_side(nights: Nights) -> None:
    told = nights(2)
    (table,) = pools_section(told).blocks
    assert isinstance(table, Table)
    assert [c.name for c in table.columns] == ["metric", "h100", "v6e"]
    rows = {row[0].text: row for row in table.rows}
    machines, e2e = rows["machine"], rows["e2e latency p50"]
    assert {"TTFT p50", "output throughput"} < rows.keys()
    assert [c.text for c in machines[1:]] == ["1 × H100", "1 × TPU-V6E"]
    # An H100 has 3.35 TB/s and 989 TFLOP/s, a v6e chip 1.64 TB/s and 918 TFLOP/s: it is slower.
    assert [c.tone for c in e2e[1:]] == ["good", "plain"]
    assert e2e[1].detail.endswith(", best") and "best" not in e2e[2].detail
    assert {badge.text for badge in night_report(told, "c").badges} == {"simulated"}
