"""The energy of a token, from readings and steps whose answer is known by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from results.measurement import Measurement
from results.samples import StepSamples
from results.telemetry import Row, Telemetry
from results.telemetry_steps import (
    doubts_of_step_telemetry,
    measure_step_telemetry,
    windows_of,
)

# Two ranks, five steps of a second, the first to warm up; rank 1 entered its loop later, so its
# clock reads less. Tokens: 100 of each rank in each step, so 800 in the measured ones.
STEP, RANK = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
ZEROS = np.zeros(10)
SAMPLES = StepSamples(
    step=STEP,
    rank=RANK,
    start_s=2.0 + STEP - 1.5 * RANK,
    duration_s=ZEROS + 1.0,
    data_wait_s=ZEROS,
    num_tokens=np.full(10, 100),
    loss=ZEROS + 3.0,
    memory_bytes=np.full(10, -1),
    is_warmup=STEP == 0,
)


def read(
    name: str, value: Callable[[float], float], rank: int, until: float = 10.0, device: int = 0
) -> list[Row]:
    """Every half second on the rank's clock."""
    times = np.arange(0.0, until + 0.25, 0.5)
    return [Row(float(t), "nvml", name, value(t), str(rank), f"gpu={device}") for t in times]


BOTH = [
    *read("device_energy_j", lambda t: 5e6 + 300.0 * t, 0),
    *read("device_energy_j", lambda t: 1e6 + 200.0 * t, 1),
]


def measured(
    rows: list[Row] | None, chips: int = 2, samples: StepSamples = SAMPLES
) -> dict[str, Measurement]:
    telemetry = None if rows is None else Telemetry.of(rows)
    return {m.metric: m for m in measure_step_telemetry(telemetry, samples, chips)}


def test_each_rank_has_a_window_on_its_own_clock() -> None:
    assert windows_of(SAMPLES) == {0: (3.0, 7.0), 1: (1.5, 5.5)}


def test_joules_of_the_measured_steps_over_their_tokens() -> None:
    """300 W and 200 W over four seconds each are 2000 J; each window ends on a reading."""
    found = measured(BOTH)
    assert found["device_energy_j"].value == pytest.approx(2000.0)
    per_token = found["energy_per_token_j"]
    assert per_token.value == pytest.approx(2000.0 / 800)
    assert (per_token.low, per_token.high) == pytest.approx((2.5, 2.5))
    assert per_token.n == 4
    assert "own energy counters" in per_token.method


def test_ends_between_two_readings_widen_the_bounds() -> None:
    """Half a second may be missing or too much, at 500 W: 250 J of 2000."""
    moved = replace(SAMPLES, start_s=SAMPLES.start_s + 0.25)
    per_token = measured(BOTH, samples=moved)["energy_per_token_j"]
    assert per_token.value == pytest.approx(2.5)
    assert (per_token.low, per_token.high) == pytest.approx((1750 / 800, 2250 / 800))


def test_power_alone_is_integrated_and_has_no_bounds() -> None:
    """100 + 10 t over [3, 7] is 400 + 5 (49 - 9) = 600 J; 200 W over four seconds are 800 J."""
    rows = [
        *read("device_power_w", lambda t: 100.0 + 10.0 * t, 0),
        *read("device_power_w", lambda t: 200.0, 1),
        *read("device_utilisation", lambda t: 0.5, 0),
        *read("device_utilisation", lambda t: 0.9, 1),
        *read("device_memory_used_bytes", lambda t: 1e9 * min(t, 4.0), 0),
        *read("device_memory_used_bytes", lambda t: 2e9, 1),
    ]
    found = measured(rows)
    assert found["energy_per_token_j"].value == pytest.approx(1400 / 800)
    assert (found["energy_per_token_j"].low, found["energy_per_token_j"].high) == (None, None)
    assert "no bounds" in found["energy_per_token_j"].method
    assert found["device_power_mean_w"].value == pytest.approx(150.0 + 200.0)
    assert found["device_utilisation_mean"].value == pytest.approx(0.7)
    assert found["device_memory_max_bytes"].value == pytest.approx(6e9)


@pytest.mark.parametrize(
    ("rows", "chips", "samples", "why"),
    [
        (None, 0, SAMPLES, "no accelerator chips"),
        (None, 2, SAMPLES, "nothing was read of the devices"),
        (BOTH, 4, SAMPLES, "2 of 4 chips told what they drew"),
        (
            [*BOTH[:21], *read("device_energy_j", lambda t: t, 1, until=5.0)],
            2,
            SAMPLES,
            "the readings of rank 1 do not cover its measured steps",
        ),
        (
            [*BOTH[:21], *read("device_energy_j", lambda t: -t, 1)],
            2,
            SAMPLES,
            "the readings of rank 1 do not cover",
        ),
        (BOTH, 2, replace(SAMPLES, attempt=STEP // 3), "the job was started again"),
        (BOTH, 2, replace(SAMPLES, num_tokens=np.full(10, -1)), "how many tokens a step has"),
        (BOTH, 2, replace(SAMPLES, is_warmup=STEP >= 0), "no step was measured"),
        (
            [*BOTH, *read("device_energy_j", lambda t: t, 7)],
            2,
            SAMPLES,
            "the ranks 7 have chips and tell of no steps",
        ),
    ],
)
def test_what_is_not_known_is_said_to_be_not_known(
    rows: list[Row] | None, chips: int, samples: StepSamples, why: str
) -> None:
    per_token = measured(rows, chips, samples)["energy_per_token_j"]
    assert per_token.value is None
    assert why in per_token.reason


def test_devices_that_were_slowed_down_while_it_counted() -> None:
    rows = [
        *read("device_throttled", lambda t: float(t < 2.0), 0),  # before its measured steps
        *read("device_throttled", lambda t: float(t > 5.0), 1),  # its last reading but one
    ]
    (doubt,) = [
        d
        for d in doubts_of_step_telemetry(Telemetry.of(rows), SAMPLES, 0)
        if d.code == "device_throttled"
    ]
    assert doubt.message.startswith("1 of 2 devices were slowed down")
