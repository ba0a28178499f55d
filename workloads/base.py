"""The seam every workload fits: say what to start, drive it, and hand back columns.

A workload never places anything. ``launch`` returns a value; the deployer starts what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from results.samples import RequestSamples, Samples
from results.startup import StartupPhase
from workloads.traffic.spec import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a launch will stand on, as planned. ``kind``: ``cpu``, ``gpu`` or ``tpu``.

    A virtual pool has the accelerator's name and the kind ``cpu``: that is what really runs.
    """

    kind: str
    accelerator: str
    num_chips: int
    num_nodes: int = 1
    topology: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLaunch:
    """A server process. ``{port}`` in ``argv`` becomes the port the node's kernel gave out.

    ``log_phases`` reads startup phases out of the server's own log lines
    (``(seconds since the process started, line)`` in, phases on the same origin out);
    ``resolve`` reads what the engine says it runs with out of the same lines. Both are pure and
    named by import path (``module:function``), so that the value crosses processes.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    model: str = ""  # the name to put in requests
    health_path: str = "/health"
    log_phases: str = ""
    resolve: str = ""
    wants_otlp: bool = False  # ``{otlp}`` in argv/env becomes our receiver's endpoint
    page_cache_paths: tuple[str, ...] = ()  # files whose residence tells a warm start from a cold


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteServer:
    """Nothing to start: a server that is already there."""

    url: str
    model: str
    api_key_env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainLaunch:
    """A Ray Train job. ``train_loop`` is ``module:function``; ``config`` is JSON-like."""

    train_loop: str
    config: Mapping[str, Any]
    num_workers: int
    cpus_per_worker: float
    backend: str  # gloo or nccl


Launch = ServerLaunch | RemoteServer | TrainLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTarget:
    """Where to send requests. The key itself stays in the environment of the process that sends."""

    base_url: str
    model: str
    api_key_env: str = ""
    vocab_size: int | None = None


class LoadDriver(Protocol):
    """Sends one run's traffic and returns its columns; raises on a broken client only.

    ``on_progress(num_done, num_total, elapsed_s)`` is called about once a second.
    """

    def drive(
        self,
        target: ServerTarget,
        traffic: Traffic,
        on_progress: Callable[[int, int, float], None],
    ) -> RequestSamples: ...


class TrainingRun(Protocol):
    """A training job that has made its first step. ``wait`` returns all steps when it has ended."""

    def wait(self, on_progress: Callable[[int, int, float], None]) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a deployer hands to ``drive``: exactly one of the two."""

    target: ServerTarget | None = None
    load: LoadDriver | None = None
    training: TrainingRun | None = None


class Workload(Protocol):
    """Two methods. ``launch`` is pure but for making a model folder that a spec asked for."""

    def launch(self, device: Device, models_dir: str) -> Launch: ...

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> Samples: ...


PhaseReader = Callable[[list[tuple[float, str]]], tuple[StartupPhase, ...]]
