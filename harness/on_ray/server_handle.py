"""The driver's side of the server actor: start it, wait for health, watch it, end it.

Ray's errors end here: what comes out is a DeploymentError with the last log lines we have.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import psutil
import ray
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.errors import DeploymentError, EngineDied, NodeLost
from harness.load.clocks import boot_id
from harness.on_ray.gcs import await_ends, is_gcs_here
from harness.on_ray.node_facts import NodeFacts
from harness.on_ray.server_actor import Begun, ServerActor
from harness.plan import Bundle
from harness.server_process import (
    STOP_MARGIN_S,
    ServerCommand,
    ServerState,
    ServerStatus,
    engine_died,
    too_late,
)
from harness.startup import Anchor, anchor
from results.clock import Clock
from results.startup import StartupPhase
from results.telemetry import Telemetry
from workloads.base import Device

WATCH_S = 1.0  # one look at the server; a change of state is told at once
ANSWER_DEADLINE_S = 15.0  # for an actor that has nothing to do but answer
SAMPLING_S = 10.0  # what the first and the last reads of telemetry may take on top
NODE_PROBE_S = 2.0
NODE_LOOK_S = 2.0
RETRY_S = 0.2
NUM_THREADS = 4  # a watch, a read of the log, a stop and one more at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNode:
    """Where the actor is: enough to tell a dead node from a dead process."""

    node_id: str
    name: str
    address: str
    raylet_port: int

    def answers(self) -> bool:
        """Whether its raylet still takes connections; quicker than the cluster's own verdict."""
        try:
            with socket.create_connection((self.address, self.raylet_port), NODE_PROBE_S):
                return True
        except OSError:
            return False


def node_of(node_id: str) -> ServerNode:
    """Raises NodeLost when the cluster does not list it alive."""
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] == node_id and node["Alive"]:
            return ServerNode(
                node_id=node_id,
                name=node.get("NodeName") or node["NodeManagerAddress"],
                address=node["NodeManagerAddress"],
                raylet_port=node["NodeManagerPort"],
            )
    raise NodeLost("placement", f"node {node_id} was given to the deployment and is gone again")


def actor_options(bundle: Bundle, device: Device, group: PlacementGroup | None) -> dict[str, Any]:
    """The whole of bundle 0: its CPUs, and its chips where they are real, so that Ray shows the
    process these chips and no others."""
    options: dict[str, Any] = {
        "num_cpus": bundle.cpus,
        "max_restarts": 0,
        "max_concurrency": NUM_THREADS,
    }
    if device.kind == "gpu" and bundle.chips:
        options["num_gpus"] = bundle.chips
    if device.kind == "tpu" and bundle.chips:
        options["resources"] = {"TPU": bundle.chips}
    if group is not None:
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=0
        )
    return options


class ServerHandle:
    """One server actor. Made by the driver; ``deadline_s`` is the clock's reading at which the
    startup must have ended."""

    def __init__(
        self, options: dict[str, Any], node: ServerNode, clock: Clock, deadline_s: float
    ) -> None:
        self.node = node
        self._clock = clock
        self._deadline_s = deadline_s
        self._tail: tuple[str, ...] = ()
        self._status: ServerStatus | None = None
        self._stage = "startup"
        self._gone = self._node_is_lost = self._is_ending = False
        self._is_here = False  # the server's node is this host
        self._asked_s = clock.monotonic_s()
        self._startup_s = deadline_s - self._asked_s
        # Any: Ray's own types do not know the methods of an actor made with options.
        self._actor: Any = ray.remote(ServerActor).options(**options).remote()

    def await_actor(self) -> float:
        """Returns when the actor's process runs: the driver's reading of the clock when it did, or
        now where that was on another host. Raises DeadlineExceeded, NodeLost, EngineDied."""
        there, up_s = self._ask(
            self._actor.ready, timeout_s=self._left_s(), waited_for="the actor to start on its node"
        )
        now_s = self._clock.monotonic_s()
        is_same_clock = there == boot_id() and self._asked_s <= up_s <= now_s
        return up_s if is_same_clock else now_s

    def begin(
        self, command: ServerCommand, wants_otlp: bool, page_cache_paths: tuple[str, ...]
    ) -> tuple[Begun, Anchor]:
        """Starts the server; where its zero lies, in the driver's own readings."""
        sent_s = self._clock.monotonic_s()
        begun: Begun = self._ask(
            self._actor.begin,
            command,
            wants_otlp,
            page_cache_paths,
            timeout_s=self._left_s(),
            waited_for="the server process to be started",
        )
        self._is_here = bool(begun.boot_id) and begun.boot_id == boot_id()
        return begun, anchor(
            sent_s=sent_s,
            received_s=self._clock.monotonic_s(),
            elapsed_s=begun.elapsed_s,
            same_clock_s=begun.monotonic_s if self._is_here else None,
        )

    def await_healthy(self, on_change: Callable[[ServerStatus], None]) -> ServerStatus:
        """Returns when the health probe is answered.

        Raises EngineDied when the process ends first, DeadlineExceeded when the time is up.
        """
        seen = ServerState.STARTING
        while True:
            status = self._watch(seen, min(WATCH_S, max(self._left_s(), 0.0)))
            if status.state == ServerState.EXITED:
                raise engine_died(self._stage, status, self._tail)
            if status.state == ServerState.HEALTHY:
                return status
            if status.state != seen:
                on_change(status)
                seen = status.state
            if self._left_s() <= 0:
                raise too_late(self._stage, "the server to be healthy", self._tail, self._startup_s)

    def startup_ended(self) -> None:
        """From here on what goes wrong belongs to the stage ``load``."""
        self._stage = "load"

    def check(self) -> None:
        """Raises EngineDied or NodeLost when the server no longer runs."""
        status = self._watch(ServerState.HEALTHY, 0.0)
        if status.state == ServerState.EXITED:
            raise engine_died(self._stage, status, self._tail)

    def log_tail(self) -> tuple[str, ...]:
        """The last lines; the last ones we heard where the server can no longer be asked."""
        if not self._gone and not self._node_is_lost:
            with suppress(DeploymentError):
                self._watch(ServerState.HEALTHY, 0.0)
        return self._tail

    def lines(self) -> list[tuple[float, str]]:
        lines: list[tuple[float, str]] = self._ask(self._actor.lines)
        return lines

    def spans(self) -> tuple[StartupPhase, ...]:
        spans: tuple[StartupPhase, ...] = self._ask(self._actor.spans)
        return spans

    def facts(self, python: str | None) -> NodeFacts:
        facts: NodeFacts = self._ask(self._actor.facts, python, timeout_s=ANSWER_DEADLINE_S * 2)
        return facts

    def sample(self, interval_s: float, device_kind: str) -> None:
        """Begins to read telemetry on the server's node, each source once before it returns."""
        self._ask(
            self._actor.sample, interval_s, device_kind, timeout_s=ANSWER_DEADLINE_S + SAMPLING_S
        )

    def sampled(self) -> tuple[Telemetry | None, Anchor]:
        """Ends it: the telemetry on the node's own clock, and where that clock's zero lies on the
        driver's. None where nothing was begun."""
        found = self._ask(self._actor.sampled, timeout_s=ANSWER_DEADLINE_S + SAMPLING_S)
        sent_s = self._clock.monotonic_s()
        there, now_s = self._ask(self._actor.clock)
        answered = anchor(
            sent_s=sent_s,
            received_s=self._clock.monotonic_s(),
            elapsed_s=0.0,
            same_clock_s=now_s if there and there == boot_id() else None,
        )
        return found, replace(answered, origin_s=answered.origin_s - now_s)

    def stop_sampling(self) -> None:
        """Ends it without waiting; nobody wants what was read."""
        self._actor.sampled.remote()

    def stop(self, grace_s: float) -> None:
        """Ends the server's whole tree, then the actor. Waits until the tree is gone: at most the
        grace and a margin, and the same again where the actor itself had to be killed."""
        self._is_ending = True
        self.log_tail()
        self._gone = True
        longest_s = grace_s + STOP_MARGIN_S
        try:
            if not self._node_is_lost:
                stopped = self._actor.stop.remote()
                await_ends([stopped], longest_s + ANSWER_DEADLINE_S, self._clock)
        finally:
            # Even when a second Ctrl-C ends the wait: the actor's end closes the warden's pipe.
            ray.kill(self._actor, no_restart=True)
        self._await_pid_gone(longest_s)

    def _await_pid_gone(self, longest_s: float) -> None:
        """On this host the warden is waited for by its pid. Elsewhere ``stop`` has done it, or the
        node is lost and nothing is left to wait for."""
        status = self._status
        if status is None or not status.warden_pid or not self._is_here:
            return
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            warden = psutil.Process(status.warden_pid)
            if any(part.endswith("warden.py") for part in warden.cmdline()):
                warden.wait(longest_s)

    def _left_s(self) -> float:
        return self._deadline_s - self._clock.monotonic_s()

    def _watch(self, seen: ServerState, timeout_s: float) -> ServerStatus:
        status, tail = self._ask(
            self._actor.watch, seen, timeout_s, timeout_s=timeout_s + ANSWER_DEADLINE_S
        )
        self._status, self._tail = status, tail
        assert isinstance(status, ServerStatus)
        return status

    def _ask(
        self,
        method: Any,
        *arguments: Any,
        timeout_s: float = ANSWER_DEADLINE_S,
        waited_for: str = "the server's actor to answer",
    ) -> Any:
        """One call of the actor; Ray's errors become ours."""
        give_up_s = self._clock.monotonic_s() + max(timeout_s, 0.0)
        while True:
            answer = method.remote(*arguments)
            while not ray.wait([answer], timeout=self._slice_s(give_up_s))[0]:
                # Ray needs half a minute to be sure of a dead node; its raylet's port tells now.
                if not self.node.answers():
                    raise self._lost()
                if self._clock.monotonic_s() >= give_up_s or self._is_deserted():
                    raise too_late(self._stage, waited_for, self._tail, self._startup_s)
            try:
                return ray.get(answer)
            except ActorUnavailableError as error:
                if not self.node.answers():
                    raise self._lost() from error
                if self._clock.monotonic_s() >= give_up_s:
                    raise self._actor_died(error) from error
                self._clock.sleep(RETRY_S)  # a broken connection; Ray is finding out what it means
            except RayActorError as error:
                raise self._actor_died(error) from error

    def _is_deserted(self) -> bool:
        """At the end nobody is waited for who has no GCS: perhaps what ended it ended them all."""
        return self._is_ending and not is_gcs_here()

    def _slice_s(self, give_up_s: float) -> float:
        return min(max(give_up_s - self._clock.monotonic_s(), 0.0), NODE_LOOK_S)

    def _actor_died(self, error: RayActorError) -> DeploymentError:
        if not self.node.answers():
            return self._lost()
        return EngineDied(
            self._stage,
            f"the process that owned the server on node {self.node.name} died: "
            f"{_first_line(error)}; see Ray's logs of that node",
            self._tail,
        )

    def _lost(self) -> NodeLost:
        self._node_is_lost = True
        return NodeLost(
            self._stage,
            f"node {self.node.name} ({self.node.address}) went away with the server on it; "
            "look at the node's own events, or ask for another capacity type",
            self._tail,
        )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
