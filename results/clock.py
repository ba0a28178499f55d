"""The two clocks, behind one seam, so that tests can jump time.

Durations come from a monotonic clock, dates from UTC. Nothing else in the project reads a clock
or sleeps, and nobody subtracts readings taken on two hosts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

# The reading behind ``SystemClock.monotonic_s``, without a method around it: for the load client,
# which reads it for every chunk that arrives.
read_monotonic_s: Callable[[], float] = time.monotonic
# The date's clock, which the kernel stamps packets with. Only for comparing with such a stamp.
read_realtime_s: Callable[[], float] = time.time


class Clock(Protocol):
    """``monotonic_s`` never goes back and has no date; ``now_utc`` has a date and may jump."""

    def monotonic_s(self) -> float: ...

    def now_utc(self) -> datetime: ...

    def sleep(self, duration_s: float) -> None: ...


class SystemClock:
    """This host's clocks. ``monotonic_s`` is shared by all processes of one Linux host."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def now_utc(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)
