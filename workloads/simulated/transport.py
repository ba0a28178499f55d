"""HTTP/1.1 as a simulated server needs it: requests in, bytes out at once, connections kept.

Bytes go to the kernel in the call that hands them over, not at the end of the loop's iteration, so
that the time a server writes down is the time it wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

MAX_BODY_BYTES = 64 * 2**20
END_OF_CHUNKS = b"0\r\n\r\n"
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
    500: b"Internal Server Error",
}
EVENT_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """One HTTP chunk; empty data is none, for an empty chunk would end the response."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def whole_response(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    reason = _REASONS.get(status, b"")
    head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, reason, content_type.encode(), len(body)) + body


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and the way to answer it. ``send`` as often as wanted, then ``finish``, once."""

    connection: Connection
    method: str = ""
    path: str = ""
    query: str = ""
    authorization: str = ""
    body: bytes = b""
    is_open: bool = True  # the client is still there and has not been answered in full
    when_lost: Callable[[], None] | None = None  # told when the client goes away before the end
    parts: list[bytes] = field(default_factory=list)

    @property
    def peer_port(self) -> int:
        return self.connection.peer_port

    def send(self, data: bytes) -> None:
        if self.is_open:
            self.connection.write(data)

    def finish(self, data: bytes = b"") -> None:
        """Send the last bytes; the connection takes its next request."""
        if self.is_open:
            if data:
                self.connection.write(data)
            self.is_open = False
            self.connection.answered()

    def respond(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.finish(whole_response(status, body, content_type))

    def abort(self) -> None:
        """Close the connection in the middle of whatever it was doing."""
        self.is_open = False
        self.connection.abort()


Handler = Callable[[Exchange], None]


class Connection(asyncio.Protocol):
    """One client. Requests that arrive before the last is answered wait their turn."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._reading = Exchange(connection=self)
        self._num_body_bytes = 0
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self.peer_port = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._fd = transport.get_extra_info("socket").fileno()
        peer = transport.get_extra_info("peername")
        self.peer_port = int(peer[1]) if peer else -1
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport, self._fd = None, -1
        self._connections.discard(self)
        exchange, self._current = self._current, None
        self._waiting.clear()
        if exchange is not None and exchange.is_open:
            exchange.is_open = False
            if exchange.when_lost is not None:
                exchange.when_lost()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserError:
            self._refuse(400)

    def _refuse(self, status: int) -> None:
        if self._transport is not None:
            self._transport.write(whole_response(status, b'{"error": {"message": "no request"}}'))
            self._transport.close()

    # What the parser calls, in this order.

    def on_message_begin(self) -> None:
        self._reading = Exchange(connection=self)
        self._num_body_bytes = 0

    def on_url(self, url: bytes) -> None:
        path, _, query = url.decode("latin-1").partition("?")
        self._reading.path, self._reading.query = path, query

    def on_header(self, name: bytes, value: bytes) -> None:
        # Told by length first: this is called for every header of every request.
        if len(name) == 13 and name.lower() == b"authorization":
            self._reading.authorization = value.decode("latin-1")
        elif len(name) == 6 and name.lower() == b"expect" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._num_body_bytes += len(body)
        if self._num_body_bytes > MAX_BODY_BYTES:
            self._refuse(413)
        else:
            self._reading.parts.append(body)

    def on_message_complete(self) -> None:
        exchange = self._reading
        exchange.method = self._parser.get_method().decode("latin-1")
        exchange.body = exchange.parts[0] if len(exchange.parts) == 1 else b"".join(exchange.parts)
        exchange.parts = []
        if self._current is None:
            self._current = exchange
            self._handler(exchange)
        else:
            self._waiting.append(exchange)

    def answered(self) -> None:
        self._current = None
        if self._waiting:  # later, not from in here: a thousand of them would nest a thousand deep
            self._current = self._waiting.popleft()
            asyncio.get_running_loop().call_soon(self._handler, self._current)

    def write(self, data: bytes) -> None:
        """To the kernel at once; what it does not take now, the loop brings it later."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() == 0:
            try:
                num_written = os.write(self._fd, data)
            except BlockingIOError:
                num_written = 0
            except OSError:
                transport.abort()  # the client has gone; ``connection_lost`` tells the exchange
                return
            if num_written == len(data):
                return
            data = data[num_written:]
        transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@contextlib.asynccontextmanager
async def listening(handler: Handler, sock: socket.socket) -> AsyncIterator[None]:
    """Serve the bound ``sock`` until left; connections still open are then cut off."""
    connections: set[Connection] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(handler, connections), sock=sock, backlog=4096
    )
    try:
        yield
    finally:
        server.close()
        for connection in tuple(connections):
            connection.abort()
        await server.wait_closed()


def bound_socket(host: str, port: int) -> socket.socket:
    """Bound, not listening: the port is owned, connections are refused."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock
