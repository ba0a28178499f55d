"""A training rank reads its own GPUs while its loop runs: from a fake NVML to the record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.deployment import Deployment
from harness.draft import open_draft, seal
from harness.fake_deployer import FakeDeployer
from harness.on_ray.train_log import TrainLog
from harness.on_ray.train_news import RankNews
from harness.on_ray.train_rank import begin_watch
from harness.plan import make_plan
from harness.spec import RunSpec
from harness.telemetry.nvml import NvmlSampler
from harness.telemetry.nvml_fake import FakeNvml
from results.clock import SystemClock
from results.record import Placement, RunRecord, Succeeded
from results.samples import StepSamples
from results.telemetry import READ_S, Telemetry
from results.testing import FakeClock, FakeRecordStore
from workloads.base import Running, TrainStep
from workloads.params import TorchWorkload

WATTS = 300.0  # of each device
CLOCK = SystemClock()


class Watched:
    """What one rank of two GPUs tells: three steps of 1000 tokens, the first to warm up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        zero_s = CLOCK.monotonic_s()
        now_s = lambda: CLOCK.monotonic_s() - zero_s  # noqa: E731
        library = FakeNvml(8, energy_j=lambda _: 1e6 + WATTS * now_s())
        monkeypatch.setattr(
            "harness.telemetry.sources.NvmlSampler", lambda visible: NvmlSampler(visible, library)
        )
        watch = begin_watch([2, 5], now_s, 0.02)
        steps = []
        for number in range(3):
            self._await_reads(library, 2)
            start_s = now_s()
            self._await_reads(library, 5)
            took_s = now_s() - start_s
            steps.append(
                TrainStep(number, start_s, took_s, 0.0, 1000, 3.0 - number, -1, number == 0)
            )
        self._await_reads(library, 2)
        self.telemetry = watch.stop()
        self.log = TrainLog(1, zero_s=0.0)
        told = RankNews(0, "n", 1, now_s(), 0.0, tuple(steps), attempt=0, telemetry=self.telemetry)
        self.log.add([told], arrived_at_s=now_s())

    def _await_reads(self, library: FakeNvml, num: int) -> None:
        wanted = library.asked.count("energy") + 2 * num
        deadline_s = CLOCK.monotonic_s() + 30.0
        while library.asked.count("energy") < wanted:
            assert CLOCK.monotonic_s() < deadline_s
            CLOCK.sleep(0.005)


def sealed(samples: StepSamples, telemetry: Telemetry | None) -> tuple[RunRecord, FakeRecordStore]:
    store, clock = FakeRecordStore(), FakeClock()
    spec = RunSpec(name="drawn", workload=TorchWorkload())
    plan = make_plan(spec, FakeDeployer().inventory())
    draft = open_draft(spec, plan, repeat_index=0, experiment_id="e", store=store, clock=clock)
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
    draft = replace(draft, deployment=deployment, samples=samples, telemetry=telemetry)
    return seal(draft, Succeeded(), store=store, clock=clock), store


def test_a_rank_reads_its_own_gpus_and_a_record_tells_what_a_token_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    samples, telemetry = watched.log.samples(), watched.log.telemetry()
    assert telemetry is not None
    assert set(telemetry.series("device_energy_j")) == {
        ("nvml", "0", "gpu=2"),
        ("nvml", "0", "gpu=5"),
    }
    record, store = sealed(samples, telemetry)
    by: dict[str, Any] = {m.metric: m for m in record.measurements}
    window_s = samples.start_s[2] + samples.duration_s[2] - samples.start_s[1]
    # A reading is placed in the middle of the time that it took.
    blur_s = 2 * float(telemetry.value[telemetry.name == READ_S].max())
    energy = by["device_energy_j"]
    assert energy.value == pytest.approx(2 * WATTS * window_s, abs=2 * WATTS * blur_s + 0.01)
    assert energy.low < energy.value < energy.high
    assert by["energy_per_token_j"].value == pytest.approx(energy.value / 2000)
    assert by["device_power_mean_w"].value == pytest.approx(701.0)  # the fake's own, of two
    kept = store.table(record, "telemetry")
    assert kept is not None and kept.num_rows == telemetry.num_rows


def test_without_readings_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Watched(monkeypatch).log.samples()
    record, store = sealed(samples, None)
    (per_token,) = [m for m in record.measurements if m.metric == "energy_per_token_j"]
    assert per_token.value is None
    assert per_token.reason == "nothing was read of the devices"
    assert store.table(record, "telemetry") is None


def test_readings_of_a_later_attempt_lie_on_the_axis_of_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telemetry = Watched(monkeypatch).telemetry
    log = TrainLog(1, zero_s=0.0)
    log.add([RankNews(0, "n", 1, 1.0, 0.0, (), attempt=0)], arrived_at_s=1.0)
    log.add([RankNews(0, "n", 2, 1.0, 0.0, (), attempt=1, telemetry=telemetry)], arrived_at_s=51.0)
    moved = log.telemetry()
    assert moved is not None
    assert (moved.t_s - telemetry.t_s).tolist() == pytest.approx([50.0] * telemetry.num_rows)
