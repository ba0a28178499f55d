"""One load as a library sees it: measured, judged, cut where it ended."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from harness.bench.document import METRICS, STATISTICS, bench_document
from harness.bench.measure import (
    Ending,
    Interrupted,
    Measured,
    measure_endpoint,
    was_cut,
    whole_until_cut,
    without_gaps,
)
from harness.load.fleet import Pulse
from harness.load.local_workers import local_fleet
from results.samples import RequestSamples
from results.slo import parse_slo
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import GoldenServer, golden_server
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

pytestmark = pytest.mark.alone

QUICK = Behaviour(ttft_s=0.02, itl_s=0.002)
SHORT = Traffic(
    arrivals=ConstantArrivals(rate_rps=50.0), output_tokens=FixedLength(tokens=4), num_requests=30
)
ENDLESS = replace(SHORT, num_requests=None, duration_s=300.0)


@pytest.fixture
def server() -> Iterator[GoldenServer]:
    with golden_server(QUICK) as server:
        yield server


def values(measured: Measured) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.statistic): m.value for m in measured.measurements}


def test_a_load_is_measured(server: GoldenServer) -> None:
    measured = measure_endpoint(server.target, SHORT, slo={"ttft_s": 5.0}, calibrate=False)
    found = values(measured)
    ttft_s = found["ttft_s", "p50"]
    assert ttft_s is not None
    assert 0.02 <= ttft_s < 1.0
    assert found["slo_attainment", "value"] == 1.0
    assert measured.ending is Ending.COMPLETE
    assert measured.simulated
    assert measured.samples.num_requests == 32
    assert measured.client.calibration is None
    (worker,) = measured.client.workers
    assert worker.num_requests == 32


def test_a_fleet_is_kept_from_point_to_point(server: GoldenServer) -> None:
    with local_fleet() as fleet:
        for rate in (40.0, 80.0):
            traffic = replace(SHORT, arrivals=ConstantArrivals(rate_rps=rate))
            measured = measure_endpoint(server.target, traffic, workers=fleet, calibrate=False)
            assert values(measured)["offered_rate", "value"] == pytest.approx(rate, rel=0.01)
        assert fleet.num_workers == 1


def test_a_stop_rule_ends_the_load_early(
    server: GoldenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.bench.measure.FIRST_LOOK", 20)
    looked: list[int] = []

    def enough(samples: RequestSamples) -> bool:
        looked.append(samples.num_requests)
        assert samples.index.tolist() == list(range(samples.num_requests))
        return samples.num_requests > 60

    measured = measure_endpoint(server.target, ENDLESS, calibrate=False, until=enough)
    assert measured.ending is Ending.ENOUGH
    assert looked == sorted(looked)
    assert looked[-1] > 60
    assert 50 < measured.samples.num_requests < 2_000
    # What was cut off is no failure of the server's, and no row.
    assert set(measured.samples.error.tolist()) == {""}


@pytest.mark.chaos
def test_ctrl_c_brings_what_there_is(server: GoldenServer) -> None:
    def interrupt(pulse: Pulse) -> None:
        if pulse.num_done > 20:
            os.kill(os.getpid(), signal.SIGINT)

    before = threading.active_count()
    with pytest.raises(Interrupted) as raised:
        measure_endpoint(server.target, ENDLESS, calibrate=False, on_pulse=interrupt)
    measured = raised.value.measured
    assert measured.ending is Ending.INTERRUPTED
    assert 15 < measured.samples.num_requests < 2_000
    assert set(measured.samples.error.tolist()) == {""}
    assert threading.active_count() <= before + 1  # the one that took the signal's call


def rows(intended_s: list[float], error: list[str], sent: list[bool]) -> RequestSamples:
    n = len(intended_s)
    at_s = np.array(intended_s)
    one = np.ones(n, dtype=np.int64)
    dispatched_s = np.where(sent, at_s, np.nan)
    return RequestSamples(
        intended_s=at_s,
        dispatched_s=dispatched_s,
        written_s=dispatched_s,
        first_byte_s=dispatched_s,
        first_token_s=dispatched_s,
        done_s=dispatched_s,
        prompt_tokens=one,
        output_tokens=one,
        status=one,
        error=np.array(error, dtype=object),
        is_warmup=np.zeros(n, dtype=np.bool_),
        worker=one,
        event_offset=np.arange(n + 1),
        event_s=at_s,
        event_tokens=one,
    )


def test_a_cut_leaves_the_rows_before_it_and_no_survivors_after_it() -> None:
    samples = rows(
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        ["", "timeout: …", "", "cancelled: …", "", "not_sent: …"],
        [True, True, True, True, True, False],
    )
    assert was_cut(samples).tolist() == [False, False, False, True, False, True]
    # The row of 4.0 was answered only because it was short: keeping it would flatter the server.
    assert whole_until_cut(samples).intended_s.tolist() == [0.0, 1.0, 2.0]
    whole = rows([0.0, 1.0], ["", "http_500: …"], [True, True])
    assert whole_until_cut(whole) is whole


def test_a_look_leaves_out_what_came_after_one_that_is_not_there_yet() -> None:
    samples = rows([0.0, 1.0, 3.0, 4.0], [""] * 4, [True] * 4)
    samples = replace(samples, index=np.array([0, 1, 3, 4]))
    assert without_gaps(samples).intended_s.tolist() == [0.0, 1.0]
    assert without_gaps(without_gaps(samples)).num_requests == 2


def test_the_document_has_every_metric_and_a_reason_for_each_null(server: GoldenServer) -> None:
    slo = parse_slo("ttft_p50=5s,ttft_p99=5s,tpot=1s")
    measured = measure_endpoint(server.target, SHORT, slo=slo.per_request, calibrate=False)
    document = bench_document(measured, slo)
    document = json.loads(json.dumps(document, allow_nan=False))
    assert set(document["metrics"]) == set(METRICS)
    for name, metric in document["metrics"].items():
        assert {"unit", "n", *STATISTICS} <= metric.keys()
        for statistic in STATISTICS:
            assert (metric[statistic] is None) == (statistic in metric["reasons"]), name
    assert document["metrics"]["ttft_s"]["n"] == 30
    assert document["metrics"]["ttft_s"]["reasons"]["p99"] == "n = 30; needs at least 1000"
    assert document["offered_rate"] == pytest.approx(50.0, rel=0.01)
    assert 0 < document["achieved_rate"] <= 50.5
    assert document["evidence"] == "simulated"
    assert document["client"]["workers"][0]["num_requests"] == 32
    p50, *others = document["slo"]
    # 30 requests of a busy machine may follow each other too closely for an interval.
    assert p50["verdict"] == ("undecided" if p50["low"] is None else "met")
    assert bool(p50["reason"]) == (p50["low"] is None)
    assert [(s["asked"], s["limit"], s["verdict"]) for s in others] == [
        ("ttft p99 ≤ 5 s", 5.0, "undecided"),
        ("tpot ≤ 1 s for 99 % of the requests", 0.99, "undecided"),
    ]
    assert document["slo"][1]["reason"] == "n = 30; needs at least 1000"
    assert document["slo"][2]["value"] == 1.0
