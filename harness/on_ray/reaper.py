"""Ends what a killed owner's Ray leaves behind: processes that have files open in a folder.

Started as ``python -S -E reaper.py FOLDER`` with a pipe on standard input whose other end the owner
holds open, in a session of its own. When the pipe closes, which the kernel does however the owner
ends, every process of Ray's with a file open below the folder gets SIGKILL, and the folder goes.

The kernel ends the raylets and the GCS together with their owner. Ray's agents then want to tell
the GCS about it and live on for minutes. They cannot be found by their parent, which is gone, nor
by their command line, which Ray overwrites with a title; their log files they keep open.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

DEADLINE_S = 30.0
PAUSE_S = 0.1
LOOKS = 2  # this often in a row nobody must be there: a process may start another as it is killed


def users_of(folder: str) -> list[int]:
    """Ids of Ray's processes that have a file open below ``folder``."""
    return [
        int(name)
        for name in os.listdir("/proc")  # noqa: PTH208 - pathlib would double this program's start
        if name.isdigit() and _is_rays(name, folder) and _has_open(name, folder + "/")
    ]


def _is_rays(pid: str, folder: str) -> bool:
    """Ray's by its command line. A driver has its log there too, the owner's among them, and what
    a driver does is not ours to end."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - as above
            command = file.read()
    except OSError:
        return False
    return command.startswith(b"ray::") or folder.encode() + b"/" in command


def _has_open(pid: str, prefix: str) -> bool:
    try:
        handles = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - as above
    except OSError:
        return False  # it ended, or is another user's
    for handle in handles:
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{handle}").startswith(prefix):  # noqa: PTH115
                return True
    return False


def end_users(folder: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    empty = 0
    while empty < LOOKS and time.monotonic() < deadline_s:
        users = users_of(folder)
        empty = 0 if users else empty + 1
        for pid in users:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_S if users else PAUSE_S / 4)


def main(folder: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its owner has ended, not before
    while os.read(0, 4096):
        pass
    end_users(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(os.path.realpath(sys.argv[1]))
