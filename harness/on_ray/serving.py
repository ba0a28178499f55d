"""A server on its placement: actors, process, health, first token, and the timeline of it all."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import ray

from harness.deployment import Announce, Deployment
from harness.errors import DeploymentError
from harness.on_ray.ask import Ask, api_of, describe
from harness.on_ray.load_actor import RemoteLoadDriver, Secret, SeenToken
from harness.on_ray.load_places import choose_node
from harness.on_ray.node_facts import is_python
from harness.on_ray.placement import Placed
from harness.on_ray.server_actor import Begun
from harness.on_ray.server_handle import ServerHandle, actor_options, node_of
from harness.on_ray.server_watch import ServerWatch
from harness.server_process import ServerCommand, ServerState, ServerStatus
from harness.startup import Anchor, DriverMarks, assemble, log_reader
from results.startup import StartupPhase, StartupTimeline
from workloads.base import Running, ServerLaunch, ServerTarget

LOCALHOST = "127.0.0.1"
MAX_GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Up:
    """A server that is healthy, and how it came to be so; times count from the ask."""

    launch: ServerLaunch
    target: ServerTarget
    status: ServerStatus
    begun: Begun
    zero: Anchor
    prepared_s: float
    actor_started_s: float


def load_driver(
    stack: ExitStack, ask: Ask, node_id: str, key: Secret | None, server_node_id: str = ""
) -> RemoteLoadDriver:
    """The load client's actor, started and on the stack."""
    deadline_s = ask.plan.spec.deadlines.load_s
    load = RemoteLoadDriver(node_id, key, ask.clock, deadline_s, server_node_id)
    stack.callback(load.close)
    return load


def serve(stack: ExitStack, ask: Ask, placed: Placed) -> Deployment:
    """Raises DeploymentErrors of the stage ``startup``; what was started is on ``stack``."""
    placed_s, deadlines = ask.since_s(), ask.plan.spec.deadlines
    rung, node = placed.rung, node_of(placed.bundle_node_ids[0])
    grace_s = min(MAX_GRACE_S, deadlines.teardown_s / 2)
    ask.announce("actor", f"placed in pool {rung.pool.name}; starting an actor on {node.name}")
    server = ServerHandle(
        actor_options(rung.bundles[0], rung.device, placed.placement_group),
        node,
        ask.clock,
        ask.asked_s + placed_s + deadlines.startup_s,
    )
    stack.callback(server.stop, grace_s)
    # The client starts while the server does, and costs no time of its own.
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    load_node_id = choose_node(nodes, node.node_id)
    load = load_driver(stack, ask, load_node_id, None, node.node_id)
    load.watch_over(server.check)
    stack.callback(ask.announce, "teardown", f"ending the server on {node.name}")

    same_host = node_of(load_node_id).address == node.address
    host = LOCALHOST if same_host else node.address
    up = _start(ask, server, rung.device.kind != "cpu", host, grace_s, rung.device)
    ask.announce(
        "first token",
        f"healthy {up.zero.origin_s + (up.status.healthy_s or 0.0):.1f} s after the ask; "
        "asking for the first token",
    )
    token = _first_token(ask, server, load, up.target, placed_s + deadlines.startup_s)
    server.startup_ended()
    return _deployment(ask, server, load, up, token, placed, placed_s)


def _start(
    ask: Ask, server: ServerHandle, owns_chips: bool, host: str, grace_s: float, device: Any
) -> _Up:
    """From the actor that is being started to a healthy server."""
    launch = ask.launch_for(device)
    if not isinstance(launch, ServerLaunch):
        raise TypeError(f"a workload of the role server launched a {type(launch).__name__}")
    prepared_s = ask.since_s()
    actor_started_s = server.await_actor() - ask.asked_s
    command = ServerCommand(
        argv=launch.argv,
        env=launch.env,
        health_path=launch.health_path,
        host=host,
        owns_chips=owns_chips,
        grace_s=grace_s,
    )
    begun, zero = server.begin(command, launch.wants_otlp, launch.page_cache_paths)
    status = server.await_healthy(lambda status: _say(ask.announce, status))
    return _Up(
        launch=launch,
        target=ServerTarget(
            base_url=f"http://{host}:{status.port}",
            model=launch.model,
            vocab_size=launch.vocab_size,
        ),
        status=status,
        begun=begun,
        zero=replace(zero, origin_s=zero.origin_s - ask.asked_s),
        prepared_s=prepared_s,
        actor_started_s=actor_started_s,
    )


def _say(announce: Announce, status: ServerStatus) -> None:
    if status.state == ServerState.LOADING:
        announce("engine", f"the server's process runs (port {status.port}); the engine loads")


def _first_token(
    ask: Ask, server: ServerHandle, load: RemoteLoadDriver, target: ServerTarget, until_s: float
) -> SeenToken:
    """A failure is told with the server's last lines: its reason is there more often than not."""
    try:
        return load.first_token(target, max(until_s - ask.since_s(), 1.0), api_of(ask.plan))
    except DeploymentError as error:
        if error.log_tail:
            raise
        raise type(error)(error.stage, error.message, server.log_tail()) from error


def _deployment(
    ask: Ask,
    server: ServerHandle,
    load: RemoteLoadDriver,
    up: _Up,
    token: SeenToken,
    placed: Placed,
    placed_s: float,
) -> Deployment:
    lines = server.lines()
    driver = DriverMarks(
        placed_s=placed_s,
        prepared_s=up.prepared_s,
        actor_started_s=up.actor_started_s,
        first_token_sent_s=token.sent_s - ask.asked_s,
        first_token_s=token.seen_s - ask.asked_s,
        first_token_resolution_s=token.resolution_s,
        placed_detail=describe(placed),
    )
    program = up.launch.argv[0]
    facts = server.facts(program if is_python(program) else None)
    resolve = log_reader(up.launch.resolve)

    def answers(within_s: float) -> None:
        load.first_token(up.target, within_s, api_of(ask.plan), "load")

    return Deployment(
        running=Running(target=up.target, load=load),
        placement=placed.placement,
        hardware=(facts.hardware,),
        startup=_timeline(driver, up, lines, server.spans()),
        packages=facts.packages,
        resolved=resolve(lines) if resolve else {},
        simulated=token.simulated,
        check=server.check,
        log_tail=server.log_tail,
        answers=answers,
        watch=lambda interval_s: ServerWatch(
            server, placed.rung.device.kind, ask.clock, interval_s
        ),
    )


def _timeline(
    driver: DriverMarks,
    up: _Up,
    lines: list[tuple[float, str]],
    spans: tuple[StartupPhase, ...],
) -> StartupTimeline:
    read_phases = log_reader(up.launch.log_phases)
    return assemble(
        driver,
        up.status.marks(),
        up.zero,
        log_phases=read_phases(lines) if read_phases else (),
        span_phases=spans,
        page_cache=up.begun.page_cache,
    )
