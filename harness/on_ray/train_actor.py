"""Starting a Ray Train job on nodes already taken, and reading its steps while it trains.

The driver talks to one actor, the coach, which runs Ray Train's controller inside the placement
group that the deployment holds (``train_group`` says why and how). The group must stay held for as
long as the training's context is open; the context never removes it.

When the context is left, the coach kills the workers and waits for their deaths; then the coach is
killed. Should it no longer answer, its own death ends what it started, for it owns them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.deployment import Announce
from harness.errors import (
    CheckpointUnusable,
    CompileFailed,
    DataUnusable,
    DeadlineExceeded,
    DeploymentError,
    EngineDied,
    LossNotFinite,
    NodeLost,
    OutOfMemory,
    TrainingHung,
)
from harness.on_ray.gcs import await_ends
from harness.on_ray.train_coach import STOP_S, Care, TrainCoach
from harness.on_ray.train_log import TrainLog
from harness.on_ray.train_news import CoachNews, Ending, first_lines
from results.clock import Clock
from results.goodput import Goodput
from results.samples import StepSamples
from results.startup import PhaseSource, StartupPhase
from results.telemetry import Telemetry
from workloads.base import TrainLaunch

_KINDS: Mapping[str, type[DeploymentError]] = {
    "node_lost": NodeLost,
    "nan_loss": LossNotFinite,
    "out_of_memory": OutOfMemory,
    "hang": TrainingHung,
    "compile_failure": CompileFailed,
    "checkpoint_unusable": CheckpointUnusable,
    "data_unusable": DataUnusable,
}
_WENT_ON = ("checkpoint_restore_s", "first_step")
_READ_S = 1.0  # how long one read waits for news; also the period of progress
_UNANSWERED_S = 30.0  # a coach that does not answer a read for so long is given up


class HeldPlacement(Protocol):
    """What is needed of ``harness.on_ray.placement.Placed``."""

    @property
    def placement_group(self) -> Any: ...

    @property
    def bundle_node_ids(self) -> tuple[str, ...]: ...


class RayTrainingRun:
    """A job whose every rank has made its first step. A ``workloads.base.TrainingRun``.

    ``phases`` count from the ask; ``ready_s`` is the end of the slowest rank's first step.
    ``facts[rank]`` is what the rank says of itself; ``packages`` and ``resolved`` are rank 0's.
    """

    def __init__(
        self,
        coach: Any,
        log: TrainLog,
        zero_s: float,
        clock: Clock,
        started: tuple[StartupPhase, ...],
        read_resolution_s: float,
    ) -> None:
        self._coach, self._log, self._clock = coach, log, clock
        self._started = started
        self._zero_s = zero_s
        self._read_resolution_s = read_resolution_s
        self._ending: Ending | None = None
        self._wall_s = float("nan")
        self._heard_at_s = clock.monotonic_s()
        self._stage = "startup"
        self.phases: tuple[StartupPhase, ...] = started
        self.ready_s = float("nan")

    @property
    def facts(self) -> Mapping[int, Mapping[str, Any]]:
        return self._log.facts

    @property
    def processes(self) -> Mapping[int, tuple[str, int]]:
        """Each rank's node id and process id."""
        return self._log.processes

    @property
    def packages(self) -> Mapping[str, str]:
        packages: Mapping[str, str] = self._log.facts[0].get("packages", {})
        return packages

    @property
    def resolved(self) -> Mapping[str, Any]:
        left_out = {"packages", "log_tail", *self.observed}
        return {name: v for name, v in self._log.facts[0].items() if name not in left_out}

    @property
    def observed(self) -> Mapping[str, Any]:
        """How it went, and not what it was: what rank 0 said after its first step, and where it
        went on."""
        facts = self._log.facts[0]
        went_on = {name: facts[name] for name in _WENT_ON if name in facts}
        return {**went_on, **self._log.observed}

    def goodput(self) -> Goodput | None:
        """Of a job that has ended well, from the ask to its end; None before."""
        return None if math.isnan(self._wall_s) else self._log.goodput(self._wall_s)

    def telemetry(self) -> Telemetry | None:
        """What the ranks read of their own devices; None where none did."""
        return self._log.telemetry()

    def attempts(self) -> list[dict[str, Any]]:
        """Each start of the job as JSON-like data: when it began, how it ended, what struck it."""
        return self._log.attempts_told()

    def wait(self, on_progress: Callable[[int, int, float], None]) -> StepSamples:
        """All steps, when every rank has returned.

        ``on_progress`` is called about once a second, in this thread; what it raises ends the
        wait, which is how a deadline is put on it. Raises EngineDied or NodeLost.
        """
        begun_s = told_s = self._clock.monotonic_s()
        on_progress(self._log.num_steps_done, self._log.num_steps_total, 0.0)
        while self._ending is None:
            self._read(_READ_S)
            now_s = self._clock.monotonic_s()
            if now_s - told_s >= _READ_S or self._ending is not None:
                told_s = now_s
                done, total = self._log.num_steps_done, self._log.num_steps_total
                on_progress(done, total, now_s - begun_s)
        self._raise_if_failed()
        self._wall_s = self._clock.monotonic_s() - self._zero_s
        incomplete = self._log.incomplete()
        if incomplete:
            raise EngineDied(
                self._stage, f"the training ended early: {incomplete}", self.log_tail()
            )
        return self._log.samples()

    def check(self) -> None:
        """Raise EngineDied or NodeLost if the job has failed; an ended job is a healthy one."""
        if self._ending is None:
            self._read(0.0)
        self._raise_if_failed()

    def log_tail(self) -> tuple[str, ...]:
        """The last lines: what the ranks said, then, after a failure, the error's traceback."""
        said = self._log.lines()
        return (*said, *(self._ending.log_tail if self._ending else ()))[-60:]

    def _stacks(self) -> tuple[str, ...]:
        """Where each rank stands in its code, as far as the coach can still find out."""
        try:
            told: tuple[str, ...] = ray.get(self._coach.stacks.remote(), timeout=_UNANSWERED_S)
        except ray.exceptions.RayError:  # the deadline is what is told
            return ()
        return told

    def _await_first_step(self, deadline_s: float, announce: Announce) -> None:
        num_told = 0
        while not self._log.all_ranks_stepped():
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise DeadlineExceeded(
                    self._stage,
                    f"no first training step by the deadline; {self._log.where_ranks_are()}",
                    (*self.log_tail(), *self._stacks()),
                )
            self._read(min(_READ_S, left_s))
            for line in self._log.phase_lines()[num_told:]:
                announce("training", line)
                num_told += 1
            if self._log.all_ranks_stepped():
                break
            self._raise_if_failed()
            if self._ending is not None:
                raise EngineDied(
                    self._stage, f"no step was made; {self._log.where_ranks_are()}", self.log_tail()
                )
        self.phases = self._started + self._log.phases(
            self._started[-1].end_s, self._read_resolution_s
        )
        self.ready_s = max(phase.end_s for phase in self.phases)
        self._stage = "load"

    def _read(self, patience_s: float) -> None:
        try:
            read: CoachNews = ray.get(
                self._coach.read.remote(self._log.num_messages, patience_s),
                timeout=patience_s + _UNANSWERED_S,
            )
        except ray.exceptions.ActorUnavailableError as error:
            # Ray could not reach it this once; what was not read now is read next time.
            since_s = self._clock.monotonic_s() - self._heard_at_s
            if since_s > _UNANSWERED_S:
                self._ending = Ending(
                    "controller", f"the training's coach: {first_lines(str(error))}"
                )
            self._clock.sleep(min(patience_s, 0.2))
            return
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            message = f"the training's coach is gone: {first_lines(str(error))}"
            self._ending = Ending("controller", message)
            return
        self._heard_at_s = self._clock.monotonic_s()
        self._log.add(read.news, self._heard_at_s)
        if read.ending is not None and self._ending is None:
            self._log.end(read.ending.error, read.ending.message, self._heard_at_s)
        self._ending = read.ending

    def _raise_if_failed(self) -> None:
        if self._ending is None or not self._ending.error:
            return
        kind = _KINDS.get(self._ending.error, EngineDied)
        raise kind(self._stage, self._ending.message, self.log_tail())


@contextmanager
def start_training(
    launch: TrainLaunch,
    placed: HeldPlacement,
    *,
    clock: Clock,
    deadline_s: float,
    announce: Announce,
    asked_at_s: float | None = None,
    care: Care | None = None,
) -> Iterator[RayTrainingRun]:
    """A running job, from the first step of its slowest rank until the context is left.

    ``deadline_s`` is how long that first step may take from now. ``asked_at_s`` is the clock's
    reading when the workload was asked for, the zero of ``phases`` (default: now).

    Raises, with stage ``startup`` and the last lines: EngineDied (a rank raised, or a process of
    the job died), NodeLost, DeadlineExceeded; with stage ``placement`` DeploymentError where the
    group cannot hold the workers, or where a fault would strike the driver's own node. With
    ``care`` a job that lost a process or a node is started again, and its faults are struck.
    """
    asked_s = clock.monotonic_s()
    zero_s = asked_s if asked_at_s is None else asked_at_s
    resources = resources_per_worker(launch)
    group = placed.placement_group
    indices = spread_over_bundles(group.bundle_specs, launch.num_workers, resources)
    announce("training", f"starting Ray Train: {launch.num_workers} workers over {launch.backend}")
    coach = _make_coach()
    try:
        loop = {
            "loop": launch.train_loop,
            "config": dict(launch.config),
            "backend": launch.backend,
            "watchdog_s": launch.watchdog_s,
            "chip": launch.chip,
            "num_slices": launch.num_slices,
            "env": dict(launch.env),
        }
        node_ids = tuple(dict.fromkeys(placed.bundle_node_ids))
        care = care or Care()
        _refuse_own_node(care, node_ids)
        start = coach.start.remote(loop, group, indices, resources, node_ids, care)
        _await_coach(start, deadline_s)
        up_s = clock.monotonic_s()
        _await_coach(coach.read.remote(0, 0.0), deadline_s)
        round_trip_s = clock.monotonic_s() - up_s
        controller = StartupPhase(
            name="controller start",
            start_s=asked_s - zero_s,
            end_s=up_s - zero_s,
            source=PhaseSource.RAY,
            resolution_s=round_trip_s,
            detail="the actor that runs Ray Train's controller",
        )
        log = TrainLog(launch.num_workers, zero_s, launch.num_reporting)
        run = RayTrainingRun(coach, log, zero_s, clock, (controller,), round_trip_s)
        run._await_first_step(asked_s + deadline_s, announce)
        yield run
    finally:
        _stop(coach, clock)


def _refuse_own_node(care: Care, node_ids: tuple[str, ...]) -> None:
    """Raises DeploymentError where killing a node could end the program that measures it."""
    here = ray.get_runtime_context().get_node_id()
    fatal = [fault.words for fault in care.faults if fault.kind != "kill_worker"]
    if fatal and here in node_ids:
        raise DeploymentError(
            "placement",
            f"{fatal[0]} would strike the node that windtunnel itself runs on: place the training "
            "on other nodes, or kill a worker instead",
        )


def _make_coach() -> Any:
    """On the driver's own node: it must outlive the nodes it watches, to say what happened."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(TrainCoach)
        .options(
            num_cpus=0,
            max_restarts=0,
            max_concurrency=8,  # one read waits while ranks post
            scheduling_strategy=here,
        )
        .remote()
    )


def _await_coach(answer: Any, deadline_s: float) -> None:
    try:
        ray.get(answer, timeout=deadline_s)
    except ray.exceptions.GetTimeoutError:
        raise DeadlineExceeded(
            "startup", f"Ray did not start the training's coach within {deadline_s:g} s"
        ) from None
    except ray.exceptions.RayError as error:
        raise EngineDied(
            "startup", f"the training's coach could not start: {first_lines(str(error))}"
        ) from error


def resources_per_worker(launch: TrainLaunch) -> dict[str, float]:
    """What each worker takes out of its bundle. Chips only where the launch will use them: on a
    virtual pool the bundle holds the pretended chips, and a worker that took one would have Ray
    point CUDA at it."""
    resources = {"CPU": launch.cpus_per_worker}
    if launch.chips_per_worker:
        resources[launch.chip] = float(launch.chips_per_worker)
    return resources


def spread_over_bundles(
    bundles: list[dict[str, float]], num_workers: int, resources: Mapping[str, float]
) -> tuple[int, ...]:
    """The bundle of each worker: one in each bundle in turn until all stand, neighbours together.

    Raises DeploymentError where they do not fit.
    """
    wanted = {name: amount for name, amount in resources.items() if amount > 0}
    slots = [
        int(
            min(
                (bundle.get(name, 0.0) / amount + 1e-9 for name, amount in wanted.items()),
                default=num_workers,
            )
        )
        for bundle in bundles
    ]
    if sum(slots) < num_workers:
        raise DeploymentError(
            "placement",
            f"{num_workers} workers of {wanted} do not fit the bundles {bundles} of the "
            "placement group; ask for more CPUs or chips, or fewer per worker",
        )
    taken = [0] * len(bundles)
    while sum(taken) < num_workers:
        for index, free in enumerate(slots):
            if taken[index] < free and sum(taken) < num_workers:
                taken[index] += 1
    return tuple(index for index, count in enumerate(taken) for _ in range(count))


def _stop(coach: Any, clock: Clock) -> None:
    """End the job whatever state it is in, within STOP_S and some. A dead coach is no error."""
    try:
        await_ends([coach.stop.remote()], STOP_S + 5.0, clock)
    finally:
        ray.kill(coach, no_restart=True)
