"""Who goes first where the client and the engine share cores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Between ordinary processes (0) and the system's own (-20).
CLIENT_NICENESS = -10


def go_first() -> None:
    """Where we may, have the kernel run this process before the engine when they share cores.

    The client needs little, and what it waits would be in every latency. Without the right to, it
    waits its turn, and its lateness is measured (``dispatch_lag_s``). Threads started later inherit
    the priority; the session of its own is for Linux's autogroups, which weigh sessions, not
    processes, against each other (sched(7)).
    """
    with suppress(PermissionError):
        os.setsid()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, CLIENT_NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(CLIENT_NICENESS))


# While the load's loop shares its interpreter with others, those hand it over this soon.
SWITCH_INTERVAL_S = 0.0005
_OWN_THREADS = Path("/proc/self/task")


@contextmanager
def together_first() -> Iterator[None]:
    """The same for a process that serves a terminal as well, for as long as the context lasts.

    It keeps its session, or Ctrl-C would no longer reach it. *All* its threads go first: one that
    holds the interpreter's lock and is not run would hold up the loop, however early that one's
    turn is. Beside a progress display on a busy two-core machine, four loads each, 90 % of the
    requests left within 0.9 to 3.6 ms this way, and within 0.5 to 13.8 ms with the loop's thread
    alone going first. Threads started meanwhile inherit the priority (to Linux it belongs to a
    thread; setpriority(2)), and so do processes.
    """
    before, interval_s = os.getpriority(os.PRIO_PROCESS, 0), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _set_all(min(before, CLIENT_NICENESS))
    try:
        yield
    finally:
        _set_all(before)
        sys.setswitchinterval(interval_s)


def _set_all(niceness: int) -> None:
    for thread in _OWN_THREADS.iterdir():
        with suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


def ordinary(pid: int) -> None:
    """A process just started by one that goes first does not."""
    with suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, 0)
