"""The sending process itself: how late its loop wakes, what CPU it takes, no pauses for garbage."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from results.clock import read_monotonic_s

_STALL_SAMPLE_S = 0.02


class LoopStalls:
    """How late the event loop wakes a sleeper: what it adds to every time stamp, at worst."""

    def __init__(self) -> None:
        self._sum_s = 0.0
        self._num = 0
        self.max_s = 0.0

    @property
    def mean_s(self) -> float:
        return self._sum_s / self._num if self._num else 0.0

    async def sample(self) -> None:
        """Until cancelled."""
        while True:
            asked_s = read_monotonic_s() + _STALL_SAMPLE_S
            await asyncio.sleep(_STALL_SAMPLE_S)
            late_s = max(0.0, read_monotonic_s() - asked_s)
            self._sum_s += late_s
            self._num += 1
            self.max_s = max(self.max_s, late_s)


@dataclass(slots=True, kw_only=True)
class Cpu:
    """CPU seconds of this process over wall seconds, of the sending alone."""

    begun_s: float = 0.0
    begun_cpu_s: float = 0.0
    share: float = 0.0

    def begin(self) -> None:
        self.begun_s, self.begun_cpu_s = read_monotonic_s(), time.process_time()

    def end(self) -> None:
        wall_s = read_monotonic_s() - self.begun_s
        self.share = (time.process_time() - self.begun_cpu_s) / wall_s if wall_s > 0 else 0.0


@contextmanager
def no_collections() -> Iterator[None]:
    """The cyclic collector stands still: a full pass over a process that has loaded an engine
    takes 100 ms and more. The load makes next to no cycles, so nothing piles up meanwhile. A last
    pass belongs before the load's zero (``LoadWorker.prepare``), or the first sends wait for it."""
    was_on = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()
