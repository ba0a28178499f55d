"""A folder of its own for each cluster we start, and an end for those whose owner was killed.

Ray writes logs and sockets into it. The owner holds a lock on a file in it, which the kernel lets
go of however the owner ends; the next start takes away every folder whose lock is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "wt-ray-"
LOCK = "owner.lock"
MAX_PARENT_LENGTH = 70  # a socket's path may have 107 bytes, /wt-ray-12345678/raylet-64 has 26


def parent_dir() -> Path:
    """The machine's temporary folder, or ``/tmp`` where a socket below it would not fit."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= MAX_PARENT_LENGTH else Path("/tmp")


@contextlib.contextmanager
def session_dir(parent: Path | None = None) -> Iterator[Path]:
    """A new folder, gone again on leaving. Folders of killed owners go first."""
    parent = parent or parent_dir()
    remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with (folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
