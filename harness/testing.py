"""The contract of deployers as tests, the fake that keeps it, and cheap things to deploy.

``DeployerContract`` is the contract in ``harness.deployment`` in code; a deployer's own test class
subclasses it and gives the fixture ``deployer``. ``FakeDeployer`` needs no Ray.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from harness.deployment import Deployer, Deployment
from harness.errors import DeadlineExceeded, EngineDied
from harness.fake_deployer import HOST
from harness.fake_deployer import FakeDeployer as FakeDeployer
from harness.plan import RunPlan, make_plan
from harness.server_process import ServerCommand, ServerProcess, ServerState
from harness.spec import Deadlines, RunSpec
from harness.telemetry.beside import on_load_axis, watch_over
from results.clock import SystemClock
from results.samples import RequestSamples
from workloads.base import Device, RemoteServer, ServerLaunch
from workloads.params import EndpointWorkload, VllmWorkload
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

SIMULATED = "workloads.simulated.golden_server"
# A port that is taken: always, or (given a file that is not there yet) the first time only.
_PORT_TAKEN = """
import pathlib, runpy, sys
mark = pathlib.Path(sys.argv.pop(1))
if mark.name == "always" or not mark.exists():
    mark.name == "always" or mark.touch()
    print("OSError: [Errno 98] Address already in use", flush=True)
    sys.exit(1)
runpy.run_module("workloads.simulated.golden_server", run_name="__main__", alter_sys=True)
"""


def simulated_launch(*options: str, name: str = "simulated") -> ServerLaunch:
    """The simulated server as a launch; ``name`` is its model, and tells its process from others.

    Its own line at startup says the port; ``options`` are its command line's.
    """
    argv = (sys.executable, "-m", SIMULATED, "--port", "{port}", "--model", name, *options)
    return ServerLaunch(argv=argv, model=name)


def processes_of(name: str) -> list[psutil.Process]:
    """The processes of this host with ``name`` on their command line: a server and its wardens."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or ()
        if process.info["status"] != psutil.STATUS_ZOMBIE and name in words:
            found.append(process)
    return found


def a_traffic(num_requests: int = 5) -> Traffic:
    return Traffic(
        arrivals=ConstantArrivals(rate_rps=20.0),
        prompt_tokens=FixedLength(tokens=8),
        output_tokens=FixedLength(tokens=4),
        num_requests=num_requests,
        num_warmup_requests=1,
    )


def _say_nothing(name: str, sentence: str) -> None:
    """What a test does not look at."""


def _no_progress(num_done: int, num_total: int, elapsed_s: float) -> None:
    """What a test does not look at."""


class DeployerContract:
    """Subclass it as ``TestMine`` and define the fixture ``deployer``."""

    startup_s = 60.0
    hang_s = 3.0  # the deadline of a server that hangs; its process must have begun by then

    @pytest.fixture
    def deployer(self) -> Deployer:
        raise NotImplementedError("a subclass gives the deployer to test")

    @pytest.fixture
    def name(self) -> Iterator[str]:
        """Tells this test's server from all other processes; none of it may be left."""
        name = f"contract-{uuid.uuid4().hex}"
        yield name
        left = processes_of(name)
        for process in left:
            process.kill()
        assert not left

    def plan(self, deployer: Deployer, startup_s: float | None = None) -> RunPlan:
        spec = RunSpec(
            name="contract",
            workload=VllmWorkload(),
            traffic=a_traffic(),
            deadlines=Deadlines(startup_s=startup_s or self.startup_s, teardown_s=10.0),
        )
        return make_plan(spec, deployer.inventory())

    def test_the_inventory_has_cpus(self, deployer: Deployer) -> None:
        pools = deployer.inventory().pools
        assert pools
        assert all(pool.cpus_per_node > 0 and pool.num_nodes > 0 for pool in pools)

    def test_it_answers_inside_and_is_gone_outside(self, deployer: Deployer, name: str) -> None:
        devices: list[Device] = []
        phases: list[str] = []

        def launch_for(device: Device) -> ServerLaunch:
            devices.append(device)
            return simulated_launch("--startup-delay-s", "0.5", name=name)

        plan = self.plan(deployer)
        with deployer.deploy(plan, launch_for, lambda phase, _: phases.append(phase)) as deployed:
            assert processes_of(name)
            assert devices == [plan.rungs[0].device]
            assert {"engine", "first token"} <= set(phases)
            self.check_startup(deployed)
            assert deployed.placement.pool == plan.rungs[0].pool.name
            assert all(node.num_cpus and node.memory_bytes for node in deployed.hardware)
            samples = self.drive(deployed)
            assert (~samples.is_warmup).sum() == a_traffic().num_requests
            assert set(samples.error) == {""}
            deployed.check()
            assert any("healthy" in line for line in deployed.log_tail())
        assert not processes_of(name)
        assert any("healthy" in line for line in deployed.log_tail())

    def test_its_server_is_watched_beside_a_load(self, deployer: Deployer, name: str) -> None:
        with deployer.deploy(
            self.plan(deployer), lambda _: simulated_launch(name=name), _say_nothing
        ) as deployed:
            assert deployed.watch is not None
            clock = SystemClock()
            for _ in range(2):  # each load has a watch of its own
                samples, watched = watch_over(
                    deployed.watch(0.1), clock.monotonic_s, lambda: self.drive(deployed)
                )
                telemetry = on_load_axis(watched, samples, None)
                assert telemetry is not None
                notes = {note.source: note for note in telemetry.sources()}
                assert set(notes) == {"vllm", "host"}  # no accelerator is ours: none is read
                assert notes["host"].num_reads >= 2
                assert notes["vllm"].num_reads >= 2 or notes["vllm"].absent
                (engine,) = telemetry.series("engine_cpu_s").values()
                # Read before the first request was sent and after the last was answered.
                assert engine.t_s[0] <= np.nanmin(samples.dispatched_s) + telemetry.resolution_s
                assert engine.t_s[-1] >= np.nanmax(samples.done_s) - telemetry.resolution_s
                assert np.all(np.diff(engine.value) >= 0)
                assert engine.value[0] > 0

    def drive(self, deployed: Deployment) -> RequestSamples:
        load, target = deployed.running.load, deployed.running.target
        assert load is not None
        assert target is not None
        return load.drive(target, a_traffic(), _no_progress)

    def check_startup(self, deployed: Deployment) -> None:
        """Phases in order, the first token last, and every second accounted for once."""
        startup = deployed.startup
        assert startup is not None
        by_name = {phase.name: phase for phase in startup.phases}
        assert {"placed", "process start", "healthy", "first token"} <= set(by_name)
        process, healthy, token = (by_name[n] for n in ("process start", "healthy", "first token"))
        assert all(0.0 <= p.start_s <= p.end_s <= startup.ready_s for p in startup.phases)
        assert all(p.resolution_s > 0.0 for p in startup.phases)
        assert process.end_s <= healthy.end_s <= token.end_s == startup.ready_s
        assert healthy.end_s - process.end_s >= 0.5  # what the server was asked to load for
        covered = startup.ready_s - startup.unattributed_s
        assert 0.0 < covered <= sum(p.duration_s for p in startup.phases) + 1e-9
        assert startup.unattributed_s >= 0.4  # it told of no phase of its loading

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_error_inside_passes_and_leaves_nothing(
        self, deployer: Deployer, name: str, error: type[BaseException]
    ) -> None:
        with (
            pytest.raises(error),
            deployer.deploy(
                self.plan(deployer), lambda _: simulated_launch(name=name), _say_nothing
            ),
        ):
            raise error
        assert not processes_of(name)

    def test_a_server_that_dies_while_loading(self, deployer: Deployer, name: str) -> None:
        launch = simulated_launch("--startup-delay-s", "60", "--die-after-s", "0.5", name=name)
        with (
            pytest.raises(EngineDied, match="exit code 1 before it was healthy") as raised,
            deployer.deploy(self.plan(deployer), lambda _: launch, _say_nothing),
        ):
            pytest.fail("it must not get here")
        assert raised.value.stage == "startup"
        assert any("simulated engine failure" in line for line in raised.value.log_tail)
        assert "simulated engine failure" in str(raised.value)
        assert not processes_of(name)

    def test_a_server_that_hangs(self, deployer: Deployer, name: str) -> None:
        script = "import time; print('loading for ever', flush=True); time.sleep(1000)"
        launch = ServerLaunch(argv=(sys.executable, "-S", "-c", script, name, "{port}"))
        plan = self.plan(deployer, startup_s=self.hang_s)
        with (
            pytest.raises(DeadlineExceeded, match="startup_s") as raised,
            deployer.deploy(plan, lambda _: launch, _say_nothing),
        ):
            pytest.fail("it must not get here")
        assert raised.value.stage == "startup"
        assert raised.value.log_tail == ("loading for ever",)
        assert not processes_of(name)

    def test_a_command_that_is_not_there(self, deployer: Deployer) -> None:
        launch = ServerLaunch(argv=("./no-such-server", "{port}"), model="none")
        with (
            pytest.raises(EngineDied, match="no-such-server: No such file") as raised,
            deployer.deploy(self.plan(deployer), lambda _: launch, _say_nothing),
        ):
            pytest.fail("it must not get here")
        assert "exit code 127" in str(raised.value)

    def test_a_server_that_dies_in_use(self, deployer: Deployer, name: str) -> None:
        with deployer.deploy(
            self.plan(deployer), lambda _: simulated_launch(name=name), _say_nothing
        ) as deployed:
            deployed.check()
            (server,) = [p for p in processes_of(name) if "--grace" not in p.cmdline()]
            server.kill()
            clock, error = SystemClock(), None
            give_up_s = clock.monotonic_s() + 20.0
            while error is None and clock.monotonic_s() < give_up_s:
                try:
                    deployed.check()
                except EngineDied as died:
                    error = died
        assert error is not None
        assert error.stage == "load"
        assert "killed by signal 9" in str(error)
        assert any("healthy" in line for line in error.log_tail)

    @pytest.mark.parametrize("times", ["once", "always"])
    def test_a_port_that_is_taken_is_tried_once_more(
        self, deployer: Deployer, name: str, times: str, tmp_path: Any
    ) -> None:
        words = simulated_launch(name=name).argv
        launch = ServerLaunch(
            argv=(words[0], "-c", _PORT_TAKEN, str(tmp_path / times), *words[3:]), model=name
        )
        deploy = deployer.deploy(self.plan(deployer), lambda _: launch, _say_nothing)
        if times == "always":
            with pytest.raises(EngineDied, match="Address already in use"), deploy:
                pytest.fail("it must not get here")
            return
        with deploy as deployed:
            assert set(self.drive(deployed).error) == {""}
            assert deployed.startup is not None
            assert "port retry" in {phase.name for phase in deployed.startup.phases}

    def test_an_endpoint_has_no_startup_and_is_left_alone(
        self, deployer: Deployer, name: str
    ) -> None:
        server = ServerProcess(ServerCommand(argv=simulated_launch(name=name).argv))
        server.begin()
        seen = ServerState.STARTING
        try:
            while seen not in (ServerState.HEALTHY, ServerState.EXITED):
                seen = server.watch(seen, 30.0).state
            url = f"http://{HOST}:{server.status().port}"
            spec = RunSpec(
                name="contract",
                workload=EndpointWorkload(url=url, model=name),
                traffic=a_traffic(),
            )
            plan = make_plan(spec, deployer.inventory())
            launch = RemoteServer(url=url, model=name)
            with deployer.deploy(plan, lambda _: launch, _say_nothing) as deployed:
                assert deployed.startup is None
                assert set(self.drive(deployed).error) == {""}
                deployed.check()
            assert server.status().state == ServerState.HEALTHY
        finally:
            server.stop()
