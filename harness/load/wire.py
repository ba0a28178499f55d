"""One connection and what goes over it. The hot path: a time stamp and the bytes, nothing else.

A response is read by its framing only as far as is needed to know that it has ended. In a chunked
response every read but the last is kept unseen: the end of the response ends in an empty line, so a
read that does not end in one cannot be it. What looks like the end is handed to httptools, with all
that was kept since it last looked, and httptools decides.

Times are readings of this host's monotonic clock, taken when the event loop hands over the bytes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

import httptools

from results.clock import read_monotonic_s

# A response beyond this is cut off as a failure; in a stream of 300-byte chunks, 200,000 tokens.
MAX_RESPONSE_BYTES = 64 * 2**20
_CR = 13


class Exchange:
    """All that was seen of one request. NaN: did not happen.

    ``parts`` are the response as it came, status line, headers and framing included, one entry per
    read; ``read_s`` the time of each. ``message`` is the whole request, and let go when sent.
    """

    __slots__ = (
        "connection",
        "dispatched_s",
        "done_s",
        "error",
        "gives_up_s",
        "index",
        "intended_s",
        "is_warmup",
        "message",
        "num_bytes",
        "on_done",
        "parts",
        "read_s",
        "written_s",
    )

    def __init__(self, index: int, intended_s: float, message: bytes, is_warmup: bool) -> None:
        self.index = index
        self.intended_s = intended_s
        self.message = message
        self.is_warmup = is_warmup
        self.dispatched_s = self.written_s = self.done_s = math.nan
        self.gives_up_s = math.inf
        self.error = ""
        self.num_bytes = 0
        self.read_s: list[float] = []
        self.parts: list[bytes] = []
        self.connection: Connection | None = None
        self.on_done: Callable[[Exchange], None] = _nobody

    @property
    def is_over(self) -> bool:
        return not math.isnan(self.done_s)


def _nobody(_: Exchange) -> None:
    return None


class Owner(Protocol):
    """Who keeps the connections: told when one is free again and when one is gone."""

    def released(self, connection: Connection) -> None: ...

    def ended(self, exchange: Exchange) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Transport(Protocol):
    """The part of ``asyncio.Transport`` that a connection uses."""

    def write(self, data: bytes, /) -> None: ...

    def abort(self) -> None: ...

    def get_write_buffer_size(self) -> int: ...


class Connection(asyncio.Protocol):
    """One request at a time over one connection. ``idle_since_s`` is when it last became free."""

    def __init__(self, owner: Owner) -> None:
        self.idle_since_s = -math.inf
        self.is_lost = False
        self._owner = owner
        self._exchange: Exchange | None = None
        self._transport: Transport | None = None
        self._begin_response()

    def _begin_response(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._num_fed = 0  # reads of the exchange that the parser has seen
        self._is_chunked = self._has_headers = self._has_length = False
        self._is_complete = self._keeps = False

    def send(self, exchange: Exchange) -> None:
        transport = self._transport
        assert transport is not None and self._exchange is None
        self._exchange = exchange
        exchange.connection = self
        transport.write(exchange.message)
        exchange.message = b""
        # uvloop keeps small writes until the end of this turn of the loop. A larger buffer is a
        # socket that is full: ``resume_writing`` then says when the last byte was taken.
        exchange.written_s = read_monotonic_s()

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.attach(transport)  # type: ignore[arg-type]  # a transport that writes
        transport.set_write_buffer_limits(high=0)  # type: ignore[attr-defined]

    def attach(self, transport: Transport) -> None:
        self._transport = transport

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.written_s = read_monotonic_s()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nothing was asked: whatever this is, it answers nothing of ours
            self.abort()
            return
        exchange.read_s.append(read_monotonic_s())
        exchange.parts.append(data)
        exchange.num_bytes += len(data)
        # A chunked response ends in CR LF CR LF; a read of less may hold a part of that.
        if (
            not self._is_chunked
            or len(data) < 4
            or data[-4] == _CR
            or exchange.num_bytes > MAX_RESPONSE_BYTES
        ):
            self._look(exchange)

    def eof_received(self) -> bool:
        return False  # closes; ``connection_lost`` follows

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        exchange, self._exchange = self._exchange, None
        self._owner.lost(self)
        if exchange is None:
            return
        until_close = self._has_headers and not self._is_chunked and not self._has_length
        if not (until_close and error is None):
            said = str(error) if error is not None else "the server closed the connection"
            exchange.error = f"disconnected: {said} after {exchange.num_bytes} bytes of the answer"
        exchange.done_s = read_monotonic_s()
        self._owner.ended(exchange)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def give_up(self, error: str) -> None:
        """End the exchange now, as failed, and the connection with it."""
        exchange, self._exchange = self._exchange, None
        self.is_lost = True  # never to be used again, though the loop has not said so yet
        self.abort()
        if exchange is not None:
            exchange.error = error
            exchange.done_s = read_monotonic_s()
            self._owner.ended(exchange)

    # ---- where a response ends ----

    def _look(self, exchange: Exchange) -> None:
        unseen = exchange.parts[self._num_fed :]
        self._num_fed = len(exchange.parts)
        try:
            self._parser.feed_data(unseen[0] if len(unseen) == 1 else b"".join(unseen))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_complete:
                self.give_up(f"http_error: {str(error) or type(error).__name__}")
                return
        if self._is_complete:
            self._finish(exchange)
        elif exchange.num_bytes > MAX_RESPONSE_BYTES:
            self.give_up(f"oversized: the answer is larger than {MAX_RESPONSE_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"transfer-encoding":
            self._is_chunked = b"chunked" in value.lower()
        elif name == b"content-length":
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._has_headers = True

    def on_message_complete(self) -> None:
        self._is_complete = True
        self._keeps = self._parser.should_keep_alive()  # only here does it know

    def _finish(self, exchange: Exchange) -> None:
        keeps = self._keeps
        exchange.done_s = exchange.read_s[-1]
        self._exchange = exchange.connection = None
        self._begin_response()
        if keeps:
            self.idle_since_s = exchange.done_s
            self._owner.released(self)
        else:
            self.is_lost = True
            self.abort()
        self._owner.ended(exchange)


# ---- the request as bytes ----


def root_url(base_url: str) -> str:
    """A server's URL without the ``/v1`` that many people add."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


class RequestHead:
    """Everything of a request but its body; the key is in here and nowhere else.

    Raises ValueError for a URL that is not http or https with a host.
    """

    __slots__ = ("_before_length", "_get", "host", "is_tls", "port")

    def __init__(self, base_url: str, path: str, api_key: str | None) -> None:
        parts = urlsplit(root_url(base_url))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is no http:// or https:// URL of a server")
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.is_tls else 80)
        headers = [
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "User-Agent: windtunnel",
            "Accept: text/event-stream, application/json",
            "Accept-Encoding: identity",  # a compressed stream arrives in lumps
        ]
        if api_key:
            headers.append(f"Authorization: Bearer {api_key}")
        shared = "\r\n".join(headers)
        self._get = f"GET {parts.path}{{}} HTTP/1.1\r\n{shared}\r\n\r\n"
        self._before_length = (
            f"POST {parts.path}{path} HTTP/1.1\r\n{shared}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode("latin-1")

    def __repr__(self) -> str:
        return f"RequestHead({self.host}:{self.port})"

    def post(self, body: bytes) -> bytes:
        return b"%b%d\r\n\r\n%b" % (self._before_length, len(body), body)

    def get(self, path: str) -> bytes:
        return self._get.format(path).encode("latin-1")
