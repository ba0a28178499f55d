"""Exchanges that are over, packed, until they are read: in memory up to a limit, then in a file.

Packing happens on the event loop and is a copy of the bytes; a thread writes, so that a disk that
is busy holds up nobody. Records are put in the order in which they ended and read in the order of
their requests' indices: where each lies is remembered, in 20 bytes.
"""

from __future__ import annotations

import os
import queue
import struct
import tempfile
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import IO

import numpy as np

from harness.load.wire import Exchange

# Held in memory before the first byte goes to the file: some seconds of a fast load. What is in the
# file is in the kernel's cache, and is no memory of this process.
MAX_BYTES_IN_MEMORY = 16 * 2**20
# One write. The writer may share its core with the loop: larger ones would hold it up for longer.
_BLOCK_BYTES = 2**17
# index, warm-up, intended, dispatched, written, done, bytes of error, reads, bytes of answer
_HEAD = struct.Struct("=qBddddHII")


@dataclass(slots=True, kw_only=True)
class Ended:
    """An exchange that is over, as it came out of the spool. ``parts`` as in ``Exchange``."""

    index: int
    is_warmup: bool
    intended_s: float
    dispatched_s: float
    written_s: float
    done_s: float
    error: str
    read_s: array[float]  # (reads,)
    part_end: array[int]  # (reads,) bytes of ``raw`` so far
    raw: bytes


def pack(x: Exchange) -> bytes:
    error = x.error.encode(errors="replace")[:2000]
    ends = array("I", accumulate(map(len, x.parts)))
    head = _HEAD.pack(
        x.index,
        x.is_warmup,
        x.intended_s,
        x.dispatched_s,
        x.written_s,
        x.done_s,
        len(error),
        len(ends),
        ends[-1] if ends else 0,
    )
    return b"".join((head, error, array("d", x.read_s).tobytes(), ends.tobytes(), *x.parts))


def unpack(record: bytes) -> Ended | None:
    """None where the record is not there in full."""
    if len(record) < _HEAD.size:
        return None
    index, warm, intended, dispatched, written, done, num_error, num_reads, num_bytes = (
        _HEAD.unpack_from(record)
    )
    reads_at = _HEAD.size + num_error
    ends_at = reads_at + 8 * num_reads
    raw_at = ends_at + 4 * num_reads
    if len(record) != raw_at + num_bytes:
        return None
    read_s, part_end = array("d"), array("I")
    read_s.frombytes(record[reads_at:ends_at])
    part_end.frombytes(record[ends_at:raw_at])
    return Ended(
        index=index,
        is_warmup=bool(warm),
        intended_s=intended,
        dispatched_s=dispatched,
        written_s=written,
        done_s=done,
        error=record[_HEAD.size : reads_at].decode(errors="replace"),
        read_s=read_s,
        part_end=part_end,
        raw=record[raw_at:],
    )


class Spool:
    """``put`` on the event loop, ``read`` from any thread. Raises OSError, at the latest in
    ``read``, where the file could not be written."""

    def __init__(self, max_bytes_in_memory: int = MAX_BYTES_IN_MEMORY) -> None:
        self._max_bytes = max_bytes_in_memory
        self._held: list[bytes] = []
        self._num_held = 0  # bytes
        self._num_filed = 0  # bytes on their way to the file
        self._num_written = 0  # bytes in the file
        # Of every record: the request's index, and where it begins: −k − 1 for the k-th in memory,
        # else an offset in the file; and its length.
        self._index, self._at, self._length = array("q"), array("q"), array("I")
        self._block: list[bytes] = []
        self._num_block = 0
        self._file: IO[bytes] | None = None
        self._blocks: queue.SimpleQueue[list[bytes] | threading.Event] = queue.SimpleQueue()
        self._failed: OSError | None = None

    def put(self, exchange: Exchange) -> None:
        packed = pack(exchange)
        in_memory = self._num_held + len(packed) <= self._max_bytes and self._file is None
        self._index.append(exchange.index)
        self._length.append(len(packed))
        self._at.append(-1 - len(self._held) if in_memory else self._num_filed)
        if in_memory:
            self._held.append(packed)
            self._num_held += len(packed)
            return
        self._num_filed += len(packed)
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by ``close``
            threading.Thread(target=self._write, name="windtunnel-spool", daemon=True).start()
        self._block.append(packed)
        self._num_block += len(packed)
        if self._num_block >= _BLOCK_BYTES:
            self._hand_over()

    def flush(self) -> None:
        """Have everything written that was put; only when nothing is put at the same time."""
        if self._file is not None:
            self._hand_over()
            self._await_writer()

    def read(self) -> Iterator[Ended]:
        """The exchanges put so far, in order of index; those of the last block only after
        ``flush``."""
        num_written = self._num_written
        # Copies: an array whose memory is looked into cannot grow, and ``put`` may go on.
        at = np.array(self._at[:])
        index, length = np.array(self._index[: len(at)]), np.array(self._length[: len(at)])
        there = np.flatnonzero((at < 0) | (at + length <= num_written))
        rows = there[np.argsort(index[there], kind="stable")]
        del index
        for row in rows:
            where = int(at[row])
            packed = self._held[-1 - where] if where < 0 else self._pread(int(length[row]), where)
            found = unpack(packed)
            assert found is not None
            yield found

    def close(self) -> None:
        if self._file is not None:
            self._await_writer()
            self._blocks.put([])  # the writer's sign to leave
            self._file.close()
            self._file = None
        self._held.clear()

    def _hand_over(self) -> None:
        block, self._block, self._num_block = self._block, [], 0
        if block:
            self._blocks.put(block)

    def _await_writer(self) -> None:
        written = threading.Event()
        self._blocks.put(written)
        written.wait()
        if self._failed is not None:
            raise self._failed

    def _write(self) -> None:
        assert self._file is not None
        fd = self._file.fileno()
        while block := self._blocks.get():
            if isinstance(block, threading.Event):
                block.set()
            elif self._failed is None:
                try:
                    _write_all(fd, joined := b"".join(block))
                    self._num_written += len(joined)
                except OSError as error:
                    self._failed = error

    def _pread(self, num_bytes: int, at: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file.fileno(), num_bytes, at)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
