"""A *simulated* OpenAI-compatible server whose timings and faults are exactly those asked for.

It is the oracle of the load client: what a client should have seen is known in advance
(``wire.wire_plan``) and what the server did is on record, write by write (``GoldenServer.served``,
and over HTTP ``/simulated/served``). It computes nothing and stands for no hardware.

    python -m workloads.simulated.golden_server --port 0 --ttft-ms 50 --itl-ms 10

prints ``simulated golden server on http://127.0.0.1:PORT`` as soon as it owns its port. Until its
startup is over it does not listen, so connections are refused, as with a real engine that loads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import uvloop

from results.clock import SystemClock
from workloads.simulated.answers import (
    Ask,
    Behaviour,
    Fault,
    cut_ids,
    parse_body,
    read_ask,
    refusal,
)
from workloads.simulated.pacer import Pacer
from workloads.simulated.served import Served, document, lateness
from workloads.simulated.transport import Exchange, bound_socket, listening
from workloads.simulated.wire import WirePlan, wire_plan

if TYPE_CHECKING:  # imports numpy and pyarrow, which would double the start of a server process
    from workloads.base import ServerTarget

_now_s = SystemClock().monotonic_s
_NUM_KEPT = 4096


class _Known:
    """What has been asked before under one behaviour. A load asks for the same few shapes again and
    again, and laying one out takes longer than sending it."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.has_faults = behaviour.has_faults
        self._asks: dict[tuple[bytes, int, bool], Ask | str] = {}
        self._plans: dict[tuple[Ask, Fault], WirePlan] = {}

    def ask(self, raw: bytes, *, chat: bool) -> Ask | str:
        """The request, or why it is refused."""
        rest, num_ids = cut_ids(raw)
        if num_ids < 0:
            return self._read(raw, rest, num_ids, chat)
        key = (rest, num_ids, chat)
        found = self._asks.get(key)
        if found is None:
            found = self._asks[key] = self._read(raw, rest, num_ids, chat)
            _bound(self._asks)
        return found

    def _read(self, raw: bytes, rest: bytes, num_ids: int, chat: bool) -> Ask | str:
        try:
            body = parse_body(raw, rest, num_ids)
        except ValueError:
            return "the body is not JSON"
        return refusal(body, self.behaviour) or read_ask(body, self.behaviour, chat=chat)

    def plan(self, ask: Ask, fault: Fault) -> WirePlan:
        found = self._plans.get((ask, fault))
        if found is None:
            found = self._plans[ask, fault] = wire_plan(ask, self.behaviour, fault)
            _bound(self._plans)
        return found


def _bound(kept: dict[Any, Any]) -> None:
    if len(kept) > _NUM_KEPT:
        del kept[next(iter(kept))]  # the oldest


@dataclass(slots=True, kw_only=True)
class _Stream:
    """An answer on its way: the next write of its plan, and when."""

    server: GoldenServer
    exchange: Exchange
    plan: WirePlan
    served: Served
    next_write: int = 0
    holds_slot: bool = False

    def begin(self, started_s: float) -> None:
        self.served.started_s = started_s
        first_s = started_s + self.plan.at_s[0]
        now_s = _now_s()
        if first_s <= now_s:
            first_s = self.tick(now_s)
        if first_s < math.inf:
            self.server.pacer.at(first_s, self.tick)

    def tick(self, now_s: float) -> float:
        """Write all that is due, in one write: a late server does not get later still."""
        if not self.exchange.is_open:
            return math.inf
        plan, served, k = self.plan, self.served, self.next_write
        at_s, due_s = plan.at_s, now_s - served.started_s
        first = k
        while k < len(at_s) and at_s[k] <= due_s:
            if plan.token_chunks[k] and math.isnan(served.first_token_s):
                served.first_token_s = now_s
            served.write_s.append(now_s)
            k += 1
        self.next_write = k
        if k == first:  # rounding of the sum put it a hair later than the timer had it
            return max(served.started_s + at_s[k], math.nextafter(now_s, math.inf))
        data = plan.data[first] if k == first + 1 else b"".join(plan.data[first:k])
        if k < len(at_s):
            self.exchange.send(data)
            return served.started_s + at_s[k]
        served.ended_s = now_s  # written down first: the client may ask as soon as it has the end
        if plan.closes:
            self.exchange.send(data)
            self.exchange.abort()
        else:
            self.exchange.finish(data)
        self.end(now_s, served.started_s + plan.end_s)
        return math.inf

    def end(self, now_s: float, free_s: float) -> None:
        """``free_s``: when the next in the queue is served; by plan, so no lateness adds up."""
        self.served.ended_s = now_s
        if self.holds_slot:
            self.holds_slot = False
            self.server.free_slot(free_s)

    def lost(self) -> None:
        now_s = _now_s()
        self.end(now_s, now_s)


@dataclass(slots=True, kw_only=True)
class GoldenServer:
    """The handlers and what they keep. ``served`` grows by one entry per generation request."""

    behaviour: Behaviour
    served: list[Served] = field(default_factory=list)
    port: int = 0
    host: str = "127.0.0.1"
    num_arrived: int = 0
    _pacer: Pacer | None = None
    _num_busy: int = 0
    _queue: deque[_Stream] = field(default_factory=deque)
    _known: _Known | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def target(self) -> ServerTarget:
        from workloads.base import ServerTarget

        return ServerTarget(base_url=self.url, model=self.behaviour.model)

    @property
    def pacer(self) -> Pacer:
        assert self._pacer is not None, "streams are paced while the server is serving"
        return self._pacer

    @contextlib.asynccontextmanager
    async def serving(self, sock: socket.socket) -> AsyncIterator[None]:
        """Listen on the bound ``sock`` and answer until left; what is open then is cut off."""
        self._pacer = Pacer(asyncio.get_running_loop())
        try:
            async with listening(self.handle, sock):
                yield
        finally:
            self._pacer.close()

    def handle(self, exchange: Exchange) -> None:
        path, method = exchange.path, exchange.method
        if method == "POST" and path == "/v1/completions":
            self._generate(exchange, chat=False)
        elif method == "POST" and path == "/v1/chat/completions":
            self._generate(exchange, chat=True)
        elif method != "GET":
            refuse(exchange, 405 if path in _PATHS else 404, f"{method} {path} is not served here")
        elif path == "/health":
            exchange.respond(200, b"")
        elif path == "/v1/models":
            self._models(exchange)
        elif path == "/simulated/served":
            tokens = "tokens=0" not in exchange.query
            exchange.respond(200, document(tuple(self.served), with_tokens=tokens))
        elif path == "/simulated/lateness":
            exchange.respond(200, json.dumps(lateness(tuple(self.served))).encode())
        else:
            refuse(exchange, 404, f"there is no {path}")

    def _models(self, exchange: Exchange) -> None:
        exchange.respond(200, models_document(self.behaviour.model))

    def _generate(self, exchange: Exchange, *, chat: bool) -> None:
        arrived_s, behaviour = _now_s(), self.behaviour
        key = exchange.authorization.removeprefix("Bearer ")
        if behaviour.wants_key and key != behaviour.wants_key:
            return refuse(exchange, 401, f"Incorrect API key provided: {key}")
        known = self._known
        if known is None or known.behaviour is not behaviour:
            known = self._known = _Known(behaviour)
        ask = known.ask(exchange.body, chat=chat)
        if isinstance(ask, str):
            return refuse(exchange, 400, ask)
        number, self.num_arrived = self.num_arrived, self.num_arrived + 1
        fault = behaviour.fault(number) if known.has_faults else Fault.NONE
        served = Served(
            number=number,
            arrived_s=arrived_s,
            num_prompt_tokens=ask.num_prompt_tokens,
            num_output_tokens=ask.num_output_tokens,
            fault=fault,
            peer_port=exchange.peer_port,
        )
        if behaviour.keeps_log:
            self.served.append(served)
        if fault is Fault.STATUS_500:
            served.ended_s = arrived_s
            return refuse(exchange, 500, "simulated engine failure")
        if fault is Fault.NEVER_ANSWERS:
            return None
        served.plan = plan = known.plan(ask, fault)
        return self._enqueue(
            _Stream(server=self, exchange=exchange, plan=plan, served=served), behaviour.capacity
        )

    def _enqueue(self, stream: _Stream, capacity: int | None) -> None:
        stream.exchange.when_lost = stream.lost
        if capacity and self._num_busy >= capacity:
            self._queue.append(stream)
            return
        if capacity:
            self._num_busy += 1
            stream.holds_slot = True
        stream.begin(stream.served.arrived_s)

    def free_slot(self, free_s: float) -> None:
        while self._queue:
            stream = self._queue.popleft()
            if stream.exchange.is_open:
                stream.holds_slot = True
                stream.begin(max(free_s, stream.served.arrived_s))
                return
        self._num_busy -= 1


_PATHS = ("/v1/completions", "/v1/chat/completions", "/health", "/v1/models")


def models_document(model: str) -> bytes:
    """What ``/v1/models`` says. The owner is how everybody knows the numbers for simulated ones."""
    entry = {"id": model, "object": "model", "owned_by": "simulated"}
    return json.dumps({"object": "list", "data": [entry]}).encode()


def refuse(exchange: Exchange, status: int, message: str) -> None:
    error = {"error": {"message": message, "code": status}}
    exchange.respond(status, json.dumps(error).encode())


@contextlib.contextmanager
def golden_server(behaviour: Behaviour | None = None) -> Iterator[GoldenServer]:
    """A simulated server on a port of its own, in a thread of this process; ended on leaving."""
    sock = bound_socket("127.0.0.1", 0)
    server = GoldenServer(behaviour=behaviour or Behaviour(), port=sock.getsockname()[1])
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with server.serving(sock):
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


if __name__ == "__main__":
    from workloads.simulated.command import main

    main()
