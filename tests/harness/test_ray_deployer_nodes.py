"""Several nodes, each a raylet on this machine: load from all, and one that goes away in use."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from harness.errors import DeploymentError, NodeLost
from harness.load.calibrate import noop_server
from harness.load.fleet import Fleet
from harness.load.kept_calibrations import CalibrationStore
from harness.on_ray.cluster import ClusterHandle, ray_cluster
from harness.on_ray.load_actor import RayWorker, RemoteLoadDriver
from harness.plan import RunPlan, make_plan
from harness.pools import VirtualCluster, VirtualPool
from harness.ray_deployer import RayDeployer
from harness.spec import Deadlines, RunSpec
from harness.testing import a_traffic, processes_of, simulated_launch
from results.client import Calibration
from results.clock import SystemClock
from workloads.base import ServerTarget
from workloads.params import VllmWorkload
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

DEADLINE_S = 60.0
POOL = VirtualPool(name="doomed", cpus_per_node=2.0, memory_gib_per_node=1.0)
OTHER = VirtualPool(name="other", cpus_per_node=1.0, memory_gib_per_node=1.0)
CHIPS = VirtualPool(name="chips", accelerator="H100", chips_per_node=1, cpus_per_node=4.0)
A_CALIBRATION = Calibration(
    asked_rps=0.0,
    ceiling_rps=1.0,
    ceiling_is_bound=True,
    floor_ttft_p50_s=1e-3,
    floor_ttft_p99_s=None,
    duration_s=0.1,
    num_workers=1,
)


@pytest.fixture
def cluster() -> Iterator[ClusterHandle]:
    """A cluster for each: one of the tests ends a node, and they run in any order."""
    with ray_cluster("local", VirtualCluster(pools=(POOL, OTHER, CHIPS))) as handle:
        yield handle


@pytest.fixture
def name() -> Iterator[str]:
    name = f"doomed-{uuid.uuid4().hex}"
    yield name
    left = processes_of(name)
    for process in left:
        process.kill()
    assert not left


def until(true: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < DEADLINE_S, f"in vain for {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


def plan_of(deployer: RayDeployer) -> RunPlan:
    spec = RunSpec(
        name="doomed",
        workload=VllmWorkload(),
        traffic=a_traffic(),
        deadlines=Deadlines(startup_s=DEADLINE_S, teardown_s=10.0),
    )
    return make_plan(spec, deployer.inventory())


def raylet_of(pool: str) -> psutil.Process:
    """The raylet of that pool's only node: the process that listens on its port."""
    (port,) = {
        node["NodeManagerPort"]
        for node in ray.nodes()
        if node["Alive"] and node["Labels"].get("ray.io/node-group") == pool
    }
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            assert connection.pid is not None
            return psutil.Process(connection.pid)
    pytest.fail(f"no raylet of {pool}")


def node_ids(*pools: str) -> list[str]:
    found = {n["Labels"].get("ray.io/node-group"): n["NodeID"] for n in ray.nodes() if n["Alive"]}
    return [found[pool] for pool in pools]


@pytest.mark.usefixtures("cluster")
def test_the_load_comes_from_several_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What one client cannot send is sent from other nodes, each with its own no-op server; the
    accelerator's CPUs are left to the engine, though they are free."""
    tried: list[list[str]] = []

    def calibrate(fleet: Fleet, target: ServerTarget, *_: object) -> Calibration:
        workers = [w for w in fleet.workers if isinstance(w, RayWorker)]
        tried.append([load._local(w, target).base_url for w in workers])
        return replace(A_CALIBRATION, ceiling_rps=25.0 * len(workers), num_workers=len(workers))

    store = CalibrationStore(folder=tmp_path, clock=SystemClock())
    monkeypatch.setattr("harness.load.calibrate.calibrate", calibrate)
    monkeypatch.setattr("harness.on_ray.load_actor.calibration_store", lambda _: store)
    doomed, other = node_ids("doomed", "other")
    load = RemoteLoadDriver(doomed, None, SystemClock(), DEADLINE_S, server_node_id="")
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=35.0),
        output_tokens=FixedLength(tokens=2),
        num_requests=70,
    )
    try:
        with noop_server() as url:
            target = ServerTarget(base_url=url, model="m")
            samples = load.drive(target, traffic, lambda *_: None)
    finally:
        load.close()
    assert samples.error.tolist() == [""] * 72
    report = load.last_report
    assert report is not None
    assert [w.node_id for w in report.workers] == [doomed, other, doomed]
    assert [w.num_requests for w in report.workers] == [25, 23, 24]  # two are warm-up
    # One machine, one clock: an offset of another node's is in ``test_load_fleet``.
    assert {w.clock_offset_s for w in report.workers} == {0.0}
    assert [len(urls) for urls in tried] == [1, 3]
    first, second, third = tried[-1]
    assert first == third != second
    assert url not in tried[-1]


def test_a_node_that_is_lost_in_use(cluster: ClusterHandle, name: str) -> None:
    """The load ends at once, and the error says which node is gone and what its engine said."""
    long = Traffic(
        arrivals=ConstantArrivals(rate_rps=2.0),
        output_tokens=FixedLength(tokens=2),
        duration_s=300.0,
    )
    deployer = RayDeployer()
    killed: list[psutil.Process] = []

    def kill_once(*_: object) -> None:
        if not killed:
            raylet = raylet_of(POOL.name)
            assert raylet.name() == "raylet"
            killed.append(raylet)
            raylet.kill()

    began = time.monotonic()
    with (
        pytest.raises(DeploymentError) as raised,
        deployer.deploy(
            plan_of(deployer), lambda _: simulated_launch(name=name), lambda *_: None
        ) as deployed,
    ):
        assert deployed.placement.virtual
        assert deployed.running.load is not None
        assert deployed.running.target is not None
        deployed.running.load.drive(deployed.running.target, long, kill_once)
    assert killed
    assert time.monotonic() - began < 2 * DEADLINE_S
    assert isinstance(raised.value, NodeLost)
    assert raised.value.stage == "load"
    assert any("healthy" in line for line in raised.value.log_tail)
    assert deployed.log_tail() == raised.value.log_tail
    until(lambda: not processes_of(name), "the server to be gone with its node")
