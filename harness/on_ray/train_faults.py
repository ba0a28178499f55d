"""Striking a training job as its schedule says: from the coach, at its own workers and nodes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil

from harness.faults import Fault
from harness.on_ray.train_news import RankNews
from workloads.base import TrainStep


class FaultSchedule:
    """Each fault is struck once. ``strike`` is called on a thread of its own."""

    def __init__(self, faults: Sequence[Fault], strike: Callable[[Fault], None]) -> None:
        self._strike = strike
        self._by_step = [f for f in faults if f.at_step is not None]
        self._by_time = [f for f in faults if f.at_s is not None]
        self._lock = threading.Lock()

    def hear(self, news: RankNews) -> None:
        """Strike what is due by what a rank says it has done."""
        reached = max((e.step for e in news.events if isinstance(e, TrainStep)), default=-1)
        if reached < 0:
            return
        with self._lock:
            due = [f for f in self._by_step if f.at_step is not None and f.at_step <= reached]
            self._by_step = [f for f in self._by_step if f not in due]
            timed, self._by_time = self._by_time, []
        for fault in due:
            self._after(0.0, fault)
        for fault in timed:
            self._after(fault.at_s or 0.0, fault)

    def _after(self, seconds: float, fault: Fault) -> None:
        timer = threading.Timer(seconds, self._strike, args=(fault,))
        timer.daemon = True
        timer.start()


def aimed(
    fault: Fault, workers: Sequence[Any], nodes: Sequence[str]
) -> list[tuple[Any, Callable[[], None]]]:
    """Which workers are to run which blow; ``nodes[rank]`` is where each of them stands. A rank
    that a smaller attempt does not have is its last one."""
    rank = min(fault.rank, len(workers) - 1)
    if fault.kind == "kill_worker":
        return [(workers[rank], kill_this_process)]
    struck = {nodes[rank]} if fault.kind == "kill_node" else set(nodes)
    return [(workers[nodes.index(node)], kill_this_node) for node in sorted(struck)]


def kill_this_process() -> None:
    """Runs in the worker that is to die."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_this_node() -> None:
    """Runs in a worker on the node that is to be lost: without its raylet a node is gone. On
    Kubernetes that ends the pod.

    What the raylet started is killed with it. By themselves its workers would notice only after a
    while, and ranks that are all lost would train on with each other until then.
    """
    raylet = psutil.Process(os.getppid())
    if raylet.name() != "raylet":
        raise RuntimeError(f"the parent of this worker is {raylet.name()}, not a raylet")
    started = raylet.children(recursive=True)
    raylet.kill()
    for process in started:
        if process.pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                process.kill()
    kill_this_process()
