from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from results.record import Evidence, Failed, Invalid
from results.store_files import FileStore
from results.store_index import IndexReport, RunIndex
from results.store_layout import record_path
from results.testing import EPOCH, make_open_run, make_record, make_run_id


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


def reads(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths read from now on."""
    paths: list[str] = []
    plain = store.objects.read

    def spy(path: str) -> bytes:
        paths.append(path)
        return plain(path)

    monkeypatch.setattr(store.objects, "read", spy)
    return paths


def counts(report: IndexReport) -> tuple[int, int, int, int]:
    return report.num_records, report.num_read, report.num_dropped, report.num_torn


def test_a_row_has_what_the_record_says(store: FileStore) -> None:
    record = store.seal(make_record(num_repeats=3, repeat_index=1), {})
    [row] = RunIndex(store).list()
    assert row.run_id == record.run_id and row.started_at == EPOCH
    assert (row.name, row.workload, row.evidence) == ("llama-on-h100", "vllm", Evidence.MEASURED)
    assert (row.outcome, row.stage, row.error) == ("succeeded", "", "")
    assert (row.workload_hash, row.environment_hash) == ("0123456789abcdef", "fedcba9876543210")
    assert (row.duration_s, row.repeat_index, row.num_repeats) == (90.25, 1, 3)
    assert (row.pool, row.accelerator, row.num_chips) == ("h100-spot", "H100", 2)
    # The p99 has no value, and so no place here.
    assert row.headline == {
        "startup_s value": 40.0,
        "ttft_s p50": 0.125,
        "output_throughput value": 1234.5,
    }


def test_a_failure_without_placement_has_a_row(store: FileStore) -> None:
    outcome = Failed(stage="placement", error="placement_timed_out", message="nothing was free")
    store.seal(make_record(outcome=outcome, placement=None, measurements=()), {})
    [row] = RunIndex(store).list()
    assert (row.outcome, row.stage, row.error) == ("failed", "placement", "placement_timed_out")
    assert (row.pool, row.num_chips, row.headline) == ("", 0, {})


def test_refresh_reads_only_what_is_new(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    index = RunIndex(store)
    for i in range(3):
        store.seal(make_record(index=i), {})
    assert counts(index.refresh()) == (3, 3, 0, 0)
    store.seal(make_record(index=3), {})
    store.begin(make_open_run(index=4))
    paths = reads(store, monkeypatch)
    assert counts(index.refresh()) == (4, 1, 0, 0)
    assert paths == [record_path(make_run_id(3))]
    assert counts(RunIndex(store).refresh()) == (4, 0, 0, 0)  # another process, later
    assert len(paths) == 1


def test_runs_that_are_gone_are_dropped(store: FileStore, tmp_path: Path) -> None:
    for i in range(3):
        store.seal(make_record(index=i), {})
    index = RunIndex(store)
    index.refresh()
    shutil.rmtree((tmp_path / "store" / record_path(make_run_id(1))).parent)
    assert counts(index.refresh()) == (2, 0, 1, 0)
    assert [row.run_id for row in index.list()] == [make_run_id(2), make_run_id(0)]


def test_torn_records_are_counted_every_time(store: FileStore, tmp_path: Path) -> None:
    for i in range(2):
        store.seal(make_record(index=i), {})
    (tmp_path / "store" / record_path(make_run_id(0))).write_bytes(b"")
    index = RunIndex(store)
    assert counts(index.refresh()) == (1, 1, 0, 1)
    assert counts(index.refresh()) == (1, 0, 0, 1)


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [4, 3, 2, 1, 0]),
    ({"limit": 2}, [4, 3]),
    ({"name": "train"}, [2]),
    ({"name": "llama*"}, [4, 3, 1, 0]),
    ({"workload": "torch"}, [2]),
    ({"outcome": "failed"}, [1]),
    ({"outcome": "invalid"}, [3]),
    ({"evidence": "simulated"}, [4]),
    ({"workload_hash": "abc"}, [2]),
    ({"experiment_id": "e"}, [3]),
    ({"since": EPOCH + timedelta(hours=36)}, [4, 3, 2]),
    ({"outcome": "succeeded", "workload": "vllm"}, [4, 0]),
    ({"name": "' OR 1=1 --"}, []),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS)
def test_list_filters(store: FileStore, wanted: dict[str, Any], expected: list[int]) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"outcome": Failed(stage="load", error="e", message="m")},
        {"name": "train", "workload": "torch", "workload_hash": "abc"},
        {"outcome": Invalid(reasons=("slow",)), "experiment_id": "e"},
        {"evidence": Evidence.SIMULATED},
    ]
    for i, change in enumerate(changes):
        store.seal(make_record(index=i, started_at=EPOCH + timedelta(days=i), **change), {})
    rows = RunIndex(store).list(**({"limit": 0} | wanted))
    assert [int(row.run_id.rsplit("-", 1)[1], 16) for row in rows] == expected


DAMAGE = {
    "garbage": lambda path: path.write_bytes(b"this is no database" * 100),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "scrambled": lambda path: path.write_bytes(
        path.read_bytes()[:100] + b"\xaa" * (path.stat().st_size - 100)
    ),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_a_damaged_index_is_rebuilt(store: FileStore, kind: str) -> None:
    for i in range(30):
        store.seal(make_record(index=i), {})
    index = RunIndex(store)
    index.refresh()
    assert index.path is not None
    DAMAGE[kind](index.path)
    report = RunIndex(store).refresh()
    assert (report.num_records, report.num_read, report.persistent) == (30, 30, True)
    assert len(index.list(limit=0)) == 30
    assert RunIndex(store).refresh().num_read == 0


def test_an_index_damaged_between_refresh_and_list_is_rebuilt(store: FileStore) -> None:
    store.seal(make_record(), {})
    index = RunIndex(store)
    index.refresh()
    assert index.path is not None
    DAMAGE["garbage"](index.path)
    assert len(index.list()) == 1 and index.count() == 1


def test_an_older_layout_is_rebuilt(store: FileStore) -> None:
    store.seal(make_record(), {})
    index = RunIndex(store)
    index.refresh()
    assert index.path is not None
    with sqlite3.connect(index.path) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    report = index.refresh()
    assert (report.rebuilt, report.num_read, report.persistent) == (True, 1, True)
    assert "layout 0" in report.why


def test_the_database_of_another_program_is_left_alone(store: FileStore, tmp_path: Path) -> None:
    store.seal(make_record(), {})
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute("INSERT INTO theirs VALUES (42)")
    connection.close()
    index = RunIndex(store, path)
    report = index.refresh()
    assert not report.persistent and "another program" in report.why
    assert len(index.list()) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT x FROM theirs").fetchall() == [(42,)]
    connection.close()


def test_reindex_builds_from_nothing(store: FileStore) -> None:
    for i in range(3):
        store.seal(make_record(index=i), {})
    index = RunIndex(store)
    index.refresh()
    assert index.path is not None
    with sqlite3.connect(index.path) as connection:
        connection.execute("UPDATE runs SET name = 'wrong'")
    connection.close()
    assert {row.name for row in index.list()} == {"wrong"}
    assert counts(index.reindex()) == (3, 3, 0, 0)
    assert {row.name for row in index.list()} == {"llama-on-h100"}


def test_a_store_that_is_not_there_is_an_empty_list(store: FileStore, tmp_path: Path) -> None:
    index = RunIndex(store)
    assert index.list() == () and index.refresh().num_records == 0
    assert not (tmp_path / "store").exists()


@pytest.fixture
def read_only(store: FileStore, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "store"
    store.seal(make_record(), {})
    commands = [
        ["mount", "--bind", str(folder), str(folder)],
        ["mount", "-o", "remount,bind,ro", str(folder)],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot make a folder read-only here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_store_is_listed_from_memory(store: FileStore, read_only: Path) -> None:
    index = RunIndex(store)
    report = index.refresh()
    assert (report.num_records, report.persistent) == (1, False)
    assert "Read-only" in report.why
    assert [row.run_id for row in index.list()] == [make_run_id()]
    index.close()


def test_a_remote_store_has_its_index_where_told(tmp_path: Path) -> None:
    store = FileStore("memory://indexed")
    store.seal(make_record(), {})
    path = tmp_path / "cache" / "runs.sqlite"
    assert RunIndex(store, path).refresh().persistent
    assert counts(RunIndex(store, path).refresh()) == (1, 0, 0, 0)
    bare = RunIndex(store)
    assert not bare.refresh().persistent and len(bare.list()) == 1
    bare.close()
    fsspec.filesystem("memory").rm("/indexed", recursive=True)


REFRESHER = """
import sys
from results.store_files import FileStore
from results.store_index import RunIndex
index = RunIndex(FileStore(sys.argv[1]))
sys.stdin.readline()
for _ in range(10):
    report = index.refresh()
    assert report.persistent, report.why
    if sys.argv[2] == "damage":
        index.path.write_bytes(b"garbage" * 99)
print(len(index.list(limit=0)))
"""


def test_processes_refresh_and_rebuild_side_by_side(store: FileStore, tmp_path: Path) -> None:
    for i in range(20):
        store.seal(make_record(index=i), {})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REFRESHER, str(tmp_path / "store"), role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in ("refresh", "refresh", "damage")
    ]
    ends = [process.communicate("go\n", timeout=60) for process in processes]
    assert [out for out, _ in ends] == ["20\n"] * 3, ends


def test_runs_are_found_by_their_tags(store: FileStore) -> None:
    def sealed(second: int, **tags: str) -> str:
        run_id = make_run_id(second)
        store.seal(make_record(run_id=run_id, spec={"tags": tags}), {})
        return run_id

    one = sealed(1, study="chat", fingerprint="aa")
    two = sealed(2, study="code", fingerprint="aa")
    three = sealed(3, study="chat", config="x" * 400)
    index = RunIndex(store)
    assert index.tagged("study", "chat") == (one, three)
    assert index.tagged("fingerprint", "aa") == (one, two)
    assert index.tagged("config", "x" * 400) == ()  # nobody looks for so long a value
    assert index.tag_values("study") == ("chat", "code")
    shutil.rmtree((Path(store.url) / record_path(one)).parent)
    index.refresh()
    assert index.tagged("study", "chat") == (three,)
    assert index.tag_values("study") == ("code", "chat")
