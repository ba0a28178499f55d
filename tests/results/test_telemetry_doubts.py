"""The server's account against ours: what agrees raises no doubt, what does not is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from results.record import Doubt
from results.samples import RequestSamples
from results.telemetry import GAP, READ_S, Row, Telemetry
from results.telemetry_doubts import (
    PROBES_PER_WORKER,
    doubts_of_telemetry,
    service_ttft_s,
    shares_prefixes,
)
from results.testing import make_requests

# vLLM's buckets of TTFT, as far as these tests reach.
BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, math.inf)
SAMPLES = make_requests(200)
TTFT = service_ttft_s(SAMPLES)
FRONT_DOOR_S = 0.002


def told(
    ttft: Any = TTFT - FRONT_DOOR_S,
    *,
    output: float = 800.0,
    prompt: float = 200 * 64.0,
    running: float = 0.0,
    preemptions: float = 0.0,
    hits: float = 0.0,
    more: tuple[Row, ...] = (),
) -> Telemetry:
    """What a server says that answered requests of these TTFTs; it had answered others before."""
    before = np.array([0.03, 0.3])
    rows = [*more]
    for at_s, values, part in ((-1.0, before, 0.0), (210.0, np.append(before, ttft), 1.0)):
        rows.append(Row(at_s, "vllm", READ_S, 0.002))
        name = "vllm:time_to_first_token_seconds"
        rows += [
            Row(at_s, "vllm", f"{name}_bucket", float((values <= le).sum()), "0/0", f"le={le:g}")
            for le in BOUNDS
        ]
        rows.append(Row(at_s, "vllm", f"{name}_sum", float(values.sum()), "0/0"))
        for counter, grown in (
            ("generation_tokens", output),
            ("prompt_tokens", prompt),
            ("num_preemptions", preemptions),
            ("prefix_cache_queries", prompt),
            ("prefix_cache_hits", hits),
        ):
            rows.append(Row(at_s, "vllm", f"vllm:{counter}", 17.0 + grown * part, "0/0"))
        rows.append(Row(at_s, "vllm", "vllm:num_requests_running", running, "0/0"))
    return Telemetry.of(rows)


def doubts(
    telemetry: Telemetry, samples: RequestSamples = SAMPLES, **options: Any
) -> dict[str, Doubt]:
    given = {"expects_prefix_hits": False} | options
    return {d.code: d for d in doubts_of_telemetry(telemetry, samples, **given)}


def test_a_server_that_agrees_raises_no_doubt() -> None:
    assert doubts(told()) == {}
    assert doubts(Telemetry.of([])) == {}


def test_our_own_queue_is_not_held_against_the_server() -> None:
    """TTFT counts from the intended send; what the server knows begins at the dispatch."""
    late = replace(
        SAMPLES,
        dispatched_s=SAMPLES.dispatched_s + 0.5,
        first_token_s=SAMPLES.first_token_s + 0.5,
        done_s=SAMPLES.done_s + 0.5,
        event_s=SAMPLES.event_s + 0.5,
    )
    assert doubts(told(), late) == {}


def test_a_client_that_sees_tokens_late_is_found_out() -> None:
    """150 ms between the server's first token and ours: a client that cannot keep up."""
    late = replace(SAMPLES, first_token_s=SAMPLES.first_token_s + 0.150)
    found = doubts(told(), late)
    assert set(found) == {"server_client_ttft_disagree"}
    message = found["server_client_ttft_disagree"].message
    ours = service_ttft_s(late)
    assert (
        f"mean {ours.mean() * 1e3:.1f} ms against {(TTFT.mean() - 0.002) * 1e3:.1f} ms" in message
    )
    assert f"p50 {np.median(ours) * 1e3:.1f} ms against 100.0–250.0 ms" in message
    assert "n = 200" in message


def test_latencies_below_the_servers_own_are_found_out() -> None:
    early = replace(SAMPLES, first_token_s=SAMPLES.dispatched_s + (TTFT - 0.04))
    assert set(doubts(told(), early)) == {"server_client_ttft_disagree"}


def test_probes_are_known_traffic() -> None:
    with_probes = np.append(TTFT - FRONT_DOOR_S, [0.02] * PROBES_PER_WORKER)
    assert doubts(told(with_probes, output=800.0 + PROBES_PER_WORKER)) == {}


def test_somebody_elses_requests_are_foreign_traffic() -> None:
    others = np.append(TTFT - FRONT_DOOR_S, [0.02] * 30)
    found = doubts(told(others, output=5000.0))
    assert set(found) == {"foreign_traffic"}
    assert "began to answer 230 requests while we sent 200" in found["foreign_traffic"].message


def test_a_server_that_was_busy_before_the_load() -> None:
    found = doubts(told(running=4.0))
    assert set(found) == {"foreign_traffic"}
    assert "4 requests were running" in found["foreign_traffic"].message


def test_metrics_of_another_server() -> None:
    found = doubts(told(TTFT[:50]))
    assert "server_client_counts_disagree" in found
    assert "200 requests, the server counts 50" in found["server_client_counts_disagree"].message


@pytest.mark.parametrize(
    ("output", "agree"), [(800, True), (803, True), (790, False), (900, False)]
)
def test_output_tokens(output: float, agree: bool) -> None:
    found = doubts(told(output=output))
    assert (found == {}) is agree
    if not agree:
        message = found["server_client_tokens_disagree"].message
        assert f"output tokens: 800 by our count of the answers, {output} by" in message


def test_tokens_of_failed_requests_are_the_servers_alone() -> None:
    error = SAMPLES.error.copy()
    error[:10] = "timeout"
    tokens = SAMPLES.output_tokens.copy()
    tokens[:10] = -1
    failed = replace(SAMPLES, error=error, output_tokens=tokens)
    assert doubts(told(), failed) == {}
    assert "server_client_tokens_disagree" in doubts(told(output=700.0), failed)


def test_prompt_tokens() -> None:
    message = doubts(told(prompt=6400.0))["server_client_tokens_disagree"].message
    assert message.startswith("prompt tokens: 12,800 by our count of the answers, 6,400 by")


def test_unknown_counts_are_compared_with_nothing() -> None:
    unknown = replace(SAMPLES, output_tokens=np.full(200, -1), prompt_tokens=np.full(200, -1))
    assert doubts(told(output=1.0, prompt=1.0), unknown) == {}
    # But our own count serves where the server gave none.
    own = replace(unknown, own_output_tokens=np.full(200, 4))
    assert set(doubts(told(output=1.0), own)) == {"server_client_tokens_disagree"}


def test_preemptions() -> None:
    assert "3 times" in doubts(told(preemptions=3.0))["preemptions"].message


def test_prefix_hits_that_nobody_asked_for() -> None:
    found = doubts(told(hits=6400.0))
    assert "50.0% of the prompt tokens (6,400 of 12,800)" in found["prefix_cache_hits"].message
    assert doubts(told(hits=6400.0), expects_prefix_hits=True) == {}
    assert doubts(told(hits=64.0)) == {}  # half a percent: a block here and there


@pytest.mark.parametrize(
    ("traffic", "shares"),
    [
        ({}, False),
        ({"arrivals": {"kind": "poisson"}, "api": "completions"}, False),
        ({"prompts": {"kind": "random"}}, False),
        ({"prompts": None, "sessions": None}, False),
        ({"prompts": {"kind": "shared_prefix"}}, True),
        ({"prompts": {"kind": "file"}}, True),
        ({"sessions": {"turns": 3}}, True),
        ({"arrivals": {"kind": "trace"}}, True),
        ({"api": "chat"}, True),
    ],
)
def test_which_traffic_shares_prefixes(traffic: Mapping[str, Any], shares: bool) -> None:
    assert shares_prefixes(traffic) is shares


def test_devices_that_were_slowed_down() -> None:
    def device(name: str, slowed: set[int]) -> tuple[Row, ...]:
        return tuple(
            Row(float(t), "nvml", "device_throttled", float(t in slowed), label=name)
            for t in range(10)
        )

    hot = device("gpu=0", {3, 4}) + device("gpu=1", set())
    message = doubts(told(more=hot))["device_throttled"].message
    assert message.startswith("1 of 2 devices were slowed down")
    assert "10% of the readings" in message
    assert doubts(told(more=device("gpu=1", set()))) == {}


def test_a_source_that_died_is_a_doubt_and_one_that_never_was_is_not() -> None:
    gaps = tuple(Row(float(t), "vllm", GAP, math.nan, label="HTTP 500") for t in range(3))
    message = doubts(told(more=gaps))["telemetry_gap"].message
    assert message == "3 of 5 reads of vllm failed; the last one: HTTP 500"
    never = (Row(0.0, "nvml", "absent", math.nan, label="NVML: no driver"),)
    assert doubts(told(more=never)) == {}


def test_chips_that_nothing_tells_of() -> None:
    never = (Row(0.0, "nvml", "absent", math.nan, label="NVML: no driver"),)
    found = doubts(told(more=never), num_chips=8)
    assert "8 chips" in found["no_device_telemetry"].message
    assert "nvml: NVML: no driver" in found["no_device_telemetry"].message
    read = (Row(0.0, "nvml", READ_S, 0.001),)
    assert doubts(told(more=read), num_chips=8) == {}


def test_too_few_requests_are_not_compared() -> None:
    few = make_requests(10)
    late = replace(few, first_token_s=few.first_token_s + 0.4)
    found = doubts(told(service_ttft_s(few), output=40.0, prompt=640.0), late)
    assert found == {}
