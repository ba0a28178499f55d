"""The other end of a ``ProcessWorker``: ``python -m harness.load.worker_process FD PARENT``.

Reads (name, arguments) and answers (value, error), one after the other, until the stream ends.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection

from harness.load.local_workers import Seat
from harness.load.priority import go_first

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """The kernel kills this process when the thread that started it ends (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)  # it ended before we asked to be told


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(int(sys.argv[2]))
    go_first()
    connection = Connection(int(sys.argv[1]))
    try:
        seat = Seat(connection.recv())
        while True:
            what, arguments = connection.recv()
            try:
                connection.send((getattr(seat, what)(*arguments), None))
            except Exception as error:  # the driver's side raises it
                connection.send((None, _portable(error)))
    except (EOFError, OSError):
        os._exit(0)  # nobody is left to answer


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever it is that an error of a library cannot do
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
