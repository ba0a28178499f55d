"""How much of a model lies in the page cache: what tells a warm start from a cold one.

Asked of the kernel with mincore(2), which reads nothing and so changes nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# One call looks at this much: its answer is a byte per page.
_WINDOW_BYTES = 1024**3
_MAP_FAILED = ctypes.c_void_p(-1).value


def residency(paths: Iterable[str | Path]) -> float | None:
    """The share of these files' bytes that is in the page cache, 0…1.

    None where it cannot be told: no file, a file that cannot be opened, nothing in them, a system
    without mincore, or a file that is neither ours nor writable (see ``_may_look``). The kernel
    answers in pages, so the share is exact to one page a file.
    """
    resident = total = 0
    try:
        for path in paths:
            with Path(path).open("rb") as file:
                if not _may_look(path, os.fstat(file.fileno()).st_uid):
                    return None
                size = os.fstat(file.fileno()).st_size
                resident += _resident_bytes(file.fileno(), size)
            total += size
    except (OSError, AttributeError):
        return None
    return resident / total if total else None


def evict(paths: Iterable[str | Path]) -> None:
    """Ask the kernel to drop these files from the page cache, for a cold start on purpose.

    What is not yet on the disk is written there first. Pages that another process has mapped stay:
    look with ``residency`` what was reached. Raises OSError where a file cannot be opened.
    """
    for path in paths:
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _may_look(path: str | Path, owner: int) -> bool:
    """Linux tells others only "all of it is there", so that nobody can spy on what others read."""
    return os.geteuid() in (0, owner) or os.access(path, os.W_OK)


def _resident_bytes(fd: int, size: int) -> int:
    if size == 0:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    number = ctypes.c_int
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, number, number, number, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    page = mmap.PAGESIZE
    found = 0
    for offset in range(0, size, _WINDOW_BYTES):
        length = min(_WINDOW_BYTES, size - offset)
        # PROT_NONE: nothing can be read through this mapping, so nothing is brought in by it.
        address = libc.mmap(None, length, 0, mmap.MAP_SHARED, fd, offset)
        if address == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), "mmap")
        try:
            pages = np.empty(-(-length // page), dtype=np.uint8)
            if libc.mincore(address, length, pages.ctypes.data) != 0:
                raise OSError(ctypes.get_errno(), "mincore")
        finally:
            libc.munmap(address, length)
        held = pages & 1
        last = int(held[-1]) * (length - (len(held) - 1) * page)
        found += int(held[:-1].sum(dtype=np.int64)) * page + last
    return found
