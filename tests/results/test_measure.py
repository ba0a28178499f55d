"""Definitions worked out by hand on a few requests and steps."""

from __future__ import annotations

import numpy as np
import pytest

from results.distributions import percentile_name
from results.measure import (
    measure_cost,
    measure_requests,
    measure_startup,
    measure_token_cost,
    request_metrics,
)
from results.measurement import Measurement
from results.samples import RequestSamples
from results.startup import PhaseSource, StartupPhase, StartupTimeline


def requests(**changes: object) -> RequestSamples:
    """Three measured requests and one warm-up row.

    0: warm-up. 1: tokens at 1.5, 1.7, 1.9 (one each), done 2.0, intended 1.0, sent 1.1.
    2: chunks of 2 and 3 tokens at 3.0 and 3.4, done 3.5, intended 2.0, sent 2.0.
    3: failed with a 503.
    """
    nan = np.nan
    columns: dict[str, object] = {
        "intended_s": np.array([0.0, 1.0, 2.0, 3.0]),
        "dispatched_s": np.array([0.0, 1.1, 2.0, 3.0]),
        "written_s": np.array([0.0, 1.1, 2.0, 3.0]),
        "first_byte_s": np.array([0.2, 1.4, 2.9, 3.1]),
        "first_token_s": np.array([0.2, 1.5, 3.0, nan]),
        "done_s": np.array([0.3, 2.0, 3.5, 3.2]),
        "prompt_tokens": np.array([10, 10, 20, -1]),
        "output_tokens": np.array([1, 3, 5, -1]),
        "status": np.array([200, 200, 200, 503]),
        "error": np.array(["", "", "", "http_503: overloaded"], dtype=object),
        "is_warmup": np.array([True, False, False, False]),
        "worker": np.array([0, 0, 0, 0]),
        "event_offset": np.array([0, 1, 4, 6, 6]),
        "event_s": np.array([0.2, 1.5, 1.7, 1.9, 3.0, 3.4]),
        "event_tokens": np.array([1, 1, 1, 1, 2, 3]),
    }
    return RequestSamples(**(columns | changes))  # type: ignore[arg-type]


def by_name(measurements: tuple[Measurement, ...]) -> dict[tuple[str, str], Measurement]:
    return {(m.metric, m.statistic): m for m in measurements}


def test_latencies_count_from_the_intended_send() -> None:
    m = request_metrics(requests())
    assert m.ttft_s[:2] == pytest.approx([0.5, 1.0])
    assert m.e2e_s[:2] == pytest.approx([1.0, 1.5])
    assert m.tpot_s[:2] == pytest.approx([0.5 / 2, 0.5 / 4])
    assert m.ntpot_s[:2] == pytest.approx([1.0 / 3, 1.5 / 5])
    assert np.isnan(m.ttft_s[2])
    assert m.dispatch_lag_s == pytest.approx([0.1, 0.0, 0.0])


def test_gaps_are_per_token_and_per_chunk() -> None:
    m = request_metrics(requests())
    assert sorted(m.inter_chunk_s) == pytest.approx([0.2, 0.2, 0.4])
    # Request 2: two tokens at 3.0 (gap 0), then 0.4, then two more that came with it.
    assert list(m.itl_s) == pytest.approx([0.2, 0.2, 0.0, 0.4, 0.0, 0.0])


def test_a_chunk_of_unknown_tokens_gives_chunks_but_no_itl() -> None:
    m = request_metrics(requests(event_tokens=np.array([1, 1, 1, 1, -1, -1])))
    assert len(m.inter_chunk_s) == 3
    assert len(m.itl_s) == 2


def test_rates_use_the_measured_window() -> None:
    got = by_name(measure_requests(requests(), {"ttft_s": 0.6}, num_chips=0))
    # Window: first intended measured send 1.0 → last end 3.5.
    assert got["achieved_rate", "value"].value == pytest.approx(2 / 2.5)
    assert got["output_throughput", "value"].value == pytest.approx(8 / 2.5)
    assert got["prompt_throughput", "value"].value == pytest.approx(30 / 2.5)
    assert got["offered_rate", "value"].value == pytest.approx(2 / 2.0)
    assert got["error_share", "value"].value == pytest.approx(1 / 3)
    # One of three met the limit; the failure counts against the share.
    assert got["slo_attainment", "value"].value == pytest.approx(1 / 3)
    assert got["goodput_rate", "value"].value == pytest.approx(1 / 2.5)
    assert got["output_throughput_per_chip", "value"].value is None


def test_percentiles_below_their_sample_size_say_so() -> None:
    got = by_name(measure_requests(requests(), {}, num_chips=2))
    p99 = got["ttft_s", "p99"]
    assert p99.value is None
    assert p99.reason == "n = 2; needs at least 1000"
    assert got["goodput_rate", "value"].reason == "the spec has no slo"
    assert got["output_throughput_per_chip", "value"].value == pytest.approx(8 / 2.5 / 2)


def test_no_answered_request_is_a_reason_not_a_zero() -> None:
    failed = np.array([""] + ["timeout"] * 3, dtype=object)
    got = by_name(measure_requests(requests(error=failed), {}, num_chips=0))
    assert got["ttft_s", "mean"].value is None
    assert "no request was answered" in got["ttft_s", "mean"].reason
    assert got["error_share", "value"].value == 1.0


def test_unattributed_is_what_no_phase_covers() -> None:
    def phase(name: str, start: float, end: float) -> StartupPhase:
        return StartupPhase(
            name=name, start_s=start, end_s=end, source=PhaseSource.LOG, resolution_s=0.01
        )

    timeline = StartupTimeline(
        phases=(phase("a", 0.0, 2.0), phase("b", 1.0, 3.0), phase("c", 5.0, 6.0)), ready_s=7.0
    )
    assert timeline.unattributed_s == pytest.approx(7.0 - 3.0 - 1.0)
    got = by_name(measure_startup(timeline, ""))
    assert got["startup_s", "value"].value == 7.0
    assert by_name(measure_startup(None, "not ours"))["startup_s", "value"].reason == "not ours"


def test_cost_is_chips_times_hours_times_price_or_nothing() -> None:
    got = by_name(measure_cost(8, 1800.0, 2.5))
    assert got["chip_hours", "value"].value == pytest.approx(4.0)
    assert got["cost_usd", "value"].value == pytest.approx(10.0)
    assert by_name(measure_cost(8, 1800.0, None))["cost_usd", "value"].value is None
    assert measure_cost(0, 1800.0, 2.5) == ()


@pytest.mark.parametrize(("q", "name"), [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")])
def test_percentile_names(q: float, name: str) -> None:
    assert percentile_name(q) == name


def test_a_million_tokens_cost_what_the_chips_cost_meanwhile() -> None:
    """By hand: 8 chips at 3.6 USD an hour are 0.008 USD/s; 200 out and 400 / 4 in a second are 300
    tokens/s, so that a million take 3333.3 s."""

    def rate(name: str, value: float) -> Measurement:
        return Measurement(metric=name, statistic="value", value=value, n=10)

    serving = (rate("output_throughput", 200.0), rate("prompt_throughput", 400.0))
    (cost,) = measure_token_cost(8, 3.6, serving)
    assert cost.metric == "cost_per_million_output_tokens_usd"
    assert cost.value == pytest.approx(0.008 * 1e6 / 300)
    (trained,) = measure_token_cost(8, 3.6, (rate("training_throughput", 1000.0),))
    assert trained.metric == "cost_per_million_training_tokens_usd"
    assert trained.value == pytest.approx(8.0)
    (unknown,) = measure_token_cost(8, None, serving)
    assert unknown.value is None
    assert "no price" in unknown.reason
    assert measure_token_cost(0, 3.6, serving) == ()
    assert measure_token_cost(8, 3.6, (rate("output_throughput", 0.0),)) == ()
