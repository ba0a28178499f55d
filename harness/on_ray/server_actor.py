"""The actor that owns a server process on the node, and on the chips, of its bundle.

Kept light: everything imported here is startup time of every server. Failures come back as values.
When the actor's process goes, however it goes, the warden's pipe closes and the server goes too.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.load.clocks import boot_id
from harness.on_ray.orphans import end_with_raylet
from harness.server_process import ServerCommand, ServerProcess, ServerState, ServerStatus
from results.clock import SystemClock

SPANS_SETTLE_S = 0.75  # after healthy

if TYPE_CHECKING:
    from harness.on_ray.node_facts import NodeFacts
    from harness.telemetry.sampling import Sampling
    from results.startup import StartupPhase
    from results.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """``monotonic_s`` is the reading that all of the server's times count from; it means something
    only to a process of the same boot (``boot_id``)."""

    monotonic_s: float
    boot_id: str
    elapsed_s: float  # from that reading to this answer
    page_cache: float | None = None


class ServerActor:
    """``begin`` once; everything else at any time, from several threads at once."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._server: ServerProcess | None = None
        self._beginning = threading.Lock()
        self._begun_at: Begun | None = None
        self._receiver: Any = None
        self._sampling: Sampling | None = None
        self._last_sampled: Telemetry | None = None
        self._exits = ExitStack()
        self._utc_at_zero_s = 0.0
        self._up_s = self._clock.monotonic_s()
        end_with_raylet(self.stop)

    def ready(self) -> tuple[str, float]:
        """Answers when the actor's process runs: this boot, and the clock's reading when it did."""
        return boot_id(), self._up_s

    def begin(
        self, command: ServerCommand, wants_otlp: bool, page_cache_paths: tuple[str, ...]
    ) -> Begun:
        """Starts the server and returns at once. Ray may deliver a call twice; the second one is
        told of the server that the first one started."""
        with self._beginning:
            if self._begun_at is None:
                self._begun_at = self._begin(command, wants_otlp, page_cache_paths)
            first = self._begun_at
            return replace(first, elapsed_s=self._clock.monotonic_s() - first.monotonic_s)

    def watch(self, seen: ServerState, timeout_s: float) -> tuple[ServerStatus, tuple[str, ...]]:
        """The status once it is another than ``seen`` or the time is up; and the last lines. Before
        ``begin``, as a driver asks that is stopped then, it is starting, and has said nothing."""
        server = self._server
        if server is None:
            return ServerStatus(state=ServerState.STARTING, elapsed_s=0.0), ()
        status = server.watch(seen, timeout_s)
        return status, server.tail()

    def lines(self) -> list[tuple[float, str]]:
        return self._started().lines()

    def spans(self) -> tuple[StartupPhase, ...]:
        """The engine's spans, as phases since its process runs. Exporters send in batches, so the
        last ones of the startup are given a moment to arrive."""
        status = self._started().status()
        if self._receiver is None or status.started_s is None:
            return ()
        settled_s = (status.healthy_s or 0.0) + SPANS_SETTLE_S
        self._clock.sleep(max(settled_s - status.elapsed_s, 0.0))
        from harness.telemetry.otlp import span_phases

        return span_phases(self._receiver.spans(), self._utc_at_zero_s + status.started_s)

    def sample(self, interval_s: float, device_kind: str) -> None:
        """Begins to read beside the server; returns when every source was read once. A sampling
        that nobody ended is ended first."""
        from harness.telemetry.sampling import Sampling
        from harness.telemetry.sources import beside_server

        self.sampled()
        server = self._started()
        status = server.status()
        sources = beside_server(
            f"http://{server.host}:{status.port}",
            device_kind,
            engine_pid=status.warden_pid,
            visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        )
        self._sampling = Sampling(sources, self._clock.monotonic_s, interval_s)
        self._sampling.start()

    def sampled(self) -> Telemetry | None:
        """Ends it: what was read, on this actor's monotonic clock; None where nothing was begun.
        Asked again, as Ray may do, it says the same."""
        sampling, self._sampling = self._sampling, None
        if sampling is not None:
            self._last_sampled = sampling.stop()
        return self._last_sampled

    def clock(self) -> tuple[str, float]:
        """This boot, and its monotonic clock now."""
        return boot_id(), self._clock.monotonic_s()

    def facts(self, python: str | None) -> NodeFacts:
        """This node, and the packages of the interpreter ``python``; see ``node_facts``."""
        from harness.on_ray.node_facts import node_facts

        return node_facts(python)

    def stop(self) -> bool:
        """Ends the server's whole tree and waits for it; whether it is gone."""
        gone = self._server is None or self._server.stop()
        self._exits.close()
        return gone

    def _started(self) -> ServerProcess:
        if self._server is None:
            raise RuntimeError("the server actor was asked before begin")
        return self._server

    def _begin(
        self, command: ServerCommand, wants_otlp: bool, page_cache_paths: tuple[str, ...]
    ) -> Begun:
        asked_s = self._clock.monotonic_s()
        page_cache = None
        if page_cache_paths:
            from harness.telemetry.page_cache import residency

            page_cache = residency(page_cache_paths)
        if wants_otlp:
            from harness.telemetry.otlp import OtlpReceiver

            self._receiver = self._exits.enter_context(OtlpReceiver())
            command = replace(command, otlp=self._receiver.endpoint)
        server = ServerProcess(command, self._clock, counted_from_s=asked_s)
        self._utc_at_zero_s = self._clock.now_utc().timestamp() - (
            self._clock.monotonic_s() - asked_s
        )
        server.begin()
        self._server = server
        return Begun(
            monotonic_s=asked_s,
            boot_id=boot_id(),
            elapsed_s=self._clock.monotonic_s() - asked_s,
            page_cache=page_cache,
        )
