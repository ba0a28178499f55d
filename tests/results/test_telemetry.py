"""Readings on one axis, sums over replicas, and what a histogram's buckets can and cannot say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.samples import FloatColumn
from results.store_tables import decode_table, encode_table
from results.telemetry import (
    ABSENT,
    GAP,
    READ_S,
    Histogram,
    Row,
    Telemetry,
    counted,
    histogram,
)

BOUNDS = np.array([0.001, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, math.inf])


def some() -> Telemetry:
    return Telemetry.of(
        [
            Row(1.0, "vllm", "running", 3.0, "0/0"),
            Row(0.0, "vllm", "running", 1.0, "0/0"),
            Row(0.5, "host", "cpu_busy", 0.5, label="core=1"),
            Row(1.0, "vllm", READ_S, 0.004),
            Row(2.0, "vllm", GAP, math.nan, label="HTTP 500"),
            Row(-1.0, "nvml", ABSENT, math.nan, label="NVML: no driver"),
        ]
    )


def test_the_table_comes_back_as_it_was() -> None:
    telemetry = some()
    again = Telemetry.from_table(decode_table(encode_table(telemetry.to_table())))
    assert again.num_rows == 6
    assert np.all(np.diff(again.t_s) >= 0)
    for name in ("t_s", "source", "name", "replica", "label"):
        assert list(getattr(again, name)) == list(getattr(telemetry, name))
    np.testing.assert_array_equal(again.value, telemetry.value)
    empty = Telemetry.from_table(decode_table(encode_table(Telemetry.of([]).to_table())))
    assert empty.num_rows == 0
    assert empty.sources() == ()
    assert empty.total("running") is None


def test_what_became_of_each_source() -> None:
    # The host told one value and nobody timed the read: it is no source of its own here.
    assert [note.source for note in some().sources()] == ["nvml", "vllm"]
    notes = {n.source: n for n in some().sources()}
    assert notes["nvml"].absent == "NVML: no driver"
    assert (notes["vllm"].num_reads, notes["vllm"].num_gaps) == (1, 1)
    assert notes["vllm"].last_gap == "HTTP 500"
    assert notes["vllm"].max_read_s == 0.004
    assert some().names() == ("cpu_busy", "running")


def test_another_axis_moves_every_time() -> None:
    moved = some().moved(-10.0)
    (series,) = moved.series("running").values()
    assert series.t_s.tolist() == [-10.0, -9.0]
    assert series.value.tolist() == [1.0, 3.0]


def test_replicas_read_at_other_times_are_added_where_both_are_known() -> None:
    rows = [Row(t, "a", "running", 2.0 * t, "0") for t in (0.0, 1.0, 2.0)]
    rows += [Row(t, "b", "running", 10.0, "1") for t in (0.5, 1.5)]
    total = Telemetry.of(rows).total("running")
    assert total is not None
    assert total.t_s.tolist() == [0.5, 1.0, 1.5]
    assert total.value.tolist() == [11.0, 12.0, 13.0]
    mean = Telemetry.of(rows).mean("running")
    assert mean is not None
    assert mean.value.tolist() == [5.5, 6.0, 6.5]


def counters(*series: tuple[float, ...], start: int = 0) -> Telemetry:
    rows = [Row(float(t), "vllm", READ_S, 0.001) for t in range(4)]
    for i, values in enumerate(series):
        rows += [Row(float(t + start), "vllm", "c", v, str(i)) for t, v in enumerate(values)]
    return Telemetry.of(rows)


def test_counters_grow_from_the_first_reading_to_the_last() -> None:
    assert counted(counters((5.0, 7.0, 11.0), (1.0, 1.0, 2.0)), "c") == 7.0
    assert counted(counters((5.0, 7.0, 1.0)), "c") is None  # started anew
    assert counted(counters((5.0,)), "c") is None  # seen once
    assert counted(counters((5.0, 7.0), (3.0,)), "c") is None  # half is not known
    assert counted(counters(), "c") is None


def test_a_counter_that_appears_later_began_at_zero() -> None:
    """Ray exports a counter once it has been counted up."""
    assert counted(counters((4.0,), start=3), "c") == 4.0
    assert counted(counters((2.0, 4.0), start=1), "c") == 4.0


# ---- histograms ----

samples = st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60).map(np.array)


def filled(values: FloatColumn, bounds: FloatColumn = BOUNDS) -> Histogram:
    """As Prometheus counts: a value belongs to the first bucket whose bound is not below it."""
    counts = [
        np.sum((values <= high) & (values > low))
        for low, high in zip([-math.inf, *bounds[:-1]], bounds, strict=True)
    ]
    return Histogram(bounds=bounds, counts=np.array(counts, float), total=float(values.sum()))


@given(values=samples, q=st.floats(0.0, 1.0))
def test_the_true_quantile_lies_within_the_bounds(values: FloatColumn, q: float) -> None:
    low, high = filled(values).quantile_bounds(q)
    assert low - 1e-12 <= np.quantile(values, q) <= high + 1e-12


@given(values=samples, q=st.floats(0.0, 1.0), data=st.data())
def test_so_does_that_of_any_part(values: FloatColumn, q: float, data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    part = values[np.array(keep)]
    if not len(part):
        return
    whole = filled(values)
    low, high = whole.quantile_bounds(q, len(part))
    assert low - 1e-12 <= np.quantile(part, q) <= high + 1e-12
    low, high = whole.mean_bounds(len(part))
    assert low - 1e-9 <= part.mean() <= high + 1e-9


def test_bounds_are_as_narrow_as_the_buckets() -> None:
    """Nine values of 30 ms and one of 700 ms: by hand."""
    found = filled(np.array([0.03] * 9 + [0.7]))
    assert found.quantile_bounds(0.5) == (0.02, 0.05)
    assert found.quantile_bounds(1.0) == (0.5, 1.0)
    assert found.mean == pytest.approx(0.097)
    assert found.mean_bounds() == (pytest.approx(0.097), pytest.approx(0.097))
    assert filled(np.array([2.0])).quantile_bounds(0.5) == (1.0, math.inf)
    with pytest.raises(ValueError, match="11 of 10"):
        found.quantile_bounds(0.5, 11)


def buckets(
    at_s: float, cumulative: tuple[float, ...], total: float, replica: str = "0"
) -> list[Row]:
    rows = [Row(at_s, "vllm", READ_S, 0.001), Row(at_s, "vllm", "h_sum", total, replica)]
    for bound, count in zip((0.1, 1.0, math.inf), cumulative, strict=True):
        rows.append(Row(at_s, "vllm", "h_bucket", count, replica, f"le={bound:g}"))
    return rows


def test_a_run_has_the_difference_of_two_readings() -> None:
    rows = buckets(0.0, (5, 6, 6), 1.5) + buckets(9.0, (5, 8, 10), 21.5)
    rows += buckets(0.0, (0, 0, 0), 0.0, "1") + buckets(9.0, (1, 1, 1), 0.05, "1")
    found = histogram(Telemetry.of(rows), "h")
    assert found is not None
    assert found.bounds.tolist() == [0.1, 1.0, math.inf]
    assert found.counts.tolist() == [1.0, 2.0, 2.0]
    assert found.n == 5
    assert found.total == pytest.approx(20.05)


def test_a_server_that_began_anew_has_none() -> None:
    rows = buckets(0.0, (5, 6, 6), 1.5) + buckets(9.0, (1, 2, 2), 0.5)
    assert histogram(Telemetry.of(rows), "h") is None
    assert histogram(Telemetry.of([]), "h") is None
