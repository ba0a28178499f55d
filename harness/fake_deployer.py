"""A deployer without Ray that behaves like one: for tests of what stands on a deployer.

It really starts the server that a launch names, as a plain process of this host under the same
warden, waits for its health, and really leaves nothing behind. It places nothing and trains
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil

from harness.deployment import Announce, Deployment
from harness.errors import DeploymentError
from harness.load.driver import HttpLoadDriver
from harness.plan import RunPlan
from harness.pools import CPU, Inventory, NodePool
from harness.server_process import (
    ServerCommand,
    ServerProcess,
    ServerState,
    ServerStatus,
    engine_died,
    too_late,
)
from harness.startup import (
    CALL_RESOLUTION_S,
    Anchor,
    DriverMarks,
    assemble,
    log_reader,
)
from harness.telemetry.beside import LocalWatch
from harness.telemetry.sampler import Source
from harness.telemetry.sources import beside_server, of_endpoint
from results.clock import Clock, SystemClock
from results.environment import Hardware
from results.record import Placement, RungTried
from workloads.base import Device, Launch, RemoteServer, Running, ServerLaunch, ServerTarget

FAKE_NODE = "this-host"
HOST = "127.0.0.1"
_CPU_DEVICE = Device(kind="cpu", accelerator=CPU, num_chips=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeDeployer:
    """A ``Deployer`` of servers on this host, without Ray. One pool, ``fake``, of CPUs."""

    clock: Clock = field(default_factory=SystemClock)
    grace_s: float = 1.0

    def inventory(self) -> Inventory:
        pool = NodePool(
            name="fake",
            accelerator=CPU,
            num_nodes=1,
            chips_per_node=0,
            cpus_per_node=float(psutil.cpu_count() or 1),
            memory_bytes_per_node=psutil.virtual_memory().total,
        )
        return Inventory(pools=(pool,))

    @contextmanager
    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> Iterator[Deployment]:
        asked_s = self.clock.monotonic_s()
        device = plan.rungs[0].device if plan.rungs else _CPU_DEVICE
        launch = launch_for(device)
        with ExitStack() as stack:
            if isinstance(launch, RemoteServer):
                yield self._remote(launch)
            elif isinstance(launch, ServerLaunch):
                yield self._serve(stack, plan, launch, announce, asked_s)
            else:
                raise DeploymentError("startup", "the fake deployer serves; it trains nothing")

    def _remote(self, launch: RemoteServer) -> Deployment:
        target = ServerTarget(
            base_url=launch.url, model=launch.model, api_key_env=launch.api_key_env
        )
        return Deployment(
            running=Running(target=target, load=HttpLoadDriver()),
            placement=Placement(
                pool="endpoint", accelerator="unknown", num_chips=0, capacity="", nodes=()
            ),
            hardware=(),
            startup=None,
            check=lambda: None,
            log_tail=lambda: (),
            watch=self._watch(of_endpoint(launch.url, launch.metrics_url)),
        )

    def _watch(self, sources: tuple[Source, ...]) -> Callable[[float], LocalWatch]:
        return lambda interval_s: LocalWatch(sources, self.clock.monotonic_s, interval_s)

    def _serve(
        self,
        stack: ExitStack,
        plan: RunPlan,
        launch: ServerLaunch,
        announce: Announce,
        asked_s: float,
    ) -> Deployment:
        command = ServerCommand(
            argv=launch.argv,
            env=launch.env,
            health_path=launch.health_path,
            host=HOST,
            grace_s=self.grace_s,
        )
        begun_s = self.clock.monotonic_s()
        server = ServerProcess(command, self.clock, counted_from_s=begun_s)
        stack.callback(server.stop)
        server.begin()
        announce("engine", "the engine loads")
        deadline_s = begun_s + plan.spec.deadlines.startup_s
        status = self._healthy(server, begun_s, deadline_s)
        url = f"http://{HOST}:{status.port}"
        target = ServerTarget(base_url=url, model=launch.model, vocab_size=launch.vocab_size)
        load = HttpLoadDriver()
        announce("first token", "healthy; asking for the first token")
        token = load.first_token(target, max(deadline_s - self.clock.monotonic_s(), 1.0))
        if token.seen_s is None or token.ttft_s is None:
            raise too_late(
                "startup", f"the first token ({token.error})", server.tail(), deadline_s - begun_s
            )
        marks = DriverMarks(
            placed_s=0.0,
            prepared_s=begun_s - asked_s,
            actor_started_s=0.0,
            first_token_sent_s=token.seen_s - token.ttft_s - asked_s,
            first_token_s=token.seen_s - asked_s,
            first_token_resolution_s=CALL_RESOLUTION_S,
        )
        lines = server.lines()
        read_phases, resolve = log_reader(launch.log_phases), log_reader(launch.resolve)
        return Deployment(
            running=Running(target=target, load=load),
            placement=_placement(plan),
            hardware=(_this_host(),),
            startup=assemble(
                marks,
                status.marks(),
                Anchor(origin_s=begun_s - asked_s, resolution_s=CALL_RESOLUTION_S),
                log_phases=read_phases(lines) if read_phases else (),
            ),
            resolved=resolve(lines) if resolve else {},
            simulated=token.simulated,
            check=partial(_check, server),
            log_tail=server.tail,
            answers=partial(_answers, load, target, server),
            watch=self._watch(_beside(target, status)),
        )

    def _healthy(self, server: ServerProcess, begun_s: float, deadline_s: float) -> ServerStatus:
        seen = ServerState.STARTING
        while True:
            left_s = deadline_s - self.clock.monotonic_s()
            status = server.watch(seen, max(left_s, 0.0))
            if status.state == ServerState.HEALTHY:
                return status
            if status.state == ServerState.EXITED:
                raise engine_died("startup", status, server.tail())
            if left_s <= 0:
                raise too_late(
                    "startup", "the server to be healthy", server.tail(), deadline_s - begun_s
                )
            seen = status.state


def _check(server: ServerProcess) -> None:
    status = server.status()
    if status.state == ServerState.EXITED:
        raise engine_died("load", status, server.tail())


def _answers(
    load: HttpLoadDriver, target: ServerTarget, server: ServerProcess, within_s: float
) -> None:
    token = load.first_token(target, within_s)
    _check(server)
    if token.seen_s is None:
        raise too_late("load", f"one token ({token.error})", server.tail(), within_s)


def _beside(target: ServerTarget, status: ServerStatus) -> tuple[Source, ...]:
    return beside_server(target.base_url, _CPU_DEVICE.kind, engine_pid=status.warden_pid)


def _placement(plan: RunPlan) -> Placement:
    rung = plan.rungs[0]
    tried = RungTried(
        pool=rung.pool.name, capacity=str(rung.capacity), waited_s=0.0, outcome="taken"
    )
    return Placement(
        pool=rung.pool.name,
        accelerator=rung.pool.accelerator,
        num_chips=rung.device.num_chips,
        capacity=str(rung.capacity),
        nodes=(FAKE_NODE,),
        zone=rung.pool.zone,
        machine_type=rung.pool.machine_type,
        rungs=(tried,),
    )


def _this_host() -> Hardware:
    return Hardware(
        node=FAKE_NODE,
        cpu_model="fake",
        num_cpus=psutil.cpu_count() or 0,
        memory_bytes=psutil.virtual_memory().total,
        kernel="fake",
    )
