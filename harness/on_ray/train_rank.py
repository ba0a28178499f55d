"""What runs in each Ray Train worker: the loop that the launch names, and its way to report.

A step is never a Ray task: a rank gathers what it has to say and sends it about once a second, so
that telling costs the training nothing that could be measured.
"""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray

from harness.on_ray.train_news import Answer, RankNews
from harness.rank_process import RankProcess
from results.clock import Clock, SystemClock
from workloads.base import TrainEvent, TrainRank, TrainStep
from workloads.errors import OutOfDeviceMemory, TrainingFailed
from workloads.host_memory import memory_seen

if TYPE_CHECKING:
    from harness.telemetry.sampling import Sampling
    from results.telemetry import Telemetry

SEND_EVERY_S = 0.5


class Outbox:
    """Keeps one rank's news and sends it to the coach: at once while the job starts, then together.

    ``send`` hands a message over and returns something that ``settle`` can wait for: it gives back
    the coach's answer to each.
    """

    def __init__(
        self,
        rank: int,
        now_s: Callable[[], float],
        send: Callable[[RankNews], Any],
        settle: Callable[[list[Any]], Any],
        urgent_steps: frozenset[int] = frozenset(),
    ) -> None:
        context = ray.get_runtime_context()
        self._rank, self._node_id, self._pid = rank, context.get_node_id(), os.getpid()
        self._now_s, self._send, self._settle = now_s, send, settle
        self._urgent_steps = urgent_steps
        self._waiting: list[TrainEvent] = []
        self._in_flight: list[Any] = []
        self._sent_at_s = 0.0
        self._round_trip_s = 0.0
        self._attempt = -1

    def hello(self) -> Answer:
        """One answered message, to learn how long a message takes, and which attempt this is."""
        asked_s = self._now_s()
        (answer,) = self._settle([self._send(self._news(()))])
        self._round_trip_s = self._now_s() - asked_s
        self._attempt = answer.attempt
        told: Answer = answer
        return told

    def report(self, event: TrainEvent) -> None:
        self._waiting.append(event)
        is_due = self._now_s() - self._sent_at_s >= SEND_EVERY_S
        if is_due or not isinstance(event, TrainStep) or self._is_urgent(event):
            self._flush()

    def _is_urgent(self, step: TrainStep) -> bool:
        """What a checkpoint holds must be known however the process ends, and a fault that is to
        strike at this step waits for it."""
        return step.step == 0 or step.checkpoint_s > 0 or step.step in self._urgent_steps

    def close(
        self, raised: tuple[str, ...] = (), error: str = "", telemetry: Telemetry | None = None
    ) -> None:
        """Send what is left, and return when all of it has arrived."""
        self._flush(raised, error, telemetry)
        self._settle(self._in_flight)
        self._in_flight = []

    def _flush(
        self, raised: tuple[str, ...] = (), error: str = "", telemetry: Telemetry | None = None
    ) -> None:
        self._sent_at_s = self._now_s()
        news = self._news(raised, error)._replace(telemetry=telemetry)
        # Kept until the end, so that a job's last words cannot be lost with its process.
        self._in_flight = [*self._in_flight[-64:], self._send(news)]
        self._waiting = []

    def _news(self, raised: tuple[str, ...], error: str = "") -> RankNews:
        return RankNews(
            rank=self._rank,
            node_id=self._node_id,
            pid=self._pid,
            sent_s=self._now_s(),
            round_trip_s=self._round_trip_s,
            events=tuple(self._waiting),
            raised=raised,
            attempt=self._attempt,
            error=error,
            memory=memory_seen(),
        )


def rank_main(config: dict[str, Any]) -> None:
    """Called by Ray Train in each worker. ``config``: ``loop``, ``config`` and ``coach``;
    ``backend``, ``chip``, ``num_slices`` and ``env`` of the launch; and ``telemetry_interval_s``.

    An error of the loop is sent with its traceback, then raised for Ray Train to see.
    """
    # Imported here: the driver imports this module too, and ray.train costs it over a second.
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    clock: Clock = SystemClock()
    entered_s = clock.monotonic_s()
    context = get_context()
    coach = config["coach"]
    outbox = Outbox(
        context.get_world_rank(),
        lambda: clock.monotonic_s() - entered_s,
        send=lambda news: coach.post.remote(news),
        settle=ray.get,
        urgent_steps=config["urgent_steps"],
    )
    answer = outbox.hello()
    rank = TrainRank(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        backend=config["backend"],
        address=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
        now_s=lambda: clock.monotonic_s() - entered_s,
        report=outbox.report,
        from_rank_zero=broadcast_from_rank_zero,
        device=_own_cuda_device if config["backend"] == "nccl" else lambda: "cpu",
        own_gpus=_own_gpus() if config["chip"] == "GPU" else (),
        attempt=answer.attempt,
        job_first_step=answer.job_first_step,
        local_rank=context.get_local_rank(),
        local_world_size=context.get_local_world_size(),
        node_rank=context.get_node_rank(),
        scratch_dir=_session_dir(),
        start_process=lambda argv, env, cwd, python_path: RankProcess(
            argv,
            env,
            cwd,
            python_path,
            owns_chips=config["backend"] == "nccl",
            now_s=lambda: clock.monotonic_s() - entered_s,
        ),
    )
    watch = None
    if config["chip"] == "GPU" and config["telemetry_interval_s"] > 0:
        watch = begin_watch(ray.get_gpu_ids(), rank.now_s, config["telemetry_interval_s"])
    try:
        _set_environment(config, rank)
        module, _, function = config["loop"].partition(":")
        getattr(importlib.import_module(module), function)(config["config"], rank)
    except BaseException as error:
        lines = tuple("".join(traceback.format_exception(error)).splitlines())
        outbox.close(lines, _kind_of(error))
        raise
    outbox.close(telemetry=watch.stop() if watch is not None else None)


def begin_watch(
    gpus: Sequence[int | str], now_s: Callable[[], float], interval_s: float
) -> Sampling:
    """Reads the rank's own GPUs in a thread beside its loop. Nobody waits for the first reading: it
    is over long before the first step."""
    # Only ranks that have GPUs pay for these imports.
    from harness.telemetry.sampling import Sampling
    from harness.telemetry.sources import of_gpus

    sampling = Sampling(of_gpus([str(gpu) for gpu in gpus]), now_s, interval_s)
    sampling.start(deadline_s=0.0)
    return sampling


def _kind_of(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return OutOfDeviceMemory.error
    return error.error if isinstance(error, TrainingFailed) else ""


def _set_environment(config: Mapping[str, Any], rank: TrainRank) -> None:
    """What the launch asks for, and how the slices of several find each other."""
    os.environ.update(config["env"])
    if config["chip"] != "TPU" or config["num_slices"] < 2:
        return
    from ray.util.tpu import get_tpu_coordinator_env_vars

    os.environ.update(
        get_tpu_coordinator_env_vars(
            coordinator_address=rank.from_rank_zero(rank.address),
            num_slices=config["num_slices"],
            slice_id=slice_of(rank.rank, rank.world_size, config["num_slices"]),
        )
    )


def _session_dir() -> str:
    """Ray's folder for this session on this node: it goes with the cluster. Ray tells it nowhere
    else."""
    node: Any = ray._private.worker._global_node
    return str(node.get_session_dir_path())


def _own_cuda_device() -> str:
    from ray.train.torch import get_device  # imports torch, which the loop has by then

    return str(get_device())


def slice_of(rank: int, world_size: int, num_slices: int) -> int:
    """Which TPU slice a rank stands on: the bundles are slice after slice, host after host."""
    return rank // (world_size // num_slices)


def _own_gpus() -> tuple[int, ...]:
    """The rank's own GPUs, as numbers among those that its process sees.

    Ray Train shows a rank all GPUs of its node's ranks, or NCCL could not use the links between
    them; so which of them are its own has to be looked up.
    """
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    mine = [str(gpu) for gpu in ray.get_gpu_ids()]
    return tuple(sorted(seen.index(gpu) for gpu in mine if gpu in seen))
