"""Nights as the index has them are the nights that a full scan finds."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from reports.night_told import series_of_nights
from results.codec import dumps_record
from results.nights import DATE, NIGHT, NightRole, night_runs, night_tags, nights_in
from results.store_files import FileStore
from results.store_index import RunIndex
from results.store_layout import record_path
from results.testing import EPOCH, make_record


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Two suites of which every night was begun at the same time, four nights each. Only the last
    night of each asks for throughput as well."""
    store = FileStore(tmp_path)
    for n in range(16):
        night, suite = n // 4, ("one", "two")[n % 2]
        at = EPOCH + timedelta(days=night)
        metrics = ("ttft_p50", "output_throughput") if night == 3 else ("ttft_p50",)
        tags = night_tags(
            night_id=f"{at:%Y%m%dT%H%M%SZ}-{suite}",
            on=at.date(),
            suite=suite,
            series="llama-on-h100",
            role=NightRole.RUN,
            slot=f"s{n}",
            metrics=metrics,
        )
        record = make_record(index=n, started_at=at, spec={"tags": tags})
        path = tmp_path / record_path(record.run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dumps_record(record))
    return store


def test_nights_of_two_suites_do_not_mix_and_tell_what_a_scan_tells(store: FileStore) -> None:
    index = RunIndex(store)
    for suite in ("one", "two"):
        kept = nights_in(index, suite)
        scanned = night_runs(store.scan().records, suite)
        assert list(kept) == list(scanned) and len(kept) == 4
        assert all(run.suite == suite for runs in kept.values() for run in runs)
        both = [
            series_of_nights([run for runs in nights.values() for run in runs])
            for nights in (kept, scanned)
        ]
        assert both[0] == both[1]
        # Throughput has a value for the nights, too, that did not ask for it yet.
        assert {s.metric: len(s.nights) for s in both[0]} == {"ttft_s": 4, "output_throughput": 4}


def test_a_part_of_the_nights_is_found_by_its_tag(store: FileStore) -> None:
    index = RunIndex(store)
    (night,) = nights_in(index, "one", DATE, (EPOCH + timedelta(days=2)).date().isoformat())
    (runs,) = nights_in(index, "one", NIGHT, night).values()
    assert [run.slot for run in runs] == ["s8", "s10"]
    assert runs[0].date == date(2026, 11, 25)
    assert nights_in(index, "two", NIGHT, night) == {}


def test_a_torn_record_of_a_night_is_counted_and_told_no_more(store: FileStore) -> None:
    index = RunIndex(store)
    assert index.refresh().num_torn == 0
    (first, *_) = sorted(Path(store.url).rglob("record.json"))
    first.write_bytes(first.read_bytes()[:100])
    for _ in range(2):
        assert index.refresh().num_torn == 1
    assert sum(len(runs) for runs in nights_in(index, "one").values()) == 7
