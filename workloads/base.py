"""The seam every workload fits: say what to start, drive it, and hand back columns.

A workload never places anything. ``launch`` returns a value; the deployer starts what it says.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

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
    num_slices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLaunch:
    """A server process. ``{port}`` in ``argv`` becomes the port the node's kernel gave out, and
    ``{host}`` the address to bind, so that the load reaches it from another node.

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
    vocab_size: int | None = None  # the model's, where it is known before the server runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteServer:
    """Nothing to start: a server that is already there."""

    url: str
    model: str
    api_key_env: str = ""
    metrics_url: tuple[str, ...] = ()  # empty: at url/metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainLaunch:
    """A Ray Train job. ``train_loop`` is ``module:function``; ``config`` is JSON-like.

    Each rank calls ``train_loop(config, rank)`` with its own ``TrainRank``, in a process whose
    environment has ``env``. ``chips_per_worker`` of the resource ``chip`` (Ray's name: GPU or TPU)
    are each worker's own; of a virtual pool's pretended chips it takes none. Workers of one TPU
    slice stand together: rank r is of slice r // (num_workers / num_slices). When no
    rank has made a step for ``watchdog_s``, the job hangs and is failed; 0: it is waited for. Steps
    come from the first ``num_reporting`` ranks; 0: from all.
    """

    train_loop: str
    config: Mapping[str, Any]
    num_workers: int
    cpus_per_worker: float
    backend: str  # gloo, nccl or xla
    watchdog_s: float = 0.0
    num_reporting: int = 0
    chip: str = ""
    chips_per_worker: int = 0
    num_slices: int = 1
    env: Mapping[str, str] = field(default_factory=dict)


Launch = ServerLaunch | RemoteServer | TrainLaunch


class TrainPhase(NamedTuple):
    """A part of one rank's start, in seconds on that rank's own clock."""

    name: str
    start_s: float
    end_s: float


class TrainStep(NamedTuple):
    """One optimizer step of one rank: a row of ``StepSamples``, less the rank."""

    step: int
    start_s: float
    duration_s: float
    data_wait_s: float
    num_tokens: int
    loss: float
    memory_bytes: int
    is_warmup: bool
    comm_s: float = math.nan
    optimizer_s: float = math.nan
    checkpoint_s: float = math.nan
    attempt: int = 0


# A fact of a script's rank: what the script calls its first step. Those of a job that is started
# again are counted from there.
JOB_FIRST_STEP = "job_first_step"


class TrainFacts(NamedTuple):
    """What a rank says of itself: JSON-like. Said again, it adds to what was said before.

    Names that are read by others: ``num_steps``; ``flops_per_token`` with ``flops_rule``, which
    MFU needs; ``comm_method``, how ``comm_s`` was found; ``comm_s_per_step``, of a rank that could
    tell only after its last step; ``checkpoint_restore_s``; ``first_step`` of a job that goes on
    where another ended; ``packages``; ``log_tail``, the last lines of a process that the rank
    started, which the record shows of a job that failed.
    """

    values: Mapping[str, Any]


TrainEvent = TrainPhase | TrainStep | TrainFacts


class OwnProcess(Protocol):
    """A process that a rank started; nothing of it outlives the rank. Times: the rank's clock."""

    started_s: float

    def lines(self, patience_s: float) -> list[tuple[float, str]]:
        """(when it was read, line) since the last call; waits up to ``patience_s`` for any."""
        ...

    def exit_code(self) -> int | None:
        """None while it runs; 128 + N where signal N killed it."""
        ...

    def end(self) -> None: ...


class StartProcess(Protocol):
    """``python_path`` goes before the PYTHONPATH there is. Raises OSError where no process can be
    made."""

    def __call__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        python_path: Sequence[str],
    ) -> OwnProcess: ...


def _no_process(*_: object, **__: object) -> OwnProcess:
    raise OSError("this rank was given no way to start a process")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRank:
    """All that a train loop may know of the job around it; nothing of it is Ray's.

    ``now_s`` is the rank's own monotonic clock, zero when its loop was entered. ``report`` may be
    called as often as wanted: it gathers, and sends about once a second. ``from_rank_zero`` hands
    every rank the value that rank 0 passed, and waits for all of them. ``device`` is asked after
    the engine has been imported: ``cpu`` or ``cuda:0``. ``address`` is the rank's own node.
    ``attempt`` counts the job's restarts: above 0, a loop goes on from its last checkpoint.
    ``local_rank`` counts the ranks of a node, ``node_rank`` the nodes. ``start_process`` starts a
    process in the environment of the rank and the variables given, less Ray's own.
    ``scratch_dir`` is a folder of the rank's node that goes when the cluster does.
    ``own_gpus`` are the rank's own among the GPUs that its process can see. ``job_first_step``: the
    fact of that name as an earlier attempt told it.
    """

    rank: int
    world_size: int
    backend: str
    address: str
    now_s: Callable[[], float]
    report: Callable[[TrainEvent], None]
    from_rank_zero: Callable[[str], str]
    device: Callable[[], str]
    attempt: int = 0
    local_rank: int = 0
    local_world_size: int = 1
    node_rank: int = 0
    start_process: StartProcess = _no_process
    scratch_dir: str = tempfile.gettempdir()
    own_gpus: tuple[int, ...] = ()
    job_first_step: int | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Report what the block took as a phase of the start, if it ends well."""
        start_s = self.now_s()
        yield
        self.report(TrainPhase(name, start_s, self.now_s()))


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
