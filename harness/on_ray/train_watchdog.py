"""Noticing a job whose ranks wait for each other for ever, and saying where each of them stands.

A rank that hangs in a collective says nothing and fails nothing: its peers wait too. The only sign
is silence. A rank sends its steps about once a second, so silence of ``watchdog_s`` means that no
step was made for about so long. Before the first step the deadline of the startup rules.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import Any, Protocol

import ray

from harness.on_ray.train_news import Ending, RankNews
from results.clock import SystemClock
from workloads.base import TrainPhase, TrainStep

_LOOK_EVERY_S = 0.5
_ANSWER_S = 5.0  # a process that holds the interpreter's lock for so long does not answer
_MAX_LINES = 16  # of one rank's stack: the innermost, where it waits


class Watchdog:
    """Hears every message; knows for how long there was no step. Pure: the time is handed in."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._stepped_at_s: float | None = None

    def hear(self, news: RankNews, now_s: float) -> None:
        """A step counts, and so does a phase of a job that was started again."""
        is_step = any(isinstance(event, TrainStep) for event in news.events)
        is_phase = any(isinstance(event, TrainPhase) for event in news.events)
        if is_step or (is_phase and self._stepped_at_s is not None):
            self._stepped_at_s = now_s

    def rest(self) -> None:
        """An attempt is over: nobody is expected to say anything."""
        self._stepped_at_s = None

    def wake(self, now_s: float) -> None:
        """The next attempt has its workers, which have their models to build first."""
        self._stepped_at_s = now_s

    def overdue_s(self, now_s: float) -> float | None:
        """For how long there was no step; None while that is no longer than the patience."""
        if self._stepped_at_s is None or not self._patience_s:
            return None
        silent_s = now_s - self._stepped_at_s
        return silent_s if silent_s > self._patience_s else None


class Watched(Protocol):
    """What is needed of the coach."""

    def hung_s(self) -> float | None: ...
    def stacks(self) -> tuple[str, ...]: ...
    def end(self, ending: Ending) -> None: ...


def watch(coach: Watched) -> None:
    """Look until the job has ended, or hangs: then end it, with the stacks. For a thread."""
    clock = SystemClock()
    while True:
        try:
            silent_s = coach.hung_s()
        except StopIteration:
            return
        if silent_s is not None:
            coach.end(
                Ending(
                    "hang",
                    f"no rank has made a step for {silent_s:.0f} s (workload.watchdog_s); the log "
                    "has the stack of each rank",
                    coach.stacks(),
                )
            )
            return
        clock.sleep(_LOOK_EVERY_S)


def stacks_of(workers: list[Any]) -> tuple[str, ...]:
    """The stack of each rank. ``workers`` are Ray Train's, in order of rank: they take calls while
    their loop runs on a thread of its own."""
    asked = [worker.execute.remote(own_stacks) for worker in workers]
    done, _ = ray.wait(asked, num_returns=len(asked), timeout=_ANSWER_S) if asked else ([], [])
    alike: dict[tuple[str, ...], list[int]] = {}  # most ranks of a large job stand at one place
    for rank, answer in enumerate(asked):
        alike.setdefault(_told(answer, answer in done), []).append(rank)
    lines: list[str] = []
    for stack, ranks in alike.items():
        lines += [f"rank {', '.join(map(str, ranks))}:", *stack]
    return tuple(lines)


def _told(answer: Any, is_done: bool) -> tuple[str, ...]:
    if not is_done:
        return (f"  does not answer within {_ANSWER_S:g} s: it holds the interpreter's lock",)
    try:
        return tuple(ray.get(answer))
    except ray.exceptions.RayError as error:
        return (f"  its process is gone: {type(error).__name__}",)


def own_stacks(loop: str = "rank_main") -> list[str]:
    """Where this process's threads stand that are inside the function ``loop``: its frames from
    there on, of a deep stack the innermost."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told: list[str] = []
    for ident, frame in sys._current_frames().items():
        stack = traceback.extract_stack(frame)
        inside = [index for index, entry in enumerate(stack) if entry.name == loop]
        if inside:
            text = "".join(traceback.format_list(stack[inside[0] :])).splitlines()
            told += [f"  thread {names.get(ident, ident)}", *text[-_MAX_LINES:]]
    return told or ["  its training has not begun, or is over"]
