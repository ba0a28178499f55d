"""A folder of its own for each cluster we start, and an end for those whose owner was killed.

Ray writes logs and sockets into it. A reaper takes it away, and every process that still uses it,
when the owner lets go of it or ends. Should the reaper be killed too, the next start takes the
folder away: the owner holds a lock in it, which the kernel lets go of however the owner ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.on_ray import reaper

PREFIX = "wt-ray-"
LOCK = "owner.lock"
MAX_PARENT_LENGTH = 70  # a socket's path may have 107 bytes, /wt-ray-12345678/raylet-64 has 26


def parent_dir() -> Path:
    """The machine's temporary folder, or ``/tmp`` where a socket below it would not fit."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= MAX_PARENT_LENGTH else Path("/tmp")


@contextlib.contextmanager
def session_dir(parent: Path | None = None) -> Iterator[Path]:
    """A new folder; on leaving it is gone, and so is every process of Ray's that still has a file
    open in it. Folders of killed owners go first."""
    parent = (parent or parent_dir()).resolve()
    remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with _reaped(folder), (folder / f"{LOCK}.new").open("w") as lock:
            # Locked before it has its name: a lock file that nobody holds is an abandoned one.
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / f"{LOCK}.new").rename(folder / LOCK)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _reaped(folder: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-S", "-E", reaper.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C at the terminal is not for it
    ) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2 * reaper.DEADLINE_S)


def remove_abandoned(parent: Path) -> tuple[Path, ...]:
    """Takes away what killed owners left in ``parent``; returns the folders."""
    gone = []
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            # A folder without a lock file is being made at this moment, or is half removed.
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder)
        except OSError:
            continue
    return tuple(gone)
