"""A small client for measuring our own HTTP servers: requests as bytes, latencies out.

``closed`` keeps every connection busy and finds what the server can do. ``paced`` sends at a fixed
rate and counts from when each request was *due*, so that a server that falls behind cannot hide.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import httptools
import numpy as np
import uvloop

from results.clock import read_monotonic_s as now_s
from results.samples import FloatColumn


@dataclass(slots=True)
class Load:
    """``latency_s`` in order of ending; ``statuses`` counts them by status code. ``lag_s``: of a
    paced load, how late the client itself was with those requests that it was ahead of: what of the
    latencies is not the server's."""

    wall_s: float
    latency_s: FloatColumn
    num_bytes: int
    statuses: dict[int, int]
    lag_s: FloatColumn

    @property
    def rate_rps(self) -> float:
        return len(self.latency_s) / self.wall_s

    def percentile_s(self, percent: float) -> float:
        return float(np.percentile(self.latency_s, percent))

    def lag_percentile_s(self, percent: float) -> float:
        """NaN where the client was ahead of none."""
        return float(np.percentile(self.lag_s, percent)) if len(self.lag_s) else math.nan


@dataclass(slots=True)
class _Tally:
    latency_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    num_bytes: int = 0
    lag_s: list[float] = field(default_factory=list)


def closed(host: str, port: int, requests: Iterator[bytes], users: int, duration_s: float) -> Load:
    """``users`` connections, each with one request under way at any time."""
    return uvloop.run(_closed(host, port, requests, users, duration_s))


def paced(
    host: str, port: int, requests: Iterator[bytes], rate_rps: float, users: int, duration_s: float
) -> Load:
    """One request every 1/rate seconds over at most ``users`` connections; those that find none
    free wait, and their waiting counts."""
    return uvloop.run(_paced(host, port, requests, rate_rps, users, duration_s))


def beside(
    host: str,
    port: int,
    requests: Iterator[bytes],
    probes: Iterator[bytes],
    rate_rps: float,
    duration_s: float,
) -> tuple[Load, Load]:
    """One user of ``requests``, and ``probes`` at a fixed rate over connections of their own: how
    long the former keep the latter waiting."""

    async def both() -> tuple[Load, Load]:
        busy = _closed(host, port, requests, 1, duration_s)
        return await asyncio.gather(busy, _paced(host, port, probes, rate_rps, 4, duration_s))

    return uvloop.run(both())


class _Connection(asyncio.Protocol):
    """One request at a time; ``answered`` is set when its answer has come whole."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(exc or "closed by the server")))

    def data_received(self, data: bytes) -> None:
        self._tally.num_bytes += len(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    async def ask(self, request: bytes, due_s: float) -> None:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._answer
        self._tally.latency_s.append(now_s() - due_s)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _connections(host: str, port: int, users: int, tally: _Tally) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Connection(tally), host, port) for _ in range(users)
    ]
    return [protocol for _, protocol in made]


async def _closed(
    host: str, port: int, requests: Iterator[bytes], users: int, duration_s: float
) -> Load:
    tally = _Tally()
    connections = await _connections(host, port, users, tally)
    began_s = now_s()

    async def use(connection: _Connection) -> None:
        while (sent_s := now_s()) - began_s < duration_s:
            await connection.ask(next(requests), sent_s)
        connection.close()

    await asyncio.gather(*(use(connection) for connection in connections))
    return _load(tally, now_s() - began_s)


async def _paced(
    host: str, port: int, requests: Iterator[bytes], rate_rps: float, users: int, duration_s: float
) -> Load:
    tally = _Tally()
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    for connection in await _connections(host, port, users, tally):
        free.put_nowait(connection)
    began_s = now_s()

    async def ask(connection: _Connection, due_s: float) -> None:
        try:
            await connection.ask(next(requests), due_s)
        finally:
            free.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        for index in range(int(duration_s * rate_rps)):
            due_s = began_s + index / rate_rps
            if (ahead_s := due_s - now_s()) > 0:
                await asyncio.sleep(ahead_s)
                tally.lag_s.append(now_s() - due_s)
            group.create_task(ask(await free.get(), due_s))
    wall_s = now_s() - began_s
    while not free.empty():
        free.get_nowait().close()
    return _load(tally, wall_s)


def _load(tally: _Tally, wall_s: float) -> Load:
    return Load(
        wall_s=wall_s,
        latency_s=np.array(tally.latency_s),
        num_bytes=tally.num_bytes,
        statuses=dict(sorted(tally.statuses.items())),
        lag_s=np.array(tally.lag_s),
    )
