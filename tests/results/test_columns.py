"""Columns that outgrow memory, and columns that go to Arrow and back."""

from __future__ import annotations

import mmap
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from results.arrow import array_of, column_of, list_array_of, list_column_of
from results.columns import GrowingColumn, release


@pytest.mark.parametrize(("max_bytes", "in_file"), [(10_000, False), (100, True), (0, True)])
def test_a_column_is_what_it_was_extended_by(max_bytes: int, in_file: bool) -> None:
    parts = [np.arange(k, k + 10, dtype=np.float64) for k in range(0, 50, 10)]
    column = GrowingColumn(np.float64, max_bytes)
    for part in parts:
        column.extend(part)
    whole = column.finished()
    assert isinstance(getattr(whole.base, "obj", None), mmap.mmap) is in_file
    for _ in range(2):
        np.testing.assert_array_equal(whole, np.arange(50.0))
        release(whole)


def test_a_column_of_nothing_has_its_type() -> None:
    empty = GrowingColumn(np.bool_).finished()
    assert (len(empty), empty.dtype) == (0, np.bool_)


COLUMNS = [
    np.array([1.5, np.nan, -np.inf]),
    np.array([3, -1, 2**62]),
    np.array([True, False, True] * 7),
    np.array(["", "é", "a\nb"], dtype=object),
]


@pytest.mark.parametrize("values", COLUMNS, ids=["floats", "counts", "flags", "texts"])
def test_arrow_and_back(values: np.ndarray) -> None:
    array = array_of(values)
    assert array.to_pylist() == pytest.approx(values.tolist(), nan_ok=True)
    array.validate(full=True)
    for chunks in ([array], [array[:1], array[1:]], [array[2:], array[:0], array[1:2]]):
        table = pa.table({"c": pa.chunked_array(chunks)})
        expected = np.array([v for chunk in chunks for v in chunk.to_pylist()], dtype=values.dtype)
        np.testing.assert_array_equal(column_of(table, "c"), expected)


def test_numbers_are_not_copied() -> None:
    values = np.arange(1000.0)
    back = column_of(pa.table({"c": array_of(values)}), "c")
    assert np.shares_memory(values, back)


def test_lists_in_chunks_have_one_row_of_offsets() -> None:
    lists = list_array_of(np.array([0, 2, 2, 5]), np.arange(5.0))
    assert lists.to_pylist() == [[0.0, 1.0], [], [2.0, 3.0, 4.0]]
    table = pa.table({"c": pa.chunked_array([lists[1:], lists[:1]])})
    offsets, values = list_column_of(table, "c")
    assert offsets.tolist() == [0, 0, 3, 5] and offsets.dtype == np.int64
    assert values.tolist() == [2.0, 3.0, 4.0, 0.0, 1.0]


def test_more_values_than_arrow_counts_are_refused() -> None:
    with pytest.raises(OverflowError, match="2147483648"):
        list_array_of(np.array([0, 2**31]), np.empty(0))


def test_a_known_column_has_nulls_where_it_is_not_known() -> None:
    flags = array_of(np.array([True, True, False]), known=np.array([True, False, True]))
    assert flags.to_pylist() == [True, None, False]


def test_what_a_load_client_needs_is_imported_without_what_it_does_not() -> None:
    """A second of CPU and 70 MB: no run would notice that it pays them again."""
    program = """
import sys
from results.samples import RequestSamples
from results.store_tables import encode_table
from results.testing import make_requests
from results.measure import measure_requests
import harness.cli.bench
samples = make_requests(50)
measure_requests(samples, {}, 0)
encode_table(samples.to_table())
RequestSamples.from_table(samples.to_table())
heavy = {"pandas", "scipy", "altair", "ray", "torch", "grpc", "jinja2", "fsspec", "aiohttp"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
