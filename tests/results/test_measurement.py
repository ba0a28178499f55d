"""A measurement that cannot be right fails when it is made."""

from __future__ import annotations

import math

import pytest

from results.errors import InvalidMeasurement, UnknownMetric
from results.measurement import Measurement
from results.metrics import REGISTRY, Unit, metric


def test_an_unknown_metric_names_its_neighbours() -> None:
    with pytest.raises(UnknownMetric, match="ttft_s"):
        Measurement(metric="tftt_s", statistic="mean", value=1.0, n=1)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_illegal_values_are_refused(value: float) -> None:
    with pytest.raises(InvalidMeasurement, match="ttft_s"):
        Measurement(metric="ttft_s", statistic="mean", value=value, n=1)


def test_shares_end_at_one() -> None:
    with pytest.raises(InvalidMeasurement, match=r"0\.0 to 1\.0"):
        Measurement(metric="error_share", statistic="value", value=1.2, n=1)


def test_no_value_needs_a_reason() -> None:
    with pytest.raises(InvalidMeasurement, match="reason"):
        Measurement(metric="ttft_s", statistic="p99", value=None, n=3)


def test_an_interval_holds_its_value() -> None:
    with pytest.raises(InvalidMeasurement, match="outside"):
        Measurement(metric="ttft_s", statistic="p50", value=1.0, low=1.1, high=2.0, n=30)


@pytest.mark.parametrize("statistic", ["P50", "median", "p101", ""])
def test_statistics_have_fixed_names(statistic: str) -> None:
    with pytest.raises(InvalidMeasurement, match="statistic"):
        Measurement(metric="ttft_s", statistic=statistic, value=1.0, n=1)


def test_names_carry_their_units() -> None:
    suffixes = {Unit.SECONDS: "_s", Unit.BYTES: "_bytes"}
    for declared in REGISTRY.values():
        if declared.unit in suffixes:
            assert declared.name.endswith(suffixes[declared.unit]), declared.name
        assert declared.meaning
        assert metric(declared.name) is declared
