"""The coach: one small actor that runs Ray Train's controller and keeps what the ranks send.

It stands on the driver's node, takes no resources, and owns the workers: whatever ends the coach
(the run's end, ``ray.kill``, the death of the driver) ends them. The driver reads from it with one
call that waits for news, so that a first step is seen within milliseconds.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping
from typing import Any

import ray

from harness.on_ray.train_news import CoachNews, Ending, RankNews, first_lines, last_line
from harness.on_ray.train_rank import rank_main
from results.clock import SystemClock

STOP_S = 10.0


class TrainCoach:
    """Its methods are called on threads of their own (``max_concurrency``)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news: list[RankNews] = []
        self._ending: Ending | None = None
        self._workers: list[Any] = []

    def start(
        self,
        loop: Mapping[str, Any],
        group: Any,
        bundle_indices: tuple[int, ...],
        resources_per_worker: Mapping[str, float],
        node_ids: tuple[str, ...],
    ) -> None:
        """Return at once; the training goes on in a thread. ``loop``: see ``rank_main``."""
        config = {**loop, "coach": ray.get_runtime_context().current_actor}
        threading.Thread(
            target=self._train,
            args=(config, group, bundle_indices, resources_per_worker, node_ids),
            daemon=True,
        ).start()

    def post(self, news: RankNews) -> None:
        with self._changed:
            self._news.append(news)
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
        node_ids: tuple[str, ...],
    ) -> None:
        # Half a second to import, and its own failure must reach the driver like any other.
        try:
            from harness.on_ray import train_group

            held = train_group.HeldNodes(
                group=group, bundle_indices=bundle_indices, on_workers=self._remember
            )
            train_group.HeldTrainer(rank_main, config, held, resources_per_worker).fit()
        except Exception as error:
            ending = self._explain(error, node_ids)
        else:
            ending = Ending("")
        with self._changed:
            self._ending = ending
            self._changed.notify_all()

    def _remember(self, workers: list[Any]) -> None:
        with self._changed:
            self._workers = list(workers)

    def _explain(self, error: Exception, node_ids: tuple[str, ...]) -> Ending:
        from harness.on_ray import train_group

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
        for rank, death in deaths.items():
            if isinstance(death, ray.exceptions.RayActorError):
                message = f"the process of rank {rank} died: {first_lines(str(death))}"
                return Ending("worker_died", message, lines)
        with self._changed:
            raised = [news for news in self._news if news.raised]
        if raised:
            first = raised[0]  # its peers fail because of it, and later
            return Ending(
                "raised", f"rank {first.rank} raised {last_line(first.raised)}", first.raised
            )
        return Ending("controller", f"Ray Train failed: {first_lines(str(error))}", lines)

    def _await_verdict(self, node_ids: tuple[str, ...], patience_s: float) -> None:
        """Return once it is known whether a worker's process is gone or its whole node.

        Ray calls an actor unavailable, or dead, as soon as its process no longer answers; that its
        node is gone it knows only some health checks later. A node that takes no connection is on
        its way there.
        """
        from harness.on_ray import train_group

        with self._changed:
            workers = list(self._workers)
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + patience_s
        while clock.monotonic_s() < deadline_s and not train_group.dead_nodes(node_ids):
            if train_group.all_take_connections(node_ids) and any(map(_is_dead, workers)):
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
