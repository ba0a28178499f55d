"""The lookup over HTTP/1.1: one process, one event loop, one socket that is bound beforehand."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from results.errors import CannotListen

HEADERS_S: Final = 10.0  # from a connection or the end of an answer's pause to the last header
MAX_HEADER_BYTES: Final = 32 * 1024
KEEP_ALIVE_S: Final = 75
MAX_CONNECTIONS: Final = 1024
GRACE_S: Final = 5  # for answers under way when the server is stopped

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n"


def listening(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free. Raises CannotListen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise CannotListen(
            f"cannot listen on {host} port {port}: {said}; name another with --host and --port"
        ) from None


def url_of(sock: socket.socket) -> str:
    """Where a browser on this machine finds the socket."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: Any) -> uvicorn.Server:
    """``should_exit`` ends it, as SIGINT and SIGTERM do: answers under way are finished first."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_Patient,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(config)


class _Patient(HttpToolsProtocol):
    """Waits for headers only so long and takes only so many bytes of them: uvicorn has neither
    limit, and a client that sends a header a minute would hold its connection for ever."""

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        # Looked at afterwards: what came in one piece with its body is no long header.
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._rest()
            if not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        if self._deadline is None:
            self._wait()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._header_bytes = 0
        self._rest()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_S, self.transport.close)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
