"""The actors that send the load, and their stand-in on the driver's side.

A few long-lived actors per node, each with one event loop; never a task per request. The first
takes no CPU of the plan's bundles and starts while the server starts, so that it costs no time;
more are hired where the calibration asks for them and a node has CPUs left (``load_places``). The
columns come back through Ray's object store as Arrow tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.errors import DeadlineExceeded, DeploymentError, WorkerDied
from harness.load.calibrate import noop_server, reconsider, with_headroom
from harness.load.clocks import ClockReading, boot_id
from harness.load.driver import FirstToken, HttpLoadDriver
from harness.load.fleet import Fleet, Look, Pulse
from harness.load.kept_calibrations import calibration_store
from harness.load.local_workers import Seat
from harness.load.priority import go_first
from harness.load.worker import Prepared, Share, WorkerResult
from harness.on_ray.inventory import free_by_node
from harness.on_ray.load_places import WORKER_CPUS, next_node
from harness.on_ray.orphans import end_with_raylet
from harness.startup import anchor
from results.client import ClientReport
from results.clock import Clock, SystemClock
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

PROGRESS_S = 1.0
ANSWER_DEADLINE_S = 15.0
NUM_THREADS = 4  # a load under way, a look at its progress, a first token
MAX_WORKERS = 32
# For one more worker to be placed and to start; a node without a CPU left shows by then.
HIRE_S = 20.0


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


class LoadActor:
    """Holds one load worker in a process of its own."""

    def __init__(self, secret: Secret | None) -> None:
        end_with_raylet()
        key = secret.reveal() if secret else None
        self._driver, self._seat = HttpLoadDriver(api_key=key), Seat(key)
        self._clock = SystemClock()
        self._server = ExitStack()

    def first_token(self, target: ServerTarget, timeout_s: float, api: str) -> _CanaryReport:
        zero_s = self._clock.monotonic_s()
        token = self._driver.first_token(target, timeout_s, api)
        elapsed_s = self._clock.monotonic_s() - zero_s
        return _CanaryReport(token=token, zero_s=zero_s, elapsed_s=elapsed_s, boot_id=boot_id())

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared:
        go_first()
        return self._seat.prepare(target, traffic, share)

    def read_clock(self) -> ClockReading:
        return self._seat.read_clock()

    def start(self, at_s: float) -> None:
        self._seat.start(at_s)

    def is_done(self) -> bool:
        return self._seat.is_done()

    def look(self) -> Look:
        return self._seat.look()

    def snapshot(self) -> RequestSamples:
        return self._seat.snapshot()

    def stop(self) -> None:
        self._seat.stop()

    def result(self) -> WorkerResult:
        return self._seat.result()

    def where(self) -> str:
        """The id of the node that this actor stands on."""
        return str(ray.get_runtime_context().get_node_id())

    def open_noop_server(self) -> str:
        """The URL, on this node, of a server to calibrate against."""
        return self._server.enter_context(noop_server())

    def close_noop_server(self) -> None:
        self._server.close()


class RayWorker:
    """A ``Worker`` of the fleet: one LoadActor, started and not waited for.

    Worker 0 has to stand on ``node_id`` and takes no CPU; the others would like to, and take one.
    ``local`` turns a target into the one that stands for it on a node.
    """

    kind = "actor"

    def __init__(
        self,
        number: int,
        node_id: str,
        secret: Secret | None,
        local: Callable[[RayWorker, ServerTarget], ServerTarget],
    ) -> None:
        options: dict[str, Any] = {
            "num_cpus": WORKER_CPUS if number else 0.0,
            "max_restarts": 0,
            "max_concurrency": NUM_THREADS,
        }
        if node_id:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(
                node_id, soft=number > 0
            )
        self.label = f"load client {number}"
        self._local = local
        # Any: Ray's own types do not know the methods of an actor made with options.
        self.actor: Any = ray.remote(LoadActor).options(**options).remote(secret)

    @cached_property
    def node_id(self) -> str:
        """Where it came to stand; waits for its start."""
        return str(self.ask("where"))

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared:
        prepared: Prepared = self.ask("prepare", self._local(self, target), traffic, share)
        return prepared

    def read_clock(self) -> ClockReading:
        reading: ClockReading = self.ask("read_clock")
        return reading

    def start(self, at_s: float) -> None:
        self.ask("start", at_s)

    def is_done(self) -> bool:
        return bool(self.ask("is_done"))

    def look(self) -> Look:
        seen: Look = self.ask("look")
        return seen

    def snapshot(self) -> RequestSamples:
        seen: RequestSamples = self.ask("snapshot")
        return seen

    def stop(self) -> None:
        self.ask("stop")

    def result(self) -> WorkerResult:
        result: WorkerResult = self.ask("result")
        return replace(result, report=replace(result.report, node_id=self.node_id))

    def close(self) -> None:
        """Ends the process and every connection of it."""
        with suppress(RayError):
            ray.kill(self.actor, no_restart=True)

    def ask(self, what: str, *arguments: Any) -> Any:
        return self.await_answer(getattr(self.actor, what).remote(*arguments), what, "load")

    def await_answer(self, reference: Any, what: str, stage: str) -> Any:
        """Ray's errors become ours."""
        try:
            return ray.get(reference)
        except RayTaskError as error:
            raise DeploymentError(
                stage, f"{self.label} failed at {what}: {error.cause!r}"
            ) from error
        except RayActorError as error:
            raise WorkerDied(
                stage,
                f"the load client's process died ({self.label}, asked for {what}): {error}; "
                "see Ray's logs of its node",
            ) from error


class RemoteLoadDriver:
    """A LoadDriver whose load is sent by LoadActors.

    ``check`` is asked about once a second while the load runs, so that a dead server ends the load
    at once; it raises what it found. A load longer than ``deadline_s`` is DeadlineExceeded; the
    calibration before it does not count. ``node_id``: of the first client, "" where any will do;
    ``server_node_id``: "" for a server that is none of ours.
    """

    def __init__(
        self,
        node_id: str,
        secret: Secret | None,
        clock: Clock,
        deadline_s: float,
        server_node_id: str = "",
    ) -> None:
        self._server_node_id, self._secret = server_node_id, secret
        self._clock = clock
        self._deadline_s = deadline_s
        self._check: Callable[[], None] = lambda: None
        self.last_report: ClientReport | None = None  # of the last ``drive``
        self._noop_servers: dict[str, str] = {}  # node id → URL, while a calibration runs
        self._first = RayWorker(0, node_id, secret, self._local)
        self._fleet = Fleet(self._hire, 1, clock=clock)

    def watch_over(self, check: Callable[[], None]) -> None:
        """What to ask about the server while the load runs."""
        self._check = check

    def first_token(
        self, target: ServerTarget, timeout_s: float, api: str, stage: str = "startup"
    ) -> SeenToken:
        """One short request, retried until the server takes it. Raises DeadlineExceeded when no
        answer came in time, DeploymentError when the server refused, of that ``stage``."""
        called_s = self._clock.monotonic_s()
        report: _CanaryReport = self._get(
            self._first.actor.first_token.remote(target, timeout_s, api),
            timeout_s + ANSWER_DEADLINE_S,
            stage,
        )
        received_s = self._clock.monotonic_s()
        token = report.token
        if token.seen_s is None or token.ttft_s is None:
            kind = DeadlineExceeded if token.status in (-1, 200) else DeploymentError
            raise kind(
                stage,
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
        """Calibrate, or know from before; send; bring the columns back.

        Raises ClientTooSlow before a request is sent, WorkerDied, and what ``check`` raises.
        """

        def tell(pulse: Pulse) -> bool:
            on_progress(pulse.num_done, pulse.num_total, pulse.elapsed_s)
            return False

        store = calibration_store(self._clock)
        try:
            self._fleet.check = self._check
            calibration = with_headroom(
                self._fleet,
                target,
                traffic,
                server=self._noop_server,
                store=store,
                clock=self._clock,
            )
            self._fleet.check = self._check_until(self._clock.monotonic_s() + self._deadline_s)
            result = self._fleet.drive(target, traffic, tell)
            reconsider(self._fleet, target, traffic, calibration, result.samples, store)
        except WorkerDied:
            self._check()  # the node of both may be gone, and that is the better answer
            raise
        self.last_report = replace(result.client, calibration=calibration)
        return result.samples

    def close(self) -> None:
        """Ends the clients' processes and every connection of them."""
        self._fleet.close()

    def _hire(self, number: int) -> RayWorker | None:
        if number == 0:
            return self._first
        if number >= MAX_WORKERS:
            return None
        taken = [worker.node_id for worker in self._workers]
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        node_id = next_node(nodes, free_by_node(), taken, self._server_node_id)
        if node_id is None:
            return None
        worker = RayWorker(number, node_id, self._secret, self._local)
        if ray.wait([worker.actor.read_clock.remote()], timeout=HIRE_S)[0]:
            return worker
        worker.close()
        return None

    @property
    def _workers(self) -> tuple[RayWorker, ...]:
        return tuple(w for w in self._fleet.workers if isinstance(w, RayWorker))

    @contextmanager
    def _noop_server(self) -> Iterator[str]:
        """The URL of the one on the first client's node; ``_local`` gives others their own."""
        try:
            yield self._noop_url_for(self._first)
        finally:
            self._noop_servers.clear()
            for worker in self._workers:
                worker.ask("close_noop_server")

    def _noop_url_for(self, worker: RayWorker) -> str:
        """One server per node: a request to another machine would measure the network between."""
        if worker.node_id not in self._noop_servers:
            self._noop_servers[worker.node_id] = str(worker.ask("open_noop_server"))
        return self._noop_servers[worker.node_id]

    def _local(self, worker: RayWorker, target: ServerTarget) -> ServerTarget:
        if target.base_url not in self._noop_servers.values():
            return target
        return replace(target, base_url=self._noop_url_for(worker))

    def _check_until(self, gives_up_s: float) -> Callable[[], None]:
        def check() -> None:
            self._check()
            if self._clock.monotonic_s() > gives_up_s:
                raise DeadlineExceeded(
                    "load",
                    f"the load was still running after deadlines.load_s = {self._deadline_s:g} s; "
                    "raise it, or ask for less traffic",
                )

        return check

    def _get(self, reference: Any, timeout_s: float, stage: str) -> Any:
        """The canary's report, with an eye on the server meanwhile."""
        give_up_s = self._clock.monotonic_s() + timeout_s
        while not ray.wait([reference], timeout=PROGRESS_S)[0]:
            self._check()
            if self._clock.monotonic_s() > give_up_s:
                raise DeadlineExceeded(
                    stage, f"waited {timeout_s:.0f} s in vain for the first token"
                )
        try:
            return self._first.await_answer(reference, "the first token", stage)
        except WorkerDied:
            self._check()
            raise
