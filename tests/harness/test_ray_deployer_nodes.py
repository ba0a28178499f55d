"""A node of a deployment goes away while it is in use: a raylet on this machine, killed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest
import ray

from harness.errors import DeploymentError, NodeLost
from harness.on_ray.cluster import ClusterHandle, ray_cluster
from harness.plan import RunPlan, make_plan
from harness.pools import VirtualCluster, VirtualPool
from harness.ray_deployer import RayDeployer
from harness.spec import Deadlines, RunSpec
from harness.testing import a_traffic, processes_of, simulated_launch
from workloads.params import VllmWorkload
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

DEADLINE_S = 60.0
POOL = VirtualPool(name="doomed", cpus_per_node=2.0, memory_gib_per_node=1.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterHandle]:
    with ray_cluster("local", VirtualCluster(pools=(POOL,))) as handle:
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
