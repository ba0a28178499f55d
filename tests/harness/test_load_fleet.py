"""One schedule and any number of senders: the same requests, one table, nothing left running."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import psutil
import pytest

from harness.errors import WorkerDied
from harness.load.clocks import ClockReading
from harness.load.fleet import (
    Fleet,
    Look,
    Pulse,
    in_parallel,
    merge_audits,
)
from harness.load.local_workers import InProcessWorker, ProcessWorker, local_fleet
from harness.load.merging import max_in_flight, merged
from harness.load.worker import Prepared, Share, WorkerResult
from results.client import ClockAudit, WorkerReport
from results.clock import SystemClock
from results.measure import subset
from results.samples import RequestSamples
from results.testing import make_requests
from workloads.base import ServerTarget
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import golden_server
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import ClosedLoop, FixedLength, PoissonArrivals, Traffic, UniformLength

pytestmark = pytest.mark.alone

DEADLINE_S = 30.0
QUICK = Behaviour(ttft_s=0.001, itl_s=0.001)
POISSON = Traffic(
    arrivals=PoissonArrivals(rate_rps=200.0),
    prompt_tokens=UniformLength(low=2, high=20),
    output_tokens=UniformLength(low=1, high=4),
    num_requests=60,
    seed=11,
)
ENDLESS = Traffic(
    arrivals=PoissonArrivals(rate_rps=20.0), output_tokens=FixedLength(tokens=2), duration_s=300.0
)


def until(true: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < DEADLINE_S, f"in vain for {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


def threads(num_workers: int) -> Fleet:
    """Each worker with an event loop of its own, all in this process."""
    return Fleet(lambda number: InProcessWorker(), num_workers)


def samples_of(fleet: Fleet, target: ServerTarget, traffic: Traffic) -> RequestSamples:
    return fleet.drive(target, traffic).samples


@contextmanager
def recording_server() -> Iterator[tuple[ServerTarget, list[bytes]]]:
    """Answers every request with one token, and keeps what it was sent, byte by byte."""
    bodies: list[bytes] = []
    answer = (
        b'data: {"choices":[{"index":0,"text":"tok","finish_reason":"length"}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer("application/json", b'{"data":[{"id":"m"}]}')

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer("text/event-stream", answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256  # 5 by default: the others of sixteen would try again in seconds

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield ServerTarget(base_url=url, model="m"), bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("num_workers", [1, 4, 16])
def test_any_number_of_workers_sends_the_same_requests_at_the_same_times(num_workers: int) -> None:
    schedule = build_schedule(POISSON)
    with golden_server(QUICK) as server, threads(num_workers) as fleet:
        result = fleet.drive(server.target, POISSON)
    samples = result.samples
    assert samples.error.tolist() == [""] * 62
    assert samples.index.tolist() == list(range(62))
    np.testing.assert_allclose(samples.intended_s[2:], schedule.intended_s[2:], atol=1e-9)
    assert samples.prompt_tokens.tolist() == schedule.prompt_tokens.tolist()
    assert samples.output_tokens.tolist() == schedule.output_tokens.tolist()
    np.testing.assert_array_equal(samples.is_warmup, schedule.is_warmup)
    # Everyone had a share, and the warm-up is the first one's.
    assert len(set(samples.worker[2:].tolist())) == num_workers
    assert samples.worker[:2].tolist() == [0, 0]
    assert sum(w.num_requests for w in result.client.workers) == 62
    assert result.simulated
    assert result.client.dialect == "full"


def test_one_worker_and_sixteen_send_the_same_prompts() -> None:
    sent: list[list[bytes]] = []
    for num_workers in (1, 4, 16):
        with recording_server() as (target, bodies), threads(num_workers) as fleet:
            fleet.drive(target, POISSON)
        # Each worker's probe is a request besides; it asks for one token of its own prompt.
        sent.append(sorted(set(bodies)))
        assert len(bodies) == 62 + num_workers
    assert sent[0] == sent[1] == sent[2]
    prompts = [json.loads(body)["prompt"] for body in sent[0]]
    assert len(prompts) == 63
    assert len({tuple(p) for p in prompts}) == 63


def test_a_closed_loop_is_split_among_the_workers() -> None:
    traffic = Traffic(
        arrivals=ClosedLoop(num_users=6), output_tokens=FixedLength(tokens=2), num_requests=48
    )
    with golden_server(Behaviour(ttft_s=0.01, itl_s=0.001)) as server, threads(3) as fleet:
        result = fleet.drive(server.target, traffic)
    assert result.samples.index.tolist() == list(range(50))
    assert result.samples.error.tolist() == [""] * 50
    assert 1 <= result.client.max_in_flight <= 6


def test_processes_share_the_clock_and_are_gone_afterwards() -> None:
    with golden_server(QUICK) as server, local_fleet(2) as fleet:
        workers = [w for w in fleet.workers if isinstance(w, ProcessWorker)]
        processes = [psutil.Process(w.pid) for w in workers]
        pulses: list[Pulse] = []
        result = fleet.drive(server.target, POISSON, lambda pulse: bool(pulses.append(pulse)))
        again = fleet.drive(server.target, POISSON)  # a fleet takes one load after another
        assert [psutil.Process(w.pid) for w in workers] == processes
    assert len(processes) == 2
    assert not any(p.is_running() for p in processes)
    for report in result.client.workers:
        assert (report.clock_offset_s, report.clock_resolution_s) == (0.0, 0.0)
    assert result.samples.error.tolist() == again.samples.error.tolist() == [""] * 62
    np.testing.assert_allclose(result.samples.intended_s[2:], again.samples.intended_s[2:])
    measured = ~result.samples.is_warmup
    # One zero: nobody sends before its time, and nearly all of both workers on it.
    lag_s = (result.samples.dispatched_s - result.samples.intended_s)[measured]
    assert np.all(lag_s >= 0.0)
    assert np.median(lag_s) < 0.05
    # What a display was told while it went on: both workers' answers, each once, to about a chunk.
    ttft = pulses[-1].ttft
    seen_s = (result.samples.first_token_s - result.samples.intended_s)[measured]
    assert ttft.num_values == 60 == pulses[-1].num_done - 2
    assert ttft.quantile(0.5) == pytest.approx(np.quantile(seen_s, 0.5), rel=0.02, abs=2e-3)
    assert ttft.maximum <= np.max(result.samples.done_s - result.samples.intended_s)


@pytest.mark.chaos
def test_a_worker_that_is_killed_is_named_and_the_others_are_stopped() -> None:
    killed: list[int] = []

    def kill(pulse: Pulse) -> bool:
        if not killed:
            victim = fleet.workers[1]
            assert isinstance(victim, ProcessWorker)
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)
        return False

    with golden_server(QUICK) as server, local_fleet(2) as fleet:
        processes = [psutil.Process(w.pid) for w in fleet.workers if isinstance(w, ProcessWorker)]
        with pytest.raises(WorkerDied) as raised:
            fleet.drive(server.target, ENDLESS, kill)
        assert fleet.num_workers == 0
        until(lambda: not any(p.is_running() for p in processes), "all workers to be gone")
    assert f"load worker 1 (process {killed[0]}) ended with exit code -9" in str(raised.value)
    assert raised.value.stage == "load"


def test_what_a_workers_process_raises_is_raised_here() -> None:
    wrong = Traffic(arrivals=PoissonArrivals(rate_rps=-1.0), num_requests=1)
    with (
        golden_server(QUICK) as server,
        local_fleet(2) as fleet,
        pytest.raises(ValueError, match=r"rate_rps = -1\.0; must be more than 0"),
    ):
        fleet.drive(server.target, wrong)


def test_a_check_that_raises_ends_the_load() -> None:
    class ServerGone(Exception):
        pass

    looked: list[int] = []

    def check() -> None:
        looked.append(1)
        if len(looked) > 1:
            raise ServerGone

    with golden_server(QUICK) as server, threads(2) as fleet:
        fleet.check = check
        with pytest.raises(ServerGone):
            fleet.drive(server.target, ENDLESS)
        assert fleet.num_workers == 0


def test_a_pulse_that_wants_no_more_ends_the_load_and_keeps_the_rows() -> None:
    pulses: list[Pulse] = []

    def enough(pulse: Pulse) -> bool:
        pulses.append(pulse)
        return pulse.num_done > 10

    with golden_server(QUICK) as server, threads(2) as fleet:
        samples = fleet.drive(server.target, ENDLESS, enough).samples
    assert 10 < (samples.error == "").sum() < 300
    assert pulses[-1].num_done == pytest.approx((samples.error == "").sum(), abs=5)
    assert pulses[-1].num_failed == 0
    assert pulses[-1].rate_rps > 0
    assert [p.elapsed_s for p in pulses] == sorted(p.elapsed_s for p in pulses)


# ---- workers on other hosts, in virtual places: fakes with clocks of their own ----


class FarWorker:
    """A worker whose host's clock is ``ahead_s`` ahead; it "sends" each row exactly on time."""

    kind = "fake"

    def __init__(self, number: int, ahead_s: float) -> None:
        self.label = f"far worker {number}"
        self.closed = False
        self.origin_s = 0.0
        self._ahead_s = ahead_s
        self._share = Share()
        self._now_s = SystemClock().monotonic_s

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared:
        self._share, self._schedule = share, build_schedule(traffic)
        return Prepared(dialect="plain", simulated=False, num_rows=1)

    def read_clock(self) -> ClockReading:
        return ClockReading(boot_id=f"of {self.label}", monotonic_s=self._now_s() + self._ahead_s)

    def start(self, at_s: float) -> None:
        self.origin_s = at_s - self._ahead_s  # on the driver's clock

    def is_done(self) -> bool:
        return True

    def look(self) -> Look:
        return Look(num_done=1, num_total=1, num_failed=0)

    def snapshot(self) -> RequestSamples:
        return self._samples()

    def stop(self) -> None:
        pass

    def result(self) -> WorkerResult:
        report = WorkerReport(
            worker=self._share.worker,
            host=self.label,
            num_requests=1,
            cpu_share=0.1,
            max_loop_stall_s=0.0,
            mean_loop_stall_s=0.0,
        )
        return WorkerResult(samples=self._samples(), report=report, audit=None, max_in_flight=1)

    def close(self) -> None:
        self.closed = True

    def _samples(self) -> RequestSamples:
        index = self._schedule.rows_of(self._share.worker, self._share.num_workers)
        at_s = self._schedule.intended_s[index]
        whole = np.zeros(len(index), dtype=np.int64)
        return RequestSamples(
            intended_s=at_s,
            dispatched_s=at_s,
            written_s=at_s,
            first_byte_s=at_s,
            first_token_s=at_s,
            done_s=at_s + 0.5,
            prompt_tokens=whole,
            output_tokens=whole,
            status=whole + 200,
            error=np.array([""] * len(index), dtype=object),
            is_warmup=np.zeros(len(index), dtype=np.bool_),
            worker=whole + self._share.worker,
            event_offset=np.arange(len(index) + 1, dtype=np.int64),
            event_s=at_s,
            event_tokens=whole + 1,
            index=index,
        )


def test_workers_on_other_clocks_begin_at_one_instant() -> None:
    far = [FarWorker(0, 1_000.0), FarWorker(1, -250.0), FarWorker(2, 0.0)]
    traffic = Traffic(
        arrivals=PoissonArrivals(rate_rps=10.0), num_requests=9, num_warmup_requests=0
    )
    with Fleet(lambda number: far[number], 3) as fleet:
        result = fleet.drive(ServerTarget(base_url="http://far", model="m"), traffic)
    assert all(worker.closed for worker in far)
    origin_s = result.client.origin_s
    assert origin_s is not None
    for worker, report in zip(far, result.client.workers, strict=True):
        assert abs(worker.origin_s - origin_s) <= report.clock_resolution_s + 1e-6
        assert report.clock_offset_s == pytest.approx(-worker._ahead_s, abs=0.05)
        assert 0.0 < report.clock_resolution_s < 0.05
    assert result.samples.index.tolist() == list(range(9))
    np.testing.assert_array_equal(result.samples.intended_s, build_schedule(traffic).intended_s)
    assert result.samples.worker.tolist() == [0, 1, 2] * 3
    assert result.client.dialect == "plain"


def test_a_fleet_grows_while_there_is_room() -> None:
    far = [FarWorker(i, 0.0) for i in range(3)]
    with Fleet(lambda number: far[number] if number < 3 else None) as fleet:
        assert fleet.num_workers == 1
        assert fleet.grow(2) == 2
        assert fleet.grow(9) == 3
    assert all(worker.closed for worker in far)


# ---- pure parts ----


def in_flight_by_looking(sent: list[float], ended: list[float]) -> int:
    """At each send, by counting: those sent by then and not ended by then."""
    return max(
        sum(1 for s, e in zip(sent, ended, strict=True) if s <= t and not e <= t) for t in sent
    )


def in_flight(sent: Any, ended: Any) -> RequestSamples:
    made = make_requests(len(sent))
    return replace(made, dispatched_s=np.array(sent), done_s=np.array(ended))


def test_requests_in_flight_are_counted_over_all_workers() -> None:
    rng = np.random.default_rng(3)
    sent = rng.uniform(0.0, 10.0, 200)
    ended = sent + rng.exponential(1.0, 200)
    assert max_in_flight(in_flight(sent, ended)) == in_flight_by_looking(
        sent.tolist(), ended.tolist()
    )
    back_to_back = in_flight([0.0, 1.0, np.nan], [1.0, np.nan, np.nan])
    assert max_in_flight(back_to_back) == 1
    assert max_in_flight(in_flight([np.nan], [np.nan])) == 0


def test_rows_of_several_workers_are_merged_by_index_with_their_events() -> None:
    whole = make_requests(9, seed=2)
    whole = replace(whole, event_offset=np.array([0, 0, 3, 4, 10, 11, 20, 33, 33, 36]))
    parts = [subset(whole, whole.index % 3 == k) for k in (2, 0, 1)]
    again = merged(parts)
    for column in fields(RequestSamples):
        np.testing.assert_array_equal(getattr(again, column.name), getattr(whole, column.name))


def test_of_several_audits_the_worst_is_told() -> None:
    a = ClockAudit(num_reads=10, lag_p50_s=1e-5, lag_p99_s=9e-5, lag_max_s=1e-3)
    b = ClockAudit(num_reads=5, lag_p50_s=2e-5, lag_p99_s=None, lag_max_s=1e-4)
    assert merge_audits([a, b]) == ClockAudit(
        num_reads=15, lag_p50_s=2e-5, lag_p99_s=9e-5, lag_max_s=1e-3
    )
    assert merge_audits([]) is None


def test_the_first_failure_is_told_without_waiting_for_the_rest() -> None:
    never = threading.Event()

    def fail() -> None:
        raise KeyError("at once")

    with pytest.raises(KeyError, match="at once"):
        in_parallel([never.wait, fail])
    never.set()
    assert in_parallel([lambda: 1, lambda: 2]) == [1, 2]
