"""The simulated server's exactness: its timer, its log, its answers in one write, its process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from array import array
from typing import Any

import numpy as np
import psutil
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from workloads.errors import SimulatedServerDied
from workloads.simulated.answers import (
    Behaviour,
    Fault,
    cut_ids,
    parse_body,
    read_ask,
    stream_entries,
)
from workloads.simulated.command import behaviour_of, parser
from workloads.simulated.golden_server import golden_server
from workloads.simulated.pacer import Pacer
from workloads.simulated.process import golden_process, noop_server, options_of
from workloads.simulated.served import Served, document, lateness
from workloads.simulated.wire import wire_plan

pytestmark = pytest.mark.alone

PATIENCE_S = 30.0


def post(port: int, body: dict[str, Any]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()


# The timer.


def paced(plan: list[tuple[float, int]]) -> list[tuple[int, float, float]]:
    """(name, due, done) of each (delay, name), in the order they were done."""
    done: list[tuple[int, float, float]] = []

    async def run() -> None:
        pacer = Pacer(asyncio.get_running_loop())
        finished = asyncio.Event()
        begun_s = time.monotonic()
        for delay_s, name in plan:
            due_s = begun_s + delay_s

            def tick(now_s: float, name: int = name, due_s: float = due_s) -> float:
                done.append((name, due_s, now_s))
                if len(done) == len(plan):
                    finished.set()
                return math.inf

            pacer.at(due_s, tick)
        await asyncio.wait_for(finished.wait(), PATIENCE_S)
        pacer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return done


def test_the_pacer_is_never_early_and_keeps_the_order() -> None:
    delays = [0.03, 0.0101, 0.0102, 0.02, -1.0, 0.0101]
    done = paced([(delay_s, i) for i, delay_s in enumerate(delays)])
    assert [name for name, _, _ in done] == [4, 1, 5, 2, 3, 0]
    assert all(done_s >= due_s for _, due_s, done_s in done)


def test_the_pacer_is_finer_than_the_loop_s_own_timers() -> None:
    late_s = [done_s - due_s for _, due_s, done_s in paced([(i * 0.00137, i) for i in range(200)])]
    # Timers of whole milliseconds are late by anything up to one: a quarter by less than 0.25 ms.
    assert np.quantile(late_s, 0.25) < 0.0002


def test_a_tick_comes_again_when_it_says() -> None:
    times: list[float] = []

    async def run() -> None:
        pacer = Pacer(asyncio.get_running_loop())
        finished = asyncio.Event()

        def tick(now_s: float) -> float:
            times.append(now_s)
            if len(times) < 4:
                return now_s + 0.01
            finished.set()
            return math.inf

        pacer.at(0.0, tick)
        await asyncio.wait_for(finished.wait(), PATIENCE_S)
        pacer.close()

    asyncio.run(run())
    assert np.all(np.diff(times) >= 0.01)


# Reading requests.


@given(
    ids=st.lists(st.integers(0, 200_000), max_size=40),
    text=st.text(max_size=30),
    spaces=st.booleans(),
    nested=st.booleans(),
)
def test_cutting_the_ids_out_changes_nothing(
    ids: list[int], text: str, spaces: bool, nested: bool
) -> None:
    body: dict[str, Any] = {"model": text, "max_tokens": 3, "prompt": ids}
    if nested:
        body = {"metadata": {"prompt": [1, 2]}, "note": '"prompt":[4,5]', **body}
    raw = json.dumps(body, separators=None if spaces else (",", ":")).encode()
    read = parse_body(raw, *cut_ids(raw))
    plain = Behaviour()
    assert read_ask(read, plain, chat=False) == read_ask(body, plain, chat=False)


def test_a_prompt_of_ids_is_counted_without_being_read() -> None:
    raw = b'{"prompt":[' + b",".join(b"%d" % i for i in range(50_000)) + b'],"max_tokens":2}'
    rest, num_ids = cut_ids(raw)
    assert (num_ids, len(rest)) == (50_000, 30)


@pytest.mark.parametrize("raw", [b"", b"[1]", b'{"prompt":[1,2', b'{"prompt":[1,"a"]} x'])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        parse_body(raw, *cut_ids(raw))


# Answers.


def ask(tokens: int, **more: Any) -> Any:
    body = {"prompt": [1], "max_tokens": tokens, "stream": True, **more}
    return read_ask(body, Behaviour(), chat=False)


def test_an_answer_without_waits_is_one_write() -> None:
    plan = wire_plan(ask(50), Behaviour(ttft_s=0.0, itl_s=0.0), Fault.NONE)
    assert plan.at_s == (0.0,)
    assert plan.data[0].startswith(b"HTTP/1.1 200 OK")
    assert plan.data[0].endswith(b"\r\n0\r\n\r\n")
    assert plan.token_chunks == ((1,) * 50,)


def test_what_is_due_together_is_written_together() -> None:
    plan = wire_plan(ask(3), Behaviour(ttft_s=0.5, itl_s=0.25), Fault.NONE)
    assert plan.at_s == (0.0, 0.5, 0.75, 1.0)
    assert plan.token_chunks == ((), (1,), (1,), (1,))
    assert b"[DONE]" in plan.data[-1]


def test_a_stall_is_silence_in_the_middle_and_ends_well() -> None:
    behaviour = Behaviour(ttft_s=0.1, itl_s=0.1, stall_s=2.0)
    entries = stream_entries(ask(6), behaviour, Fault.STALL)
    tokens = [entry.at_s for entry in entries if entry.num_tokens]
    assert tokens == pytest.approx([0.1, 0.2, 0.3, 2.4, 2.5, 2.6])
    assert entries[-1].data == b"data: [DONE]\n\n"


# The log.


def test_every_write_is_on_record_and_none_is_early() -> None:
    with golden_server(Behaviour(ttft_s=0.02, itl_s=0.005, tokens_per_chunk=2)) as server:
        status, raw = post(server.port, {"prompt": "a b", "max_tokens": 7, "stream": True})
        told = json.loads(document(server.served))
    assert status == 200
    assert raw.count(b" tok") == 7
    (token_s,), (planned_s,), (sizes,) = told["token_s"], told["planned_s"], told["chunk_tokens"]
    assert sizes == [2, 2, 2, 1]
    assert told["num_prompt_tokens"] == [2]
    base_s = told["arrived_s"][0] + 0.02
    assert planned_s == pytest.approx([base_s, base_s + 0.015, base_s + 0.025, base_s + 0.03])
    assert np.all(np.array(token_s) >= planned_s)
    assert told["first_token_s"] == [token_s[0]]
    assert told["ended_s"] == [token_s[-1]]


def test_lateness_is_that_of_the_writes() -> None:
    plan = wire_plan(ask(2), Behaviour(ttft_s=1.0, itl_s=1.0), Fault.NONE)
    served = Served(number=0, arrived_s=10.0, num_output_tokens=2, fault=Fault.NONE, plan=plan)
    served.started_s = 10.0
    served.write_s = array("d", [10.0, 11.25, 12.5])
    assert served.lateness_s() == [0.0, 0.25, 0.5]
    assert lateness([served]) == {
        "num_writes": 3,
        "p50_s": 0.25,
        "p90_s": 0.5,
        "p99_s": 0.5,
        "max_s": 0.5,
    }
    assert lateness([])["p50_s"] is None


def test_a_queue_adds_no_lateness_of_its_own() -> None:
    """Ten services behind one another begin exactly one service apart."""
    with golden_server(Behaviour(ttft_s=0.02, itl_s=0.0, capacity=1)) as server:
        body = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
        request = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b"
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
        for client in clients:
            client.sendall(request % (len(body), body))
        for client in clients:
            client.settimeout(PATIENCE_S)
            assert client.recv(65536)
            client.close()
        started_s = sorted(s.started_s for s in server.served)
    np.testing.assert_allclose(np.diff(started_s), 0.02, atol=1e-9)


def test_a_client_that_goes_away_frees_its_slot() -> None:
    with golden_server(Behaviour(ttft_s=30.0, itl_s=0.0, capacity=1)) as server:
        body = b'{"prompt":[1],"max_tokens":1}'
        with socket.create_connection(("127.0.0.1", server.port)) as gone:
            head = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            gone.sendall(head + body)
            until_s = time.monotonic() + PATIENCE_S
            while not server.served and time.monotonic() < until_s:
                time.sleep(0.01)
        server.behaviour = Behaviour(ttft_s=0.001, capacity=1)
        assert post(server.port, {"prompt": "a", "max_tokens": 1})[0] == 200
        assert not math.isnan(server.served[0].ended_s)
        assert math.isnan(server.served[0].first_token_s)


def test_requests_that_come_together_are_answered_in_turn() -> None:
    with golden_server(Behaviour(ttft_s=0.0, itl_s=0.0)) as server:
        body = b'{"prompt":[1],"max_tokens":1}'
        head = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.settimeout(PATIENCE_S)
            client.sendall((head + body) * 50)
            got = b""
            while got.count(b"HTTP/1.1 200 OK") < 50 or not got.endswith(b"}"):
                got += client.recv(65536)
    assert got.count(b'"completion_tokens": 1') == 50


@pytest.mark.parametrize("path", ["/nothing", "/v1/completions"])
def test_what_is_not_served_is_said_so(path: str) -> None:
    with golden_server() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            assert connection.getresponse().status == 404


def test_what_is_no_http_is_refused_and_closed() -> None:
    with (
        golden_server() as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.settimeout(PATIENCE_S)
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        got = b""
        while part := client.recv(4096):
            got += part
    assert got.startswith(b"HTTP/1.1 400")


# The process.


@pytest.mark.timeout(60)
def test_a_process_tells_what_it_did_to_another() -> None:
    behaviour = Behaviour(ttft_s=0.01, itl_s=0.002, fail_share=0.5, seed=3, model="other")
    with golden_process(behaviour) as server:
        assert server.target.model == "other"
        statuses = [post(server.port, {"prompt": "a", "max_tokens": 2})[0] for _ in range(12)]
        told = server.served()
        assert server.lateness()["num_writes"] == statuses.count(200)
    faults = [behaviour.fault(n) for n in range(12)]
    assert told["fault"] == faults
    assert statuses == [500 if fault else 200 for fault in faults]
    assert server.child.returncode == 0


@pytest.mark.timeout(60)
def test_a_no_op_server_answers_in_one_piece_and_keeps_nothing() -> None:
    with noop_server() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            body = b'{"prompt":[1,2],"max_tokens":50,"stream":true}'
            head = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            client.settimeout(PATIENCE_S)
            for _ in range(3):
                client.sendall(head + body)
                assert client.recv(1 << 20).endswith(b"\r\n0\r\n\r\n")
        assert server.served()["num_requests"] == 0


@pytest.mark.timeout(60)
@pytest.mark.chaos
def test_it_ends_with_its_parent() -> None:
    script = (
        "from workloads.simulated.process import golden_process\n"
        "with golden_process() as server:\n"
        "    print(server.child.pid, flush=True)\n"
        "    server.child.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(PATIENCE_S)
    parent.stdout.close()
    child.wait(PATIENCE_S)  # raises when it does not end
    assert not child.is_running()


@pytest.mark.timeout(60)
def test_a_process_that_dies_first_is_an_error_with_its_last_words() -> None:
    with (
        pytest.raises(SimulatedServerDied, match=r"exit code 1 before it was healthy.*failure"),
        golden_process(Behaviour(), "--startup-delay-s", "30", "--die-after-s", "0.1"),
    ):
        pytest.fail("it must not get here")


@given(
    behaviour=st.builds(
        Behaviour,
        ttft_s=st.sampled_from([0.0, 0.05, 0.25]),
        capacity=st.sampled_from([None, 3]),
        refuses_extensions=st.booleans(),
        reports_continuous_usage=st.booleans(),
        stall_share=st.sampled_from([0.0, 0.5]),
        model=st.sampled_from(["simulated", "a/b"]),
    )
)
def test_the_command_line_says_what_the_behaviour_says(behaviour: Behaviour) -> None:
    assert behaviour_of(parser().parse_args(options_of(behaviour))) == behaviour
