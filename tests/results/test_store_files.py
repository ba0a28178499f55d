"""What a store in files does beyond the contract: layout, torn objects, faults of the disk."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import fsspec
import pytest

from results.errors import (
    DuplicateRecord,
    RecordFormatError,
    RecordNotFound,
    StoreError,
    StoreUnwritable,
)
from results.record import RunRecord
from results.store import Torn
from results.store_check import check
from results.store_files import FileStore
from results.testing import (
    EPOCH,
    make_open_run,
    make_record,
    make_requests,
    make_run_id,
)

DAY = "runs/dt=2026-11-23"


def requests(n: int = 3) -> dict[str, object]:
    return {"requests": make_requests(n, seed=n).to_table()}


def all_files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


def test_the_layout_is_the_one_documented(store: FileStore, tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert not root.exists()  # reading makes nothing
    store.begin(make_open_run(index=1))
    store.begin(make_open_run(index=2))
    store.seal(make_record(index=1), requests())
    run_id = make_run_id(1)
    assert all_files(root) == {
        "store.json",
        f"open/{make_run_id(2)}.json",
        f"{DAY}/{run_id}/record.json",
        f"{DAY}/{run_id}/requests.parquet",
    }
    assert json.loads((root / DAY / run_id / "record.json").read_text())["run_id"] == run_id


def test_a_record_wins_over_its_open_run(store: FileStore, tmp_path: Path) -> None:
    store.begin(make_open_run())
    path = tmp_path / "store" / "open" / f"{make_run_id()}.json"
    text = path.read_text()
    store.seal(make_record(), {})
    path.write_text(text)  # as if the driver had died between the two
    assert store.open_runs() == ()
    assert check(store).num_open == 0


def test_a_table_left_by_a_seal_that_died_is_not_taken_for_ours(
    store: FileStore, tmp_path: Path
) -> None:
    folder = tmp_path / "store" / DAY / make_run_id()
    folder.mkdir(parents=True)
    (folder / "requests.parquet").write_bytes(b"half of somebody else's table")
    kept = store.seal(make_record(), requests(5))
    [artifact] = kept.artifacts
    assert artifact.name == f"requests.{artifact.sha256[:16]}.parquet"
    table = store.table(kept, "requests")
    assert table is not None and table.num_rows == 5
    assert check(store).unreferenced == (f"{DAY}/{make_run_id()}/requests.parquet",)


def test_a_table_that_is_not_the_one_sealed_is_an_error(store: FileStore, tmp_path: Path) -> None:
    kept = store.seal(make_record(), requests())
    path = tmp_path / "store" / DAY / kept.run_id / "requests.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreError, match="SHA-256"):
        store.table(kept, "requests")
    path.write_bytes(data[:100])
    with pytest.raises(StoreError, match="100 bytes; "):
        store.table(kept, "requests")
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        store.table(kept, "requests")


@pytest.mark.parametrize("name", ["../requests", "a.b", "", "a/b"])
def test_a_table_name_is_a_plain_stem(store: FileStore, name: str) -> None:
    with pytest.raises(RecordFormatError, match="table name"):
        store.seal(make_record(), {name: make_requests().to_table()})
    assert list(store.scan().records) == []


def test_get_of_an_open_run_says_that_it_is_open(store: FileStore) -> None:
    store.begin(make_open_run())
    store.seal(make_record(index=5), {})
    with pytest.raises(RecordNotFound, match="not sealed"):
        store.get(make_run_id())


def test_get_of_a_torn_record_says_what_is_wrong(store: FileStore, tmp_path: Path) -> None:
    store.seal(make_record(), {})
    (tmp_path / "store" / DAY / make_run_id() / "record.json").write_bytes(b"")
    with pytest.raises(RecordFormatError, match="zero bytes"):
        store.get(make_run_id())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def newer(path: Path) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"schema_version": 99}))


def renamed(path: Path) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"run_id": make_run_id(77)}))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "zero bytes"),
        (truncate, "not a JSON document"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not a JSON document"),
        (lambda path: path.write_text("[]"), "a JSON list"),
        (newer, "schema 99"),
        (renamed, "holds the record of"),
        (folder_instead, "cannot read"),
    ],
)
def test_torn_records_are_skipped_and_counted(
    store: FileStore, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    for index in range(3):
        store.seal(make_record(index=index), {})
    damage(tmp_path / "store" / DAY / make_run_id(1) / "record.json")
    scan = store.scan()
    assert [r.run_id for r in scan.records] == [make_run_id(0), make_run_id(2)]
    [torn] = scan.torn
    assert torn.path == f"{DAY}/{make_run_id(1)}/record.json" and reason in torn.reason
    report = check(store)
    assert (report.num_records, report.num_unsealed, report.torn) == (2, 0, (torn,))
    assert not report.healthy


def test_foreign_objects_are_skipped_and_counted(store: FileStore, tmp_path: Path) -> None:
    store.seal(make_record(), {})
    root = tmp_path / "store"
    (root / "runs" / "notes").mkdir()
    (root / DAY / "README").write_text("hello")
    (root / DAY / make_run_id(1, EPOCH + timedelta(days=1))).mkdir()
    (root / "open").mkdir(exist_ok=True)
    (root / "open" / "notes.txt").write_text("hello")
    (root / "open" / f"{make_run_id(8)}.json").write_text("{")
    scan = store.scan()
    assert len(list(scan.records)) == 1
    assert len(scan.torn) == 3
    assert store.open_runs() == ()
    assert [t.path for t in check(store).torn if t.path.startswith("open/")] == [
        f"open/{make_run_id(8)}.json",
        "open/notes.txt",
    ]


def test_check_counts_everything(store: FileStore, tmp_path: Path) -> None:
    for index in range(4):
        store.begin(make_open_run(index=index))
    for index in range(3):
        store.seal(make_record(index=index), requests())
    root = tmp_path / "store"
    (root / DAY / make_run_id(0) / "_tmp-1-2").write_bytes(b"x")
    (root / "open" / "_tmp-3-4").write_bytes(b"")
    (root / DAY / make_run_id(9)).mkdir()
    (root / DAY / make_run_id(1) / "requests.parquet").unlink()
    report = check(store)
    assert (report.num_records, report.num_artifacts) == (3, 3)
    assert (report.num_open, report.num_unsealed) == (1, 1)
    assert report.leftovers == ("open/_tmp-3-4", f"{DAY}/{make_run_id(0)}/_tmp-1-2")
    assert report.torn == (Torn(path=f"{DAY}/{make_run_id(1)}/requests.parquet", reason="missing"),)
    assert len(list(store.scan().records)) == 3  # a lost table does not lose its record


def test_check_of_a_whole_store_is_healthy(store: FileStore) -> None:
    assert check(store).healthy and check(store).num_records == 0
    store.seal(make_record(), requests())
    report = check(store)
    assert report.healthy and (report.num_records, report.leftovers, report.unreferenced) == (
        1,
        (),
        (),
    )


def test_a_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("hello")
    with pytest.raises(StoreUnwritable, match="not a folder"):
        FileStore(path)
    store = FileStore(path / "below")
    with pytest.raises(StoreUnwritable, match="not a folder"):
        store.begin(make_open_run())
    assert list(store.scan().records) == []


def test_a_file_where_a_folder_should_be_is_no_duplicate(store: FileStore, tmp_path: Path) -> None:
    store.prepare()
    (tmp_path / "store" / "runs").write_text("in the way")
    with pytest.raises(StoreUnwritable, match="not a folder"):
        store.seal(make_record(), {})


def test_the_store_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": "windtunnel-store", "layout": 2}')
    store = FileStore(tmp_path)
    with pytest.raises(StoreUnwritable, match="newer windtunnel"):
        store.begin(make_open_run())
    assert all_files(tmp_path) == {"store.json"}


def test_no_hard_links_is_said(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreUnwritable, match="hard links"):
        store.begin(make_open_run())


def test_a_store_crosses_processes(store: FileStore) -> None:
    store.seal(make_record(), {})
    copy: FileStore = pickle.loads(pickle.dumps(store))
    assert copy.get(make_run_id()) == make_record()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB, or a skip where this process may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "windtunnel-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return path


def seal_until_full(store: FileStore) -> list[RunRecord]:
    kept = []
    for index in range(1000):
        try:
            kept.append(store.seal(make_record(index=index), requests(40)))
        except StoreUnwritable:
            return kept
    raise AssertionError("the disk never filled")


def test_a_full_disk_is_said_and_loses_nothing(small_disk: Path) -> None:
    store = FileStore(small_disk)
    store.begin(make_open_run(index=5000))
    filler = fill(small_disk)
    with pytest.raises(StoreUnwritable, match="the disk is full") as caught:
        store.seal(make_record(index=5000), requests(40))
    assert str(small_disk) in str(caught.value)
    assert len(store.open_runs()) == 1 and list(store.scan().records) == []
    filler.unlink()
    store.seal(make_record(index=5000), requests(40))  # the same run, once there is room
    kept = seal_until_full(store)
    assert len(kept) > 3
    report = check(store)
    assert (report.num_records, report.torn, report.leftovers) == (len(kept) + 1, (), ())


def test_a_read_only_disk_is_said_and_can_be_read(small_disk: Path) -> None:
    FileStore(small_disk).seal(make_record(), requests())
    remount(small_disk, "ro")
    store = FileStore(small_disk)
    for write in (
        lambda: store.begin(make_open_run(index=1)),
        lambda: store.seal(make_record(index=1), {}),
    ):
        with pytest.raises(StoreUnwritable, match="read-only"):
            write()
    assert [r.run_id for r in store.scan().records] == [make_run_id()]
    assert check(store).healthy
    remount(small_disk, "rw")
    store.seal(make_record(index=1), {})


def test_an_empty_read_only_disk_is_refused_at_once(small_disk: Path) -> None:
    remount(small_disk, "ro")
    with pytest.raises(StoreUnwritable, match="read-only"):
        FileStore(small_disk / "store").prepare()
    remount(small_disk, "rw")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nosuch://bucket/x", "nosuch"),
        ("zip://x.zip", r"."),
    ],
)
def test_a_url_nobody_can_open_is_refused(url: str, says: str) -> None:
    with pytest.raises(StoreUnwritable, match=says):
        FileStore(url)


def test_a_file_system_that_would_overwrite_is_refused(tmp_path: Path) -> None:
    # fsspec's own reading of mode="create" looks first and writes after: a race.
    store = FileStore("dir::file://" + str(tmp_path))
    with pytest.raises(StoreUnwritable, match=r"has no put-if-absent.*gs://, s3://"):
        store.begin(make_open_run())
    assert all_files(tmp_path) == set()


def test_a_service_that_ignores_put_if_absent_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = fsspec.filesystem("memory")

    def careless(self: object, path: str, value: bytes, mode: str = "overwrite") -> None:
        memory.open(path, "wb", data=value)

    monkeypatch.setattr(type(memory), "pipe_file", careless)
    store = FileStore("memory://careless")
    with pytest.raises(StoreUnwritable, match=r"MemoryFileSystem .* has no put-if-absent"):
        store.seal(make_record(), {})
    memory.rm("/careless", recursive=True)


def test_an_answer_lost_on_the_way_is_no_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client library that retries a write which had gone through is told "it exists"."""
    memory = fsspec.filesystem("memory")
    honest = type(memory).pipe_file

    def retried(self: object, path: str, value: bytes, mode: str = "overwrite") -> None:
        honest(self, path, value, mode=mode)
        honest(self, path, value, mode=mode)

    store = FileStore("memory://retried")
    store.prepare()
    monkeypatch.setattr(type(memory), "pipe_file", retried)
    kept = store.seal(make_record(), requests())
    assert store.get(kept.run_id) == kept
    with pytest.raises(DuplicateRecord):
        store.seal(make_record(), requests())
    memory.rm("/retried", recursive=True)
