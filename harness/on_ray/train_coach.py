"""The coach: one small actor that runs Ray Train's controller and keeps what the ranks send.

It stands on the driver's node, takes no resources, and owns the workers: whatever ends the coach
(the run's end, ``ray.kill``, the death of the driver) ends them. The driver reads from it with one
call that waits for news, so that a first step is seen within milliseconds.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

import ray

from harness.faults import Fault, Restarts
from harness.on_ray.train_deaths import DEATHS, deaths_told, memory_on
from harness.on_ray.train_faults import FaultSchedule, aimed
from harness.on_ray.train_news import (
    Answer,
    AttemptBegan,
    AttemptEnded,
    CoachNews,
    Ending,
    News,
    RankNews,
    Struck,
    first_lines,
    first_step_told,
    last_line,
)
from harness.on_ray.train_rank import rank_main
from harness.on_ray.train_watchdog import Watchdog, stacks_of, watch
from results.clock import SystemClock
from workloads.host_memory import MemorySeen, held_words

STOP_S = 10.0


class Care(NamedTuple):
    """What is done to the job, and for it, while it trains. ``telemetry_interval_s``: between two
    looks of a rank at its own devices; 0: it takes none."""

    restarts: Restarts = Restarts()
    faults: tuple[Fault, ...] = ()
    telemetry_interval_s: float = 0.0


class TrainCoach:
    """Its methods are called on threads of their own (``max_concurrency``)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news: list[News] = []
        self._ending: Ending | None = None
        self._workers: list[Any] = []
        self._nodes: tuple[str, ...] = ()  # of each rank, once there are workers
        self._care = Care()
        self._faults = FaultSchedule((), self._strike)
        self._attempt = -1
        self._num_failures = 0
        self._said_ended = -1  # the last attempt whose end was told
        self._why = Ending("")  # of the last failure
        self._watchdog = Watchdog(0.0)
        self._memory: dict[int, MemorySeen] = {}  # each rank's last reading
        self._job_first_step: int | None = None
        self._waited_s = 0.0  # for room for the next attempt

    def start(
        self,
        loop: Mapping[str, Any],
        group: Any,
        bundle_indices: tuple[int, ...],
        resources_per_worker: Mapping[str, float],
        node_ids: tuple[str, ...],
        care: Care,
    ) -> None:
        """Return at once; the training goes on in a thread. ``loop``: see ``rank_main``."""
        self._care, self._nodes = care, node_ids
        self._faults = FaultSchedule(care.faults, self._strike)
        urgent = frozenset(f.at_step for f in care.faults if f.at_step is not None)
        config = {
            **loop,
            "coach": ray.get_runtime_context().current_actor,
            "urgent_steps": urgent,
            "telemetry_interval_s": care.telemetry_interval_s,
        }
        self._watchdog = Watchdog(loop["watchdog_s"])
        threading.Thread(
            target=self._train,
            args=(config, group, bundle_indices, resources_per_worker),
            daemon=True,
        ).start()
        if loop["watchdog_s"]:
            threading.Thread(target=watch, args=(self,), daemon=True).start()

    def post(self, news: RankNews) -> Answer:
        """Keep what a rank says; answer what its first message asks."""
        with self._changed:
            if news.attempt < 0:
                news = news._replace(attempt=self._attempt)
            if news.attempt < self._attempt:  # another has followed: it is no part of the job now
                return Answer(news.attempt)
            self._watchdog.hear(news, SystemClock().monotonic_s())
            self._news.append(news)
            if news.memory is not None:
                self._memory[news.rank] = news.memory
            if self._job_first_step is None and news.rank == 0:
                self._job_first_step = first_step_told(news)
            answer = Answer(news.attempt, self._job_first_step)
            self._changed.notify_all()
        self._faults.hear(news)
        return answer

    def hung_s(self) -> float | None:
        """For how long no rank has made a step, where that is too long; None: all is well.

        Raises StopIteration when the job has ended and there is nothing left to watch.
        """
        with self._changed:
            if self._ending is not None:
                raise StopIteration
            return self._watchdog.overdue_s(SystemClock().monotonic_s())

    def stacks(self) -> tuple[str, ...]:
        """Where every rank stands in its code; a worker that does not answer is said not to."""
        with self._changed:
            workers = list(self._workers)
        return stacks_of(workers)

    def end(self, ending: Ending) -> None:
        """End the job by this verdict, unless it has ended by itself. The driver, which reads it,
        then leaves its context and has the workers killed."""
        with self._changed:
            self._ending = self._ending or ending
            self._changed.notify_all()

    def read(self, cursor: int, patience_s: float) -> CoachNews:
        """What came after the first ``cursor`` messages; waits up to ``patience_s`` for any."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._news) > cursor or self._ending is not None, patience_s
            )
            return CoachNews(tuple(self._news[cursor:]), self._ending)

    def stop(self) -> int:
        """Kill the workers and wait for their deaths; how many were still there after it."""
        with self._changed:
            workers = list(self._workers)
        for worker in workers:
            ray.kill(worker, no_restart=True)
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + STOP_S
        while workers and clock.monotonic_s() < deadline_s:
            workers = [worker for worker in workers if not _is_dead(worker)]
            clock.sleep(0.02 if workers else 0.0)
        return len(workers)

    def _train(
        self,
        config: dict[str, Any],
        group: Any,
        bundle_indices: tuple[int, ...],
        resources_per_worker: Mapping[str, float],
    ) -> None:
        # Half a second to import, and its own failure must reach the driver like any other.
        try:
            from harness.on_ray import train_group

            held = train_group.HeldNodes(
                group=group,
                bundle_indices=bundle_indices,
                on_workers=self._remember,
                on_failure=self._start_again,
                on_wait=self._waited,
                restarts=self._care.restarts,
            )
            train_group.HeldTrainer(rank_main, config, held, resources_per_worker).fit()
        except Exception as error:
            ending = self._why if self._why.error else self._explain(error)
        else:
            ending = Ending("")
        self.end(ending)

    def _remember(self, workers: list[Any], node_ids: tuple[str, ...]) -> None:
        with self._changed:
            if self._attempt > self._said_ended:  # nothing failed: the number of workers changes
                self._tell_ended("resized", f"now {len(workers)} workers")
            self._workers, self._nodes = list(workers), node_ids
            self._attempt += 1
            if self._attempt:
                self._watchdog.wake(SystemClock().monotonic_s())
            self._news.append(AttemptBegan(self._attempt, len(workers), self._waited_s))
            self._waited_s = 0.0
            self._changed.notify_all()

    def _waited(self, seconds: float) -> None:
        with self._changed:
            self._waited_s += seconds

    def _start_again(self, error: Exception) -> bool:
        """Whether a failed job is started again: where a process or a node was lost, and not where
        a loop raised, which it would only do again."""
        self._why = self._explain(error)
        self._num_failures += 1
        if self._ending is not None:  # it hung, and that is the end
            return False
        lost = self._why.error in ("worker_died", "node_lost") or _no_room(error)
        if not lost or self._num_failures > self._care.restarts.max_restarts:
            return False
        with self._changed:
            if self._attempt > self._said_ended:
                self._tell_ended(self._why.error, self._why.message)
        self._why = Ending("")
        return True

    def _tell_ended(self, cause: str, message: str) -> None:
        if self._attempt >= 0:
            self._watchdog.rest()
            self._news.append(AttemptEnded(self._attempt, cause, message))
            self._changed.notify_all()
        self._said_ended = self._attempt

    def _strike(self, fault: Fault) -> None:
        with self._changed:
            workers, nodes = list(self._workers), self._nodes
            if self._ending is not None or not workers:
                return
            self._news.append(Struck(self._attempt, fault.words))
            self._changed.notify_all()
        for worker, blow in aimed(fault, workers, nodes):
            # It answers with its death.
            worker.execute.remote(blow)

    def _explain(self, error: Exception) -> Ending:
        from harness.on_ray import train_group

        with self._changed:
            node_ids, attempt = tuple(dict.fromkeys(self._nodes)), self._attempt
        lines = tuple("".join(traceback.format_exception(error)).splitlines())
        failures = getattr(error, "worker_failures", {})
        deaths = {
            rank: getattr(failure, "health_check_failure", failure)
            for rank, failure in sorted(failures.items())
        }
        if any(isinstance(d, ray.exceptions.RayActorError) for d in deaths.values()):
            self._await_verdict(node_ids, train_group.SILENT_RANK_S)
        lost = train_group.dead_nodes(node_ids)
        if lost:
            return Ending("node_lost", f"node {', '.join(lost)} of the training is gone", lines)
        gone = {rank: death for rank, death in deaths.items() if isinstance(death, DEATHS)}
        if gone:
            return self._why_gone(gone)._replace(log_tail=lines)
        with self._changed:
            raised = [
                news
                for news in self._news
                if isinstance(news, RankNews) and news.raised and news.attempt == attempt
            ]
        if raised:
            first = raised[0]  # its peers fail because of it, and later
            message = f"rank {first.rank} raised {last_line(first.raised)}"
            if first.error == "out_of_memory" and first.memory and "held" not in message:
                message += f"; {held_words(first.memory)}"
            return Ending(first.error or "raised", message, first.raised)
        return Ending("controller", f"Ray Train failed: {first_lines(str(error))}", lines)

    def _why_gone(self, deaths: Mapping[int, Exception]) -> Ending:
        with self._changed:
            workers, nodes, attempt = list(self._workers), self._nodes, self._attempt
            memory = dict(self._memory)
            struck = [n.what for n in self._news if isinstance(n, Struck) and n.attempt == attempt]

        def read_again(rank: int) -> MemorySeen | None:
            if rank not in memory or rank >= len(nodes):
                return None
            return memory_on(nodes[rank], memory[rank].cgroup, workers, nodes)

        return deaths_told(deaths, ", ".join(struck), memory, read_again)

    def _await_verdict(self, node_ids: tuple[str, ...], patience_s: float) -> None:
        """Return once it is known whether a worker's process is gone or its whole node, and of
        every node whether it is gone: what follows may be tried on those that are left.

        Ray calls an actor unavailable, or dead, as soon as its process no longer answers; that its
        node is gone it knows only some health checks later. A node that takes no connection is on
        its way there.
        """
        from harness.on_ray import train_group

        with self._changed:
            workers = list(self._workers)
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + patience_s
        while clock.monotonic_s() < deadline_s:
            lost = train_group.dead_nodes(node_ids)
            left = tuple(node for node in node_ids if node not in lost)
            if train_group.all_take_connections(left) and (lost or any(map(_is_dead, workers))):
                return
            clock.sleep(0.2)


def _is_dead(worker: Any) -> bool:
    try:
        ray.get(worker.get_metadata.remote(), timeout=1.0)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
        return False
    except ray.exceptions.RayActorError:
        return True
    return False


def _no_room(error: Exception) -> bool:
    """Workers that could not be started: a node went away between looking and starting."""
    cause = getattr(error, "controller_failure", None)
    return type(cause).__name__ in (
        "WorkerGroupStartupTimeoutError",
        "WorkerGroupStartupFailedError",
    )
