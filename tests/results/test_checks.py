"""Each doubt is raised by a run that has its fault, and by no clean run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from results.checks import doubts_of
from results.environment import Environment, Hardware, HostNoise, Software
from results.record import Placement
from results.samples import RequestSamples, StepSamples


def clean(n: int = 60) -> RequestSamples:
    at = np.arange(n, dtype=float)
    return RequestSamples(
        intended_s=at,
        dispatched_s=at + 0.0005,
        written_s=at + 0.001,
        first_byte_s=at + 0.05,
        first_token_s=at + 0.05,
        done_s=at + 0.2,
        prompt_tokens=np.full(n, 8),
        output_tokens=np.full(n, 1),
        status=np.full(n, 200),
        error=np.array([""] * n, dtype=object),
        is_warmup=np.arange(n) < 2,
        worker=np.zeros(n, dtype=int),
        event_offset=np.arange(n + 1),
        event_s=at + 0.05,
        event_tokens=np.ones(n, dtype=int),
    )


def codes(samples: RequestSamples | StepSamples, **kwargs: object) -> dict[str, bool]:
    found = doubts_of(samples, kwargs.get("environment"), kwargs.get("placement"))  # type: ignore[arg-type]
    return {d.code: d.invalidates for d in found}


def test_a_clean_run_has_no_doubt() -> None:
    assert codes(clean()) == {}


@pytest.mark.parametrize(("num_failed", "invalidates"), [(1, True), (0, None)])
def test_failed_requests(num_failed: int, invalidates: bool | None) -> None:
    run = clean()
    error = run.error.copy()
    error[10 : 10 + num_failed] = "timeout: 1 s"
    assert codes(replace(run, error=error)).get("failed_requests") is invalidates


def test_few_failures_among_many_are_a_doubt_only() -> None:
    run = clean(400)
    error = run.error.copy()
    error[10] = "http_500: boom"
    assert codes(replace(run, error=error)) == {"failed_requests": False}


def test_a_late_client_invalidates() -> None:
    run = clean()
    late = run.dispatched_s + np.where(np.arange(60) % 10 == 0, 0.02, 0.0)
    assert codes(replace(run, dispatched_s=late)) == {"client_late": True}


def test_lag_within_five_percent_of_a_slow_ttft_is_allowed() -> None:
    run = clean()
    slow = replace(run, first_token_s=run.intended_s + 0.9, dispatched_s=run.intended_s + 0.03)
    assert "client_late" not in codes(slow)


def test_unsent_requests_invalidate() -> None:
    run = clean()
    sent = run.dispatched_s.copy()
    sent[-1] = np.nan
    assert codes(replace(run, dispatched_s=sent))["unsent_requests"] is True


def test_a_growing_queue_has_no_steady_state() -> None:
    run = clean()
    grown = replace(run, first_token_s=run.intended_s + 0.05 * (1 + run.intended_s))
    assert codes(grown) == {"no_steady_state": False}


def test_no_warmup_and_no_requests() -> None:
    run = clean()
    assert codes(replace(run, is_warmup=np.zeros(60, dtype=bool))) == {"no_warmup": False}
    assert codes(replace(run, is_warmup=np.ones(60, dtype=bool))) == {"no_requests": True}


def training(loss: list[float]) -> StepSamples:
    n = len(loss)
    return StepSamples(
        step=np.arange(n),
        rank=np.zeros(n, dtype=int),
        start_s=np.arange(n, dtype=float),
        duration_s=np.ones(n),
        data_wait_s=np.zeros(n),
        num_tokens=np.full(n, 10),
        loss=np.array(loss),
        memory_bytes=np.full(n, -1),
        is_warmup=np.arange(n) < 1,
    )


def test_a_fast_wrong_training_run_is_visible() -> None:
    assert codes(training([5.0, 4.0, 3.0])) == {}
    assert codes(training([5.0, 4.0, 4.5])) == {"loss_did_not_fall": False}
    assert codes(training([5.0, 4.0, float("nan")])) == {"loss_not_finite": True}


def test_virtual_pools_busy_hosts_and_dirty_checkouts_are_doubted() -> None:
    node = Hardware(node="n", cpu_model="c", num_cpus=2, memory_bytes=1, kernel="k")
    environment = Environment(
        software=Software(python="3", windtunnel="0", git_dirty=True),
        hardware=(node,),
        noise=HostNoise(load_1m_before=5.0, load_1m_after=1.0),
    )
    placement = Placement(
        pool="p", accelerator="H100", num_chips=1, capacity="spot", nodes=("n",), virtual=True
    )
    found = codes(clean(), environment=environment, placement=placement)
    assert set(found) == {"dirty_checkout", "host_busy", "virtual_pool"}
    assert not any(found.values())
