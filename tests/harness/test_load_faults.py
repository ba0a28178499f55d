"""Whatever goes wrong is a row with its error, and no arrival of the schedule is lost."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from harness.load.driver import HttpLoadDriver
from results.measure import measure_requests
from results.samples import RequestSamples
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import GoldenServer, golden_server
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    Traffic,
    UniformLength,
)

pytestmark = pytest.mark.alone


def quiet(num_done: int, num_total: int, elapsed_s: float) -> None:
    pass


def drive(server: GoldenServer, traffic: Traffic) -> RequestSamples:
    return HttpLoadDriver().drive(server.target, traffic, quiet)


def assert_equal(a: RequestSamples, b: RequestSamples) -> None:
    for name in RequestSamples.__slots__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize(
    ("behaviour", "options", "kind", "status"),
    [
        ({"fail_share": 1.0}, {}, "http_500: simulated engine failure", 500),
        ({"never_answer_share": 1.0}, {"request_timeout_s": 0.3}, "timeout: ", -1),
        ({"disconnect_share": 1.0}, {}, "disconnected: ", 200),
        ({"malformed_share": 1.0}, {}, "malformed_stream: ", 200),
        ({"truncate_share": 1.0}, {}, "truncated: ", 200),
        ({"error_event_share": 1.0}, {}, "server_error: simulated engine error", 200),
        ({"ttft_s": 5.0}, {"request_timeout_s": 0.3}, "timeout: ", 200),
    ],
)
@pytest.mark.parametrize("arrivals", [ConstantArrivals(rate_rps=50.0), ClosedLoop(num_users=4)])
def test_every_fault_is_a_row_with_its_error(
    behaviour: dict[str, Any], options: dict[str, Any], kind: str, status: int, arrivals: Any
) -> None:
    traffic = Traffic(
        arrivals=arrivals,
        output_tokens=FixedLength(tokens=6),
        num_requests=8,
        num_warmup_requests=1,
        **options,
    )
    with golden_server(Behaviour(**{"ttft_s": 0.001, "itl_s": 0.001} | behaviour)) as server:
        s = drive(server, traffic)
    assert s.num_requests == 9
    assert [e[: len(kind)] for e in s.error] == [kind] * 9
    assert s.status.tolist() == [status] * 9
    assert not np.isnan(s.dispatched_s).any()
    assert not np.isnan(s.done_s).any()
    broke_in_the_middle = kind.split(":")[0] in (
        "disconnected",
        "malformed_stream",
        "truncated",
        "server_error",
    )
    num_events = np.diff(s.event_offset)
    assert num_events.tolist() == [3 if broke_in_the_middle else 0] * 9
    assert_equal(RequestSamples.from_table(s.to_table()), s)


def test_a_share_of_faults_spoils_only_its_own_rows() -> None:
    behaviour = Behaviour(ttft_s=0.001, itl_s=0.001, fail_share=0.2, truncate_share=0.2, seed=4)
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=100.0),
        output_tokens=FixedLength(tokens=4),
        num_requests=100,
        num_warmup_requests=0,
    )
    with golden_server(behaviour) as server:
        s = drive(server, traffic)
        faults = [r.fault.value for r in server.served[1:]]
    assert s.num_requests == 100
    seen = {kind: sum(e.startswith(kind) for e in s.error) for kind in ("http_500", "truncated")}
    assert seen == {"http_500": faults.count("status_500"), "truncated": faults.count("truncated")}
    assert np.sum(s.error == "") == faults.count("")
    assert min(seen.values()) > 5


def test_nobody_listening_is_a_row_too() -> None:
    with golden_server() as server:
        target = server.target
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=50.0), num_requests=5)
    s = HttpLoadDriver().drive(target, traffic, quiet)
    assert [e.split(":")[0] for e in s.error] == ["refused"] * 7
    assert s.status.tolist() == [-1] * 7
    np.testing.assert_allclose(s.intended_s[2:], np.arange(5) / 50.0, atol=1e-9)


def test_a_server_that_goes_away_leaves_rows_for_all() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=40.0),
        output_tokens=UniformLength(low=1, high=60),
        num_requests=60,
    )
    got: list[RequestSamples] = []
    with golden_server(Behaviour(ttft_s=0.01, itl_s=0.02)) as server:
        target = server.target
        thread = threading.Thread(
            target=lambda: got.append(HttpLoadDriver().drive(target, traffic, quiet))
        )
        thread.start()
        gives_up_s = time.monotonic() + 30.0
        while True:  # until some measured requests are answered and some are being answered
            measured = server.served[3:]
            is_open = [np.isnan(r.ended_s) and not np.isnan(r.first_token_s) for r in measured]
            if any(is_open) and not all(is_open):
                break
            assert time.monotonic() < gives_up_s
            time.sleep(0.01)
    thread.join()
    s = got[0]
    assert s.num_requests == 62
    kinds = [e.split(":")[0] for e in s.error]
    assert set(kinds) == {"", "disconnected", "refused"}
    assert kinds[-1] == "refused"
    assert kinds[0] == ""
    np.testing.assert_allclose(s.intended_s[2:], np.arange(60) / 40.0, atol=1e-9)


def test_the_deadline_makes_rows_of_what_is_unfinished() -> None:
    behaviour = Behaviour(ttft_s=30.0, itl_s=0.001)
    healthy = Behaviour(ttft_s=0.001)
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=10.0), num_requests=40, num_warmup_requests=0
    )
    with golden_server(healthy) as server:

        def slow_down(num_done: int, num_total: int, elapsed_s: float) -> None:
            server.behaviour = behaviour

        begun_s = time.monotonic()
        s = HttpLoadDriver(deadline_s=2.5).drive(server.target, traffic, slow_down)
        took_s = time.monotonic() - begun_s
    assert 2.5 <= took_s < 10.0
    assert s.num_requests == 40
    kinds = [" ".join(e.split()[:3]) for e in s.error]
    assert set(kinds) == {"", "deadline: not answered", "deadline: not sent"}
    unsent = np.array([k == "deadline: not sent" for k in kinds])
    np.testing.assert_array_equal(np.isnan(s.dispatched_s), unsent)
    np.testing.assert_allclose(s.intended_s, np.arange(40) / 10.0, atol=1e-9)
    assert not np.isnan(s.done_s[~unsent]).any()
    assert measure_requests(s, {}, 0)


def test_the_deadline_of_a_call_comes_before_that_of_the_driver() -> None:
    traffic = Traffic(arrivals=ClosedLoop(num_users=2), num_requests=1_000, request_timeout_s=30.0)
    with golden_server(Behaviour(ttft_s=0.2, itl_s=0.0)) as server:
        s = HttpLoadDriver(deadline_s=600.0).drive(server.target, traffic, quiet, deadline_s=2.5)
    assert s.num_requests == 1_002
    assert s.error[-1].startswith("deadline: not sent")
    assert np.sum(s.error == "") > 3
