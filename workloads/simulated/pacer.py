"""Things done at exact times on an event loop whose own timers count whole milliseconds.

One timerfd (absolute, nanoseconds) and one heap of what is due. The kernel wakes the loop when the
earliest is due; what is late by then is done at once, in the order it was due.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
from collections.abc import Callable
from heapq import heappop, heappush

from results.clock import SystemClock

Tick = Callable[[float], float]
_CLOCK_MONOTONIC = 1  # the clock that ``SystemClock.monotonic_s`` reads on Linux
_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
# Done in one go before the loop may read its sockets again: a burst must not deafen the server.
_MAX_TICKS_AT_ONCE = 256
_now_s = SystemClock().monotonic_s


class _Timer(ctypes.Structure):
    """The kernel's ``struct itimerspec``; an interval of zero fires once."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("due_s", ctypes.c_long),
        ("due_ns", ctypes.c_long),
    )


class Pacer:
    """Calls ``tick(now_s)`` at its due time or later, never earlier, in the loop's own thread.

    A tick returns when it is due next, or infinity when it is not. Python 3.11 has no timerfd of
    its own, so libc's is called. Raises OSError where the kernel has none (no Linux).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._set = libc.timerfd_settime
        self._set.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._timer = _Timer()
        self._at = ctypes.addressof(self._timer)
        self._heap: list[tuple[float, int, Tick]] = []
        self._number = 0  # of two that are due together, the one asked for first goes first
        self._armed_s = math.inf
        self._loop = loop
        loop.add_reader(self._fd, self._fire)

    def at(self, due_s: float, tick: Tick) -> None:
        self._number += 1
        heappush(self._heap, (due_s, self._number, tick))
        if due_s < self._armed_s:
            self._arm(due_s)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._heap.clear()

    def _fire(self) -> None:
        heap = self._heap
        self._armed_s = -math.inf  # armed anew below, once, whatever the ticks ask for
        for _ in range(_MAX_TICKS_AT_ONCE):
            now_s = _now_s()
            if not heap or heap[0][0] > now_s:
                break
            _, number, tick = heappop(heap)
            due_s = tick(now_s)
            if due_s < math.inf:
                heappush(heap, (due_s, number, tick))
        self._arm(heap[0][0] if heap else math.inf)

    def _arm(self, due_s: float) -> None:
        """Setting the timer also takes back that it has fired, so nothing need be read from it."""
        self._armed_s = due_s
        if self._fd < 0:
            return
        timer = self._timer
        if due_s == math.inf:
            timer.due_s = timer.due_ns = 0  # disarmed
        else:
            timer.due_s = whole_s = int(due_s)
            timer.due_ns = int((due_s - whole_s) * 1e9) + 1  # up to the next nanosecond: not early
        self._set(self._fd, _TFD_TIMER_ABSTIME, self._at, None)
