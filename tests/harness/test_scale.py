"""A scaling experiment end to end on a machine whose law is known: what is run, kept and told.

The machine has two cores and trains in no time at all: a deployer hands back the steps that its
law says, and everything else is the real thing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import harness.cli.scale
from harness.cli.app import app
from harness.deployment import Announce, Deployment
from harness.errors import DeploymentError, SpecError
from harness.plan import RunPlan
from harness.pools import CPU, Inventory, NodePool
from harness.progress import Silent
from harness.runner import RunContext
from harness.scale.ask import ScaleAsk, cells_of, make_ask
from harness.scale.loop import measure_scaling, runs_before
from harness.spec import Hardware as Ask
from harness.spec import RunSpec
from results.environment import Hardware
from results.record import Placement
from results.samples import StepSamples
from results.scaling.efficiency import scaling_of
from results.startup import StartupTimeline
from results.store_files import FileStore
from results.testing import FakeClock, FakeRecordStore
from workloads.base import Device, Running, TrainLaunch
from workloads.params import EndpointWorkload, TorchWorkload

CORES = 2
TOKEN_S = 0.001  # of one rank on a core of its own
EXCHANGE = 0.1  # of a step, per doubling of the ranks


@dataclass
class Job:
    samples: StepSamples

    def wait(self, on_progress: Callable[[int, int, float], None]) -> StepSamples:
        on_progress(1, 1, 0.0)
        return self.samples


def steps_of(config: Any) -> StepSamples:
    n, steps = config["num_workers"], config["num_steps"]
    tokens = config["micro_batch_size"] * config["sequence_length"]
    talks = config.get("communication", "all") == "all" and n > 1
    alone_s = tokens * TOKEN_S * max(1.0, n / CORES)
    step_s = alone_s * (1.0 + EXCHANGE * np.log2(n) * talks)
    size = n * steps
    step = np.repeat(np.arange(steps), n)
    return StepSamples(
        step=step,
        rank=np.tile(np.arange(n), steps),
        start_s=step * step_s,
        duration_s=np.full(size, step_s),
        data_wait_s=np.zeros(size),
        num_tokens=np.full(size, tokens),
        loss=np.full(size, 3.0),
        memory_bytes=np.full(size, 1 << 20),
        is_warmup=step < config["num_warmup_steps"],
    )


@dataclass
class Machine:
    """A deployer. ``stop`` is asked before each job with (workers, how many came before)."""

    chips: int = 0

    def __post_init__(self) -> None:
        self.made: list[tuple[int, int, str]] = []
        self.stop: Callable[[int, int], None] = lambda workers, before: None

    def inventory(self) -> Inventory:
        pool = NodePool(
            name="here",
            accelerator="H100" if self.chips else CPU,
            num_nodes=1,
            chips_per_node=self.chips,
            cpus_per_node=8.0,
            memory_bytes_per_node=1 << 36,
        )
        return Inventory(pools=(pool,))

    @contextmanager
    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Device], Any], announce: Announce
    ) -> Iterator[Deployment]:
        device = plan.rungs[0].device
        launch = launch_for(device)
        assert isinstance(launch, TrainLaunch)
        n = launch.num_workers
        self.stop(n, len(self.made))
        self.made.append((n, launch.config["micro_batch_size"], plan.spec.name))
        hardware = Hardware(
            node="here", cpu_model="fake", num_cpus=CORES, memory_bytes=1, kernel="fake"
        )
        yield Deployment(
            running=Running(training=Job(steps_of(launch.config))),
            placement=Placement(
                pool="here",
                accelerator=device.accelerator,
                num_chips=device.num_chips,
                capacity="on-demand",
                nodes=("here",),
            ),
            hardware=(hardware,),
            startup=StartupTimeline(phases=(), ready_s=5.0),
            check=lambda: None,
            log_tail=lambda: (),
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def context(machine: Machine, tmp_path: Path) -> RunContext:
    return RunContext(
        deployer=machine,
        store=FakeRecordStore(),
        clock=FakeClock(),
        progress=Silent(),
        models_dir=str(tmp_path),
    )


def spec(**changes: Any) -> RunSpec:
    workload = TorchWorkload(num_workers=2, micro_batch_size=6, num_steps=8, cpus_per_worker=0.5)
    return RunSpec(name="train", workload=replace(workload, **changes))


def ask(base: RunSpec | None = None, **changes: Any) -> ScaleAsk:
    options: dict[str, Any] = {"mode": "weak", "num_rounds": 2, "control": None}
    options |= changes
    return make_ask(base or spec(), options.pop("workers", (1, 2, 4)), **options)


def test_rounds_go_up_and_down_and_each_size_has_its_control() -> None:
    cells = [(c.num_workers, c.round_index, c.is_control) for c in cells_of(ask())]
    up = [(1, 0, False), (2, 0, False), (2, 0, True), (4, 0, False), (4, 0, True)]
    down = [(n, 1, alone) for n, _, alone in reversed(up)]
    assert cells == up + down


def test_weak_keeps_the_share_and_strong_the_whole() -> None:
    def shares(mode: str, workers: tuple[int, ...]) -> list[int]:
        cells = cells_of(ask(mode=mode, workers=workers, num_rounds=1, control=False))
        return [c.spec.workload.micro_batch_size for c in cells]  # type: ignore[union-attr]

    assert shares("weak", (1, 2, 4)) == [6, 6, 6]
    assert shares("strong", (1, 3, 4, 12)) == [12, 4, 3, 1]


def test_strong_names_the_sizes_that_can_share() -> None:
    with pytest.raises(SpecError, match=r"12 sequences .* 5, 8 workers .* 1, 2, 3, 4, 6, 12"):
        ask(mode="strong", workers=(1, 5, 8))


def test_chips_follow_the_workers() -> None:
    base = replace(spec(), hardware=(Ask(accelerator="H100", num_chips=4),))
    cells = cells_of(ask(base, num_rounds=1))
    assert [c.spec.hardware[0].num_chips for c in cells] == [2, 4, 8]  # and no control
    odd = replace(base, hardware=(Ask(accelerator="H100", num_chips=3),))
    with pytest.raises(SpecError, match="no whole number"):
        cells_of(ask(odd))
    shaped = replace(base, hardware=(Ask(accelerator="TPU-V6E", topology="4x4"),))
    with pytest.raises(SpecError, match="topology"):
        ask(shaped)


def test_what_cannot_be_scaled_is_refused() -> None:
    served = RunSpec(name="serve", workload=EndpointWorkload(url="http://x", model="m"))
    with pytest.raises(SpecError, match="training workload"):
        ask(served)
    with pytest.raises(SpecError, match="two different sizes"):
        ask(workers=(4,))
    with pytest.raises(SpecError, match="two different sizes"):
        ask(workers=(4, 4))


def test_the_law_of_the_machine_is_found(context: RunContext) -> None:
    """Four ranks on two cores: half the speed for the host, 1.2 times the step for exchange."""
    runs = list(measure_scaling(ask(), context, "exp"))
    found = {s.num_workers: s for s in scaling_of(runs, "weak").sizes}
    assert found[2].efficiency.value == pytest.approx(1 / 1.1)
    assert found[4].efficiency.value == pytest.approx(0.5 / 1.2)
    assert found[4].host is not None and found[4].host.value == pytest.approx(0.5)
    assert found[4].together is not None and found[4].together.value == pytest.approx(1 / 1.2)
    assert found[4].is_oversubscribed and not found[2].is_oversubscribed
    loss = {p.name: p.share for p in found[4].loss}
    assert loss["communication"] == pytest.approx(0.5 - 0.5 / 1.2)
    assert found[4].startup_s == pytest.approx(5.0)
    records = list(context.store.scan().records)
    assert len(records) == 10 and {r.experiment_id for r in records} == {"exp"}


def test_what_was_measured_is_not_measured_again(context: RunContext, machine: Machine) -> None:
    asked = ask()

    def stop(workers: int, before: int) -> None:
        if before == 4:
            raise KeyboardInterrupt

    machine.stop = stop
    made = []
    with pytest.raises(KeyboardInterrupt):
        for run in measure_scaling(asked, context, "exp"):
            made.append(run)  # noqa: PERF402
    assert len(made) == 4
    machine.stop = lambda workers, before: None
    records = list(context.store.scan().records)
    assert len(records) == 5  # the interrupted one is a record too, and is made again
    before = runs_before(records, context.store, asked, "exp")
    assert {r.run_id for r in before} == {r.run_id for r in made}
    later = list(measure_scaling(asked, context, "exp", before))
    keys = [(r.num_workers, r.round_index, r.is_control) for r in (*made, *later)]
    assert keys == [c.key for c in cells_of(asked)]
    more = replace(asked, num_rounds=3)
    everything = list(context.store.scan().records)
    before = runs_before(everything, context.store, more, "exp")
    assert len(list(measure_scaling(more, context, "exp", before))) == 5


def test_another_question_is_no_resumption(context: RunContext) -> None:
    list(measure_scaling(ask(num_rounds=1), context, "exp"))
    records = list(context.store.scan().records)
    with pytest.raises(SpecError, match="another spec or --mode"):
        runs_before(records, context.store, ask(mode="strong"), "exp")
    with pytest.raises(SpecError, match="another spec or --mode"):
        runs_before(records, context.store, ask(spec(sequence_length=64)), "exp")
    with pytest.raises(SpecError, match="no run of that experiment"):
        runs_before([], context.store, ask(), "exp")


def test_a_size_that_fails_fails_once(context: RunContext, machine: Machine) -> None:
    def stop(workers: int, before: int) -> None:
        if workers == 4:
            raise DeploymentError("startup", "out of memory")

    machine.stop = stop
    runs = list(measure_scaling(ask(control=False), context, "exp"))
    assert [r.num_workers for r in runs] == [1, 2, 4, 2, 1]
    found = scaling_of(runs, "weak")
    assert found.sizes[2].faults == ("startup: out of memory",)
    assert found.sizes[1].efficiency.value == pytest.approx(1 / 1.1)


def test_a_size_without_a_place_is_refused_before_any_is_run(
    context: RunContext, machine: Machine
) -> None:
    with pytest.raises(SpecError, match="--workers 32 has no place"):
        list(measure_scaling(ask(workers=(1, 32)), context, "exp"))
    assert machine.made == []


# ---- the command ----

YAML = """
name: train
workload: {kind: torch, num_workers: 2, micro_batch_size: 6, num_steps: 8, cpus_per_worker: 0.5}
"""


@pytest.fixture
def call(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    @contextmanager
    def here(*_: Any) -> Iterator[Machine]:
        yield machine

    monkeypatch.setattr(harness.cli.scale, "deployer", here)
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "home"))
    (tmp_path / "spec.yaml").write_text(YAML)

    def run(*words: str) -> Result:
        spec, store = str(tmp_path / "spec.yaml"), str(tmp_path / "store")
        return CliRunner().invoke(app, ["scale", spec, "--store", store, "-q", *words])

    return run


def test_json_page_and_picture(call: Callable[..., Result], tmp_path: Path) -> None:
    picture = tmp_path / "curve.svg"
    words = ("--workers", "1,2,4", "--predict", "8,16,128", "--no-control")
    done = call(*words, "--json", "--picture", str(picture))
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema"] == "windtunnel.scale/1"
    assert document["n0"] == 1 and document["missing"] == 0
    sizes = {s["num_workers"]: s for s in document["sizes"]}
    assert sizes[4]["efficiency"]["value"] == pytest.approx(0.5 / 1.2)
    assert sizes[4]["oversubscribed"] is True
    predictions = document["extrapolation"]["predictions"]
    assert [p["n"] for p in predictions] == [8, 16, 128]
    assert all(p["efficiency"] is None and p["reason"] for p in predictions)
    assert picture.read_text().startswith("<svg")
    page = Path(document["report"]).read_text()
    assert "4 ranks with 4 threads shared 2 cores" in page


def test_the_table_says_what_shared_cores_did(call: Callable[..., Result]) -> None:
    done = call("--workers", "1,4", "--repeats", "2", "--no-page")
    assert done.exit_code == 0, done.output
    assert "efficiency: throughput per worker / the same at n₀ = 1" in done.stdout
    assert "4 ranks with 4 threads shared 2 cores" in done.stdout


def test_ctrl_c_tells_what_is_known_and_how_to_go_on(
    call: Callable[..., Result], machine: Machine, tmp_path: Path
) -> None:
    def stop(workers: int, before: int) -> None:
        if before == 3:
            raise KeyboardInterrupt

    machine.stop = stop
    options = ("--workers", "1,2,4", "--repeats", "2", "--no-page", "--no-control", "--json")
    done = call(*options)
    assert done.exit_code == 130
    first = json.loads(done.stdout)
    assert first["missing"] == 3 and len(first["runs"]) == 3
    assert f"--resume {first['experiment_id']}" in done.stderr
    machine.stop = lambda workers, before: None
    done = call(*options, "--resume", first["experiment_id"])
    assert done.exit_code == 0, done.output
    second = json.loads(done.stdout)
    assert second["missing"] == 0 and len(second["runs"]) == 6
    assert len(machine.made) == 6
    machine.inventory = None  # type: ignore[assignment] # told again, nothing is asked for
    third = json.loads(call(*options, "--resume", first["experiment_id"]).stdout)
    assert third["sizes"] == second["sizes"]
    assert {r["run_id"] for r in first["runs"]} < {r["run_id"] for r in second["runs"]}
    assert sum(1 for _ in FileStore(str(tmp_path / "store")).scan().records) == 7


def test_usage_and_failures_have_their_exit_codes(
    call: Callable[..., Result], machine: Machine
) -> None:
    assert call("--workers", "1,x").exit_code == 2
    assert call("--workers", "1,5", "--mode", "strong").exit_code == 2
    assert call("--resume", "20200101T000000Z-0000000000").exit_code == 2
    assert CliRunner().invoke(app, ["scale"]).exit_code == 2

    def stop(workers: int, before: int) -> None:
        if workers == 4:
            raise DeploymentError("startup", "out of memory")

    machine.stop = stop
    done = call("--workers", "1,2,4", "--no-page", "--no-control", "--repeats", "1")
    assert done.exit_code == 3
    assert "startup: out of memory" in done.stdout
