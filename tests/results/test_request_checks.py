"""The validity gate: each fault is found by its code, and a sound run passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from results.checks import doubts_of
from results.client import Calibration, ClientReport, ClockAudit, WorkerReport
from results.request_checks import Expected
from results.samples import RequestSamples
from results.testing import make_requests


def sound(n: int = 400, rate: float = 100.0) -> RequestSamples:
    at = np.arange(n) / rate
    return RequestSamples(
        intended_s=at,
        dispatched_s=at + 0.0005,
        written_s=at + 0.001,
        first_byte_s=at + 0.05,
        first_token_s=at + 0.05,
        done_s=at + 30.0,  # long answers: most of the run is the tail
        prompt_tokens=np.full(n, 100),
        output_tokens=np.full(n, 20),
        own_output_tokens=np.full(n, 20),
        cached_tokens=np.zeros(n, dtype=int),
        status=np.full(n, 200),
        error=np.array([""] * n, dtype=object),
        is_warmup=np.arange(n) < 2,
        worker=np.zeros(n, dtype=int),
        event_offset=np.arange(n + 1),
        event_s=at + 0.05,
        event_tokens=np.ones(n, dtype=int),
    )


def client(**changes: Any) -> ClientReport:
    worker = WorkerReport(
        worker=0,
        host="a",
        num_requests=400,
        cpu_share=0.3,
        max_loop_stall_s=0.004,
        mean_loop_stall_s=0.0002,
    )
    return ClientReport(dialect="full", max_in_flight=9, workers=(replace(worker, **changes),))


def calibrated(asked: float, ceiling: float, is_bound: bool = True) -> ClientReport:
    calibration = Calibration(
        asked_rps=asked,
        ceiling_rps=ceiling,
        ceiling_is_bound=is_bound,
        floor_ttft_p50_s=0.0003,
        floor_ttft_p99_s=0.002,
        duration_s=1.0,
        num_workers=1,
    )
    return replace(client(), calibration=calibration)


def codes(
    samples: RequestSamples, report: ClientReport | None = None, **expected: Any
) -> dict[str, bool]:
    found = doubts_of(samples, None, None, report, expected=Expected(**expected))
    return {d.code: d.invalidates for d in found}


def test_a_sound_run_passes_with_everything_known() -> None:
    n = 400
    asked = {"prompt_tokens": np.full(n, 100), "output_tokens": np.full(n, 20)}
    assert codes(sound(), calibrated(100, 2000), **asked, max_cached_share=0.0) == {}


def test_a_short_runs_tail_of_answers_is_no_shortfall() -> None:
    """Four seconds of sends, thirty of answers: per second of the whole window a seventh of the
    offered rate was answered, and the load was exactly what was asked."""
    assert "rate_not_achieved" not in codes(sound())


@pytest.mark.parametrize(("delivered", "is_found"), [(0.7, True), (0.98, True), (0.995, False)])
def test_a_client_that_cannot_keep_the_rate(delivered: float, is_found: bool) -> None:
    run = sound(2000)
    slow = run.intended_s / delivered + 0.0005
    found = codes(replace(run, dispatched_s=slow))
    assert found.get("rate_not_achieved") is (True if is_found else None)
    assert found["client_late"] is True


def test_a_stall_that_is_caught_up_is_lag_and_no_shortfall() -> None:
    run = sound()
    late = run.dispatched_s + np.where((run.intended_s > 1) & (run.intended_s < 1.2), 0.2, 0.0)
    assert codes(replace(run, dispatched_s=late)) == {"client_late": True}


def test_a_closed_loop_has_no_rate_to_miss() -> None:
    run = sound()
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.exponential(0.5, 400))
    moved = {
        name: getattr(run, name) - run.intended_s + at
        for name in ("dispatched_s", "first_token_s", "done_s")
    }
    assert codes(replace(run, intended_s=at, **moved)) == {}


def test_turns_that_were_never_offered_are_failures_and_no_shortfall_of_the_rate() -> None:
    run = sound()
    hole = np.arange(400) == 7
    found = codes(
        replace(
            run,
            intended_s=np.where(hole, np.nan, run.intended_s),
            dispatched_s=np.where(hole, np.nan, run.dispatched_s),
            error=np.where(hole, "session: the turn before failed", "").astype(object),
        )
    )
    assert found == {"failed_requests": False}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # The window is 34 s long: 0.3 s are below its hundredth, 0.5 s above.
        ({"max_loop_stall_s": 0.3}, {"loop_stall_seen": False}),
        ({"max_loop_stall_s": 0.5}, {"loop_stalled": True}),
        ({"mean_loop_stall_s": 0.006}, {"loop_stalled": True}),
        ({"cpu_share": 0.85}, {"client_busy": False}),
        ({"cpu_share": 0.99}, {"client_busy": True}),
    ],
)
def test_a_deaf_or_busy_client(changes: dict[str, float], expected: dict[str, bool]) -> None:
    assert codes(sound(), client(**changes)) == expected


@pytest.mark.parametrize(
    ("reads", "p50_s", "p99_s", "is_found"),
    [
        (400, 0.0001, 0.0008, False),
        (400, 0.0001, 0.006, True),  # the p99 of every latency has 6 ms of ours in it
        (400, 0.003, 0.0045, True),  # and here the median has 3 ms
        (99, 0.003, 0.006, False),  # too few reads to say so
    ],
)
def test_a_client_that_sees_answers_late(
    reads: int, p50_s: float, p99_s: float, is_found: bool
) -> None:
    """The median TTFT is below 20 ms, so that the floors are the limits."""
    run = sound()
    audit = ClockAudit(num_reads=reads, lag_p50_s=p50_s, lag_p99_s=p99_s, lag_max_s=p99_s)
    assert np.median(run.first_token_s - run.intended_s) * 0.05 < 0.003
    found = codes(run, replace(client(), audit=audit))
    assert found == ({"client_reads_late": True} if is_found else {})


@pytest.mark.parametrize(
    ("asked", "ceiling", "is_bound", "expected"),
    [
        (1000, 2000, True, {}),
        (1001, 2000, True, {"near_client_ceiling": False}),
        (2001, 2000, True, {"near_client_ceiling": True}),
        # The search stopped before the client did: more than the ceiling may be well.
        (2001, 2000, False, {"near_client_ceiling": False}),
    ],
)
def test_rates_above_half_the_ceiling(
    asked: float, ceiling: float, is_bound: bool, expected: dict[str, bool]
) -> None:
    assert codes(sound(), calibrated(asked, ceiling, is_bound)) == expected


@pytest.mark.parametrize("what", ["prompt", "output"])
def test_tokens_that_were_not_asked_for(what: str) -> None:
    asked = np.full(400, 100 if what == "prompt" else 20)
    asked[10:20] += 1
    found = codes(sound(), **{f"{what}_tokens": asked})
    assert found == {f"{what}_tokens_not_as_asked": True}
    asked[13:] = 100 if what == "prompt" else 20  # three of 398: within the hundredth
    assert codes(sound(), **{f"{what}_tokens": asked}) == {}
    assert codes(sound(), **{f"{what}_tokens": np.full(400, -1)}) == {}


def test_the_servers_count_against_ours() -> None:
    run = sound()
    own = run.own_output_tokens.copy()
    own[100:200] += 1  # 1.25 % of all tokens
    assert codes(replace(run, own_output_tokens=own)) == {"token_counts_differ": False}
    own[100:300] += 3
    assert codes(replace(run, own_output_tokens=own)) == {"token_counts_differ": True}


def test_cache_hits_that_nobody_expects() -> None:
    run = replace(sound(), cached_tokens=np.full(400, 64))
    assert codes(run) == {}
    assert codes(run, max_cached_share=0.6) == {}
    assert codes(run, max_cached_share=0.0) == {"unexpected_cache_hits": True}
    unknown = replace(run, cached_tokens=np.full(400, -1))
    assert codes(unknown, max_cached_share=0.0) == {}


def test_few_answers_are_doubted_and_no_steady_state_is_no_fault() -> None:
    assert codes(sound(15)) == {"too_few_samples": False}
    run = sound()
    grown = replace(run, first_token_s=run.intended_s + 0.05 * (1 + 2 * run.intended_s))
    assert codes(grown) == {"no_steady_state": False}


def test_a_short_overload_is_seen_as_a_queue_that_grows() -> None:
    """Two servers of 0.17 s each are asked 15/s, and keep 11.8/s: after 5 s a queue of seconds."""
    n = 75
    arrivals_s, free_s = np.arange(n) / 15.0, [0.0, 0.0]
    first_s = []
    for arrival_s in arrivals_s:
        slot = int(np.argmin(free_s))
        free_s[slot] = max(free_s[slot], arrival_s) + 0.17
        first_s.append(free_s[slot] - 0.07)
    samples = make_requests(n)
    first = np.array(first_s)
    events = (first[:, None] + np.array([0.0, 0.02, 0.04, 0.07])).ravel()
    samples = replace(
        samples,
        intended_s=arrivals_s,
        dispatched_s=arrivals_s + 1e-4,
        written_s=arrivals_s + 2e-4,
        first_byte_s=first,
        first_token_s=first,
        first_answer_s=first,
        done_s=first + 0.07,
        event_s=events,
    )
    assert first[-1] - arrivals_s[-1] > 1.0
    assert codes(samples)["no_steady_state"] is False
