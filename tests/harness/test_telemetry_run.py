"""From a deployment that can be watched to a record that holds what was seen."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import harness.runner
from harness.deployment import Deployment
from harness.draft import Draft, open_draft, seal
from harness.fake_deployer import FakeDeployer
from harness.plan import make_plan
from harness.progress import Silent
from harness.runner import RunContext, run_spec
from harness.spec import RunSpec
from harness.telemetry.sampling import absent
from harness.telemetry.sources import beside_server, of_endpoint
from harness.testing import a_traffic, processes_of, simulated_launch
from results.client import ClientReport
from results.record import Failed, Placement, RunRecord, Succeeded
from results.samples import RequestSamples, Samples
from results.telemetry import Row, Telemetry
from results.testing import FakeClock, FakeRecordStore, make_requests
from workloads.base import Device, Launch, Running, ServerLaunch
from workloads.params import VllmWorkload
from workloads.traffic.spec import Traffic

pytestmark = pytest.mark.alone

SPEC = RunSpec(name="watched", workload=VllmWorkload(), traffic=a_traffic(60))


class ServesSimulated:
    """A workload that starts the simulated server and drives it for real."""

    def __init__(self, launch: ServerLaunch) -> None:
        self._launch = launch

    def launch(self, device: Device, models_dir: str) -> Launch:
        return self._launch

    def drive(
        self, running: Running, traffic: Traffic | None, on_progress: Callable[..., None]
    ) -> Samples:
        assert running.load is not None
        assert running.target is not None
        assert traffic is not None
        return running.load.drive(running.target, traffic, on_progress)


@pytest.fixture
def name() -> Iterator[str]:
    """Tells this test's server from all other processes; none of it may be left."""
    name = f"watched-{uuid.uuid4().hex}"
    yield name
    left = processes_of(name)
    for process in left:
        process.kill()
    assert not left


def run(
    name: str, store: FakeRecordStore, monkeypatch: pytest.MonkeyPatch, interval_s: float
) -> RunRecord:
    workload = ServesSimulated(simulated_launch(name=name))
    monkeypatch.setattr(harness.runner, "workload_for", lambda params: workload)
    deployer = FakeDeployer()
    context = RunContext(
        deployer=deployer,
        store=store,
        clock=deployer.clock,
        progress=Silent(),
        models_dir="models",
        telemetry_interval_s=interval_s,
    )
    (record,) = run_spec(SPEC, context)
    return record


def test_a_run_keeps_what_was_read_beside_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server, a real load, real psutil."""
    store = FakeRecordStore()
    record = run(name, store, monkeypatch, 0.05)
    assert not isinstance(record.outcome, Failed)  # invalid it may be, on a busy machine
    table = store.table(record, "telemetry")
    assert table is not None
    telemetry = Telemetry.from_table(table)
    requests = RequestSamples.from_table(store.table(record, "requests"))
    engine = telemetry.total("engine_cpu_s")
    assert engine is not None
    assert engine.t_s[0] < 0.0 + telemetry.resolution_s  # before the load's zero
    assert engine.t_s[-1] > np.nanmax(requests.done_s) - telemetry.resolution_s
    assert telemetry.resolution_s < 0.5
    values = {m.metric: m.value for m in record.measurements}
    assert values["host_cpu_busy_mean"] is not None
    assert 0.0 < values["host_cpu_busy_mean"] <= 1.0
    assert values["engine_cpus_mean"] is not None
    assert values["engine_cpus_mean"] > 0.0
    assert "device_energy_j" not in values


def test_no_interval_no_telemetry(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeRecordStore()
    record = run(name, store, monkeypatch, 0.0)
    assert not isinstance(record.outcome, Failed)
    assert store.table(record, "telemetry") is None
    assert "host_cpu_busy_mean" not in {m.metric for m in record.measurements}


# ---- sealing ----


def drafted(store: FakeRecordStore, telemetry: Telemetry, **changes: Any) -> Draft:
    clock = FakeClock()
    plan = make_plan(SPEC, FakeDeployer().inventory())
    draft = open_draft(SPEC, plan, repeat_index=0, experiment_id="e", store=store, clock=clock)
    deployment = Deployment(
        running=Running(),
        placement=Placement(
            pool="gpus", accelerator="H100", num_chips=2, capacity="spot", nodes=("n",)
        ),
        hardware=(),
        startup=None,
        check=lambda: None,
        log_tail=lambda: (),
    )
    draft = replace(draft, deployment=deployment, samples=make_requests(40), telemetry=telemetry)
    return replace(draft, **changes)


def test_what_disagrees_is_a_doubt_of_the_record() -> None:
    store = FakeRecordStore()
    rows = [Row(t, "vllm", "vllm:num_preemptions", t + 1.0, "0/0") for t in (-1.0, 41.0)]
    report = ClientReport(dialect="full", max_in_flight=3, workers=(), origin_s=12.0)
    draft = drafted(store, Telemetry.of(rows), client=report)
    record = seal(draft, Succeeded(), store=store, clock=FakeClock())
    assert record.client == report
    assert isinstance(record.outcome, Succeeded)  # said, and no reason to throw the run away
    codes = {d.code for d in record.doubts}
    assert {"preemptions", "no_device_telemetry"} <= codes
    (found,) = [m for m in record.measurements if m.metric == "server_preemptions"]
    assert found.value == pytest.approx(np.nanmax(make_requests(40).done_s))  # one a second
    assert store.table(record, "telemetry") is not None


def test_telemetry_that_could_not_be_had_leaves_the_run_valid() -> None:
    store = FakeRecordStore()
    draft = drafted(store, absent(("vllm", "host"), 0.0, "sampling could not be begun: no room"))
    record = seal(draft, Succeeded(), store=store, clock=FakeClock())
    assert isinstance(record.outcome, Succeeded)
    (found,) = [m for m in record.measurements if m.metric == "host_cpu_busy_mean"]
    assert found.value is None


# ---- which sources ----


def names(sources: Any) -> list[str]:
    return [source.name for source in sources]


def test_which_sources_are_read_where() -> None:
    assert names(beside_server("http://10.0.0.7:8000", "cpu")) == ["vllm", "host"]
    assert names(beside_server("http://10.0.0.7:8000", "gpu")) == ["vllm", "host", "nvml"]
    assert names(beside_server("http://10.0.0.7:8000", "tpu")) == ["vllm", "host", "tpu"]
    assert names(of_endpoint("https://api.example.org/v1")) == ["vllm"]
    assert names(of_endpoint("http://localhost:8000")) == ["vllm", "host", "nvml", "tpu"]


def test_gpus_that_the_engine_may_not_see_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    fake = SimpleNamespace(NvmlSampler=lambda visible: asked.append(visible))
    monkeypatch.setattr("harness.telemetry.sources.NvmlSampler", fake.NvmlSampler)
    (nvml,) = [
        s for s in beside_server("http://h:1", "gpu", visible_gpus="2,3") if s.name == "nvml"
    ]
    nvml.open()
    assert asked == ["2,3"]
