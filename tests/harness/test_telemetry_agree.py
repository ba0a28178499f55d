"""The whole chain over real HTTP: a server that counts as vLLM does, our client, the verdict."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.load.driver import HttpLoadDriver
from harness.telemetry.beside import on_load_axis, watch_over
from harness.telemetry.process import ProcessWatch
from results.samples import RequestSamples
from results.telemetry import Telemetry, histogram
from results.telemetry_doubts import doubts_of_telemetry
from workloads.base import ServerTarget
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

pytestmark = pytest.mark.alone

TTFT_S = 0.3
# First token after TTFT_S by the server's own histogram; on the wire ``hold`` seconds later.
_SERVER = """
import asyncio, json, sys, time
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

ttft_s, hold_s = float(sys.argv[1]), float(sys.argv[2])
registry, labels = CollectorRegistry(), {"model_name": "m", "engine": "0"}
options = {"labelnames": list(labels), "registry": registry}
buckets = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0]
running = Gauge("vllm:num_requests_running", "", **options).labels(**labels)
ttft = Histogram(
    "vllm:time_to_first_token_seconds", "", buckets=buckets, **options).labels(**labels)
output = Counter("vllm:generation_tokens", "", **options).labels(**labels)
prompt = Counter("vllm:prompt_tokens", "", **options).labels(**labels)

async def complete(request):
    began = time.monotonic()
    running.inc()
    asked = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await asyncio.sleep(ttft_s - (time.monotonic() - began))
    ttft.observe(time.monotonic() - began)
    await asyncio.sleep(hold_s)
    num = asked["max_tokens"]
    for i in range(num):
        output.inc()
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": i + 1,
                 "total_tokens": len(asked["prompt"]) + i + 1}
        chunk = {"choices": [{"index": 0, "text": "a"}], "usage": usage}
        await response.write(f"data: {json.dumps(chunk)}\\n\\n".encode())
    prompt.inc(len(asked["prompt"]))
    running.dec()
    await response.write(b"data: [DONE]\\n\\n")
    return response

async def metrics(request):
    return web.Response(body=generate_latest(registry))

async def main():
    app = web.Application()
    app.router.add_post("/v1/completions", complete)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@contextmanager
def serving(hold_s: float) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(TTFT_S), str(hold_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.kill()


def load(url: str, num_requests: int) -> RequestSamples:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=25.0),
        prompt_tokens=FixedLength(tokens=16),
        output_tokens=FixedLength(tokens=4),
        num_requests=num_requests,
        num_warmup_requests=1,
    )
    target = ServerTarget(base_url=url, model="m", vocab_size=100)
    return HttpLoadDriver().drive(target, traffic, lambda *_: None)


def watched(url: str, num_requests: int = 30) -> tuple[RequestSamples, Telemetry]:
    samples, watch = watch_over(
        ProcessWatch(url, time.monotonic, 0.2), time.monotonic, lambda: load(url, num_requests)
    )
    telemetry = on_load_axis(watch, samples, None)
    assert telemetry is not None
    assert set(samples.error) == {""}
    return samples, telemetry


def test_a_server_and_a_client_that_agree() -> None:
    with serving(hold_s=0.0) as url:
        samples, telemetry = watched(url)
    server = histogram(telemetry, "vllm:time_to_first_token_seconds")
    assert server is not None
    assert 31 <= server.n <= 31 + 3  # the rows, and the probes that are no rows
    assert server.mean == pytest.approx(TTFT_S, abs=0.05)
    assert doubts_of_telemetry(telemetry, samples, expects_prefix_hits=False) == ()
    running = telemetry.total("vllm:num_requests_running")
    assert running is not None
    assert running.value.max() > 3  # 25 requests/s for 0.3 s each are 7.5 at a time


def test_what_is_held_back_behind_the_servers_clock_is_found_out() -> None:
    with serving(hold_s=0.3) as url:
        samples, telemetry = watched(url)
    codes = [d.code for d in doubts_of_telemetry(telemetry, samples, expects_prefix_hits=False)]
    assert codes == ["server_client_ttft_disagree"]


def test_another_client_of_the_same_server_is_found_out() -> None:
    with serving(hold_s=0.0) as url:
        samples, watch = watch_over(
            ProcessWatch(url, time.monotonic, 0.2),
            time.monotonic,
            lambda: (load(url, 20), load(url, 30))[1],
        )
    assert watch.telemetry is not None
    telemetry = on_load_axis(watch, samples, None)
    assert telemetry is not None
    found = doubts_of_telemetry(telemetry, samples, expects_prefix_hits=False)
    assert [d.code for d in found] == ["foreign_traffic"]
