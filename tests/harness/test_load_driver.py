"""The client against the simulated server, whose timings are known because they were asked for.

Lower bounds are strict: nothing can be seen before it was sent. Upper bounds are medians with room
for a machine that is busy with something else.
"""

import asyncio
import itertools
import json
import pickle
import threading
import time
from typing import Any

import numpy as np
import pytest

from harness.load.driver import HttpLoadDriver
from results.measure import measure_requests, request_metrics
from results.samples import RequestSamples
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import GoldenServer, golden_server
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Traffic,
    UniformLength,
)

pytestmark = pytest.mark.alone

ROOM_S = 0.03
QUICK = Behaviour(ttft_s=0.001, itl_s=0.001)


def quiet(num_done: int, num_total: int, elapsed_s: float) -> None:
    pass


def drive(server: GoldenServer, traffic: Traffic, **options: Any) -> RequestSamples:
    return HttpLoadDriver(**options).drive(server.target, traffic, quiet)


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_timings_are_those_injected(api: Any) -> None:
    behaviour = Behaviour(ttft_s=0.08, itl_s=0.02)
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=40.0),
        prompt_tokens=FixedLength(tokens=7),
        output_tokens=FixedLength(tokens=8),
        num_requests=40,
        api=api,
    )
    with golden_server(behaviour) as server:
        samples = drive(server, traffic)
        served = server.served[3:]  # after the probe and two warm-up requests
    assert samples.error.tolist() == [""] * 42
    m = request_metrics(samples)
    assert np.all(m.ttft_s >= 0.08)
    assert np.median(m.ttft_s) < 0.08 + ROOM_S
    assert np.all(m.e2e_s >= 0.08 + 7 * 0.02)
    assert np.median(m.e2e_s) < 0.08 + 7 * 0.02 + ROOM_S
    assert np.median(m.itl_s) == pytest.approx(0.02, abs=0.004)
    assert np.median(m.tpot_s) == pytest.approx(0.02, abs=0.004)
    assert len(m.itl_s) == 40 * 7
    # The server's own stamps, on the same clock: what the client adds is small.
    service_s = np.array([s.first_token_s - s.arrived_s for s in served])
    assert 0.0 < np.median(m.ttft_s) - np.median(service_s) < ROOM_S
    assert samples.prompt_tokens.tolist() == [7] * 42
    assert samples.output_tokens.tolist() == [8] * 42
    assert samples.event_tokens.tolist() == [1] * 42 * 8


def test_the_stages_of_a_request_are_in_order() -> None:
    traffic = Traffic(arrivals=PoissonArrivals(rate_rps=100.0), num_requests=50, seed=5)
    with golden_server(QUICK) as server:
        s = drive(server, traffic)
    stages = [s.intended_s, s.dispatched_s, s.written_s, s.first_byte_s, s.first_token_s, s.done_s]
    assert np.all(np.diff(np.array(stages), axis=0) >= -1e-9)
    assert np.all(
        np.diff(s.event_s)[np.diff(np.repeat(np.arange(52), np.diff(s.event_offset))) == 0] >= 0
    )
    np.testing.assert_array_equal(s.first_token_s, s.event_s[s.event_offset[:-1]])


def test_open_loop_follows_the_schedule_and_loses_nothing() -> None:
    traffic = Traffic(
        arrivals=PoissonArrivals(rate_rps=80.0),
        prompt_tokens=UniformLength(low=1, high=20),
        output_tokens=UniformLength(low=1, high=5),
        duration_s=1.5,
        seed=3,
    )
    schedule = build_schedule(traffic)
    with golden_server(QUICK) as server:
        samples = drive(server, traffic)
        assert len(server.served) == schedule.num_requests + 1  # and the probe
    assert samples.num_requests == schedule.num_requests
    measured = ~samples.is_warmup
    np.testing.assert_allclose(
        samples.intended_s[measured], schedule.intended_s[measured], atol=1e-9
    )
    lag_s = (samples.dispatched_s - samples.intended_s)[measured]
    assert np.all(lag_s >= 0.0)
    assert np.median(lag_s) < 0.01
    assert samples.prompt_tokens.tolist() == schedule.prompt_tokens.tolist()
    assert samples.output_tokens.tolist() == schedule.output_tokens.tolist()
    np.testing.assert_array_equal(samples.is_warmup, schedule.is_warmup)


def queueing_ttft_s(rate: float, capacity: int, service_s: float, n: int) -> np.ndarray:
    """A queue in order of arrival, computed on paper: (n,) arrival → end of service."""
    free_s = [0.0] * capacity
    waits = []
    for i in range(n):
        slot = int(np.argmin(free_s))
        free_s[slot] = max(free_s[slot], i / rate) + service_s
        waits.append(free_s[slot] - i / rate)
    return np.array(waits)


def test_a_queue_cannot_hide_from_the_intended_send_time() -> None:
    n, rate, capacity, service_s = 40, 40.0, 4, 0.3
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=rate),
        output_tokens=FixedLength(tokens=1),
        num_requests=n,
    )
    with golden_server(Behaviour(ttft_s=service_s, capacity=capacity)) as server:
        samples = drive(server, traffic)
    on_paper = queueing_ttft_s(rate, capacity, service_s, n)
    assert on_paper[-1] > 2.0  # service takes 0.3 s; a client that waits would report that
    ttft = request_metrics(samples).ttft_s
    assert len(ttft) == n
    assert not np.isnan(ttft).any()
    # In order of their ends: two that a busy machine sends at once may overtake each other.
    arrivals_s = np.arange(n) / rate
    assert np.all(np.sort(ttft + arrivals_s) >= np.sort(on_paper + arrivals_s) - 0.005)
    # A queue fed late by some time answers late by no more than that, plus the server's own delay.
    lag_s = (samples.dispatched_s - samples.intended_s)[2:]
    assert np.median(ttft - on_paper) < lag_s.max() + 0.3
    assert np.quantile(ttft, 0.99) > 1.9
    # Nearly all were sent on time: the wait is the server's, not the client's.
    assert np.median(lag_s) < 0.01


def test_warmup_is_sent_one_by_one_before_the_schedule_and_never_measured() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=50.0), num_requests=20, num_warmup_requests=4
    )
    with golden_server(QUICK) as server:
        s = drive(server, traffic)
        served = sorted(server.served, key=lambda r: r.arrived_s)
    assert s.is_warmup.tolist() == [True] * 4 + [False] * 20
    assert np.all(s.done_s[:4] <= 0.0)
    assert np.all(s.intended_s[4:] >= 0.0)
    assert np.all(s.intended_s[1:4] >= s.done_s[:3])
    for before, after in itertools.pairwise(served[:6]):  # from the probe to the first measured
        assert after.arrived_s >= before.ended_s - 0.001
    counts = {m.n for m in measure_requests(s, {}, 0) if m.metric == "ttft_s"}
    assert counts == {20}


@pytest.mark.parametrize("think_time_s", [0.0, 0.05])
def test_closed_loop_has_no_more_in_flight_than_users(think_time_s: float) -> None:
    users = 3
    traffic = Traffic(
        arrivals=ClosedLoop(num_users=users, think_time_s=think_time_s),
        output_tokens=FixedLength(tokens=3),
        num_requests=31,
    )
    driver = HttpLoadDriver()
    with golden_server(Behaviour(ttft_s=0.02, itl_s=0.005)) as server:
        s = driver.drive(server.target, traffic, quiet)
    assert s.num_requests == 33
    assert s.error.tolist() == [""] * 33
    assert most_at_once(server) == users
    assert driver.last_report is not None
    assert driver.last_report.max_in_flight == users
    # The first request of each user is intended for the start, a quarter of a millisecond after the
    # one before; every other one for an answer of someone plus the time to think.
    intended, done = s.intended_s[2:], s.done_s[2:]
    np.testing.assert_allclose(np.sort(intended)[:users], np.arange(users) * 2.5e-4, atol=1e-9)
    for at_s in np.sort(intended)[users:]:
        assert np.abs(done + think_time_s - at_s).min() < 1e-9


def test_closed_loop_by_the_clock_begins_nothing_after_it() -> None:
    traffic = Traffic(arrivals=ClosedLoop(num_users=2), duration_s=1.2)
    told: list[tuple[int, int, float]] = []
    with golden_server(Behaviour(ttft_s=0.05, itl_s=0.001)) as server:
        s = HttpLoadDriver().drive(server.target, traffic, lambda *a: told.append(a))
    assert s.error.tolist() == [""] * s.num_requests
    assert np.all(s.intended_s < 1.2)
    assert s.done_s.max() >= 1.2 - 0.05
    assert 4 < s.num_requests <= 2 + 2 * 24
    assert {total for _, total, _ in told} == {-1}
    assert told[-1][0] == s.num_requests
    assert len(told) >= 2


@pytest.mark.parametrize(
    ("behaviour", "dialect", "tokens", "prompt"),
    [
        ({}, "full", 6, 4),
        ({"reports_continuous_usage": False}, "full", 6, 4),
        ({"refuses_extensions": True}, "plain", 2, 4),
        ({"refuses_extensions": True, "refuses_stream_options": True}, "bare", -1, -1),
    ],
)
def test_a_server_that_refuses_fields_is_asked_for_less(
    behaviour: dict[str, Any], dialect: str, tokens: int, prompt: int
) -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=50.0),
        prompt_tokens=FixedLength(tokens=4),
        output_tokens=FixedLength(tokens=6),
        num_requests=5,
    )
    driver = HttpLoadDriver()
    with golden_server(Behaviour(ttft_s=0.001, itl_s=0.001, eos_after=2, **behaviour)) as server:
        s = driver.drive(server.target, traffic, quiet)
    assert driver.last_report is not None
    assert driver.last_report.dialect == dialect
    assert s.error.tolist() == [""] * 7
    assert s.output_tokens.tolist() == [tokens] * 7
    assert s.prompt_tokens.tolist() == [prompt] * 7
    # As many chunks as tokens: one in each, though no running count says so.
    assert set(s.event_tokens.tolist()) == ({1} if tokens > 0 else {-1})


def test_chunks_of_several_tokens_reasoning_and_empty_ones() -> None:
    behaviour = Behaviour(
        ttft_s=0.1, itl_s=0.01, tokens_per_chunk=4, num_empty_chunks=3, num_reasoning_tokens=4
    )
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=20.0),
        output_tokens=FixedLength(tokens=10),
        num_requests=6,
        api="chat",
    )
    with golden_server(behaviour) as server:
        s = drive(server, traffic)
    assert s.event_tokens.tolist() == [4, 4, 2] * 8
    m = request_metrics(s)
    assert np.all(m.ttft_s >= 0.1)  # empty chunks came at once, and count for nothing
    # 10 tokens in 3 chunks: 9 gaps, of which all but two are within a chunk.
    assert len(m.itl_s) == 6 * 9
    assert np.sum(m.itl_s == 0.0) == 6 * 7
    assert np.all(s.first_byte_s < s.first_token_s - 0.05)


def test_a_prompt_of_megabytes_goes_through() -> None:
    traffic = Traffic(
        arrivals=ClosedLoop(num_users=1),
        prompt_tokens=FixedLength(tokens=400_000),
        num_requests=1,
        num_warmup_requests=0,
    )
    with golden_server(QUICK) as server:
        s = drive(server, traffic)
    assert s.error.tolist() == [""]
    assert s.prompt_tokens.tolist() == [400_000]
    assert s.dispatched_s[0] <= s.written_s[0] <= s.first_byte_s[0]


def most_at_once(server: GoldenServer) -> int:
    """Requests that the server itself had open at one time, by a sweep over both ends of each."""
    steps = sorted(
        [(r.arrived_s, 1) for r in server.served] + [(r.ended_s, -1) for r in server.served]
    )
    return int(np.cumsum([step for _, step in steps]).max())


def test_connections_have_no_limit() -> None:
    n = 160
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=1_000.0),
        output_tokens=FixedLength(tokens=1),
        num_requests=n,
        num_warmup_requests=0,
    )
    driver = HttpLoadDriver()
    with golden_server(Behaviour(ttft_s=1.5)) as server:
        s = driver.drive(server.target, traffic, quiet)
    assert s.error.tolist() == [""] * n
    assert most_at_once(server) > 110  # aiohttp itself stops at 100


def test_connections_are_kept() -> None:
    traffic = Traffic(arrivals=ClosedLoop(num_users=2), num_requests=40)
    with golden_server(QUICK) as server:
        drive(server, traffic)
    ports = [r.peer_port for r in server.served]
    assert len(ports) == 43
    assert len(set(ports)) <= 4


def test_the_key_is_sent_and_shown_nowhere() -> None:
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), num_requests=3)
    driver = HttpLoadDriver(api_key="sk-right-one")
    assert "sk-right-one" not in repr(driver)
    with golden_server(Behaviour(ttft_s=0.001, wants_key="sk-right-one")) as server:
        s = driver.drive(server.target, traffic, quiet)
        assert s.error.tolist() == [""] * 5
        assert driver.first_token(server.target, 10.0).error == ""
        wrong = HttpLoadDriver(api_key="sk-wrong-one")
        s = wrong.drive(server.target, traffic, quiet)
        canary = wrong.first_token(server.target, 10.0)
    assert set(s.error) == {"http_401: Incorrect API key provided: ***"}
    assert "sk-wrong" not in json.dumps(s.to_table().to_pylist(), default=str)
    assert canary.status == 401
    assert canary.error == "http_401: Incorrect API key provided: ***"


def test_it_works_in_a_plain_thread_and_under_a_running_loop() -> None:
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), num_requests=3)
    with golden_server(QUICK) as server:
        target = server.target
        got: list[RequestSamples] = []
        thread = threading.Thread(
            target=lambda: got.append(HttpLoadDriver().drive(target, traffic, quiet))
        )
        thread.start()
        thread.join()

        async def under_a_loop() -> RequestSamples:
            return HttpLoadDriver().drive(target, traffic, quiet)

        got.append(asyncio.run(under_a_loop()))
    assert [s.error.tolist() for s in got] == [[""] * 5] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_ends_the_load_and_its_thread(error: type[BaseException]) -> None:
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=10.0), duration_s=60.0)

    def interrupt(num_done: int, num_total: int, elapsed_s: float) -> None:
        raise error

    with golden_server(Behaviour(ttft_s=30.0, capacity=None)) as server:
        server.behaviour = QUICK
        begun_s = time.monotonic()
        with pytest.raises(error):
            HttpLoadDriver().drive(server.target, traffic, interrupt)
        assert time.monotonic() - begun_s < 20.0
    assert "windtunnel-load" not in [t.name for t in threading.enumerate()]


def test_traffic_of_which_nothing_can_be_made_is_refused() -> None:
    with golden_server() as server, pytest.raises(ValueError, match="never ends"):
        drive(server, Traffic(arrivals=ConstantArrivals(rate_rps=1.0)))


def test_health_tells_how_late_the_loop_was() -> None:
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), duration_s=1.0)
    driver = HttpLoadDriver()
    assert driver.last_report is None
    with golden_server(QUICK) as server:
        driver.drive(server.target, traffic, quiet)
    report = driver.last_report
    assert report is not None
    (worker,) = report.workers
    assert 0.0 <= worker.mean_loop_stall_s <= worker.max_loop_stall_s < 1.0
    assert 0.0 < worker.cpu_share <= 2.0
    assert worker.num_requests == 52
    assert report.max_in_flight >= 1
    assert report.audit is not None  # the first connection is always audited
    assert report.audit.num_reads >= 50
    assert report.audit.lag_p50_s is not None
    assert 0.0 <= report.audit.lag_p50_s < 0.1
    assert pickle.loads(pickle.dumps(report)) == report  # it comes back from an actor
