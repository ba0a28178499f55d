"""Definitions worked out by hand on a few steps."""

from __future__ import annotations

import numpy as np
import pytest

from results.checks import doubts_of
from results.measure_steps import StepContext, measure_steps
from results.measurement import Measurement
from results.samples import LOSS_NOT_TOLD, StepSamples


def by_name(found: tuple[Measurement, ...]) -> dict[tuple[str, str], Measurement]:
    return {(m.metric, m.statistic): m for m in found}


def steps(**changes: object) -> StepSamples:
    """Two ranks, three steps, the first a warm-up."""
    columns: dict[str, object] = {
        "step": np.array([0, 1, 2, 0, 1, 2]),
        "rank": np.array([0, 0, 0, 1, 1, 1]),
        "start_s": np.array([0.0, 5.0, 6.0, 0.0, 5.0, 6.5]),
        "duration_s": np.array([5.0, 1.0, 1.0, 5.0, 1.5, 1.0]),
        "data_wait_s": np.zeros(6),
        "num_tokens": np.full(6, 100),
        "loss": np.array([5.0, 4.0, 3.0, 5.0, 4.0, 3.2]),
        "memory_bytes": np.array([-1, 10, 12, -1, 11, 13]),
        "is_warmup": np.array([True, False, False, True, False, False]),
    }
    return StepSamples(**(columns | changes))  # type: ignore[arg-type]


def test_a_step_is_as_long_as_its_slowest_rank() -> None:
    got = by_name(measure_steps(steps(), StepContext(num_chips=2)))
    assert got["step_time_s", "mean"].value == pytest.approx((1.5 + 1.0) / 2)
    # 400 tokens over rank 1's span 5.0 → 7.5.
    assert got["training_throughput", "value"].value == pytest.approx(400 / 2.5)
    assert got["training_throughput_per_chip", "value"].value == pytest.approx(400 / 2.5 / 2)
    assert got["final_loss", "value"].value == pytest.approx(3.1)
    assert got["peak_memory_bytes", "value"].value == 13


def test_an_infinite_loss_is_no_number() -> None:
    got = by_name(measure_steps(steps(loss=np.full(6, np.inf)), StepContext(num_chips=0)))
    assert got["final_loss", "value"].value is None
    assert "finite" in got["final_loss", "value"].reason


def test_mfu_is_flops_of_the_model_over_the_peak() -> None:
    context = StepContext(num_chips=2, flops_per_token=6e6, peak_flops_per_chip=1e9)
    # 80 tokens/s/chip × 6e6 = 4.8e8 of 1e9.
    assert by_name(measure_steps(steps(), context))["mfu", "value"].value == pytest.approx(0.48)


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (StepContext(num_chips=0, flops_per_token=6e6), "no accelerator"),
        (StepContext(num_chips=2, flops_per_token=6e6, why_no_peak="no table"), "no table"),
        (StepContext(num_chips=2, peak_flops_per_chip=1e9), "FLOPs per token"),
        (StepContext(num_chips=2, flops_per_token=6e8, peak_flops_per_chip=1e9), "wrong"),
    ],
)
def test_mfu_is_never_guessed(context: StepContext, reason: str) -> None:
    got = by_name(measure_steps(steps(), context))["mfu", "value"]
    assert got.value is None
    assert reason in got.reason


def test_shares_are_of_all_ranks_step_time() -> None:
    parts = np.array([9.0, 0.5, 0.25, 9.0, 0.0, 0.15])  # warm-up rows would be 9 s
    got = by_name(
        measure_steps(steps(data_wait_s=parts, comm_s=parts / 3), StepContext(num_chips=0))
    )
    assert got["data_stall_share", "value"].value == pytest.approx(0.9 / 4.5)
    assert got["communication_share", "value"].value == pytest.approx(0.3 / 4.5)


def test_what_was_not_timed_has_no_share() -> None:
    got = by_name(measure_steps(steps(), StepContext(num_chips=0)))
    assert got["communication_share", "value"].value is None
    assert "not timed" in got["communication_share", "value"].reason
    assert got["optimizer_time_s", "mean"].value is None


def test_a_checkpoint_takes_as_long_as_its_slowest_rank() -> None:
    saved = np.array([0.0, 0.2, 0.0, 0.0, 0.6, 0.0])
    context = StepContext(num_chips=0, checkpoint_restore_s=(1.5,))
    got = by_name(measure_steps(steps(checkpoint_s=saved), context))
    assert got["checkpoint_save_s", "mean"].value == pytest.approx(0.6)
    assert got["checkpoint_restore_s", "mean"].value == pytest.approx(1.5)
    assert ("checkpoint_save_s", "mean") not in by_name(measure_steps(steps(), context))


def test_what_a_script_does_not_tell_has_no_number() -> None:
    untold = steps(num_tokens=np.full(6, -1), loss=np.full(6, LOSS_NOT_TOLD))
    got = by_name(measure_steps(untold, StepContext(num_chips=0)))
    assert got["step_time_s", "mean"].value == pytest.approx(1.25)
    assert got["training_throughput", "value"].reason == (
        "the training does not say how many tokens a step has"
    )
    assert got["final_loss", "value"].reason == "the training does not tell its loss"
    assert [d.code for d in doubts_of(untold, None, None)] == ["loss_not_told"]
    odd = by_name(measure_steps(steps(loss=np.full(6, -4.0)), StepContext(num_chips=0)))
    assert odd["final_loss", "value"].reason == "the loss is -4, which no cross-entropy is"
