"""The Ray deployer on a real cluster: the contract, and drivers that die in every way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.util.placement_group import placement_group_table

from harness.deployment import Deployment
from harness.errors import ClientTooSlow, DeadlineExceeded, DeploymentError, EngineDied, WorkerDied
from harness.load.kept_calibrations import CalibrationStore
from harness.on_ray.cluster import ClusterHandle, ray_cluster
from harness.plan import RunPlan, make_plan
from harness.progress import Silent
from harness.ray_deployer import RayDeployer
from harness.runner import RunContext
from harness.scale.ask import cells_of, make_ask
from harness.scale.loop import measure_scaling
from harness.spec import Deadlines, RunSpec
from harness.testing import DeployerContract, a_traffic, processes_of, simulated_launch
from results.client import Calibration
from results.clock import SystemClock
from results.scaling.efficiency import scaling_of
from results.startup import PhaseSource
from results.testing import FakeRecordStore
from workloads.base import RemoteServer
from workloads.params import EndpointWorkload, TorchWorkload, VllmWorkload
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

DEADLINE_S = 60.0
LONG = Traffic(
    arrivals=ConstantArrivals(rate_rps=2.0), output_tokens=FixedLength(tokens=2), duration_s=300.0
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterHandle]:
    with ray_cluster("local") as handle:
        yield handle


@pytest.fixture(scope="module")
def calibrations(tmp_path_factory: pytest.TempPathFactory) -> CalibrationStore:
    """Kept from test to test, as from run to run: only the first load calibrates its client."""
    return CalibrationStore(folder=tmp_path_factory.mktemp("calibrations"), clock=SystemClock())


@pytest.fixture(autouse=True)
def _calibrated_once(calibrations: CalibrationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.on_ray.load_actor.calibration_store", lambda _: calibrations)


@pytest.fixture
def deployer(cluster: ClusterHandle) -> RayDeployer:
    return RayDeployer()


@pytest.fixture
def name() -> Iterator[str]:
    """Tells this test's processes from all others; none of them may be left."""
    name = f"deployed-{uuid.uuid4().hex}"
    yield name
    left = processes_of(name)
    for process in left:
        process.kill()
    assert not left


def plan_of(deployer: RayDeployer, pool: str = "local", **changes: Any) -> RunPlan:
    options: dict[str, Any] = {
        "name": "deployed",
        "workload": VllmWorkload(),
        "traffic": a_traffic(),
        "deadlines": Deadlines(startup_s=DEADLINE_S, teardown_s=10.0),
    }
    return make_plan(RunSpec(**(options | changes)), deployer.inventory())


def say_nothing(phase: str, sentence: str) -> None:
    pass


def until(true: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < DEADLINE_S, f"in vain for {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


def no_group_is_held() -> bool:
    table = placement_group_table()
    return all(group["state"] == "REMOVED" for group in table.values())


class TestRayDeployer(DeployerContract):
    hang_s = 10.0  # a worker process of Ray starts within it

    @pytest.fixture
    def deployer(self, cluster: ClusterHandle) -> Iterator[RayDeployer]:
        yield RayDeployer()
        until(no_group_is_held, "the placement groups to be given back")

    def check_startup(self, deployed: Deployment) -> None:
        super().check_startup(deployed)
        assert deployed.startup is not None
        sources = {phase.name: phase.source for phase in deployed.startup.phases}
        assert sources["placed"] == sources["actor start"] == PhaseSource.RAY
        assert sources["launch prepared"] is PhaseSource.DRIVER
        assert sources["process start"] is PhaseSource.PROCESS
        assert sources["healthy"] is PhaseSource.HTTP
        assert sources["first token"] is PhaseSource.CLIENT
        # One host, one clock: nothing has to be anchored by a round trip.
        assert all(phase.resolution_s < 2.0 for phase in deployed.startup.phases)
        assert not deployed.placement.virtual
        assert deployed.packages["ray"] == ray.__version__


def read_two_phases(lines: list[tuple[float, str]]) -> Any:
    from results.startup import StartupPhase

    stamps = [stamp for stamp, line in lines if "loading part" in line]
    return (
        StartupPhase(
            name="weights loaded",
            start_s=stamps[0],
            end_s=stamps[-1],
            source=PhaseSource.LOG,
            resolution_s=0.01,
        ),
    )


def resolve_parts(lines: list[tuple[float, str]]) -> dict[str, int]:
    return {"parts": sum("loading part" in line for _, line in lines)}


def test_the_engines_own_lines_become_phases(
    deployer: RayDeployer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setitem(sys.modules, "engine_of_the_test", sys.modules[__name__])
    model = tmp_path / "weights"
    model.write_bytes(b"x" * 100_000)
    launch = replace(
        simulated_launch("--startup-delay-s", "0.8", name=name),
        log_phases="engine_of_the_test:read_two_phases",
        resolve="engine_of_the_test:resolve_parts",
        page_cache_paths=(str(model),),
    )
    with deployer.deploy(plan_of(deployer), lambda _: launch, say_nothing) as deployed:
        assert deployed.startup is not None
        phases = {phase.name: phase for phase in deployed.startup.phases}
        # Four parts of 0.2 s each: the first and the last line are three parts apart.
        assert phases["weights loaded"].duration_s == pytest.approx(0.6, abs=0.5)
        assert phases["process start"].end_s <= phases["weights loaded"].start_s
        assert deployed.startup.page_cache == 1.0  # just written
        assert deployed.resolved == {"parts": 4}


def test_spans_are_received_where_the_server_runs(deployer: RayDeployer, name: str) -> None:
    """The endpoint that fills ``{otlp}`` takes spans, and they count from the process's start."""
    from dataclasses import replace

    script = """
import sys, time, urllib.request, runpy
began = time.time_ns()
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from workloads.vllm_startup import SPAN_PHASES
request = ExportTraceServiceRequest()
span = request.resource_spans.add().scope_spans.add().spans.add()
span.name, span.start_time_unix_nano = next(iter(SPAN_PHASES)), began
span.end_time_unix_nano = time.time_ns()
urllib.request.urlopen(urllib.request.Request(sys.argv.pop(1), request.SerializeToString(),
    {"Content-Type": "application/x-protobuf"}))
runpy.run_module("workloads.simulated.golden_server", run_name="__main__", alter_sys=True)
"""
    words = simulated_launch(name=name).argv
    launch = replace(
        simulated_launch(name=name),
        argv=(words[0], "-c", script, "{otlp}", *words[3:]),
        wants_otlp=True,
    )
    with deployer.deploy(plan_of(deployer), lambda _: launch, say_nothing) as deployed:
        assert deployed.startup is not None
        (span,) = [p for p in deployed.startup.phases if p.source is PhaseSource.OTEL]
        ends = {phase.name: phase.end_s for phase in deployed.startup.phases}
        assert ends["process start"] - 0.05 <= span.start_s < span.end_s <= ends["healthy"]


def test_a_load_that_lasts_too_long_is_ended(deployer: RayDeployer, name: str) -> None:
    plan = plan_of(deployer, deadlines=Deadlines(startup_s=DEADLINE_S, load_s=2.0, teardown_s=10.0))
    began = time.monotonic()
    with (
        pytest.raises(DeadlineExceeded, match=r"load_s = 2 s") as raised,
        deployer.deploy(plan, lambda _: simulated_launch(name=name), say_nothing) as deployed,
    ):
        assert deployed.running.load is not None
        assert deployed.running.target is not None
        deployed.running.load.drive(deployed.running.target, LONG, lambda *_: None)
    assert raised.value.stage == "load"
    assert time.monotonic() - began < DEADLINE_S


def test_the_load_client_is_killed(deployer: RayDeployer, name: str) -> None:
    killed: list[psutil.Process] = []

    def kill_once(*_: object) -> None:
        if not killed:
            killed.extend(
                process
                for process in psutil.Process().children(recursive=True)
                if process.name().startswith("ray::LoadActor")
            )
            for process in killed:
                process.kill()

    with (
        pytest.raises(DeploymentError, match="load client's process died") as raised,
        deployer.deploy(
            plan_of(deployer), lambda _: simulated_launch(name=name), say_nothing
        ) as deployed,
    ):
        assert deployed.running.load is not None
        assert deployed.running.target is not None
        deployed.running.load.drive(deployed.running.target, LONG, kill_once)
    assert len(killed) == 1
    assert type(raised.value) is WorkerDied
    assert raised.value.stage == "load"


def known_ceiling(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rps_per_worker: float
) -> list[int]:
    """Every worker can send so much; returns how many there were at each calibration."""
    tried: list[int] = []

    def calibrate(fleet: Any, *_: object) -> Calibration:
        tried.append(fleet.num_workers)
        return Calibration(
            asked_rps=0.0,
            ceiling_rps=rps_per_worker * fleet.num_workers,
            ceiling_is_bound=True,
            floor_ttft_p50_s=1e-3,
            floor_ttft_p99_s=None,
            duration_s=0.1,
            num_workers=fleet.num_workers,
        )

    store = CalibrationStore(folder=tmp_path / "calibrations", clock=SystemClock())
    monkeypatch.setattr("harness.load.calibrate.calibrate", calibrate)
    monkeypatch.setattr("harness.on_ray.load_actor.calibration_store", lambda _: store)
    return tried


def test_more_clients_are_hired_where_one_is_too_slow(
    deployer: RayDeployer, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried = known_ceiling(monkeypatch, tmp_path, rps_per_worker=60.0)
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=50.0),
        output_tokens=FixedLength(tokens=2),
        num_requests=60,
    )
    with deployer.deploy(
        plan_of(deployer), lambda _: simulated_launch(name=name), say_nothing
    ) as deployed:
        load = deployed.running.load
        assert load is not None
        assert deployed.running.target is not None
        samples = load.drive(deployed.running.target, traffic, lambda *_: None)
        assert load.last_report is not None
        assert load.last_report.calibration is not None
        assert load.last_report.calibration.num_workers == 2
        assert [w.num_requests for w in load.last_report.workers] == [32, 30]
    assert tried == [1, 2]
    assert samples.index.tolist() == list(range(62))
    assert samples.error.tolist() == [""] * 62


def test_a_client_that_stays_too_slow_refuses(
    deployer: RayDeployer, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known_ceiling(monkeypatch, tmp_path, rps_per_worker=1.0)
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), duration_s=300.0)
    with (
        pytest.raises(ClientTooSlow, match="asks for 50 requests/s") as raised,
        deployer.deploy(
            plan_of(deployer), lambda _: simulated_launch(name=name), say_nothing
        ) as deployed,
    ):
        assert deployed.running.load is not None
        assert deployed.running.target is not None
        deployed.running.load.drive(deployed.running.target, traffic, lambda *_: None)
    assert raised.value.stage == "load"


def test_an_endpoint_that_is_not_there(
    deployer: RayDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.ray_deployer.ENDPOINT_CANARY_S", 2.0)
    url = "http://127.0.0.1:9"  # the discard port: nothing listens
    plan = plan_of(deployer, workload=EndpointWorkload(url=url, model="m"))
    with (
        pytest.raises(DeploymentError, match=r"127\.0\.0\.1:9") as raised,
        deployer.deploy(plan, lambda _: RemoteServer(url=url, model="m"), say_nothing),
    ):
        pytest.fail("it must not get here")
    assert raised.value.stage == "startup"


def test_an_endpoints_key_that_is_not_set(cluster: ClusterHandle) -> None:
    deployer = RayDeployer(read_secret=lambda name: None)
    launch = RemoteServer(url="http://127.0.0.1:9", model="m", api_key_env="NO_SUCH_KEY")
    plan = plan_of(deployer, workload=EndpointWorkload(url=launch.url, model="m"))
    with (
        pytest.raises(DeploymentError, match="NO_SUCH_KEY, which is not set"),
        deployer.deploy(plan, lambda _: launch, say_nothing),
    ):
        pytest.fail("it must not get here")


def test_the_process_that_owns_the_server_is_killed(deployer: RayDeployer, name: str) -> None:
    with (
        pytest.raises(EngineDied, match="the process that owned the server") as raised,
        deployer.deploy(
            plan_of(deployer), lambda _: simulated_launch(name=name), say_nothing
        ) as deployed,
    ):
        family = {process.pid: process for process in processes_of(name)}
        (owner,) = {p.ppid() for p in family.values()} - family.keys()
        psutil.Process(owner).kill()
        until(lambda: not alive_of(name), "the server to be gone with its owner")
        deployed.check()
    assert raised.value.stage == "load"
    assert any("healthy" in line for line in deployed.log_tail())


# ---- drivers that die ----

DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
import test_ray_deployer as room
from harness.load.kept_calibrations import CalibrationStore
from harness.on_ray.cluster import ray_cluster
with ray_cluster(sys.argv[2]):
    from harness.ray_deployer import RayDeployer
    deployer = RayDeployer()
    delay = ("--startup-delay-s", sys.argv[4])
    say = lambda phase, sentence: print(phase, flush=True)
    launch = lambda _: room.simulated_launch(*delay, name=sys.argv[3])
    with deployer.deploy(room.plan_of(deployer), launch, say) as deployed:
        print("up", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def driver(name: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a driver process of its own and returns when it has said ``until_it_says``."""
    drivers: list[subprocess.Popen[str]] = []

    def start(address: str, until_it_says: str, *, delay_s: float = 0.0) -> subprocess.Popen[str]:
        here, root = str(Path(__file__).parent), str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, here, address, name, str(delay_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=root,
            env=environment,
        )
        drivers.append(process)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.strip() == until_it_says:
                return process
        pytest.fail(f"the driver ended first: {''.join(said)}")

    yield start
    for process in drivers:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_server_of(name: str) -> bool:
    """The driver itself has the name on its command line, too."""
    return any("harness.on_ray.cluster" not in " ".join(p.cmdline()) for p in alive_of(name))


def alive_of(name: str) -> list[psutil.Process]:
    found = []
    for process in processes_of(name):
        try:
            process.cmdline()
        except psutil.NoSuchProcess:
            continue
        found.append(process)
    return found


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGINT, "engine"),
        (signal.SIGTERM, "up"),
        (signal.SIGKILL, "up"),
    ],
)
def test_a_driver_that_dies_leaves_nothing_on_a_cluster_that_stays(
    cluster: ClusterHandle, driver: Any, name: str, number: signal.Signals, says: str
) -> None:
    process = driver(cluster.address, says, delay_s=0.0 if says == "up" else 60.0)
    until(lambda: is_server_of(name), "the server to run")
    assert not no_group_is_held()
    process.send_signal(number)
    process.wait(DEADLINE_S)
    until(lambda: not alive_of(name), "the server to be gone")
    until(no_group_is_held, "the placement group to be given back")


def test_a_driver_that_is_killed_takes_its_own_cluster_along(driver: Any, name: str) -> None:
    process = driver("local", "up")
    # Ray's agents of a node that was killed end by themselves, but only after a minute.
    below = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if not child.name().endswith(("Agent", "AgentServer"))
    ]
    assert {"raylet", "gcs_server"} <= {child.name() for child in below}
    assert is_server_of(name)
    process.kill()
    process.wait(DEADLINE_S)
    until(lambda: not alive_of(name), "the server to be gone")
    until(lambda: not any(map(is_alive, below)), f"{below} to be gone")


@pytest.mark.torch
def test_a_training_at_two_sizes(deployer: RayDeployer, tmp_path: Path) -> None:
    """Real ranks of a real training: each size a record, the two an efficiency."""
    base = RunSpec(
        name="sizes",
        workload=TorchWorkload(
            num_steps=12, num_warmup_steps=4, cpus_per_worker=0.5, sequence_length=64
        ),
    )
    asked = make_ask(base, (1, 2), mode="weak", num_rounds=1, control=None)
    store = FakeRecordStore()
    context = RunContext(
        deployer=deployer,
        store=store,
        clock=SystemClock(),
        progress=Silent(),
        models_dir=str(tmp_path),
    )
    runs = list(measure_scaling(asked, context, "sizes"))
    assert [r.fault for r in runs] == [""] * len(cells_of(asked))
    seen = scaling_of(runs, "weak").sizes
    assert [s.num_workers for s in seen] == [1, 2]
    assert seen[1].efficiency.value is not None and 0.05 < seen[1].efficiency.value < 2.0
    assert sum(p.share for p in seen[1].loss) == pytest.approx(1 - seen[1].efficiency.value)
    assert seen[1].startup_s is not None and seen[1].num_cores > 0
    for record in store.scan().records:
        table = store.table(record, "steps")
        assert table is not None
        num_workers = int(record.spec["tags"]["scale_workers"])
        assert table.num_rows == 12 * num_workers
