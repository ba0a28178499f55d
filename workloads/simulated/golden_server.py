"""A *simulated* OpenAI-compatible server whose timings and faults are exactly those asked for.

It is the oracle of the load client: what a client should have seen is known in advance
(``answers.stream_plan``) and what the server did is on record (``GoldenServer.served``). It
computes nothing and stands for no hardware.

    python -m workloads.simulated.golden_server --port 0 --ttft-ms 50 --itl-ms 10

prints ``simulated golden server on http://127.0.0.1:PORT`` as soon as it owns its port. Until its
startup is over it does not listen, so connections are refused, as with a real engine that loads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from typing import Any

import uvloop
from aiohttp import web

from results.clock import SystemClock
from workloads.base import ServerTarget
from workloads.simulated.answers import (
    Ask,
    Behaviour,
    Fault,
    read_ask,
    refusal,
    stream_plan,
    whole_answer,
)

_LOG = logging.getLogger("windtunnel.simulated")
_now_s = SystemClock().monotonic_s
_MAX_BODY_BYTES = 64 * 2**20
_NUM_LOADING_STEPS = 4
_CRASH_EXIT_CODE = 1
# aiohttp takes 0 for "wait for ever".
_DROP_AFTER_S = 0.01


@dataclass(slots=True, kw_only=True)
class Served:
    """What the server did with one request; times are ``SystemClock.monotonic_s`` of this host."""

    number: int  # in order of arrival
    arrived_s: float
    num_output_tokens: int
    fault: Fault
    peer_port: int = -1  # the client's end of the connection
    started_s: float = math.nan  # left the queue
    first_token_s: float = math.nan  # first token-bearing chunk handed to the socket
    ended_s: float = math.nan


@dataclass(slots=True, kw_only=True)
class GoldenServer:
    """The handlers and what they keep. ``served`` grows by one entry per generation request."""

    behaviour: Behaviour
    served: list[Served] = field(default_factory=list)
    slots: asyncio.Semaphore | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> ServerTarget:
        return ServerTarget(base_url=self.url, model=self.behaviour.model)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self.behaviour.model, "object": "model", "owned_by": "simulated"}
        return web.json_response({"object": "list", "data": [model]})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=True)

    async def _generate(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        arrived_s = _now_s()
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.behaviour.wants_key and key != self.behaviour.wants_key:
            return _refused(401, f"Incorrect API key provided: {key}")
        try:
            body = json.loads(await request.read())
        except ValueError:
            return _refused(400, "the body is not JSON")
        if why := refusal(body, self.behaviour):
            return _refused(400, why)
        ask = read_ask(body, self.behaviour, chat=chat)
        number = len(self.served)
        served = Served(
            number=number,
            arrived_s=arrived_s,
            num_output_tokens=ask.num_output_tokens,
            fault=self.behaviour.fault(number),
            peer_port=_peer_port(request),
        )
        self.served.append(served)
        if served.fault is Fault.STATUS_500:
            return _refused(500, "simulated engine failure")
        if served.fault is Fault.NEVER_ANSWERS:
            await asyncio.Event().wait()
        try:
            async with self.slots or contextlib.nullcontext():
                # With no queue in between, service begins when the request was read.
                served.started_s = arrived_s if self.slots is None else _now_s()
                return await self._answer(request, ask, served)
        finally:
            served.ended_s = _now_s()

    async def _answer(self, request: web.Request, ask: Ask, served: Served) -> web.StreamResponse:
        plan = stream_plan(ask, self.behaviour, served.fault)
        if not ask.stream:
            await _sleep_until(served.started_s + plan[-1][0])
            return web.json_response(whole_answer(ask))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        k = 0
        while k < len(plan):
            await _sleep_until(served.started_s + plan[k][0])
            # All that is due goes out in one write: a late server does not get later still.
            due_s, due = _now_s() - served.started_s, []
            while k < len(plan) and plan[k][0] <= due_s:
                due.append(plan[k][1])
                k += 1
            if math.isnan(served.first_token_s) and due_s >= self.behaviour.ttft_s:
                served.first_token_s = served.started_s + due_s
            if data := b"".join(due):
                await response.write(data)
        if served.fault is Fault.DISCONNECT and request.transport is not None:
            request.transport.abort()
            raise ConnectionResetError("simulated disconnect")
        await response.write_eof()
        return response


def _peer_port(request: web.Request) -> int:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return int(peer[1]) if peer else -1


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


async def _sleep_until(when_s: float) -> None:
    """Never early: the loop's timers count whole milliseconds, so wait for the next one."""
    while (left_s := when_s - _now_s()) > 0:
        await asyncio.sleep(math.ceil(left_s * 1e3) / 1e3)


@contextlib.asynccontextmanager
async def _serving(server: GoldenServer, sock: socket.socket) -> AsyncIterator[None]:
    """Listen on ``sock`` and answer until left; requests still open are then dropped."""
    capacity = server.behaviour.capacity
    server.slots = asyncio.Semaphore(capacity) if capacity else None
    runner = web.AppRunner(
        server.app(),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=_DROP_AFTER_S,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, sock, backlog=4096).start()
        yield
    finally:
        await runner.cleanup()


def _bound_socket(host: str, port: int) -> socket.socket:
    """Bound, not listening: the port is owned, connections are refused."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


@contextlib.contextmanager
def golden_server(behaviour: Behaviour | None = None) -> Iterator[GoldenServer]:
    """A simulated server on a port of its own, in a thread of this process; ended on leaving."""
    sock = _bound_socket("127.0.0.1", 0)
    server = GoldenServer(behaviour=behaviour or Behaviour(), port=sock.getsockname()[1])
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with _serving(server, sock):
            ready.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=run, name="simulated-golden-server", daemon=True)
    thread.start()
    try:
        loop, stop = ready.result()
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join()
        sock.close()


def _crash() -> None:
    _LOG.error("RuntimeError: simulated engine failure, asked for by --die-after-s")
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(_CRASH_EXIT_CODE)  # as an engine that is gone: no goodbye to anybody


async def _main(options: argparse.Namespace, behaviour: Behaviour) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sock = _bound_socket(options.host, options.port)
    server = GoldenServer(behaviour=behaviour, port=sock.getsockname()[1])
    _LOG.info("simulated golden server on http://%s:%d", options.host, server.port)
    if options.die_after_s is not None:
        loop.call_later(options.die_after_s, _crash)
    try:
        for step in range(_NUM_LOADING_STEPS):
            _LOG.info("simulated engine: loading part %d of %d", step + 1, _NUM_LOADING_STEPS)
            if await _stopped(stop, options.startup_delay_s / _NUM_LOADING_STEPS):
                return
        if options.hang:
            _LOG.info("simulated engine: hanging, asked for by --hang")
            await stop.wait()
            return
        async with _serving(server, sock):
            _LOG.info("simulated engine: healthy")
            await stop.wait()
    finally:
        sock.close()


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    if within_s <= 0:
        return stop.is_set()
    try:
        await asyncio.wait_for(stop.wait(), within_s)
    except TimeoutError:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    """One option per field of ``Behaviour``; seconds become milliseconds, switches are bare."""
    parser = argparse.ArgumentParser(
        prog="python -m workloads.simulated.golden_server",
        description="A simulated OpenAI-compatible server with exact timings and faults.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: one from the kernel")
    parser.add_argument("--startup-delay-s", type=float, default=0.0, help="loading takes this")
    parser.add_argument("--die-after-s", type=float, help="crash so long after the start")
    parser.add_argument("--hang", action="store_true", help="load, and never become healthy")
    kinds = {"int": int, "int | None": int, "float": float, "str": str}
    for f in fields(Behaviour):
        name = "--" + f.name.replace("_", "-")
        if f.type == "bool" and f.default is False:
            parser.add_argument(name, action="store_true")
        elif f.type == "bool":
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=f.default)
        elif f.name in ("ttft_s", "itl_s"):
            default_ms = float(str(f.default)) * 1e3
            parser.add_argument(name[:-2] + "-ms", type=float, default=default_ms)
        else:
            parser.add_argument(name, type=kinds[str(f.type)], default=f.default)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    values: dict[str, Any] = {f.name: getattr(options, f.name, None) for f in fields(Behaviour)}
    values |= {"ttft_s": options.ttft_ms / 1e3, "itl_s": options.itl_ms / 1e3}
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(options, Behaviour(**values)))


if __name__ == "__main__":
    main()
