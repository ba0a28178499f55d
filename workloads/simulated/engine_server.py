"""The *simulated* engine over HTTP, in real time: vLLM's API and metrics in front of the model.

A step of the model takes as long as it says; at its end every sequence gets its token. Nothing is
computed, so the times are those of the model and stand for no hardware that was measured.

    python -m workloads.simulated.engine_server --model llama-3.1-8b --accelerator H100 --port 0
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.clock import SystemClock
from workloads.simulated.answers import (
    DONE,
    ROLE,
    Ask,
    Behaviour,
    event,
    read_ask,
    refusal,
    text_choice,
    whole_answer,
)
from workloads.simulated.engine import Engine
from workloads.simulated.engine_metrics import CONTENT_TYPE, EngineMetrics
from workloads.simulated.engine_request import EngineRequest
from workloads.simulated.golden_server import models_document, refuse
from workloads.simulated.lifecycle import add_lifecycle_options, run_server
from workloads.simulated.pacer import Pacer
from workloads.simulated.sizing import Deployed, engine_config, max_model_len
from workloads.simulated.transport import (
    END_OF_CHUNKS,
    EVENT_STREAM_HEAD,
    Exchange,
    chunk,
    listening,
)

_LOG = logging.getLogger("windtunnel.simulated")
_now_s = SystemClock().monotonic_s
_PLAIN = Behaviour()


@dataclass(slots=True, kw_only=True)
class _Answer:
    """One request on its way through the engine."""

    exchange: Exchange
    ask: Ask
    request: EngineRequest
    arrived_s: float
    num_sent: int = 0
    last_token_s: float = math.nan

    def send_token(self) -> None:
        self.num_sent += 1
        ask, n = self.ask, self.num_sent
        if not ask.stream:
            if n == ask.num_output_tokens:
                self.exchange.respond(200, json.dumps(whole_answer(ask)).encode())
            return
        running = n if ask.continuous_usage else None
        last = n == ask.num_output_tokens
        data = chunk(event(ask, text_choice(ask.chat, 1, last=last), running))
        if not last:
            self.exchange.send(data)
            return
        if ask.include_usage:
            data += chunk(event(ask, "", n))
        self.exchange.finish(data + chunk(DONE) + END_OF_CHUNKS)


class EngineServer:
    """The engine model, stepped in real time."""

    def __init__(self, deployed: Deployed, served_name: str) -> None:
        """Raises LaunchRefused as ``engine_config`` does."""
        self.config = engine_config(deployed)
        self.model = served_name
        self.engine = Engine(self.config)
        self.metrics = EngineMetrics(self.engine, served_name)
        self._max_model_len = max_model_len(deployed)
        self._answers: dict[int, _Answer] = {}
        self._number = 0
        self._is_stepping = False
        self._pacer: Pacer | None = None

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
        if method == "POST" and path in ("/v1/completions", "/v1/chat/completions"):
            self._generate(exchange, chat=path == "/v1/chat/completions")
        elif method != "GET":
            refuse(exchange, 404, f"{method} {path} is not served here")
        elif path == "/health":
            exchange.respond(200, b"")
        elif path == "/v1/models":
            exchange.respond(200, models_document(self.model))
        elif path == "/metrics":
            exchange.respond(200, self.metrics.text(), CONTENT_TYPE)
        else:
            refuse(exchange, 404, f"there is no {path}")

    def _generate(self, exchange: Exchange, *, chat: bool) -> None:
        arrived_s = _now_s()
        try:
            body = json.loads(exchange.body)
            why = refusal(body, _PLAIN) if isinstance(body, dict) else "the body is no object"
        except ValueError:
            why = "the body is not JSON"
        if why:
            return refuse(exchange, 400, why)
        ask = read_ask(body, _PLAIN, chat=chat)
        total = ask.num_prompt_tokens + ask.num_output_tokens
        if total > self._max_model_len or ask.num_prompt_tokens < 1:
            return refuse(
                exchange,
                400,
                f"{ask.num_prompt_tokens} prompt and {ask.num_output_tokens} output tokens are "
                f"asked; this model takes 1 or more, and {self._max_model_len} in all",
            )
        self._number += 1
        request = EngineRequest(
            self._number,
            ask.num_prompt_tokens,
            ask.num_output_tokens,
            arrived_s,
            block_hashes(body, self.config.block_size, chat=chat),
        )
        try:
            self.engine.submit(request)
        except ValueError as error:
            return refuse(exchange, 400, str(error))
        answer = _Answer(exchange=exchange, ask=ask, request=request, arrived_s=arrived_s)
        self._answers[request.number] = answer
        exchange.when_lost = lambda: self._forget(answer)
        if ask.stream:
            exchange.send(EVENT_STREAM_HEAD)
            if chat:
                exchange.send(chunk(event(ask, ROLE, 0 if ask.continuous_usage else None)))
        if not self._is_stepping:
            self.engine.clock_s = arrived_s
            self._is_stepping = True
            self._begin_step()
        return None

    def _forget(self, answer: _Answer) -> None:
        del self._answers[answer.request.number]
        self.engine.abort(answer.request)

    def _begin_step(self) -> None:
        """What the step will have done is known at once; it is told at its end."""
        assert self._pacer is not None
        if self.engine.advance(max_steps=1):
            self._pacer.at(self.engine.clock_s, self._end_step)
        else:
            self._is_stepping = False

    def _end_step(self, now_s: float) -> float:
        engine = self.engine
        finished, engine.finished = engine.finished, []
        # Whoever decodes now got a token in this step, by decoding or by the end of its prompt.
        for request in (*engine.decoding(), *finished):
            answer = self._answers.get(request.number)
            if answer is None:
                continue
            if answer.num_sent:
                self.metrics.itl_s.observe(now_s - answer.last_token_s)
            else:
                self.metrics.ttft_s.observe(now_s - answer.arrived_s)
            answer.last_token_s = now_s
            if answer.num_sent + 1 == answer.ask.num_output_tokens:
                self.metrics.e2e_s.observe(now_s - answer.arrived_s)
                self.metrics.num_finished += 1
                del self._answers[request.number]
            answer.send_token()
        self._begin_step()
        return math.inf


def block_hashes(body: Mapping[str, Any], block_size: int, *, chat: bool) -> tuple[int, ...]:
    """One hash for each full block of the prompt; equal ones have equal tokens up to their end."""
    if chat:
        texts = (str(m.get("content", "")) for m in body.get("messages", ()))
        tokens: Sequence[Any] = [word for text in texts for word in text.split()]
    else:
        prompt = body.get("prompt", "")
        tokens = prompt.split() if isinstance(prompt, str) else prompt
    hashes, before = [], 0
    for end in range(block_size, len(tokens) + 1, block_size):
        before = hash((before, *tokens[end - block_size : end]))
        hashes.append(before)
    return tuple(hashes)


def parser() -> argparse.ArgumentParser:
    """One option per field of ``Deployed``, under vLLM's names where it has one."""
    made = argparse.ArgumentParser(
        prog="python -m workloads.simulated.engine_server",
        description="A simulated vLLM-like engine on a simulated accelerator, in real time.",
    )
    add_lifecycle_options(made)
    made.add_argument("--served-model-name", default="", help="default: the model's own")
    kinds = {"int": int, "int | None": int, "float": float, "str": str}
    for f in dataclasses.fields(Deployed):
        name = "--" + f.name.replace("_", "-")
        if f.type == "bool":
            made.add_argument(name, action=argparse.BooleanOptionalAction, default=f.default)
        else:
            made.add_argument(name, type=kinds[str(f.type)], default=f.default)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    options = parser().parse_args(argv)
    names = [f.name for f in dataclasses.fields(Deployed)]
    deployed = Deployed(**{name: getattr(options, name) for name in names})
    server = EngineServer(deployed, options.served_model_name or deployed.model)

    @contextlib.asynccontextmanager
    async def serving(_port: int, sock: socket.socket) -> AsyncIterator[None]:
        _LOG.info(
            "simulated engine: %s on %d x %s, %d blocks of %d tokens",
            *(deployed.model, deployed.tensor_parallel_size, deployed.accelerator),
            *(server.config.num_blocks, server.config.block_size),
        )
        async with server.serving(sock):
            yield

    run_server("simulated engine", options, serving)


if __name__ == "__main__":
    main()
