"""The ladder on Ray's real scheduler, over pretended pools with a TPU slice of two hosts."""

from __future__ import annotations

import importlib.util
import math
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet
import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.errors import PlacementTimedOut
from harness.on_ray.cluster import ClusterHandle, ray_cluster
from harness.on_ray.inventory import free_by_node, live_nodes, read_inventory
from harness.on_ray.placement import Placed, place
from harness.on_ray.room import fits
from harness.plan import Bundle, Rung, RunPlan, make_plan
from harness.pools import Capacity, NodePool, VirtualCluster, VirtualPool
from harness.ray_deployer import RayDeployer
from harness.spec import Deadlines, Hardware, RunSpec
from results.clock import SystemClock
from results.samples import StepSamples
from workloads.base import Device
from workloads.params import EndpointWorkload, JaxWorkload, TokenFiles
from workloads.registry import workload_for
from workloads.torch_data import TokenStream

CLOCK = SystemClock()

POOLS = VirtualCluster(
    pools=(
        VirtualPool(
            name="a",
            accelerator="H100",
            chips_per_node=1,
            cpus_per_node=2,
            capacity=Capacity.RESERVATION,
            zone="z1",
            machine_type="a3-highgpu-2g",
        ),
        VirtualPool(name="b", accelerator="H100", chips_per_node=1, capacity=Capacity.SPOT),
        VirtualPool(
            name="tpu",
            accelerator="TPU-V6E",
            topology="2x4",
            chips_per_node=4,
            capacity=Capacity.FLEX_START,
        ),
        VirtualPool(name="doomed", cpus_per_node=3),  # for the one test that kills its node
    )
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterHandle]:
    with ray_cluster("local", POOLS) as handle:
        yield handle


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def announce(said: list[str]) -> Callable[[str, str], None]:
    def listen(phase: str, sentence: str) -> None:
        assert phase == "placement"
        said.append(sentence)

    return listen


def pool(name: str) -> NodePool:
    return next(p for p in read_inventory().pools if p.name == name)


def rung(of: NodePool, *, max_wait_s: float = 60.0, strategy: str = "PACK", **bundle: Any) -> Rung:
    num_bundles = bundle.pop("num_bundles", 1)
    asked = Bundle(**({"cpus": 1.0} | bundle))
    return Rung(
        pool=of,
        capacity=of.capacity,
        bundles=(asked,) * num_bundles,
        strategy=strategy,
        max_wait_s=max_wait_s,
        device=Device(kind="cpu", accelerator=of.accelerator, num_chips=of.num_chips),
    )


def plan(*rungs: Rung) -> RunPlan:
    spec = RunSpec(name="p", workload=EndpointWorkload(url="http://127.0.0.1:1", model="m"))
    return RunPlan(spec=spec, rungs=rungs, workload_hash="0" * 16, measuring_s=None)


def free(resource: str, of: str) -> float:
    ours = [node.node_id for node in live_nodes() if node.labels.get("ray.io/node-group") == of]
    rooms = free_by_node()
    return sum(rooms[node_id].get(resource, 0.0) for node_id in ours)


def soon_free(resource: str, of: str, wanted: float) -> bool:
    """Each node tells of itself in its own time: whether it soon says so."""
    deadline_s = CLOCK.monotonic_s() + 30
    while free(resource, of) != wanted:
        if CLOCK.monotonic_s() > deadline_s:
            return False
        CLOCK.sleep(0.05)
    return True


def groups_alive() -> list[dict[str, Any]]:
    return [g for g in placement_group_table().values() if g["state"] != "REMOVED"]


@pytest.fixture
def a_is_full(cluster: ClusterHandle) -> Iterator[None]:
    held = placement_group([{"GPU": 1}], bundle_label_selector=[{"ray.io/node-group": "a"}])
    assert held.wait(30) and soon_free("GPU", "a", 0)
    yield
    remove_placement_group(held)
    assert soon_free("GPU", "a", 1)


@pytest.mark.ray
def test_inventory_of_gpus_slices_and_cpu_nodes(cluster: ClusterHandle) -> None:
    pools = {found.name: found for found in read_inventory({"H100": 9.9, "cpu": 1.0}).pools}
    pools.pop("doomed", None)
    assert set(pools) == {"a", "b", "tpu"}
    assert cluster.virtual
    assert cluster.is_local
    gpu, tpu = pools["a"], pools["tpu"]
    assert (gpu.accelerator, gpu.num_nodes, gpu.chips_per_node) == ("H100", 1, 1)
    assert (gpu.capacity, gpu.zone, gpu.cpus_per_node) == (Capacity.RESERVATION, "z1", 2)
    assert gpu.machine_type == "a3-highgpu-2g"
    assert pools["b"].capacity is Capacity.SPOT
    assert (tpu.accelerator, tpu.num_nodes, tpu.nodes_per_slice) == ("TPU-V6E", 2, 2)
    assert (tpu.topology, tpu.num_chips, tpu.capacity) == ("2x4", 8, Capacity.FLEX_START)
    assert all(found.virtual for found in pools.values())
    assert all(found.usd_per_chip_hour is None for found in pools.values())


@pytest.mark.ray
def test_a_worker_on_pretended_gpus_runs(cluster: ClusterHandle, announce: Any) -> None:
    @ray.remote(num_gpus=1)
    def where() -> tuple[str, str]:
        import os

        context = ray.get_runtime_context()
        return context.get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES", "not set")

    with place(plan(rung(pool("b"), chips=1)), clock=CLOCK, announce=announce) as placed:
        strategy = PlacementGroupSchedulingStrategy(placed.placement_group)
        ref = where.options(scheduling_strategy=strategy, num_cpus=1).remote()
        node_id, visible = ray.get(ref, timeout=60)
    assert (node_id,) == placed.bundle_node_ids
    assert visible == "not set"


@pytest.mark.ray
def test_full_pool_is_waited_for_then_the_fallback_taken(
    cluster: ClusterHandle, a_is_full: None, said: list[str], announce: Any
) -> None:
    ladder = plan(rung(pool("a"), chips=1, max_wait_s=1.0), rung(pool("b"), chips=1))
    with place(ladder, clock=CLOCK, announce=announce) as placed:
        assert soon_free("GPU", "b", 0)
        table = placement_group_table(placed.placement_group)
        assert table["state"] == "CREATED"
        assert placed.bundle_node_ids == tuple(table["bundles_to_node_id"].values())
    first, second = placed.placement.rungs
    assert (first.pool, first.capacity, first.outcome) == ("a", "reservation", "timed_out")
    assert first.waited_s >= 1.0
    assert (second.pool, second.capacity, second.outcome) == ("b", "spot", "taken")
    assert (placed.placement.pool, placed.placement.capacity) == ("b", "spot")
    assert placed.placement.nodes == ("b-0",)
    assert placed.placement.num_chips == 1
    assert placed.placement.virtual
    assert placed.rung is ladder.rungs[1]
    assert placed.label_selector["ray.io/node-group"] == "b"
    assert soon_free("GPU", "b", 1)
    assert any("asked 1 x H100, 0 free of 1" in sentence for sentence in said)


@pytest.mark.ray
def test_no_rung_to_be_had_says_what_each_lacked(
    cluster: ClusterHandle, a_is_full: None, announce: Any
) -> None:
    before = len(groups_alive())
    ladder = plan(
        rung(pool("a"), chips=1, max_wait_s=0.5),
        rung(pool("b"), chips=4, max_wait_s=60.0),  # no node has as many: not waited for
    )
    with (
        pytest.raises(PlacementTimedOut) as caught,
        place(ladder, clock=CLOCK, announce=announce),
    ):
        pytest.fail("a rung was taken")
    message = str(caught.value)
    assert "rung 1: pool a [reservation]: asked 1 x H100, 0 free of 1, waited 0." in message
    assert (
        "rung 2: pool b [spot]: asked 4 x H100, 1 free of 1, waited 0.0 s (cannot_fit)" in message
    )
    assert caught.value.stage == "placement"
    assert [tried.outcome for tried in caught.value.rungs] == ["timed_out", "cannot_fit"]  # type: ignore[attr-defined]
    assert len(groups_alive()) == before


@pytest.mark.ray
def test_a_slice_is_taken_whole_and_given_back(cluster: ClusterHandle, announce: Any) -> None:
    whole = rung(pool("tpu"), chips=4, num_bundles=2, strategy="SLICE")
    with place(plan(whole), clock=CLOCK, announce=announce) as placed:
        workers = {
            node.node_id: (node.labels["ray.io/tpu-worker-id"], node.name) for node in live_nodes()
            if "ray.io/tpu-worker-id" in node.labels
        }  # fmt: skip
        assert [workers[node_id][0] for node_id in placed.bundle_node_ids] == ["0", "1"]
        assert placed.placement.nodes == ("tpu-0", "tpu-1")
        assert (placed.placement.num_chips, placed.placement.topology) == (8, "2x4")
        assert placed.label_selector["ray.io/tpu-slice-name"] == "tpu-slice-0"
        assert soon_free("TPU", "tpu", 0)
        second = rung(pool("tpu"), chips=4, num_bundles=2, strategy="SLICE", max_wait_s=0.6)
        with (
            pytest.raises(PlacementTimedOut, match=r"asked 8 x TPU-V6E \(2x4\), 0 free of 8"),
            place(plan(second), clock=CLOCK, announce=announce),
        ):
            pytest.fail("the slice was taken twice")
    assert soon_free("TPU", "tpu", 8)
    assert soon_free("TPU-v6e-8-head", "tpu", 1)
    assert not groups_alive()


@pytest.mark.ray
def test_jax_trains_on_a_whole_slice(
    cluster: ClusterHandle, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    """Two real processes, one per pretended host, each with four devices for its four chips. Their
    tokens are in Parquet files, which Ray Data reads: one file for each."""
    require(importlib.util.find_spec("jax") is not None, "jax is not installed")
    stream = TokenStream.make(1024, 0)
    for index in range(2):
        documents = stream.batch(0, index, 200, 40).tolist()
        table = pyarrow.table({"tokens": documents})
        pyarrow.parquet.write_table(table, tmp_path / f"part-{index}.parquet")
    workload = JaxWorkload(
        num_workers=2,
        num_steps=6,
        num_warmup_steps=2,
        sequence_length=32,
        learning_rate=1e-3,
        checkpoint_every_steps=3,
        checkpoint_dir=str(tmp_path),
        data=TokenFiles(path=str(tmp_path)),
    )
    spec = RunSpec(
        name="on-a-slice",
        workload=workload,
        hardware=(Hardware(accelerator="TPU-V6E", topology="2x4"),),
        deadlines=Deadlines(startup_s=240.0),
    )
    made = make_plan(spec, read_inventory())
    training = workload_for(workload)
    with RayDeployer().deploy(
        made, lambda device: training.launch(device, ""), lambda *_: None
    ) as deployed:
        samples = training.drive(deployed.running, None, lambda *_: None)
    assert isinstance(samples, StepSamples)
    assert deployed.placement.pool == "tpu"
    assert deployed.resolved["mesh"] == {"data": 8, "fsdp": 1, "tensor": 1}
    assert deployed.resolved["backend"] == "xla:cpu"  # pretended chips are CPUs, and say so
    assert samples.num_rows == 12
    assert samples.num_tokens.sum() == 6 * 2 * 4 * 32
    by_step = samples.loss.reshape(6, 2)
    assert (by_step[:, 0] == by_step[:, 1]).all()  # the mean over the whole mesh
    assert by_step[0, 0] == pytest.approx(math.log(1024), abs=0.3)
    assert by_step[-1, 0] < by_step[0, 0] - 0.2
    saved = samples.checkpoint_s.reshape(6, 2) > 0
    assert saved.any(axis=1).tolist() == [False, False, True, False, False, True]
    assert [f.name for f in sorted((tmp_path / "jax").glob("job-*/step-6/*"))] == [
        "rank-0-of-2.npz",
        "rank-1-of-2.npz",
    ]
    late = deployed.observed()
    assert late["parameter_norm"] > 30
    assert "twin" in late["comm_method"]  # how it was found, or why it was not
    assert np.isnan(samples.comm_s).all() == ("comm_s_per_step" not in late)
    assert deployed.startup is not None
    names = [phase.name for phase in deployed.startup.phases]
    assert names[-5:] == ["trace", "lower", "compile", "data", "first step"]


@pytest.mark.ray
def test_half_a_slice_is_not_a_slice(cluster: ClusterHandle, announce: Any) -> None:
    """One host is busy: nothing of the other one is held while the slice is waited for."""
    busy = placement_group([{"TPU": 4}], bundle_label_selector=[{"ray.io/tpu-worker-id": "1"}])
    assert busy.wait(30) and soon_free("TPU", "tpu", 4)
    whole = rung(pool("tpu"), chips=4, num_bundles=2, strategy="SLICE", max_wait_s=30.0)
    watched: list[float] = []

    def let_go() -> None:
        watched.append(free("TPU", "tpu"))
        remove_placement_group(busy)

    timer = threading.Timer(1.0, let_go)
    timer.start()
    with place(plan(whole), clock=CLOCK, announce=announce) as placed:
        assert placed.placement.rungs[0].waited_s >= 1.0
    timer.join()
    assert watched == [4.0]
    assert not groups_alive()


@pytest.mark.ray
def test_error_in_the_body_gives_everything_back(cluster: ClusterHandle, announce: Any) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        place(plan(rung(pool("a"), chips=1)), clock=CLOCK, announce=announce),
    ):
        assert soon_free("GPU", "a", 0)
        raise ZeroDivisionError
    assert soon_free("GPU", "a", 1)
    assert not groups_alive()


@pytest.mark.ray
def test_ctrl_c_while_waiting_removes_the_pending_group(
    cluster: ClusterHandle, a_is_full: None, said: list[str]
) -> None:
    def interrupt_when_asking(phase: str, sentence: str) -> None:
        if "asking for" in sentence:
            threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()

    started_s = CLOCK.monotonic_s()
    before = len(groups_alive())
    ladder = plan(rung(pool("a"), chips=1, max_wait_s=60.0), rung(pool("b"), chips=1))
    with (
        pytest.raises(KeyboardInterrupt),
        place(ladder, clock=CLOCK, announce=interrupt_when_asking),
    ):
        pytest.fail("a rung was taken")
    assert CLOCK.monotonic_s() - started_s < 20
    assert len(groups_alive()) == before


@pytest.mark.ray
@pytest.mark.chaos
def test_a_pool_that_dies_while_waited_for_is_left_for_the_next(
    cluster: ClusterHandle, said: list[str], announce: Any
) -> None:
    doomed = pool("doomed")
    held = placement_group([{"CPU": 3}], bundle_label_selector=[{"ray.io/node-group": "doomed"}])
    assert held.wait(30)
    raylet = next(
        process
        for process in psutil.Process().children()
        if "--node-name=doomed-0" in process.cmdline()
    )
    timer = threading.Timer(0.5, raylet.kill)
    timer.start()
    ladder = plan(rung(doomed, cpus=3.0, max_wait_s=90.0), rung(pool("a"), chips=1))
    with place(ladder, clock=CLOCK, announce=announce) as placed:
        assert placed.placement.pool == "a"
    first = placed.placement.rungs[0]
    assert first.outcome == "nodes_lost"
    assert first.waited_s < 90
    assert any("the pool has no nodes left" in sentence for sentence in said)
    remove_placement_group(held)


@pytest.mark.ray
def test_room_comes_back_when_somebody_else_leaves(cluster: ClusterHandle, announce: Any) -> None:
    held = placement_group([{"GPU": 1}], bundle_label_selector=[{"ray.io/node-group": "b"}])
    assert held.wait(30)
    timer = threading.Timer(0.7, remove_placement_group, (held,))
    timer.start()
    with place(plan(rung(pool("b"), chips=1)), clock=CLOCK, announce=announce) as placed:
        assert isinstance(placed, Placed)
        assert 0.7 <= placed.placement.rungs[0].waited_s < 30
    timer.join()


NODE = {"CPU": 4.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("asked", "strategy", "nodes", "answer"),
    [
        ([{"GPU": 2.0}, {"GPU": 2.0}], "PACK", [NODE, NODE], True),
        ([{"GPU": 2.0}, {"GPU": 2.0}], "STRICT_PACK", [NODE, NODE], False),
        ([{"GPU": 1.0}, {"GPU": 1.0}], "STRICT_PACK", [NODE], True),
        ([{"GPU": 1.0}, {"GPU": 1.0}], "STRICT_SPREAD", [NODE], False),
        ([{"GPU": 1.0}, {"GPU": 1.0}], "STRICT_SPREAD", [NODE, NODE], True),
        ([{"CPU": 0.1}] * 10, "PACK", [{"CPU": 1.0}], True),
        ([{"CPU": 1.0, "TPU": 1.0}], "SPREAD", [NODE], False),
        ([{"CPU": 1.0}], "PACK", [], False),
    ],
)
def test_fits(asked: Any, strategy: str, nodes: Any, answer: bool) -> None:
    assert fits(asked, strategy, nodes) is answer
