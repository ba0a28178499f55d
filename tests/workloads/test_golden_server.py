"""The simulated server, asked by a client that is not ours."""

import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from workloads.simulated.answers import Behaviour, Fault, read_ask, stream_plan, token_times
from workloads.simulated.golden_server import golden_server

pytestmark = pytest.mark.alone

PATIENCE_S = 30.0


def post(port: int, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def get_status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def chunks_of(raw: bytes) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in raw.decode().split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_completion_streams_one_token_per_chunk_with_running_usage() -> None:
    asked = {
        "prompt": [5, 6, 7],
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    with golden_server(Behaviour(ttft_s=0.0, itl_s=0.0)) as server:
        status, raw = post(server.port, "/v1/completions", asked)
    assert status == 200
    *tokens, last = chunks_of(raw)
    assert [c["choices"][0]["text"] for c in tokens] == [" tok"] * 4
    assert [c["usage"]["completion_tokens"] for c in tokens] == [1, 2, 3, 4]
    assert [c["choices"][0]["finish_reason"] for c in tokens] == [None, None, None, "length"]
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_chat_begins_with_a_role_and_thinks_first() -> None:
    asked = {"messages": [{"role": "user", "content": "a b c d"}], "max_tokens": 3, "stream": True}
    behaviour = Behaviour(ttft_s=0.0, itl_s=0.0, num_reasoning_tokens=2)
    with golden_server(behaviour) as server:
        _, raw = post(server.port, "/v1/chat/completions", asked)
    deltas = [c["choices"][0]["delta"] for c in chunks_of(raw)]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": " tok"},
        {"reasoning_content": " tok"},
        {"content": " tok"},
    ]
    assert b"usage" not in raw


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_without_stream_the_answer_comes_whole_when_its_last_token_would(path: str) -> None:
    asked = {"prompt": "a b", "messages": [{"content": "a b"}], "max_tokens": 3}
    with golden_server(Behaviour(ttft_s=0.1, itl_s=0.05)) as server:
        begun_s = time.monotonic()
        status, raw = post(server.port, path, asked)
        took_s = time.monotonic() - begun_s
    answer = json.loads(raw)
    assert status == 200
    assert took_s >= 0.2
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    choice = answer["choices"][0]
    text = choice["message"]["content"] if "chat" in path else choice["text"]
    assert text.split() == ["tok"] * 3


def test_several_tokens_per_chunk_keep_their_times() -> None:
    ask = read_ask({"prompt": "a", "max_tokens": 10}, Behaviour(), chat=False)
    behaviour = Behaviour(ttft_s=1.0, itl_s=0.1, tokens_per_chunk=4)
    assert token_times(ask, behaviour) == [
        (pytest.approx(1.0), 4),
        (pytest.approx(1.7), 4),
        (pytest.approx(1.9), 2),
    ]


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("num_tokens", [1, 2, 9])
def test_a_plan_ascends_and_only_a_sound_one_ends_well(fault: Fault, num_tokens: int) -> None:
    ask = read_ask({"prompt": "a", "max_tokens": num_tokens}, Behaviour(), chat=True)
    plan = stream_plan(ask, Behaviour(num_empty_chunks=2), fault)
    times = [at_s for at_s, _ in plan]
    assert times == sorted(times)
    num_tokens_sent = b"".join(data for _, data in plan).count(b" tok")
    is_whole = fault in (Fault.NONE, Fault.STALL)
    assert num_tokens_sent == (num_tokens if is_whole else num_tokens // 2)


def test_faults_have_the_shares_asked_for_and_the_seed_decides() -> None:
    behaviour = Behaviour(fail_share=0.2, truncate_share=0.3)
    faults = [behaviour.fault(n) for n in range(4_000)]
    assert faults.count(Fault.STATUS_500) / 4_000 == pytest.approx(0.2, abs=0.03)
    assert faults.count(Fault.TRUNCATED) / 4_000 == pytest.approx(0.3, abs=0.03)
    assert faults.count(Fault.NONE) / 4_000 == pytest.approx(0.5, abs=0.03)
    assert faults == [behaviour.fault(n) for n in range(4_000)]
    other = Behaviour(fail_share=0.2, truncate_share=0.3, seed=1)
    assert faults != [other.fault(n) for n in range(4_000)]


def test_answers_end_early_unless_told_not_to() -> None:
    with golden_server(Behaviour(ttft_s=0.0, itl_s=0.0, eos_after=2)) as server:
        for extra, expected in (({}, 2), ({"ignore_eos": True}, 5)):
            _, raw = post(server.port, "/v1/completions", {"prompt": "a", "max_tokens": 5} | extra)
            assert json.loads(raw)["usage"]["completion_tokens"] == expected


@pytest.mark.parametrize(
    ("behaviour", "extra", "complaint"),
    [
        (Behaviour(refuses_extensions=True), {"ignore_eos": True}, "ignore_eos"),
        (
            Behaviour(refuses_extensions=True),
            {"stream_options": {"continuous_usage_stats": True}},
            "continuous_usage_stats",
        ),
        (Behaviour(refuses_stream_options=True), {"stream_options": {"a": 1}}, "stream_options"),
        (Behaviour(), {"max_tokens": 0}, "max_tokens must be at least 1"),
    ],
)
def test_refusals_are_http_400(behaviour: Behaviour, extra: dict[str, Any], complaint: str) -> None:
    with golden_server(behaviour) as server:
        status, raw = post(server.port, "/v1/completions", {"prompt": "a", **extra})
        sound, _ = post(server.port, "/v1/completions", {"prompt": "a", "max_tokens": 1})
    assert status == 400
    assert complaint in json.loads(raw)["error"]["message"]
    assert sound == 200


def test_capacity_queues_in_order_of_arrival() -> None:
    asked = {"prompt": "a", "max_tokens": 1}
    with golden_server(Behaviour(ttft_s=0.1, capacity=1)) as server:
        threads = [
            threading.Thread(target=post, args=(server.port, "/v1/completions", asked))
            for _ in range(3)
        ]
        begun_s = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - begun_s
        served = server.served
    assert took_s >= 0.3
    assert [s.number for s in sorted(served, key=lambda s: s.started_s)] == [0, 1, 2]
    for before, after in itertools.pairwise(served):
        assert after.started_s >= before.ended_s - 0.001


def test_health_models_and_an_end_without_remains() -> None:
    with golden_server(Behaviour(model="some-model")) as server:
        assert get_status(server.port, "/health") == 200
        assert get_status(server.port, "/v1/models") == 200
        assert server.target.model == "some-model"
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        get_status(port, "/health")
    assert "simulated-golden-server" not in [t.name for t in threading.enumerate()]


# The same as a process of its own.


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "workloads.simulated.golden_server", "--port", "0", *arguments]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def lines_until(child: subprocess.Popen[str], wanted: str) -> list[str]:
    """Lines up to the one that holds ``wanted``; the test's own time limit is the deadline."""
    assert child.stdout is not None
    lines: list[str] = []
    for line in child.stdout:
        lines.append(line.rstrip())
        if wanted in line:
            return lines
    raise AssertionError(f"{wanted!r} not in {lines}")


def port_of(child: subprocess.Popen[str]) -> int:
    line = lines_until(child, "simulated golden server on http://")[-1]
    return int(line.rsplit(":", 1)[1])


@pytest.mark.timeout(60)
def test_the_process_refuses_while_it_loads_then_serves_and_ends_on_sigterm() -> None:
    with process("--startup-delay-s", "1.0", "--ttft-ms", "1", "--itl-ms", "1") as child:
        port = port_of(child)
        with pytest.raises(ConnectionRefusedError):
            get_status(port, "/health")
        loading = lines_until(child, "healthy")
        assert sum("simulated engine: loading part" in line for line in loading) == 4
        assert get_status(port, "/health") == 200
        status, raw = post(port, "/v1/completions", {"prompt": "a b", "max_tokens": 2})
        assert (status, json.loads(raw)["usage"]["completion_tokens"]) == (200, 2)
        child.terminate()
        assert child.wait(PATIENCE_S) == 0


@pytest.mark.timeout(60)
def test_the_process_dies_while_loading_with_its_last_words() -> None:
    with process("--startup-delay-s", "60", "--die-after-s", "0.2") as child:
        lines_until(child, "RuntimeError: simulated engine failure")
        assert child.wait(PATIENCE_S) == 1


@pytest.mark.timeout(60)
def test_the_process_hangs_before_it_is_healthy() -> None:
    with process("--hang") as child:
        port = port_of(child)
        lines_until(child, "simulated engine: hanging")
        with pytest.raises(ConnectionRefusedError):
            get_status(port, "/health")
        assert child.poll() is None
        child.terminate()
        assert child.wait(PATIENCE_S) == 0


def test_every_behaviour_can_be_asked_for_on_the_command_line() -> None:
    from dataclasses import fields

    from workloads.simulated.command import parser

    options = vars(parser().parse_args([]))
    in_ms = {"ttft_s": "ttft_ms", "itl_s": "itl_ms"}
    for f in fields(Behaviour):
        value = options[in_ms.get(f.name, f.name)]
        default = getattr(Behaviour(), f.name)
        assert value == (default * 1e3 if f.name in in_ms else default)
