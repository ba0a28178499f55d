"""One worker through its door, and what the simpler door of the driver does not show."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from harness.load.driver import HttpLoadDriver
from harness.load.worker import LoadWorker, Share
from results.clock import read_monotonic_s
from results.measure import request_metrics
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import golden_server
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Traffic,
)

pytestmark = pytest.mark.alone

QUICK = Behaviour(ttft_s=0.002, itl_s=0.001)
SHORT = FixedLength(tokens=4)


def quiet(num_done: int, num_total: int, elapsed_s: float) -> None:
    pass


@contextmanager
def workers(count: int) -> Iterator[list[LoadWorker]]:
    made = [LoadWorker() for _ in range(count)]
    try:
        yield made
    finally:
        for worker in made:
            worker.close()


def send_all(
    made: list[LoadWorker], target: ServerTarget, traffic: Traffic
) -> list[RequestSamples]:
    for number, worker in enumerate(made):
        worker.prepare(target, traffic, Share(worker=number, num_workers=len(made)))
    origin_s = read_monotonic_s() + 0.05
    for worker in made:
        worker.start(origin_s)
    return [worker.result(60.0).samples for worker in made]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_shares_make_one_schedule(num_workers: int) -> None:
    traffic = Traffic(
        arrivals=PoissonArrivals(rate_rps=100.0), output_tokens=SHORT, num_requests=60, seed=9
    )
    schedule = build_schedule(traffic)
    with golden_server(QUICK) as server, workers(num_workers) as made:
        parts = send_all(made, server.target, traffic)
    index = np.concatenate([p.index for p in parts])
    assert sorted(index.tolist()) == list(range(schedule.num_requests))
    for number, part in enumerate(parts):
        measured = ~part.is_warmup
        np.testing.assert_allclose(
            part.intended_s[measured], schedule.intended_s[part.index[measured]], atol=1e-9
        )
        assert part.worker.tolist() == [number] * part.num_requests
        assert part.is_warmup.sum() == (2 if number == 0 else 0)
        assert set(part.error) == {""}


def test_shares_of_a_closed_loop_have_users_and_requests_of_their_own() -> None:
    traffic = Traffic(
        arrivals=ClosedLoop(num_users=5),
        output_tokens=SHORT,
        num_requests=41,
        num_warmup_requests=1,
    )
    with golden_server(QUICK) as server, workers(2) as made:
        parts = send_all(made, server.target, traffic)
    index = sorted(np.concatenate([p.index for p in parts]).tolist())
    assert index == list(range(42))
    assert [p.num_requests for p in parts] == [1 + 21, 20]


def test_a_worker_can_be_used_again() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=100.0), output_tokens=SHORT, num_requests=9
    )
    with golden_server(QUICK) as server, workers(1) as (worker,):
        for _ in range(3):
            (samples,) = send_all([worker], server.target, traffic)
            assert samples.num_requests == 11
            assert set(samples.error) == {""}


def test_stop_and_drain_keeps_what_was_sent_and_only_that() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=50.0),
        output_tokens=SHORT,
        duration_s=600.0,
        num_warmup_requests=0,
    )
    with golden_server(Behaviour(ttft_s=0.1, itl_s=0.001)) as server, workers(1) as (worker,):
        worker.prepare(server.target, traffic, Share())
        worker.start(read_monotonic_s())
        until(lambda: worker.progress()[0] >= 10)
        seen = worker.snapshot()
        worker.stop(drain=True)
        samples = worker.result(30.0).samples
    assert set(samples.error) == {""}
    assert 10 <= seen.num_requests <= samples.num_requests < 3000
    assert samples.index.tolist() == list(range(samples.num_requests))
    np.testing.assert_array_equal(seen.done_s, samples.done_s[: seen.num_requests])


def test_stop_at_once_makes_rows_of_what_was_open() -> None:
    traffic = Traffic(arrivals=ClosedLoop(num_users=3), output_tokens=SHORT, duration_s=600.0)
    with golden_server(QUICK) as server, workers(1) as (worker,):
        worker.prepare(server.target, traffic, Share())
        server.behaviour = Behaviour(ttft_s=60.0)
        worker.start(read_monotonic_s())
        until(lambda: worker._task is not None and len(worker._task.run._open) == 3)
        worker.stop()
        samples = worker.result(30.0).samples
    cancelled = [e.split(":")[0] for e in samples.error if e]
    assert cancelled == ["cancelled"] * 3


def until(true: Any) -> None:
    gives_up_s = read_monotonic_s() + 30.0
    pause = threading.Event()
    while not true():
        assert read_monotonic_s() < gives_up_s, "waited in vain"
        pause.wait(0.01)


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_answers_in_one_piece(api: Any) -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=50.0),
        output_tokens=FixedLength(tokens=5),
        num_requests=10,
        api=api,
        stream=False,
    )
    with golden_server(Behaviour(ttft_s=0.05, itl_s=0.01)) as server:
        samples = HttpLoadDriver().drive(server.target, traffic, quiet)
    assert samples.error.tolist() == [""] * 12
    assert samples.output_tokens.tolist() == [5] * 12
    m = request_metrics(samples)
    assert np.all(m.e2e_s >= 0.05 + 4 * 0.01)
    assert np.isnan(m.ttft_s).all()
    assert len(m.itl_s) == 0


def test_our_own_counts_and_the_bytes_are_kept() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=50.0),
        prompt_tokens=FixedLength(tokens=7),
        output_tokens=SHORT,
        num_requests=5,
    )
    with golden_server(QUICK) as server:
        samples = HttpLoadDriver().drive(server.target, traffic, quiet)
    assert samples.own_prompt_tokens.tolist() == [7] * 7
    assert samples.prompt_tokens.tolist() == [7] * 7
    assert np.all(samples.num_bytes > 4 * 100)
    assert not samples.event_reasoning.any()
    np.testing.assert_array_equal(samples.first_answer_s, samples.first_token_s)


def test_reasoning_comes_before_the_answer() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=20.0),
        output_tokens=FixedLength(tokens=6),
        num_requests=5,
        api="chat",
    )
    behaviour = Behaviour(ttft_s=0.02, itl_s=0.02, num_reasoning_tokens=2)
    with golden_server(behaviour) as server:
        samples = HttpLoadDriver().drive(server.target, traffic, quiet)
    assert samples.event_reasoning.tolist() == [True, True, False, False, False, False] * 7
    assert np.all(samples.first_answer_s >= samples.first_token_s + 0.03)


class TlsFront:
    """An HTTPS port in front of a plain one, in a loop and a thread of its own."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._context, self._behind = context, port
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> TlsFront:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _relay(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, ahead = await asyncio.open_connection("127.0.0.1", self._behind)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(near, ahead), copy(far, back), return_exceptions=True)


def test_https_with_a_certificate_that_is_trusted_and_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), output_tokens=SHORT, num_requests=6)
    with golden_server(QUICK) as server, TlsFront(context, server.port) as front:
        target = ServerTarget(base_url=f"https://localhost:{front.port}", model="simulated")
        distrusted = HttpLoadDriver().drive(target, traffic, quiet)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        trusted = HttpLoadDriver().drive(target, traffic, quiet)
    assert {e.split(":")[0] for e in distrusted.error} == {"tls_failed"}
    assert trusted.error.tolist() == [""] * 8
    assert np.all(request_metrics(trusted).ttft_s >= 0.002)


def test_no_key_is_in_what_a_worker_shows() -> None:
    worker = LoadWorker("sk-secret")
    assert "sk-secret" not in repr(worker)
    worker.close()
    worker.close()
