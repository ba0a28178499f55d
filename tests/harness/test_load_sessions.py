"""Conversations, a mix of models, and text of counted tokens, over a real connection.

The server here keeps what it was asked; an independent one of a few lines, because what is tested
is what the client puts into its requests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from harness.load.driver import HttpLoadDriver
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import ClosedLoop, ConstantArrivals, FixedLength, Sessions, Traffic

pytestmark = pytest.mark.alone


def quiet(num_done: int, num_total: int, elapsed_s: float) -> None:
    pass


class Listener:
    """What was asked, in order of arrival; ``fails`` says which bodies are answered with 500."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.fails = lambda body: False
        self.port = 0

    @property
    def target(self) -> ServerTarget:
        return ServerTarget(base_url=f"http://127.0.0.1:{self.port}", model="base")

    @property
    def measured(self) -> list[dict[str, Any]]:
        return self.asked[1:]  # after the probe


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._say(404, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                listener.asked.append(body)
                number = len(listener.asked)
            if listener.fails(body):
                self._say(500, b'{"error": {"message": "no"}}')
                return
            is_chat = "messages" in body
            words = [f"answer{number}", " over"]
            chunks = []
            for word in words:
                choice: dict[str, Any] = {"index": 0, "finish_reason": None}
                choice |= {"delta": {"content": word}} if is_chat else {"text": word}
                chunks.append({"choices": [choice]})
            usage = {"prompt_tokens": 3, "completion_tokens": 2}
            chunks.append({"choices": [], "usage": usage})
            said = b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks)
            self._say(200, said + b"data: [DONE]\n\n", "text/event-stream")

        def _say(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        request_queue_size = 256  # by default 5 connections wait to be accepted

    server = Server(("127.0.0.1", 0), Handler)
    listener.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def drive(listener: Listener, traffic: Traffic) -> RequestSamples:
    return HttpLoadDriver().drive(listener.target, traffic, quiet)


def conversations(api: Any, **more: Any) -> Traffic:
    return Traffic(
        arrivals=ConstantArrivals(rate_rps=40.0),
        sessions=Sessions(turns=3, think_time_s=0.05),
        prompt_tokens=FixedLength(tokens=4),
        output_tokens=FixedLength(tokens=2),
        num_requests=6,
        num_warmup_requests=0,
        api=api,
        **more,
    )


def test_a_chat_goes_on_with_what_the_server_really_said() -> None:
    traffic = conversations("chat")
    schedule = build_schedule(traffic)
    with listening() as listener:
        samples = drive(listener, traffic)
    assert set(samples.error) == {""}
    assert samples.num_requests == schedule.num_requests
    answers = {}  # the last user's words of a request → what was answered
    for number, body in enumerate(listener.asked, start=1):
        answers[body["messages"][-1]["content"]] = f"answer{number} over"
    by_length = sorted(listener.measured, key=lambda body: len(body["messages"]))
    assert {len(body["messages"]) for body in by_length} == {1, 3, 5}
    for body in by_length:
        messages = body["messages"]
        assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"][
            : len(messages)
        ]
        for asked, answered in zip(messages[:-1:2], messages[1::2], strict=True):
            assert answered["content"] == answers[asked["content"]]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_turn_is_meant_for_the_answer_before_it_and_the_time_to_think(api: Any) -> None:
    traffic = conversations(api, **({"prompt_form": "text"} if api == "completions" else {}))
    schedule = build_schedule(traffic)
    with listening() as listener:
        samples = drive(listener, traffic)
    assert set(samples.error) == {""}
    later = schedule.after >= 0
    assert later.sum() > 0
    np.testing.assert_allclose(
        samples.intended_s[later], samples.done_s[schedule.after[later]] + 0.05, atol=1e-9
    )
    np.testing.assert_allclose(samples.intended_s[~later], schedule.intended_s[~later], atol=1e-9)
    assert np.all(samples.dispatched_s >= samples.intended_s - 1e-9)
    if api == "completions":
        longest = max((body["prompt"] for body in listener.measured), key=len)
        assert longest.count("answer") == 2


def test_a_turn_that_failed_takes_the_rest_of_its_session_with_it() -> None:
    traffic = conversations("chat")
    schedule = build_schedule(traffic)
    with listening() as listener:
        listener.fails = lambda body: len(body["messages"]) == 3  # every second turn
        samples = drive(listener, traffic)
    turn = schedule.turn
    kinds = [e.split(":")[0] for e in samples.error]
    expected = {0: "", 1: "http_500", 2: "not_sent"}
    assert kinds == [expected[int(t)] for t in turn]
    assert np.isnan(samples.dispatched_s[turn == 2]).all()


def test_users_hold_one_session_after_another() -> None:
    """Never more conversations at a time than users; a later turn waits for its answer and the
    session's time to think, the next session for the last answer and the user's."""
    traffic = replace(
        conversations("chat"),
        arrivals=ClosedLoop(num_users=2, think_time_s=0.08),
        num_requests=17,  # five sessions of three turns, and one cut short
    )
    schedule = build_schedule(traffic)
    with listening() as listener:
        samples = drive(listener, traffic)
    assert samples.error.tolist() == [""] * 17
    assert samples.index.tolist() == list(range(17))
    later = schedule.after >= 0
    np.testing.assert_allclose(
        samples.intended_s[later], samples.done_s[schedule.after[later]] + 0.05, atol=1e-9
    )
    began, ended = samples.intended_s[~later], samples.done_s[[2, 5, 8, 11, 14, 16]]
    assert began[:2] == pytest.approx([0.0, 0.00025], abs=1e-6)
    for start_s in began[2:]:
        assert np.min(np.abs(ended + 0.08 - start_s)) < 1e-9, "not after any session's end"
        assert np.sum((began < start_s) & (ended >= start_s)) < 2
    assert {len(body["messages"]) for body in listener.measured} == {1, 3, 5}


def test_a_user_goes_on_after_a_session_that_failed() -> None:
    traffic = replace(conversations("chat"), arrivals=ClosedLoop(num_users=1), num_requests=6)
    with listening() as listener:
        listener.fails = lambda body: len(body["messages"]) == 3
        samples = drive(listener, traffic)
    kinds = [e.split(":")[0] for e in samples.error]
    assert kinds == ["", "http_500", "not_sent"] * 2
    assert samples.intended_s[3] >= samples.done_s[1] + 0.5  # as any user whose request failed


def test_the_end_of_a_closed_loop_lets_sessions_end() -> None:
    traffic = replace(
        conversations("completions"),
        arrivals=ClosedLoop(num_users=2),
        num_requests=3000,
        duration_s=0.3,
    )
    with listening() as listener:
        samples = drive(listener, traffic)
    assert set(samples.error) == {""}
    assert samples.num_requests % 3 == 0 and samples.num_requests < 300
    schedule = build_schedule(traffic)
    first = schedule.turn[samples.index] == 0
    assert np.all(samples.intended_s[first] < 0.3) and samples.intended_s.max() > 0.3


def test_a_conversation_in_ids_waits_for_the_answer_and_sends_made_up_ids() -> None:
    traffic = conversations("completions")
    schedule = build_schedule(traffic)
    with listening() as listener:
        samples = drive(listener, traffic)
    assert set(samples.error) == {""}
    wanted = sorted(schedule.conversation_ids(row).tolist() for row in range(6))
    assert sorted(body["prompt"] for body in listener.measured) == wanted
    assert samples.own_prompt_tokens.tolist() == [4, 10, 16] * 2
    later = schedule.after >= 0
    np.testing.assert_allclose(
        samples.intended_s[later], samples.done_s[schedule.after[later]] + 0.05, atol=1e-9
    )


def test_each_request_names_its_model() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=200.0),
        output_tokens=FixedLength(tokens=2),
        num_requests=60,
        num_warmup_requests=0,
        models={"adapter-a": 3.0, "adapter-b": 1.0},
    )
    with listening() as listener:
        samples = drive(listener, traffic)
    assert set(samples.error) == {""}
    asked = [body["model"] for body in listener.measured]
    assert sorted(asked) == sorted(samples.model.tolist())
    assert listener.asked[0]["model"] == "base"  # the probe is no part of the traffic
    assert 30 <= asked.count("adapter-a") < 60
