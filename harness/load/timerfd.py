"""A timer that fires when it should. The event loop's own count whole milliseconds.

Linux's timerfd with an absolute time on CLOCK_MONOTONIC, the clock of ``results.clock``, as a file
that the loop watches like any other. Through ctypes, because ``os.timerfd_create`` came with Python
3.13. Setting it again also clears what it had to say, so it is never read.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1  # <time.h>
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1  # <sys/timerfd.h>


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("it_interval", _Timespec), ("it_value", _Timespec)]


_LIBC = ctypes.CDLL(None, use_errno=True)


class Timer:
    """Calls ``fire`` in the loop at the time last given to ``set``, once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._spec = _Itimerspec()
        self._at = ctypes.byref(self._spec)
        self._loop = loop
        loop.add_reader(self._fd, fire)

    def set(self, at_s: float | None) -> None:
        """Fire at ``at_s`` of the monotonic clock, at once if that is over; None: not at all."""
        value = self._spec.it_value
        if at_s is None:
            value.tv_sec = value.tv_nsec = 0
        else:
            whole_s = math.floor(at_s)
            # Zero would mean "not at all".
            value.tv_sec, value.tv_nsec = whole_s, max(1, math.ceil((at_s - whole_s) * 1e9))
            if value.tv_nsec >= 1_000_000_000:
                value.tv_sec, value.tv_nsec = whole_s + 1, 0
        _LIBC.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._at, None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
