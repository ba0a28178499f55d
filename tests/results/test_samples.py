"""Columns survive the trip through an Arrow table and a Parquet file."""

from __future__ import annotations

import io
import mmap
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.samples import MISMATCH, RequestSamples, StepSamples
from results.store_tables import decode_table, encode_table


def make(num_events: list[int], seed: int) -> RequestSamples:
    rng = np.random.default_rng(seed)
    n, total = len(num_events), sum(num_events)
    return RequestSamples(
        **{
            name: np.where(rng.random(n) < 0.2, np.nan, rng.random(n))
            for name in (
                "intended_s",
                "dispatched_s",
                "written_s",
                "first_byte_s",
                "first_token_s",
                "done_s",
            )
        },
        prompt_tokens=rng.integers(-1, 99, n),
        output_tokens=rng.integers(-1, 99, n),
        status=rng.integers(-1, 599, n),
        error=np.array(rng.choice(["", "timeout"], n), dtype=object),
        is_warmup=rng.random(n) < 0.5,
        worker=rng.integers(0, 4, n),
        event_offset=np.concatenate([[0], np.cumsum(num_events)]).astype(np.int64),
        event_s=rng.random(total),
        event_tokens=rng.integers(-1, 5, total),
    )


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_request_samples_round_trip(num_events: list[int], seed: int) -> None:
    before = make(num_events, seed)
    after = RequestSamples.from_table(before.to_table())
    for field in fields(RequestSamples):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


def test_request_samples_survive_parquet_and_a_newer_column(tmp_path: Path) -> None:
    before = make([3, 0, 2], 1)
    table = before.to_table().append_column("added_later", [[1, 2, 3]])
    pq.write_table(table, tmp_path / "requests.parquet")
    after = RequestSamples.from_table(pq.read_table(tmp_path / "requests.parquet"))
    np.testing.assert_array_equal(before.event_s, after.event_s)
    assert after.num_requests == 3


def test_a_table_is_made_in_chunks_and_kept_in_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.samples.ROWS_PER_CHUNK", 3)
    monkeypatch.setattr("results.samples.EVENTS_PER_CHUNK", 4)
    before = make([1, 2, 0, 0, 9, 0, 4, 1, 0], 5)
    table = before.to_table()
    # Three rows, or four events, or one row that has more.
    lengths = [len(chunk) for chunk in table.column("index").chunks]
    assert lengths == [3, 1, 1, 2, 2]
    data = encode_table(table)
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == len(lengths)
    after = RequestSamples.from_table(decode_table(data))
    for field in fields(RequestSamples):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


def test_a_large_table_is_encoded_in_a_file_and_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = make([3] * 40, 2)
    table = before.to_table()
    in_memory = encode_table(table)
    monkeypatch.setattr("results.store_tables._MAX_BYTES_IN_MEMORY", 1000)
    in_file = encode_table(table)
    assert isinstance(in_file.obj, mmap.mmap) and not isinstance(in_memory.obj, mmap.mmap)
    assert in_file == in_memory
    after = RequestSamples.from_table(decode_table(in_file))
    np.testing.assert_array_equal(before.event_s, after.event_s)


def test_the_table_says_where_token_counts_differ() -> None:
    samples = replace(
        make([0, 0, 0, 0], 3),
        prompt_tokens=np.array([7, 7, 7, -1]),
        own_prompt_tokens=np.array([7, 8, -1, 7]),
        output_tokens=np.array([5, 5, 5, -1]),
        own_output_tokens=np.array([5, 5, -1, -1]),
    )
    table = samples.to_table()
    assert table.column(MISMATCH).to_pylist() == [False, True, None, None]
    # A table without the column is an older program's, and says as much.
    old = RequestSamples.from_table(table.drop_columns([MISMATCH]))
    assert old.to_table().column(MISMATCH).to_pylist() == [False, True, None, None]


def test_step_samples_round_trip() -> None:
    before = StepSamples(
        step=np.arange(3),
        rank=np.zeros(3, dtype=np.int64),
        start_s=np.arange(3.0),
        duration_s=np.ones(3),
        data_wait_s=np.zeros(3),
        num_tokens=np.full(3, 7),
        loss=np.array([3.0, np.nan, 1.0]),
        memory_bytes=np.full(3, -1),
        is_warmup=np.array([True, False, False]),
    )
    after = StepSamples.from_table(before.to_table())
    for field in fields(StepSamples):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    assert after.num_rows == 3


def test_step_samples_of_an_older_program_do_not_know_what_was_added() -> None:
    old = StepSamples(
        step=np.arange(2),
        rank=np.zeros(2, dtype=np.int64),
        start_s=np.arange(2.0),
        duration_s=np.ones(2),
        data_wait_s=np.zeros(2),
        num_tokens=np.full(2, 7),
        loss=np.ones(2),
        memory_bytes=np.full(2, -1),
        is_warmup=np.zeros(2, dtype=np.bool_),
    ).to_table()
    added = ["comm_s", "optimizer_s", "checkpoint_s", "attempt"]
    after = StepSamples.from_table(old.drop_columns(added))
    assert np.isnan(after.comm_s).all()
    assert after.attempt.tolist() == [0, 0]
