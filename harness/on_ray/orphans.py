"""Ends an actor's process when its raylet is gone.

Ray does not: the workers of a raylet that was killed (SIGKILL, out of memory) live on and keep what
they started, on a node that the cluster believes dead.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable


def end_with_raylet(last_duty: Callable[[], object] = lambda: None) -> None:
    """From now on this process ends when its raylet does, after ``last_duty`` (in a thread)."""
    raylet_pid = int(os.environ.get("RAY_RAYLET_PID") or os.getppid())
    try:
        raylet = os.pidfd_open(raylet_pid)
    except ProcessLookupError:
        os._exit(1)  # it is gone already
    threading.Thread(
        target=_wait_and_end, args=(raylet, last_duty), name="raylet-watch", daemon=True
    ).start()


def _wait_and_end(raylet: int, last_duty: Callable[[], object]) -> None:
    poll = select.poll()
    poll.register(raylet, select.POLLIN)  # readable when the process has ended
    poll.poll()
    try:
        last_duty()
    finally:
        os._exit(1)
