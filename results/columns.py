"""Columns that may be larger than memory should be: appended to, then read as numpy arrays.

A column lies in memory up to a limit and in a file without a name beyond it. An array over such a
file is like any other, and the kernel holds as much of it as it likes; ``release`` gives back what
this process has looked at.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

# Half a million times of 8 bytes.
MAX_BYTES_IN_MEMORY = 4 * 2**20


class GrowingColumn:
    """``extend`` it, then take ``finished()`` once. Raises OSError where the disk is full."""

    def __init__(
        self, dtype: npt.DTypeLike, max_bytes_in_memory: int = MAX_BYTES_IN_MEMORY
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._max_bytes = max_bytes_in_memory
        self._parts: list[npt.NDArray[Any]] = []
        self._num_held = 0  # bytes
        self._file: IO[bytes] | None = None

    def extend(self, values: npt.NDArray[Any]) -> None:
        """``values`` (n,) are kept as they are: they must not change any more."""
        assert values.dtype == self._dtype
        if self._file is None and self._num_held + values.nbytes <= self._max_bytes:
            self._parts.append(values)
            self._num_held += values.nbytes
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - ``finished`` closes it
        for part in (*self._parts, values):
            self._file.write(part.data)
        self._parts.clear()

    def finished(self) -> npt.NDArray[Any]:
        """(all values,), read-only where it is a file."""
        if self._file is None:
            return np.concatenate([np.empty(0, dtype=self._dtype), *self._parts])
        with self._file as file:
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        return np.frombuffer(mapped, dtype=self._dtype)


def release(*columns: npt.NDArray[Any]) -> None:
    """Give back the memory that looking into these columns took, where they lie in a file: the next
    look reads them again."""
    for column in columns:
        base = column.base
        if isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap):
            base.obj.madvise(mmap.MADV_DONTNEED)
