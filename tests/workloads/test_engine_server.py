"""The engine model over HTTP, and as a workload of a spec."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from workloads.base import Device, Running, ServerLaunch
from workloads.errors import LaunchRefused
from workloads.params import SimulatedWorkload
from workloads.registry import Role, role_of, workload_for
from workloads.simulated.engine_metrics import Histogram
from workloads.simulated.engine_server import EngineServer, block_hashes, parser
from workloads.simulated.serving import deployed_on, read_resolved
from workloads.simulated.sizing import Deployed
from workloads.simulated.transport import bound_socket

pytestmark = pytest.mark.alone

PATIENCE_S = 30.0
CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
VIRTUAL = Device(kind="cpu", accelerator="TPU-V6E", num_chips=4)
TINY = Deployed(model="tiny-llama", accelerator="L4", step_overhead_s=0.005, max_num_seqs=4)


@contextlib.contextmanager
def engine_server(deployed: Deployed) -> Iterator[tuple[EngineServer, int]]:
    server = EngineServer(deployed, "served")
    sock = bound_socket("127.0.0.1", 0)
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with server.serving(sock):
            ready.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    loop, stop = ready.result(PATIENCE_S)
    try:
        yield server, sock.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        sock.close()


def ask(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, body and json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()


def metrics(port: int) -> dict[str, float]:
    """Samples without buckets, by name, as a stranger's parser reads them."""
    families = text_string_to_metric_families(ask(port, "/metrics")[1].decode())
    return {s.name: s.value for f in families for s in f.samples if not s.name.endswith("_bucket")}


def test_it_streams_as_vllm_does_and_counts_as_vllm_does() -> None:
    asked = {
        "messages": [{"role": "user", "content": "one two three"}],
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with engine_server(TINY) as (server, port):
        begun_s = time.monotonic()
        status, raw = ask(port, "/v1/chat/completions", asked)
        took_s = time.monotonic() - begun_s
        seen = metrics(port)
        owner = json.loads(ask(port, "/v1/models")[1])["data"][0]
    assert status == 200
    *chunks, last = (line.removeprefix("data: ") for line in raw.decode().strip().split("\n\n"))
    assert last == "[DONE]"
    read = [json.loads(c) for c in chunks]
    deltas = [c["choices"][0]["delta"] for c in read if c["choices"]]
    assert deltas == [{"role": "assistant", "content": ""}, *[{"content": " tok"}] * 4]
    assert read[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert took_s >= 4 * 0.005
    assert (owner["id"], owner["owned_by"]) == ("served", "simulated")
    assert seen["vllm:prompt_tokens_total"] == 3
    assert seen["vllm:generation_tokens_total"] == 4
    assert seen["vllm:request_success_total"] == 1
    assert seen["vllm:time_to_first_token_seconds_count"] == 1
    assert seen["vllm:inter_token_latency_seconds_count"] == 3
    # A step that is told late makes the next one no later, so only the whole has a lower bound.
    assert 4 * 0.005 <= seen["vllm:e2e_request_latency_seconds_sum"] <= took_s
    gaps_s = seen["vllm:inter_token_latency_seconds_sum"]
    assert gaps_s <= seen["vllm:e2e_request_latency_seconds_sum"]
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert seen[f"vllm:{name}"] == 0
    assert server.engine.is_idle


def test_a_repeated_prompt_is_found_in_the_cache() -> None:
    asked = {"prompt": list(range(40)), "max_tokens": 1}
    with engine_server(TINY) as (_, port):
        for _ in range(2):
            status, raw = ask(port, "/v1/completions", asked)
            assert status == 200
        seen = metrics(port)
    assert json.loads(raw)["usage"]["completion_tokens"] == 1
    assert seen["vllm:prefix_cache_queries_total"] == 80
    assert seen["vllm:prefix_cache_hits_total"] == 32


def test_more_than_its_seats_wait_and_all_are_answered() -> None:
    with engine_server(TINY) as (server, port):
        threads = [
            threading.Thread(
                target=ask, args=(port, "/v1/completions", {"prompt": [i], "max_tokens": 40})
            )
            for i in range(7)
        ]
        for thread in threads:
            thread.start()
        until_s, most_running, most_waiting = time.monotonic() + PATIENCE_S, 0.0, 0.0
        while server.metrics.num_finished < 7 and time.monotonic() < until_s:
            seen = metrics(port)
            most_running = max(most_running, seen["vllm:num_requests_running"])
            most_waiting = max(most_waiting, seen["vllm:num_requests_waiting"])
        for thread in threads:
            thread.join()
    assert server.metrics.num_finished == 7
    assert most_running == 4
    assert most_waiting >= 1


def test_a_client_that_goes_away_leaves_the_engine() -> None:
    with engine_server(TINY) as (server, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        asked = {"prompt": [1], "max_tokens": 2000, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(asked))
        response = connection.getresponse()
        response.read(10)
        response.close()
        connection.close()
        until_s = time.monotonic() + PATIENCE_S
        while not server.engine.is_idle and time.monotonic() < until_s:
            time.sleep(0.01)
        assert server.engine.is_idle
        assert server.engine.pool.num_held == 0
        assert ask(port, "/v1/completions", {"prompt": [1], "max_tokens": 1})[0] == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": [1] * 3000, "max_tokens": 1}, "2048 in all"),
        ({"prompt": [], "max_tokens": 1}, "takes 1 or more"),
        ({"prompt": [1] * 100, "max_tokens": 100}, "do not fit into 4 blocks"),
        ({"prompt": [1], "max_tokens": 0}, "max_tokens must be at least 1"),
    ],
)
def test_what_it_cannot_take_is_http_400(body: dict[str, Any], words: str) -> None:
    deployed = Deployed(model="tiny-llama", accelerator="L4", num_gpu_blocks_override=4)
    with engine_server(deployed) as (_, port):
        status, raw = ask(port, "/v1/completions", body)
    assert status == 400
    assert words in json.loads(raw)["error"]["message"]


def test_blocks_have_equal_hashes_as_far_as_their_tokens_are_equal() -> None:
    def hashes(tokens: list[int]) -> tuple[int, ...]:
        return block_hashes({"prompt": tokens}, 4, chat=False)

    one, other = hashes([1, 2, 3, 4, 5, 6, 7, 8, 9]), hashes([1, 2, 3, 4, 5, 6, 7, 0])
    assert (len(one), len(other)) == (2, 2)
    assert one[0] == other[0]
    assert one[1] != other[1]
    # The same tokens after another beginning are another block.
    assert hashes([9, 2, 3, 4, 5, 6, 7, 8])[1] != one[1]
    said = {"messages": [{"content": "a b"}, {"content": "c d"}]}
    assert len(block_hashes(said, 4, chat=True)) == 1


def test_buckets_count_what_is_up_to_their_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        histogram.observe(value)
    assert list(histogram.samples("x", 'a="b"'))[:3] == [
        'x_bucket{a="b",le="0.1"} 2',
        'x_bucket{a="b",le="1.0"} 3',
        'x_bucket{a="b",le="+Inf"} 4',
    ]


# The workload.


def launch(device: Device = CPU, **fields: Any) -> ServerLaunch:
    params = SimulatedWorkload(**{"accelerator": "H100"} | fields)
    launched = workload_for(params).launch(device, "")
    assert isinstance(launched, ServerLaunch)
    return launched


def test_a_launch_is_a_command_line_that_the_server_reads() -> None:
    args = {"max-num-seqs": 8, "enable-prefix-caching": False, "max_num_batched_tokens": 512}
    launched = launch(engine_args=args, memory_efficiency=0.7, startup_s=1.5)
    words = [w.format(host="127.0.0.1", port=1) for w in launched.argv[3:]]
    options = parser().parse_args(words)
    assert (options.model, options.accelerator) == ("llama-3.1-8b", "H100")
    assert (options.max_num_seqs, options.max_num_batched_tokens) == (8, 512)
    assert options.enable_prefix_caching is False
    assert (options.memory_efficiency, options.startup_delay_s) == (0.7, 1.5)
    assert launched.vocab_size == 128256
    assert role_of(SimulatedWorkload()) is Role.SERVER


def test_the_device_names_the_accelerator_where_the_spec_does_not() -> None:
    assert deployed_on(SimulatedWorkload(), VIRTUAL).accelerator == "TPU-V6E"
    with pytest.raises(LaunchRefused, match="name the accelerator to simulate"):
        launch(accelerator="")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"engine_args": {"swap-space": 4}}, "swap-space is not simulated; known: max-num-seqs"),
        ({"engine_args": {"max-num-seqs": "many"}}, "must be of type int"),
        ({"engine_args": {"max-num-seqs": True}}, "must be of type int"),
        ({"model": "gpt-9"}, "cannot be simulated"),
        ({"accelerator": "Z80"}, "cannot be simulated"),
        ({"model": "llama-3.1-70b"}, "leaves no room"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_it_starts(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(LaunchRefused, match=words):
        launch(**fields)


def test_it_is_driven_over_http_or_not_at_all() -> None:
    with pytest.raises(LaunchRefused, match="needs traffic"):
        workload_for(SimulatedWorkload()).drive(Running(), None, lambda *_: None)


def test_the_log_says_what_is_simulated() -> None:
    line = "simulated engine: llama-3.1-8b on 2 x H100, 25000 blocks of 16 tokens"
    assert read_resolved([(0.1, "noise"), (0.2, line)]) == {
        "engine": "simulated",
        "model": "llama-3.1-8b",
        "simulated_accelerator": "H100",
        "tensor_parallel_size": 2,
        "kv_cache_tokens": 400_000,
    }
