"""When requests go out: an agenda of times, kept by a timer that is not late by design.

Open loop never waits for answers and never leaves an arrival out: one that is late is sent late,
and its latency still counts from the intended time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Sequence

from harness.load.timerfd import Timer
from results.clock import read_monotonic_s

# After so many sends in one turn of the loop, what has arrived meanwhile is read first: its time
# stamps must not wait for a whole backlog to go out.
_BURST = 16


class Agenda:
    """Calls ``fire(index, intended_s)`` for every entry, in order of time and never early."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[int, float], None]) -> None:
        self._fire = fire
        self._timer = Timer(loop, self._tick)
        self._times: Sequence[float] = ()
        self._indices: Sequence[int] = ()
        self._next = 0
        self._later: list[tuple[float, int, int]] = []
        self._order = itertools.count()

    def plan(self, times_s: Sequence[float], indices: Sequence[int]) -> None:
        """What is known in advance: ascending times on the monotonic clock."""
        self._times, self._indices, self._next = times_s, indices, 0
        self._timer.set(self._next_s())

    def add(self, at_s: float, index: int) -> None:
        """One more, known only now."""
        is_first = at_s < self._next_s()
        heapq.heappush(self._later, (at_s, next(self._order), index))
        if is_first:
            self._timer.set(at_s)

    def clear(self) -> list[tuple[float, int]]:
        """Drop what is left, and return it: (intended time, index)."""
        left = list(zip(self._times[self._next :], self._indices[self._next :], strict=True))
        left += [(at_s, index) for at_s, _, index in self._later]
        self._times, self._indices, self._next, self._later = (), (), 0, []
        self._timer.set(None)
        return left

    def close(self) -> None:
        self._timer.close()

    def _next_s(self) -> float:
        known_s = self._times[self._next] if self._next < len(self._times) else math.inf
        return min(known_s, self._later[0][0]) if self._later else known_s

    def _tick(self) -> None:
        now_s = read_monotonic_s()
        for _ in range(_BURST):
            at_s = self._next_s()
            if at_s > now_s:
                break
            if self._later and self._later[0][0] == at_s:
                self._fire(heapq.heappop(self._later)[2], at_s)
            else:
                index = self._indices[self._next]
                self._next += 1
                self._fire(index, at_s)
        next_s = self._next_s()
        # A time that is over fires again at once, after the loop has looked at its sockets.
        self._timer.set(None if next_s == math.inf else next_s)
