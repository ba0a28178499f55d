"""One number per run from readings whose answer is known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from results.measurement import Measurement
from results.metrics import REGISTRY, Area
from results.samples import RequestSamples
from results.telemetry import READ_S, Row, Telemetry
from results.telemetry_energy import energy_in, grown_in
from results.telemetry_measure import measure_telemetry, window_of
from results.testing import make_requests

SAMPLES = make_requests(10)  # the last answer comes a little after 9 s
START, END = window_of(SAMPLES)


def every_second(
    name: str,
    value: Callable[[float], float],
    source: str = "vllm",
    replica: str = "0/0",
    label: str = "",
    until: int = 12,
) -> list[Row]:
    """Read at −2, −1, …; what lies outside the window must not count in a mean."""
    return [Row(float(t), source, name, value(t), replica, label) for t in range(-2, until)]


def outside(t: float, inside: float, other: float) -> float:
    return inside if 0 <= t <= END else other


def measured(
    rows: list[Row], chips: int = 0, samples: RequestSamples = SAMPLES
) -> dict[str, Measurement]:
    return {m.metric: m for m in measure_telemetry(Telemetry.of(rows), samples, chips)}


def test_the_window_is_the_loads() -> None:
    assert START == 0.0
    assert np.nanmax(SAMPLES.done_s) == END
    assert 9.0 < END < 10.0


def test_gauges_are_added_over_replicas_and_averaged_in_the_window() -> None:
    rows = every_second("vllm:num_requests_running", lambda t: outside(t, t, 99.0))
    rows += every_second(
        "vllm:num_requests_running", lambda t: outside(t, 2.0, 99.0), replica="0/1"
    )
    rows += every_second("vllm:kv_cache_usage_perc", lambda t: outside(t, 0.2, 1.0))
    rows += every_second(
        "vllm:kv_cache_usage_perc", lambda t: outside(t, 0.6 if t == 4 else 0.4, 1.0), replica="0/1"
    )
    found = measured(rows)
    assert found["server_running_mean"].value == pytest.approx(np.mean(np.arange(10)) + 2.0)
    assert found["server_running_mean"].n == 10
    assert found["server_running_max"].value == 11.0
    assert found["kv_cache_usage_mean"].value == pytest.approx((0.2 + 0.4 + 0.02) / 2)
    assert found["kv_cache_usage_max"].value == 0.6  # of one replica, not of their mean
    assert found["server_waiting_mean"].value is None
    assert "nothing on the server's side told it" in found["server_waiting_mean"].reason


def test_a_window_that_was_hardly_looked_into_has_no_mean() -> None:
    rows = [Row(t, "vllm", "vllm:num_requests_running", 1.0) for t in (-1.0, 5.0, 11.0)]
    found = measured(rows)["server_running_mean"]
    assert found.value is None
    assert found.reason == "1 readings in the measured window; needs at least 2"


def test_nonsense_costs_its_own_number_alone() -> None:
    rows = every_second("vllm:kv_cache_usage_perc", lambda t: 42.0)  # a percentage, or worse
    rows += every_second("vllm:num_requests_running", lambda t: 1.0)
    found = measured(rows)
    assert found["kv_cache_usage_mean"].value is None
    assert "nonsense" in found["kv_cache_usage_mean"].reason
    assert found["server_running_mean"].value == 1.0


def test_hits_and_preemptions_are_those_of_the_window() -> None:
    rows = every_second("vllm:prefix_cache_queries", lambda t: 1000.0 + 100.0 * max(t, 0))
    rows += every_second("vllm:prefix_cache_hits", lambda t: 500.0 + 25.0 * max(t, 0))
    rows += every_second("vllm:num_preemptions", lambda t: 7.0 + (t > 3) + (t > 5))
    found = measured(rows)
    assert found["prefix_hit_ratio"].value == pytest.approx(0.25)
    assert found["server_preemptions"].value == 2.0
    again = measured([Row(0.0, "vllm", READ_S, 0.001)])
    assert again["prefix_hit_ratio"].value is None
    assert again["server_preemptions"].value is None


def test_counters_are_interpolated_at_the_ends() -> None:
    telemetry = Telemetry.of(
        Row(t, "s", "c", v) for t, v in ((-1.0, 0.0), (1.0, 4.0), (11.0, 24.0))
    )
    assert grown_in(telemetry.total("c"), (0.0, 10.0)) == pytest.approx(22.0 - 2.0)
    assert grown_in(telemetry.total("c"), (0.0, 12.0)) is None  # not covered
    assert grown_in(telemetry.total("c"), (0.0, 0.0)) is None
    assert grown_in(None, (0.0, 1.0)) is None


def power(t: float) -> float:
    return 100.0 + 10.0 * t


def test_energy_is_the_integral_of_power() -> None:
    """The integral of 100 + 10 t is 100 t + 5 t²; a trapezoid is exact on a line."""
    rows = every_second("device_power_w", power, "nvml", "", "gpu=0")
    rows += every_second("device_power_w", lambda t: 50.0, "nvml", "", "gpu=1")
    found = measured(rows, chips=2)
    by_hand = 100 * END + 5 * END**2 + 50 * END
    assert found["device_energy_j"].value == pytest.approx(by_hand)
    assert found["device_power_mean_w"].value == pytest.approx(100 + 45 + 50)
    assert found["energy_per_output_token_j"].value == pytest.approx(by_hand / 40)
    assert found["energy_per_output_token_j"].n == 40
    assert found["device_utilisation_mean"].value is None


def test_a_devices_own_counter_is_believed_first() -> None:
    rows = every_second("device_power_w", power, "nvml", "", "gpu=0")
    rows += every_second("device_energy_j", lambda t: 5e6 + 120.0 * t, "nvml", "", "gpu=0")
    assert measured(rows, 1)["device_energy_j"].value == pytest.approx(120.0 * END)
    # One device without a counter: then the power of all of them.
    rows += every_second("device_power_w", lambda t: 50.0, "nvml", "", "gpu=1")
    by_hand = 100 * END + 5 * END**2 + 50 * END
    found = energy_in(Telemetry.of(rows), (0.0, END))
    assert found is not None
    assert found.joules == pytest.approx(by_hand)
    assert (found.low, found.high) == (None, None)


def test_a_counter_bounds_the_energy_of_a_window() -> None:
    """Read each second, 100 W but for one second of 900 W: what was drawn between 0.5 s and 9.5 s
    is at least what the counter grew from 1 s to 9 s, and at most what it grew from 0 to 10 s."""
    at = {t: 100.0 * t + (800.0 if t >= 10 else 0.0) for t in range(12)}
    rows = [
        Row(float(t), "nvml", "device_energy_j", joules, "", "gpu=0") for t, joules in at.items()
    ]
    found = energy_in(Telemetry.of(rows), (0.5, 9.5))
    assert found is not None
    assert (found.low, found.high) == (800.0, 1800.0)
    assert found.joules == pytest.approx(850.0 + 0.5 * 900.0)  # the line between two readings
    between = energy_in(Telemetry.of(rows), (3.2, 3.8))
    assert between is not None
    assert (between.low, between.high) == (0.0, 100.0)


def test_readings_that_do_not_cover_the_window_make_no_energy() -> None:
    rows = every_second("device_power_w", power, "nvml", "", "gpu=0", until=9)
    found = measured(rows, 1)
    assert found["device_energy_j"].value is None
    assert found["energy_per_output_token_j"].value is None
    assert "no device told" in found["device_energy_j"].reason


def test_a_run_without_chips_has_no_device_numbers_at_all() -> None:
    names = set(measured(every_second("cpu_busy", lambda t: 0.5, "host", "")))
    assert "device_energy_j" not in names
    assert {m.name for m in REGISTRY.values() if m.area is Area.SERVER} > names


def test_the_host_and_the_engine() -> None:
    rows = every_second("cpu_busy", lambda t: outside(t, 0.75, 0.0), "host", "")
    rows += every_second("cpu_busy", lambda t: 1.0, "host", "", "core=0")
    rows += every_second("engine_cpu_s", lambda t: 100.0 + 1.5 * t, "host", "")
    found = measured(rows)
    assert found["host_cpu_busy_mean"].value == pytest.approx(0.75)
    assert found["engine_cpus_mean"].value == pytest.approx(1.5)


def test_nothing_read_is_no_number_and_a_reason_each() -> None:
    found = measured([Row(0.0, "vllm", "absent", math.nan, label="HTTP 404")], chips=8)
    assert set(found) == {m.name for m in REGISTRY.values() if m.area is Area.SERVER}
    assert all(m.value is None and m.reason for m in found.values())
