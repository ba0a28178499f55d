"""Real Ray Train on real raylets: training, and every way in which it can end.

One cluster for the module: a head without CPUs and a node of a pretended pool with two GPUs.
Where training itself is not the point, the ranks run a loop that needs no torch, which starts in a
third of the time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from harness.errors import (
    DeadlineExceeded,
    DeploymentError,
    EngineDied,
    NodeLost,
    OutOfMemory,
    TrainingHung,
)
from harness.faults import Fault, Restarts
from harness.on_ray.train_actor import RayTrainingRun, start_training
from harness.on_ray.train_coach import Care
from results.clock import SystemClock
from results.goodput import Part
from results.samples import StepSamples
from workloads.base import Device, Running, TrainLaunch
from workloads.batches import Feed
from workloads.errors import TrainingDataUnusable
from workloads.params import TokenFiles, TorchWorkload
from workloads.token_files import documents
from workloads.torch_train import TorchTraining

START_S = 150.0  # generous: two cores may be shared with other suites
CLOCK = SystemClock()

LOOPS = '''
import time

from workloads.base import TrainFacts, TrainStep


def _steps(config, rank, first=0):
    for step in range(first, config["num_steps"]):
        started = rank.now_s()
        time.sleep(0.02)
        rank.report(TrainStep(step, started, rank.now_s() - started, 0.0, 1, 1.0, -1, False))


def _begin(config, rank):
    rank.report(TrainFacts({"num_steps": config["num_steps"], "packages": {}}))
    with rank.phase("imports"):
        pass


def steps(config, rank):
    _begin(config, rank)
    _steps(config, rank)


def rank_one_raises(config, rank):
    _begin(config, rank)
    _steps({"num_steps": 3}, rank)
    if rank.rank == 1:
        raise ValueError("the loss is not a number")
    rank.from_rank_zero("a peer that will never come")


def raises_at_once(config, rank):
    raise RuntimeError(f"rank {rank.rank} has no data")


def peers_break_first(config, rank):
    """As over gloo: rank 0 notices at once that rank 1 is gone, and fails."""
    import socket

    _begin(config, rank)
    if rank.rank == 0:
        server = socket.create_server((rank.address, 0))
        rank.from_rank_zero(f"{rank.address} {server.getsockname()[1]}")
        peer, _ = server.accept()
        _steps({"num_steps": 1}, rank)
        if not peer.recv(1):
            raise ConnectionError("connection closed by peer")
    else:
        host, port = rank.from_rank_zero("").split()
        peer = socket.create_connection((host, int(port)))
        _steps({"num_steps": 1}, rank)
        time.sleep(3600)


def resumes(config, rank):
    """Adds up step numbers, and saves the sum every five steps; no torch."""
    import json
    from pathlib import Path

    _begin(config, rank)
    saved = Path(config["checkpoint"])
    first, total = 0, 0
    if rank.attempt > 0 and saved.exists():
        asked = rank.now_s()
        first, total = json.loads(saved.read_text())
        time.sleep(0.05)
        rank.report(TrainFacts({"checkpoint_restore_s": (rank.now_s() - asked,)}))
    for step in range(first, config["num_steps"]):
        started = rank.now_s()
        rank.from_rank_zero("all are here")  # as a collective: without its peer no rank goes on
        time.sleep(0.05)
        total += step
        ended = rank.now_s()
        if rank.rank == 0 and (step + 1) % 5 == 0:
            draft = saved.with_suffix(".draft")
            draft.write_text(json.dumps([step + 1, total]))
            draft.replace(saved)
        took = rank.now_s() - ended
        rank.report(
            TrainStep(step, started, ended - started, 0.0, 1, float(total), -1, False,
                      checkpoint_s=took if (step + 1) % 5 == 0 else 0.0)
        )


def hangs(config, rank):
    _begin(config, rank)
    _steps({"num_steps": 3}, rank)
    if rank.rank == 1:
        _stands_in_the_way()
    rank.from_rank_zero("all but one are here")


def _stands_in_the_way():
    time.sleep(3600)


def outgrows_its_limit(config, rank):
    """A real rank that holds ever more, under RLIMIT_AS: PyTorch is refused what it asks for."""
    import resource

    import torch
    from workloads.torch_step import memory_told

    _begin(config, rank)
    _steps({"num_steps": 3}, rank)
    rank.from_rank_zero("all have made their first step")
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 256 * 2**20,) * 2)
    held = []
    with memory_told(rank.rank, torch.device("cpu")):
        while True:
            held.append(torch.zeros(64 * 2**20, dtype=torch.uint8))


def fills_a_cgroup(config, rank):
    """Rank 1 alone goes into a cgroup with little memory, says so, and fills it."""
    from pathlib import Path

    _begin(config, rank)
    if rank.rank == 1:
        Path(config["cgroup"], "cgroup.procs").write_text("0")
    _steps({"num_steps": 30}, rank)  # half a second: the next message tells of the cgroup
    time.sleep(0.5)
    _steps({"num_steps": 60}, rank, 30)
    if rank.rank == 1:
        held = []
        while True:
            held.append(bytes(2**20) + b"x")
    time.sleep(3600)


def never_steps(config, rank):
    _begin(config, rank)
    time.sleep(3600)

'''


@dataclass(frozen=True)
class Held:
    """What the deployer hands over: a group that is held, and its nodes."""

    placement_group: PlacementGroup
    bundle_node_ids: tuple[str, ...]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("loops")
    (folder / "loops_of_this_test.py").write_text(LOOPS, encoding="utf-8")
    root = Path(__file__).parents[2]
    with pytest.MonkeyPatch.context() as patch:
        # The raylets' workers inherit it: they import the loops, and the project.
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{root}")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": 100 * 2**20,
            },
        )
        try:
            cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=100 * 2**20)
            ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def held_bundles(bundles: list[dict[str, float]]) -> Iterator[Held]:
    group = placement_group(bundles, strategy="PACK")
    try:
        ray.get(group.ready(), timeout=60)
        nodes = placement_group_table(group)["bundles_to_node_id"]
        yield Held(group, tuple(nodes[index] for index in range(len(bundles))))
    finally:
        remove_placement_group(group)


@pytest.fixture(scope="module")
def held(cluster: Cluster) -> Iterator[Held]:
    """Two bundles with a pretended GPU each, held for the whole module."""
    with held_bundles([{"CPU": 1, "GPU": 1}] * 2) as held:
        yield held


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup of our own with 192 MiB and no swap, where this process may make one."""
    base = Path("/sys/fs/cgroup")
    is_v1 = (base / "memory/memory.limit_in_bytes").exists()
    made = (base / "memory" if is_v1 else base) / f"windtunnel-test-{os.getpid()}"
    limit = made / ("memory.limit_in_bytes" if is_v1 else "memory.max")
    try:
        made.mkdir()
        limit.write_text(str(192 * 2**20))
    except OSError as error:
        if made.is_dir():
            made.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield made
    finally:
        assert wait_until(lambda: not (made / "cgroup.procs").read_text().split())
        made.rmdir()


def launch_of(loop: str, num_steps: int = 100_000, **config: Any) -> TrainLaunch:
    return TrainLaunch(
        train_loop=f"loops_of_this_test:{loop}",
        config={"num_steps": num_steps, **config},
        num_workers=2,
        cpus_per_worker=1.0,
        backend="gloo",
    )


def started(
    launch: TrainLaunch, held: Held, deadline_s: float = START_S, care: Care | None = None
) -> Any:
    return start_training(
        launch,
        held,
        clock=CLOCK,
        deadline_s=deadline_s,
        announce=lambda *_: None,
        care=care,
    )


def wait_until(done: Callable[[], bool], patience_s: float = 20.0) -> bool:
    deadline_s = CLOCK.monotonic_s() + patience_s
    while not done():
        if CLOCK.monotonic_s() > deadline_s:
            return False
        CLOCK.sleep(0.05)
    return True


def pids(run: RayTrainingRun) -> tuple[int, ...]:
    return tuple(pid for _, pid in run.processes.values())


def all_gone(left: tuple[int, ...]) -> bool:
    """Ray kills by RPC, and the kernel reaps: soon, not at once."""
    return wait_until(lambda: not any(psutil.pid_exists(pid) for pid in left))


def train_workers() -> list[int]:
    """Ray Train's worker processes that descend from this one."""
    return [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if "RayTrainWorker" in " ".join(_cmdline(process))
    ]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


# What a loop raises it would raise again: such a job is not started again, however patient one is.
PATIENT = Care(restarts=Restarts(max_restarts=3))


def quietly(done: int, total: int, elapsed_s: float) -> None: ...


# --- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(held: Held) -> tuple[RayTrainingRun, StepSamples, list[tuple[int, int]], float]:
    """One real training of the tiny preset by two gloo workers, on the pretended GPU pool."""
    pytest.importorskip("torch")
    workload = TorchTraining(TorchWorkload(num_steps=12, num_warmup_steps=2, learning_rate=1e-3))
    device = Device(kind="cpu", accelerator="H100", num_chips=2)
    progress: list[tuple[int, int]] = []
    with started(workload.launch(device, ""), held) as run:
        gpus_free = ray.available_resources().get("GPU", 0.0)
        samples = workload.drive(
            Running(training=run), None, lambda done, total, _: progress.append((done, total))
        )
        run.check()
    assert all_gone(pids(run))
    return run, samples, progress, gpus_free


@pytest.mark.ray
@pytest.mark.torch
class TestTraining:
    def test_the_loss_falls(self, trained: Any) -> None:
        _, samples, _, _ = trained
        by_step = samples.loss.reshape(12, 2).mean(axis=1)
        assert by_step[0] == pytest.approx(np.log(1024), abs=0.3)  # it knows nothing yet
        assert by_step[-1] < by_step[0] - 0.3

    def test_every_step_of_every_rank_comes_back(self, trained: Any) -> None:
        _, samples, progress, _ = trained
        assert samples.step.tolist() == [s for s in range(12) for _ in range(2)]
        assert samples.rank.tolist() == [0, 1] * 12
        assert samples.num_tokens.sum() == 12 * 2 * 4 * 128
        assert samples.is_warmup.tolist() == [s < 2 for s in range(12) for _ in range(2)]
        assert progress[-1] == (12, 12)
        assert (samples.data_wait_s > 0).all()
        assert (samples.data_wait_s < samples.duration_s).all()
        assert (samples.memory_bytes > 50 * 2**20).all()  # a process with torch in it
        for rank in (0, 1):
            mine = samples.rank == rank
            ends = samples.start_s[mine] + samples.duration_s[mine]
            assert (samples.start_s[mine][1:] >= ends[:-1]).all()

    def test_replicas_agree_and_shards_differ(self, trained: Any) -> None:
        run, samples, _, _ = trained
        assert run.facts[0]["parameter_digest"] == run.facts[1]["parameter_digest"]
        assert (samples.loss[0::2] != samples.loss[1::2]).all()

    def test_two_ranks_equal_one_process_with_both_batches(self, trained: Any) -> None:
        """The reference is plain torch in this process: no DDP, no Ray, the batches end to end."""
        import torch

        from workloads.torch_data import TokenStream
        from workloads.torch_model import Transformer
        from workloads.torch_shape import shape_of

        run, samples, _, _ = trained
        torch.manual_seed(0)
        model = Transformer(shape_of("tiny"), 128)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1
        )
        stream = TokenStream.make(1024, 0)
        losses = []
        for step in range(12):
            both = np.concatenate([stream.batch(step, rank, 4, 128) for rank in (0, 1)])
            tokens = torch.from_numpy(both)
            picked = torch.log_softmax(model(tokens[:, :-1]), dim=-1).gather(
                2, tokens[:, 1:].unsqueeze(2)
            )
            loss = -picked.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert samples.loss.reshape(12, 2).mean(axis=1) == pytest.approx(losses, rel=2e-4)
        norm = sum(p.detach().double().pow(2).sum().item() for p in model.parameters()) ** 0.5
        assert run.facts[0]["parameter_norm"] == pytest.approx(norm, rel=1e-5)

    def test_the_start_is_told_in_phases(self, trained: Any) -> None:
        run, _, _, _ = trained
        assert [phase.name for phase in run.phases] == [
            "controller start",
            "worker start",
            "imports",
            "process group",
            "model build",
            "data",
            "first step",
        ]
        for phase in run.phases:
            assert 0 <= phase.start_s <= phase.end_s <= run.ready_s
            assert 0 < phase.resolution_s < 5.0
        imports = run.phases[2]
        assert imports.duration_s > 0.5  # torch is not imported faster than that
        assert run.phases[-1].end_s == run.ready_s

    def test_what_runs_is_said_and_the_pretended_chips_are_taken(self, trained: Any) -> None:
        import torch

        run, _, _, gpus_free = trained
        assert run.packages["torch"] == torch.__version__
        assert run.resolved["device"] == "cpu"
        assert run.resolved["backend"] == "gloo"
        assert run.resolved["num_parameters"] == 1_000_576
        assert gpus_free == 0.0

    def test_the_log_tail_is_for_people(self, trained: Any) -> None:
        run, _, _, _ = trained
        tail = run.log_tail()
        assert any("rank 0" in line and "imports in" in line for line in tail)
        assert any("step 11 took" in line for line in tail)


# --- endings -------------------------------------------------------------------------------------


@pytest.mark.ray
class TestEndings:
    def test_a_rank_that_raises(self, held: Held) -> None:
        with (
            pytest.raises(EngineDied, match="rank 1 raised ValueError: the loss is not") as caught,
            started(launch_of("rank_one_raises"), held, care=PATIENT) as run,
        ):
            assert len(pids(run)) == 2
            run.wait(quietly)
        assert caught.value.stage == "load"
        assert any("in rank_one_raises" in line for line in caught.value.log_tail)
        assert all_gone(pids(run))

    def test_a_rank_that_raises_before_its_first_step(self, held: Held) -> None:
        with (
            pytest.raises(EngineDied, match=r"RuntimeError: rank \d has no data") as caught,
            started(launch_of("raises_at_once"), held),
        ):
            pytest.fail("no step was made, and yet it is said to run")
        assert caught.value.stage == "startup"

    def test_a_job_that_hangs_says_where_each_rank_stands(self, held: Held) -> None:
        launch = replace(launch_of("hangs"), watchdog_s=2.0)
        with (
            pytest.raises(TrainingHung, match=r"no rank has made a step for \d+ s") as caught,
            started(launch, held) as run,
        ):
            run.wait(quietly)
        assert (caught.value.stage, caught.value.error) == ("load", "hang")
        text = "\n".join(caught.value.log_tail)
        before, after = text.index("rank 0:"), text.index("rank 1:")
        assert "from_rank_zero" in text[before:after]
        assert "_stands_in_the_way" in text[after:]
        assert all_gone(pids(run))

    def test_the_deadline(self, held: Held) -> None:
        began_s = CLOCK.monotonic_s()
        with (
            pytest.raises(DeadlineExceeded, match=r"rank 0 (is after|has)") as caught,
            started(launch_of("never_steps"), held, deadline_s=6.0),
        ):
            pytest.fail("no rank makes a step")
        assert caught.value.stage == "startup"
        assert CLOCK.monotonic_s() - began_s < 6.0 + 30.0
        assert wait_until(lambda: not train_workers())

    @pytest.mark.chaos
    def test_a_killed_worker_is_the_cause_and_not_its_peer(self, held: Held) -> None:
        with started(launch_of("peers_break_first"), held) as run:
            run.check()
            os.kill(run.processes[1][1], signal.SIGKILL)
            with pytest.raises(EngineDied, match="process of rank 1 died: killed from") as caught:
                run.wait(quietly)
            with pytest.raises(EngineDied, match="process of rank 1 died"):
                run.check()
        assert caught.value.stage == "load"
        assert "connection closed" not in caught.value.message
        assert "not for want of memory" in caught.value.message
        assert any("connection closed by peer" in line for line in caught.value.log_tail)
        assert all_gone(pids(run))

    @pytest.mark.torch
    def test_memory_that_is_refused_is_told_with_the_peak(self, held: Held) -> None:
        pytest.importorskip("torch")
        with (
            pytest.raises(
                OutOfMemory, match=r"rank \d ran out of memory .* GiB were held"
            ) as caught,
            started(launch_of("outgrows_its_limit"), held, care=PATIENT) as run,
        ):
            run.wait(quietly)
        assert (caught.value.stage, caught.value.error) == ("load", "out_of_memory")
        assert all_gone(pids(run))

    @pytest.mark.chaos
    def test_a_rank_that_the_kernel_kills_for_its_memory(self, held: Held, cgroup: Path) -> None:
        launch = launch_of("fills_a_cgroup", cgroup=str(cgroup))
        with (
            pytest.raises(OutOfMemory, match="kernel killed the process of rank 1") as caught,
            started(launch, held, care=PATIENT) as run,
        ):
            run.wait(quietly)
        assert "its cgroup at most" in caught.value.message
        assert all_gone(pids(run))

    def test_an_interrupt_leaves_no_worker_and_the_group_stays(self, held: Held) -> None:
        def interrupt(done: int, total: int, elapsed_s: float) -> None:
            if done > 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), started(launch_of("steps"), held) as run:
            assert set(train_workers()) == set(pids(run))
            run.wait(interrupt)
        assert all_gone(pids(run))
        assert placement_group_table(held.placement_group)["state"] == "CREATED"

    def test_an_interrupt_while_starting(self, held: Held) -> None:
        def interrupt(name: str, sentence: str) -> None:
            if "imports" in sentence:
                raise KeyboardInterrupt

        with (
            pytest.raises(KeyboardInterrupt),
            start_training(
                launch_of("never_steps"),
                held,
                clock=CLOCK,
                deadline_s=START_S,
                announce=interrupt,
            ),
        ):
            pytest.fail("it was interrupted before its first step")
        assert wait_until(lambda: not train_workers())


# --- starting again ------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.chaos
class TestStartingAgain:
    def test_a_killed_worker_is_replaced_and_the_job_goes_on_from_its_checkpoint(
        self, held: Held, tmp_path: Path
    ) -> None:
        launch = launch_of("resumes", 24, checkpoint=str(tmp_path / "saved"))
        care = Care(
            restarts=Restarts(max_restarts=1),
            faults=(Fault(kind="kill_worker", at_step=7, rank=1),),
        )
        with started(launch, held, care=care) as run:
            before = pids(run)
            samples = run.wait(quietly)
            after = pids(run)
        assert before != after
        assert all_gone((*before, *after))
        # The sum of 0 … 23 is right only if no step was left out and none counted twice.
        assert samples.loss[samples.step == 23].tolist() == [276.0, 276.0]
        again = samples.attempt == 1
        first = int(samples.step[again].min())
        assert first in (5, 10)  # the last checkpoint before the blow fell
        assert samples.step[again].tolist() == [s for s in range(first, 24) for _ in range(2)]
        assert samples.step[~again].max() >= 7
        assert samples.start_s[again].min() > samples.start_s[~again].max()

        goodput = run.goodput()
        assert goodput is not None
        assert sum(goodput.seconds.values()) == pytest.approx(goodput.wall_s)
        assert (goodput.num_restarts, goodput.num_steps_kept) == (1, 24)
        lost = len(set(samples.step[~again].tolist()) - set(range(first)))
        assert goodput.num_steps_lost == lost
        assert goodput.seconds[Part.WASTED_PROGRESS] >= lost * 0.05
        assert goodput.seconds[Part.CHECKPOINT_RESTORE] >= 0.05
        assert 24 * 0.05 <= goodput.seconds[Part.PRODUCTIVE] < goodput.wall_s
        (recovery_s,) = goodput.recoveries_s
        assert 0.05 < recovery_s < 60.0
        one, two = run.attempts()
        assert one["struck_by"] == ["kill_worker@step=7,rank=1"]
        assert one["cause"] == "worker_died"
        assert (two["first_step"], two["last_step"], two["cause"]) == (first, 23, "")
        assert recovery_s == pytest.approx(two["first_step_at_s"] - one["struck_at_s"], abs=1.0)

    def test_a_lost_node_is_gone_on_without(self, cluster: Cluster, tmp_path: Path) -> None:
        victim = cluster.add_node(
            num_cpus=1, resources={"victim": 1}, object_store_memory=100 * 2**20
        )
        safe = cluster.add_node(num_cpus=1, resources={"safe": 1}, object_store_memory=100 * 2**20)
        care = Care(
            restarts=Restarts(max_restarts=1, min_workers=1),
            faults=(Fault(kind="kill_node", at_step=6, rank=1),),
        )
        launch = launch_of("resumes", 60, checkpoint=str(tmp_path / "saved"))
        try:
            with (
                held_bundles([{"CPU": 1, "safe": 1}, {"CPU": 1, "victim": 1}]) as held,
                started(launch, held, care=care) as run,
            ):
                struck = run.processes[1][0]
                samples = run.wait(quietly)
            first, second = run.attempts()
            assert struck == victim.node_id
            assert struck in first["message"]
            assert (first["cause"], first["num_workers"]) == ("node_lost", 2)
            assert second["num_workers"] == 1
            assert second["first_step"] % 5 == 0
            assert samples.loss[samples.step == 59].tolist() == [1770.0]
            assert set(samples.rank[samples.attempt == 1].tolist()) == {0}
            goodput = run.goodput()
            assert goodput is not None
            assert goodput.num_restarts == 1
            assert sum(goodput.seconds.values()) == pytest.approx(goodput.wall_s)
        finally:
            cluster.remove_node(victim, allow_graceful=False)
            cluster.remove_node(safe)

    def test_the_drivers_own_node_is_not_struck(self, cluster: Cluster) -> None:
        class Here:
            bundle_node_ids = (ray.get_runtime_context().get_node_id(),)

            class placement_group:  # noqa: N801
                bundle_specs: tuple[dict[str, float], ...] = ({"CPU": 2.0},)

        care = Care(faults=(Fault(kind="preempt_pool", at_s=1.0),))
        with (
            pytest.raises(DeploymentError, match=r"preempt_pool@s=1 would strike the node"),
            started(launch_of("steps"), Here(), care=care),  # type: ignore[arg-type]
        ):
            pytest.fail("it would end itself")


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.parametrize(("kind", "num_files"), [("parquet", 3), ("arrow", 1)])
def test_documents_come_out_of_files_in_order_while_all_cpus_are_held(
    kind: str, num_files: int, held: Held, tmp_path: Path
) -> None:
    """Two ranks' documents, against the lists that were written."""
    generator = np.random.default_rng(num_files)
    written = [
        [generator.integers(0, 1024, generator.integers(0, 9)).tolist() for _ in range(300)]
        for _ in range(num_files)
    ]
    for index, rows in enumerate(written):
        table = pa.table({"other": [0] * len(rows), "tokens": pa.array(rows, pa.list_(pa.int32()))})
        path = str(tmp_path / f"part-{index}.{kind}")
        if kind == "parquet":
            pyarrow.parquet.write_table(table, path, row_group_size=70)
        else:
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=70)
    files = TokenFiles(path=str(tmp_path), kind=kind)  # type: ignore[arg-type]
    read = [
        [row.tolist() for row in documents(files, 1024, Feed(index=rank, num=2), 2)]
        for rank in (0, 1)
    ]
    if num_files == 1:  # fewer files than ranks: every second document
        assert read == [written[0][0::2], written[0][1::2]]
    else:  # whole files in turn
        assert read == [written[0] + written[2], written[1]]
    if kind == "arrow":
        with pytest.raises(TrainingDataUnusable, match="the preset's vocabulary ends at 99"):
            list(documents(files, 100, Feed(index=0, num=1), 1))


@pytest.mark.ray
@pytest.mark.chaos
def test_a_node_that_is_lost(cluster: Cluster) -> None:
    victim = cluster.add_node(num_cpus=1, resources={"victim": 1}, object_store_memory=100 * 2**20)
    safe = cluster.add_node(num_cpus=1, resources={"safe": 1}, object_store_memory=100 * 2**20)
    try:
        with (
            held_bundles([{"CPU": 1, "safe": 1}, {"CPU": 1, "victim": 1}]) as held,
            pytest.raises(NodeLost, match=victim.node_id) as caught,
            started(launch_of("peers_break_first"), held) as run,
        ):
            assert {node for node, _ in run.processes.values()} == set(held.bundle_node_ids)
            cluster.remove_node(victim, allow_graceful=False)
            run.wait(quietly)
        assert caught.value.stage == "load"
        assert all_gone(pids(run))
    finally:
        cluster.remove_node(safe)
