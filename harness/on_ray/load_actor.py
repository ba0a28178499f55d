"""The actor that sends the load, and its stand-in on the driver's side.

It takes no CPU of the plan's bundles and starts while the server starts, so that it costs no time.
The columns come back through Ray's object store as one Arrow table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.errors import DeadlineExceeded, DeploymentError
from harness.load.driver import FirstToken, HttpLoadDriver
from harness.on_ray.orphans import end_with_raylet
from harness.on_ray.server_actor import boot_id
from harness.startup import anchor
from results.client import ClientReport
from results.clock import Clock, SystemClock
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

PROGRESS_S = 1.0
ANSWER_DEADLINE_S = 15.0
NUM_THREADS = 4  # a load under way, a look at its progress, a first token


class Secret:
    """An API key on its way to the process that sends. Its words appear in no log and no record."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return type(self), (self._value,)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenToken:
    """The canary's first token, in the driver's own readings of its clock."""

    sent_s: float
    seen_s: float
    resolution_s: float
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _CanaryReport:
    """``zero_s`` is the actor's reading at the call; it means something on the same boot only."""

    token: FirstToken
    zero_s: float
    elapsed_s: float
    boot_id: str


# Between ordinary processes (0) and the system's own (-20).
CLIENT_NICENESS = -10


def go_first() -> None:
    """Where we may, have the kernel run this process before the engine when they share cores.

    The client needs little, and what it waits would be in every latency. Without the right to, it
    waits its turn, and its lateness is measured (``dispatch_lag_s``). Threads started later inherit
    the priority; the session of its own is for Linux's autogroups, which weigh sessions, not
    processes, against each other (sched(7)).
    """
    with suppress(PermissionError):
        os.setsid()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, CLIENT_NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(CLIENT_NICENESS))


class LoadActor:
    """Holds the HTTP client in a process of its own."""

    def __init__(self, secret: Secret | None) -> None:
        end_with_raylet()
        self._driver = HttpLoadDriver(api_key=secret.reveal() if secret else None)
        self._clock = SystemClock()
        self._progress = (0, 0, 0.0)

    def first_token(self, target: ServerTarget, timeout_s: float, api: str) -> _CanaryReport:
        zero_s = self._clock.monotonic_s()
        token = self._driver.first_token(target, timeout_s, api)
        elapsed_s = self._clock.monotonic_s() - zero_s
        return _CanaryReport(token=token, zero_s=zero_s, elapsed_s=elapsed_s, boot_id=boot_id())

    def drive(self, target: ServerTarget, traffic: Traffic) -> pa.Table:
        go_first()
        self._progress = (0, 0, 0.0)
        return self._driver.drive(target, traffic, self._keep).to_table()

    def progress(self) -> tuple[int, int, float]:
        return self._progress

    def health(self) -> ClientReport | None:
        """How the client itself did in the latest load."""
        return self._driver.last_report

    def _keep(self, num_done: int, num_total: int, elapsed_s: float) -> None:
        self._progress = (num_done, num_total, elapsed_s)


def choose_node(nodes: Sequence[Mapping[str, Any]], server_node_id: str) -> str:
    """The id of the node that should send the load, or "" where any will do.

    On one machine it is the server's own node. Otherwise a node without accelerators, another than
    the server's if there is one; where all have accelerators, the server's.
    """
    alive = [node for node in nodes if node["Alive"]]
    if len({node["NodeManagerAddress"] for node in alive}) <= 1:
        return server_node_id
    plain = [
        node["NodeID"]
        for node in alive
        if not any(name == "GPU" or name.startswith("TPU") for name in node["Resources"])
    ]
    return next((n for n in plain if n != server_node_id), plain[0] if plain else server_node_id)


class RemoteLoadDriver:
    """A LoadDriver whose load is sent by a LoadActor.

    ``check`` is asked about once a second while the load runs, so that a dead server ends the load
    at once; it raises what it found. A load longer than ``deadline_s`` is DeadlineExceeded.
    """

    def __init__(
        self,
        node_id: str,
        secret: Secret | None,
        clock: Clock,
        deadline_s: float,
    ) -> None:
        options: dict[str, Any] = {
            "num_cpus": 0,
            "max_restarts": 0,
            "max_concurrency": NUM_THREADS,
        }
        if node_id:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=False)
        self._clock = clock
        self._deadline_s = deadline_s
        self._check: Callable[[], None] = lambda: None
        self.last_health: ClientReport | None = None
        # Any: Ray's own types do not know the methods of an actor made with options.
        self._actor: Any = ray.remote(LoadActor).options(**options).remote(secret)

    def watch_over(self, check: Callable[[], None]) -> None:
        """What to ask about the server while the load runs."""
        self._check = check

    def first_token(self, target: ServerTarget, timeout_s: float, api: str) -> SeenToken:
        """One short request, retried until the server takes it. Raises DeadlineExceeded when no
        answer came in time, DeploymentError when the server refused; stage ``startup``."""
        called_s = self._clock.monotonic_s()
        report: _CanaryReport = self._get(
            self._actor.first_token.remote(target, timeout_s, api),
            "startup",
            timeout_s + ANSWER_DEADLINE_S,
            "the first token",
        )
        received_s = self._clock.monotonic_s()
        token = report.token
        if token.seen_s is None or token.ttft_s is None:
            kind = DeadlineExceeded if token.status in (-1, 200) else DeploymentError
            raise kind(
                "startup",
                f"the server at {target.base_url} is up but gave no first token within "
                f"{timeout_s:.0f} s (HTTP status {token.status}): {token.error}",
            )
        here = boot_id()
        zero = anchor(
            sent_s=called_s,
            received_s=received_s,
            elapsed_s=report.elapsed_s,
            same_clock_s=report.zero_s if here and here == report.boot_id else None,
        )
        seen_s = zero.origin_s + token.seen_s - report.zero_s
        return SeenToken(
            sent_s=seen_s - token.ttft_s,
            seen_s=seen_s,
            resolution_s=zero.resolution_s,
            simulated=token.simulated,
        )

    def drive(
        self,
        target: ServerTarget,
        traffic: Traffic,
        on_progress: Callable[[int, int, float], None],
    ) -> RequestSamples:
        began_s = self._clock.monotonic_s()
        load = self._actor.drive.remote(target, traffic)
        while not ray.wait([load], timeout=PROGRESS_S)[0]:
            self._check()
            if self._clock.monotonic_s() - began_s > self._deadline_s:
                raise DeadlineExceeded(
                    "load",
                    f"the load was still running after deadlines.load_s = {self._deadline_s:g} s; "
                    "raise it, or ask for less traffic",
                )
            with suppress(GetTimeoutError, RayActorError):  # the load itself tells, next time
                on_progress(*ray.get(self._actor.progress.remote(), timeout=PROGRESS_S))
        table = self._get(load, "load", ANSWER_DEADLINE_S, "the columns of the load")
        samples = RequestSamples.from_table(table)
        on_progress(samples.num_requests, samples.num_requests, self._clock.monotonic_s() - began_s)
        self.last_health = self._get(
            self._actor.health.remote(), "load", ANSWER_DEADLINE_S, "the client's own health"
        )
        return samples

    def close(self) -> None:
        """Ends the client's process and every connection of it."""
        with suppress(RayError):
            ray.kill(self._actor, no_restart=True)

    def _get(self, reference: Any, stage: str, timeout_s: float, waited_for: str) -> Any:
        """Waits, with an eye on the server; Ray's errors become ours."""
        give_up_s = self._clock.monotonic_s() + timeout_s
        while not ray.wait([reference], timeout=PROGRESS_S)[0]:
            self._check()
            if self._clock.monotonic_s() > give_up_s:
                raise DeadlineExceeded(stage, f"waited {timeout_s:.0f} s in vain for {waited_for}")
        try:
            return ray.get(reference)
        except RayTaskError as error:
            raise DeploymentError(
                stage, f"the load client failed at {waited_for}: {error.cause!r}"
            ) from error
        except RayActorError as error:
            self._check()  # the node of both may be gone, and that is the better answer
            raise DeploymentError(
                stage,
                f"the load client's process died before {waited_for}: {error}; "
                "see Ray's logs of its node",
            ) from error
