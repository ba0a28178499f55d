"""A pool of kept-alive connections to one server, without a limit on their number.

``dispatch`` never waits: a request takes a free connection or opens one. What the server does is
never an exception; it is in the exchange, and ``on_done`` is told when that is over.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import Any

from harness.load.audit import EVERY, Lateness, StampedSocket
from harness.load.wire import Connection, Exchange, RequestHead
from results.clock import read_monotonic_s

# uvicorn, under vLLM and most others, closes an idle connection after 5 s. Letting go first means
# that no request is ever sent into a connection which the server is just closing.
KEEP_ALIVE_S = 4.0
MODELS_PATH = "/v1/models"
_MODELS_TIMEOUT_S = 5.0
_SWEEP_S = 0.02
# So many connections are opened at a time before a closed loop begins: a listening socket holds
# 100 and more that were not accepted yet, and drops the rest, which then try again after a second.
_OPEN_AT_ONCE = 64


class Client:
    """Belongs to the running event loop. ``max_in_flight`` counts sent and not yet over."""

    def __init__(self, head: RequestHead, timeout_s: float) -> None:
        self.head = head
        self.lateness = Lateness()
        self.max_in_flight = 0
        self.num_in_flight = 0
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if head.is_tls else None
        self._addresses: list[Any] = []
        self._idle: list[Connection] = []
        self._num_opened = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._limits: deque[Exchange] = deque()  # in order of dispatch, hence of their limits
        self._sweeper: asyncio.TimerHandle | None = None

    def dispatch(self, exchange: Exchange) -> None:
        now_s = read_monotonic_s()
        exchange.dispatched_s = now_s
        exchange.gives_up_s = now_s + self._timeout_s
        self._limits.append(exchange)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        self.num_in_flight += 1
        if self.num_in_flight > self.max_in_flight:
            self.max_in_flight = self.num_in_flight
        while self._idle:
            connection = self._idle.pop()
            if connection.is_lost:
                continue
            if now_s - connection.idle_since_s > KEEP_ALIVE_S:
                connection.abort()
                continue
            connection.send(exchange)
            return
        task = self._loop.create_task(self._open_for(exchange))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def send(self, exchange: Exchange, timeout_s: float | None = None) -> None:
        """Dispatch, and wait until it is over. Cancelled, it gives the exchange up first."""
        over: asyncio.Future[None] = self._loop.create_future()
        exchange.on_done = lambda _: None if over.done() else over.set_result(None)
        self.dispatch(exchange)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            await asyncio.wait_for(asyncio.shield(over), limit_s)
        except TimeoutError:
            self.give_up(exchange, _too_late(limit_s))
        except asyncio.CancelledError:
            self.give_up(exchange, "cancelled: the load ended before the answer did")
            raise

    def give_up(self, exchange: Exchange, error: str) -> None:
        """End an exchange that is not over, as failed."""
        if exchange.is_over:
            return
        if exchange.connection is not None:
            exchange.connection.give_up(error)
            return
        exchange.error = error
        exchange.done_s = read_monotonic_s()
        self.ended(exchange)

    def give_up_all(self, error: str) -> None:
        for exchange in list(self._limits):
            self.give_up(exchange, error)

    async def open_ahead(self, count: int) -> None:
        """Have ``count`` connections free. Those that cannot be opened will be told of by the
        requests that need them."""
        missing = count - len(self._idle)
        while missing > 0:
            batch = [self._open() for _ in range(min(missing, _OPEN_AT_ONCE))]
            missing -= len(batch)
            opened = await asyncio.gather(*batch, return_exceptions=True)
            for connection in opened:
                if isinstance(connection, Connection):
                    self.released(connection)
            if any(isinstance(c, BaseException) for c in opened):
                return

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.give_up_all("cancelled: the load ended before the answer did")
        for task in list(self._opening):
            task.cancel()
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)

    async def models(self) -> Any:
        """The server's list of models as it gives it (parsed JSON), or None."""
        exchange = Exchange(-1, read_monotonic_s(), self.head.get(MODELS_PATH), is_warmup=True)
        await self.send(exchange, _MODELS_TIMEOUT_S)
        raw = b"".join(exchange.parts)
        with suppress(ValueError):
            from harness.load.response import body_of

            return json.loads(body_of([raw]).body)
        return None

    # ---- Owner of the connections ----

    def released(self, connection: Connection) -> None:
        connection.idle_since_s = read_monotonic_s()
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        with suppress(ValueError):
            self._idle.remove(connection)

    def ended(self, exchange: Exchange) -> None:
        self.num_in_flight -= 1
        exchange.on_done(exchange)

    # ---- opening ----

    async def _open_for(self, exchange: Exchange) -> None:
        try:
            connection = await self._open()
        except asyncio.CancelledError:
            self.give_up(exchange, "cancelled: the load ended before the answer did")
            raise
        except (OSError, ssl.SSLError) as error:
            self.give_up(exchange, describe(error))
            return
        if exchange.is_over:  # its time ran out meanwhile
            self.released(connection)
        elif connection.is_lost:
            self.give_up(exchange, "disconnected: the server closed the connection at once")
        else:
            connection.send(exchange)

    async def _open(self) -> Connection:
        if not self._addresses:
            # Names are looked up once: a resolver's delay is no latency of the server.
            self._addresses = await self._loop.getaddrinfo(
                self.head.host, self.head.port, type=socket.SOCK_STREAM
            )
        number, self._num_opened = self._num_opened, self._num_opened + 1
        error: OSError | None = None
        for address in list(self._addresses):
            try:
                opened = await self._connect(address, is_stamped=number % EVERY == 0)
            except OSError as failed:
                error = error or failed
                continue
            if address != self._addresses[0]:  # the next ones go there at once
                self._addresses.remove(address)
                self._addresses.insert(0, address)
            return opened
        assert error is not None
        raise error

    async def _connect(self, address: Any, *, is_stamped: bool) -> Connection:
        family, kind, proto, _, where = address
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, where)
            connection = Connection(self)
            if is_stamped and self._tls is None:
                StampedSocket(self._loop, sock, connection, self.lateness)
                return connection
            await self._loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=self._tls,
                server_hostname=self.head.host if self._tls is not None else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    # ---- time limits ----

    def _sweep(self) -> None:
        limits, now_s = self._limits, read_monotonic_s()
        while limits and (limits[0].is_over or limits[0].gives_up_s <= now_s):
            self.give_up(limits.popleft(), _too_late(self._timeout_s))
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep) if limits else None


def _too_late(limit_s: float) -> str:
    return f"timeout: not answered in full within {limit_s:.3g} s"


def describe(error: OSError) -> str:
    """A short kind, a colon, and what the library says."""
    if isinstance(error, ConnectionRefusedError):
        kind = "refused"
    elif isinstance(error, ssl.SSLError):
        kind = "tls_failed"
    else:
        kind = "connect_failed"
    return f"{kind}: {str(error) or type(error).__name__}"


def owner_of(models: Any) -> str:
    """Who a list of models says owns its first one; "": it does not say."""
    with suppress(LookupError, TypeError):
        return str(models["data"][0]["owned_by"])
    return ""
