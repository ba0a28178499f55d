"""How numbers are printed."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.errors import UnknownMetric
from results.measurement import Measurement
from results.metrics import REGISTRY, Unit
from results.units import (
    format_chance,
    format_interval,
    format_measurement,
    format_value,
    metric_label,
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (1.2449, "s", "1.24 s"),
        (0.9996, "s", "1.00 s"),
        (0.99949, "s", "999 ms"),
        (0.0000421, "s", "42.1 µs"),
        (0.0, "s", "0 s"),
        (45.24, "s", "45.2 s"),
        (599.4, "s", "599 s"),
        (615.0, "s", "10.2 min"),
        (7380.0, "s", "2.05 h"),
        (66.12, "tokens/s", "66.1 tokens/s"),
        (12345.6, "tokens/s", "12,346 tokens/s"),
        (10_200_000, "bytes", "10.2 MB"),
        (512, "bytes", "512 B"),
        (0, "bytes", "0 B"),
        (2_000_000, "bytes", "2 MB"),
        (999_999, "bytes", "1.00 MB"),
        (200, "requests", "200 requests"),
        (12.4, "requests/s", "12.4 requests/s"),
        (3, "count", "3"),
        (2.5, "count", "2.50"),
        (0.0, "ratio", "0 %"),
        (1.0, "ratio", "100 %"),
        (0.5, "ratio", "50.0 %"),
        (0.9996, "ratio", "99.96 %"),
        (0.99999, "ratio", "99.999 %"),
        (0.00004, "ratio", "0.00400 %"),
        (3.4567, "nats", "3.46 nats"),
        (0.0123, "USD", "0.0123 USD"),
        (-0.5, "s", "−500 ms"),
        (None, "s", "n/a"),
        (math.nan, "s", "n/a"),
    ],
)
def test_values(value: float | None, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (0.0301, 0.0324, "s", "30.1–32.4 ms"),
        (0.03, 1.2, "s", "0.03–1.20 s"),
        (0.030112, 0.030118, "s", "30.11–30.12 ms"),
        (10.0, 10.0, "s", "10.0–10.0 s"),
        (0.98, 1.0, "ratio", "98–100 %"),
        (-0.5, 0.5, "s", "−500 to 500 ms"),
        (60.0, 66.12, "tokens/s", "60.0–66.1 tokens/s"),
        (None, 1.0, "s", ""),
        (1.0, math.inf, "s", ""),
    ],
)
def test_intervals(low: float | None, high: float | None, unit: str, text: str) -> None:
    assert format_interval(low, high, unit) == text


def test_a_measurement_has_its_interval_or_its_reason() -> None:
    seen = Measurement(metric="ttft_s", statistic="p50", value=0.0312, n=100, low=0.03, high=0.033)
    assert format_measurement(seen) == "31.2 ms (30.0–33.0 ms)"
    bare = Measurement(metric="achieved_rate", statistic="value", value=12.4, n=100)
    assert format_measurement(bare) == "12.4 requests/s"
    none = Measurement(
        metric="ttft_s", statistic="p99", value=None, n=100, reason="n=100; needs ≥ 662"
    )
    assert format_measurement(none) == "n/a (n=100; needs ≥ 662)"


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="furlongs"):
        format_value(1.0, "furlongs")


@pytest.mark.parametrize(
    ("name", "statistic", "text"),
    [
        ("ttft_s", "p99", "TTFT p99"),
        ("e2e_s", "mean", "e2e latency mean"),
        ("startup_unattributed_s", "value", "startup unattributed"),
        ("peak_memory_bytes", "value", "peak memory"),
        ("slo_attainment", "value", "SLO attainment"),
    ],
)
def test_labels(name: str, statistic: str, text: str) -> None:
    assert metric_label(name, statistic) == text


def test_every_metric_has_a_label_of_its_own() -> None:
    labels = {metric_label(name) for name in REGISTRY}
    assert len(labels) == len(REGISTRY)
    with pytest.raises(UnknownMetric):
        metric_label("ttfb_s")


_FACTORS = {"h": 3600, "min": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


@given(st.floats(min_value=1e-9, max_value=1e6))
def test_a_printed_duration_is_the_duration_to_three_digits(seconds: float) -> None:
    number, symbol = format_value(seconds, Unit.SECONDS).split(" ")
    back = float(number.replace(",", "")) * _FACTORS[symbol]
    assert back == pytest.approx(seconds, rel=0.00501)


@given(st.floats(min_value=0, max_value=1))
def test_a_share_is_all_or_nothing_only_when_it_is(share: float) -> None:
    text = format_value(share, Unit.RATIO)
    assert (text == "0 %") == (share == 0)
    if share < 1 - 1e-9:
        assert not text.startswith("100")


@given(st.floats(min_value=0, max_value=1e9), st.sampled_from(list(Unit)))
def test_every_unit_prints_a_number_and_no_exponent(value: float, unit: Unit) -> None:
    assert re.match(r"^[\d,]+(\.\d+)?( \S+)?$", format_value(value, unit))


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "0.000"), (0.95, "0.950"), (0.9987, "0.998"), (0.99999, "0.999"), (1.0, "0.999")],
)
def test_nothing_to_come_is_certain(probability: float, text: str) -> None:
    assert format_chance(probability) == text
