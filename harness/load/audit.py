"""How late is our own clock? The kernel stamps data when it comes in; we compare.

Some of the connections are sockets of our own instead of the loop's, read with ``recvmsg`` and
``SO_TIMESTAMPNS``: with each piece of data comes the time at which the kernel had it. What lies
between that and our own time stamp is lateness that every latency of this client includes.
The kernel stamps with the realtime clock, so both readings here are of that one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from array import array
from contextlib import suppress

import numpy as np

from harness.load.wire import Connection
from results.client import ClockAudit
from results.clock import read_realtime_s

SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; the control message has the same number
_TIMESPEC = struct.Struct("@ll")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)
_BUFFER_BYTES = 256 * 1024
# One connection of this many is read this way: it costs a few microseconds more a read.
EVERY = 32
# A day of reads is no better known than this many.
MAX_READS = 200_000


class Lateness:
    """The lag of each audited read of one event loop, in seconds, and the loop's reading buffer:
    what was read is copied out at once, and a new one of that size for each read would be mapped
    and unmapped by the kernel each time."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._lag_s = array("d")

    def add(self, lag_s: float) -> None:
        if len(self._lag_s) < MAX_READS:
            self._lag_s.append(lag_s)

    def summary(self) -> ClockAudit | None:
        """None: nothing was audited (TLS, or a kernel without time stamps)."""
        if not self._lag_s:
            return None
        # A clock that was stepped back in between makes a lag negative; that is no lateness.
        lag_s = np.maximum(np.array(self._lag_s), 0.0)
        return ClockAudit(
            num_reads=len(lag_s),
            lag_p50_s=float(np.quantile(lag_s, 0.5)),
            lag_p99_s=float(np.quantile(lag_s, 0.99)) if len(lag_s) >= 1000 else None,
            lag_max_s=float(lag_s.max()),
        )


class StampedSocket:
    """A transport over a connected socket whose reads are stamped by the kernel."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        connection: Connection,
        lateness: Lateness,
    ) -> None:
        self._loop, self._sock, self._connection = loop, sock, connection
        self._lateness = lateness
        self._unsent = b""
        self._is_open = True
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        connection.attach(self)
        loop.add_reader(sock, self._readable)

    def write(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            num_sent = self._sock.send(data)
        except BlockingIOError:
            num_sent = 0
        except OSError as error:
            self._loop.call_soon(self._closed, error)
            return
        if num_sent < len(data):
            self._unsent = data[num_sent:]
            self._loop.add_writer(self._sock, self._writable)

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def abort(self) -> None:
        self._loop.call_soon(self._closed, None)

    def _readable(self) -> None:
        try:
            num_bytes, stamps, _, _ = self._sock.recvmsg_into((self._lateness.buffer,), _ROOM)
        except BlockingIOError:
            return
        except OSError as error:
            self._closed(error)
            return
        if not num_bytes:
            self._closed(None)
            return
        if stamps:
            seen_s = read_realtime_s()
            whole_s, ns = _TIMESPEC.unpack_from(stamps[0][2])
            self._lateness.add(seen_s - whole_s - ns * 1e-9)
        self._connection.data_received(bytes(self._lateness.buffer[:num_bytes]))

    def _writable(self) -> None:
        try:
            num_sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._closed(error)
            return
        self._unsent = self._unsent[num_sent:]
        if not self._unsent:
            self._loop.remove_writer(self._sock)
            self._connection.resume_writing()

    def _closed(self, error: OSError | None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._sock)
        if self._unsent:
            self._loop.remove_writer(self._sock)
        self._sock.close()
        self._connection.connection_lost(error)
