"""Who goes first where the client and the engine share cores."""

from __future__ import annotations

import os
from contextlib import suppress
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


def thread_goes_first() -> None:
    """The same for the calling thread and those it starts, in a process that serves a terminal.

    Such a process keeps its session, or Ctrl-C would no longer reach it. To Linux a niceness
    belongs to a thread (setpriority(2), "C library/kernel differences").
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, CLIENT_NICENESS)
