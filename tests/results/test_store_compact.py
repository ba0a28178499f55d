from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results.errors import DuplicateRecord
from results.record import RunRecord
from results.store_check import check
from results.store_compact import Action, compact
from results.store_files import FileStore
from results.store_index import RunIndex
from results.store_layout import record_path
from results.testing import (
    EPOCH,
    FakeClock,
    make_open_run,
    make_record,
    make_requests,
    make_run_id,
)

DAY = timedelta(days=1)
NEXT = FakeClock(EPOCH + DAY)  # the day after the first
LATER = FakeClock(EPOCH + 30 * DAY)
FOLDER = "compacted/dt=2026-11-23"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path)
    for index in range(5):
        store.seal(make_record(index=index), {"requests": make_requests(2).to_table()})
    return store


def records(store: FileStore) -> list[RunRecord]:
    scan = store.scan()
    found = list(scan.records)
    assert scan.torn == []
    return found


def files(tmp_path: Path) -> list[Path]:
    return sorted(p for p in tmp_path.rglob("*") if p.is_file())


def test_a_day_that_is_not_over_is_left_alone(store: FileStore, tmp_path: Path) -> None:
    before = files(tmp_path)
    assert compact(store, FakeClock(EPOCH + timedelta(hours=6))).days == ()
    assert files(tmp_path) == before


def test_a_finished_day_becomes_one_file(store: FileStore, tmp_path: Path) -> None:
    before = records(store)
    store.begin(make_open_run(index=99))
    report = compact(store, NEXT)
    [day] = report.days
    assert (day.day, day.action, day.num_records) == ("dt=2026-11-23", Action.WRITTEN, 5)
    assert (day.num_deleted, report.torn) == (0, ())
    [parquet] = (tmp_path / FOLDER).glob("records-*.parquet")
    table = pq.read_table(parquet)
    assert table["run_id"].to_pylist() == [make_run_id(i) for i in range(5)]
    assert table["outcome"].to_pylist() == ["succeeded"] * 5
    assert table["started_at"].to_pylist() == [EPOCH] * 5
    original = (tmp_path / record_path(make_run_id(3))).read_text()
    assert table["record"].to_pylist()[3] == original  # as it was written, unknown keys and all
    manifest = json.loads((tmp_path / FOLDER / "manifest-000001.json").read_text())
    assert manifest["file"] == parquet.name and len(manifest["run_ids"]) == 5
    assert records(store) == before
    assert check(store).num_compacted == 5 and check(store).healthy


def test_twice_is_once(store: FileStore, tmp_path: Path) -> None:
    compact(store, NEXT)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    [day] = compact(store, LATER).days
    assert (day.action, day.num_records) == (Action.UNCHANGED, 5)
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_a_scan_of_a_compacted_day_opens_no_record(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(store, NEXT)
    plain, paths = store.objects.read, []

    def spy(path: str) -> bytes:
        paths.append(path)
        return plain(path)

    monkeypatch.setattr(store.objects, "read", spy)
    assert len(records(store)) == 5
    assert len(paths) == 2 and not any("record.json" in path for path in paths)
    index = RunIndex(store)
    assert index.refresh().num_read == 5
    paths.clear()
    assert index.refresh().num_read == 0
    assert paths == []  # the listing says that nothing has changed


def test_a_run_sealed_late_is_taken_up(store: FileStore, tmp_path: Path) -> None:
    compact(store, NEXT)
    store.seal(make_record(index=7), {})
    assert [r.run_id for r in records(store)] == [make_run_id(i) for i in (0, 1, 2, 3, 4, 7)]
    [day] = compact(store, LATER).days
    assert (day.action, day.num_records) == (Action.WRITTEN, 6)
    assert len(list((tmp_path / FOLDER).glob("records-*"))) == 2  # nothing is deleted unasked
    assert len(records(store)) == 6
    assert check(store).num_compacted == 6


def test_delete_keeps_every_run_and_every_table(store: FileStore, tmp_path: Path) -> None:
    before = records(store)
    compact(store, NEXT)
    store.seal(make_record(index=7), {})
    [day] = compact(store, LATER, delete=True).days
    assert day.num_deleted == 6
    assert not list(tmp_path.rglob("record.json"))
    assert len(list((tmp_path / FOLDER).glob("records-*"))) == 1
    assert records(store)[:5] == before
    assert store.get(make_run_id(2)) == before[2]
    assert store.get(make_run_id(2)[:-1] + "2") == before[2]
    table = store.table(before[2], "requests")
    assert table is not None and table.num_rows == 2
    report = check(store)
    assert report.healthy and (report.num_records, report.num_unsealed) == (6, 0)
    [again] = compact(store, LATER, delete=True).days
    assert (again.action, again.num_deleted) == (Action.UNCHANGED, 0)


def test_a_run_whose_record_was_taken_over_is_still_sealed(store: FileStore) -> None:
    compact(store, NEXT, delete=True)
    with pytest.raises(DuplicateRecord):
        store.seal(make_record(index=1, name="again"), {})
    with pytest.raises(DuplicateRecord):
        store.begin(make_open_run(index=1))
    assert len(records(store)) == 5


def test_a_crash_before_the_manifest_loses_nothing(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = store.objects.put_new

    def crash(path: str, data: bytes) -> None:
        if "manifest" in path:
            raise KeyboardInterrupt
        plain(path, data)

    monkeypatch.setattr(store.objects, "put_new", crash)
    with pytest.raises(KeyboardInterrupt):
        compact(store, NEXT, delete=True)
    monkeypatch.undo()
    assert len(list(tmp_path.rglob("record.json"))) == 5
    assert len(records(store)) == 5
    [day] = compact(store, NEXT, delete=True).days
    assert (day.action, day.num_deleted) == (Action.WRITTEN, 5)
    assert len(records(store)) == 5


def test_two_compactions_at_once_write_one_manifest(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, other = store.objects.put_new, FileStore(tmp_path)

    def overtaken(path: str, data: bytes) -> None:
        if "manifest" in path:
            compact(other, LATER)
        plain(path, data)

    monkeypatch.setattr(store.objects, "put_new", overtaken)
    [day] = compact(store, NEXT, delete=True).days
    assert (day.action, day.num_deleted) == (Action.UNCHANGED, 0)
    assert len(list((tmp_path / FOLDER).glob("manifest-*"))) == 1
    assert len(records(store)) == 5


def test_a_reader_that_a_compaction_overtakes_misses_nothing(
    store: FileStore, tmp_path: Path
) -> None:
    found = store.scan().records
    first = next(found)  # the day is listed, one record read
    compact(FileStore(tmp_path), NEXT, delete=True)
    assert [first.run_id, *(r.run_id for r in found)] == [make_run_id(i) for i in range(5)]


def test_a_damaged_file_is_counted_and_made_again(store: FileStore, tmp_path: Path) -> None:
    compact(store, NEXT)
    [parquet] = (tmp_path / FOLDER).glob("records-*")
    parquet.write_bytes(parquet.read_bytes()[:-50])
    scan = store.scan()
    assert len(list(scan.records)) == 5  # from their own folders
    [torn] = scan.torn
    assert torn.path == f"{FOLDER}/{parquet.name}" and "SHA-256" in torn.reason
    [day] = compact(store, NEXT).days
    assert (day.action, day.num_records) == (Action.WRITTEN, 5)
    assert len(records(store)) == 5


def test_a_damaged_file_that_alone_has_a_record_is_not_replaced(
    store: FileStore, tmp_path: Path
) -> None:
    compact(store, NEXT, delete=True)
    [parquet] = (tmp_path / FOLDER).glob("records-*")
    parquet.write_bytes(b"")
    store.seal(make_record(index=8), {})
    before = files(tmp_path)
    report = compact(store, LATER, delete=True)
    assert [day.action for day in report.days] == [Action.REFUSED]
    assert len(report.torn) == 1 and files(tmp_path) == before
    assert not check(store).healthy


def test_a_damaged_manifest_is_counted_and_made_again(store: FileStore, tmp_path: Path) -> None:
    compact(store, NEXT)
    (tmp_path / FOLDER / "manifest-000001.json").write_text("{")
    scan = store.scan()
    assert len(list(scan.records)) == 5 and len(scan.torn) == 1
    [day] = compact(store, NEXT).days
    assert (day.action, day.num_records) == (Action.WRITTEN, 5)
    assert len(list(store.scan().records)) == 5 and check(store).num_compacted == 5


def test_a_torn_record_is_left_out_and_kept(store: FileStore, tmp_path: Path) -> None:
    path = tmp_path / record_path(make_run_id(2))
    path.write_text("{")
    report = compact(store, NEXT, delete=True)
    assert [t.path for t in report.torn] == [record_path(make_run_id(2))]
    assert report.days[0].num_records == 4 and path.exists()


def test_a_bucket_is_compacted_alike() -> None:
    store = FileStore("memory://compacted-store")
    for index in range(3):
        store.seal(make_record(index=index), {})
    assert compact(store, NEXT, delete=True).num_records == 3
    assert [r.run_id for r in records(store)] == [make_run_id(i) for i in range(3)]
    store.objects._fs.rm("/compacted-store", recursive=True)  # type: ignore[attr-defined]
