"""Whatever happens to a store, the index answers as a scan of everything does."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.codec import dumps_record
from results.errors import StoreError
from results.measurement import of_group
from results.store_changes import Known, changes
from results.store_compact import compact
from results.store_files import FileStore
from results.store_index import RunIndex
from results.store_layout import record_path
from results.store_objects import LocalObjects
from results.testing import EPOCH, FakeClock, make_record, make_run_id

NUM_RUNS = 6  # of two days
LATER = FakeClock(EPOCH + timedelta(days=30))


def run_id(n: int) -> str:
    return make_run_id(n, EPOCH + timedelta(days=n % 2))


def seal(store: FileStore, n: int, seed: int = 0) -> None:
    record = make_record(
        index=n,
        started_at=EPOCH + timedelta(days=n % 2),
        name=f"name-{seed}",
        spec={"tags": {"seed": str(seed)}},
    )
    if isinstance(store.objects, LocalObjects):  # as a seal leaves it, without waiting for a disk
        path = store.objects.root / record_path(record.run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(dumps_record(record))
        return
    store.seal(record, {})


class Harm:
    """What may befall a store or its index; each takes the run's number and a seed."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, FileStore(root)

    def path(self, n: int) -> Path:
        return self.root / record_path(run_id(n))

    def seal(self, n: int, seed: int) -> None:
        seal(self.store, n, seed)

    def tear(self, n: int, seed: int) -> None:
        if self.path(n).exists():
            text = self.path(n).read_bytes()
            self.path(n).write_bytes(text[: len(text) * (seed % 4) // 4])

    def replace(self, n: int, seed: int) -> None:
        """By hand, in the same place: what no program of ours does."""
        if self.path(n).exists():
            self.path(n).unlink()
            seal(self.store, n, seed + 100)

    def take_away(self, n: int, seed: int) -> None:
        shutil.rmtree(self.path(n).parent, ignore_errors=True)

    def copy(self, n: int, seed: int) -> None:
        """The same bytes, another file: a backup that was put back."""
        if self.path(n).exists():
            aside = self.root / "aside"
            shutil.copy(self.path(n), aside)
            aside.replace(self.path(n))

    def stranger(self, n: int, seed: int) -> None:
        folder = self.root / "runs" / ("dt=2026-11-23" if seed % 2 else f"foreign-{n}")
        (folder / f"no-run-{n}").mkdir(parents=True, exist_ok=True)

    def pack(self, n: int, seed: int) -> None:
        compact(self.store, LATER, delete=bool(seed % 2))

    def tear_packed(self, n: int, seed: int) -> None:
        for file in sorted(self.root.glob(f"compacted/*/{'manifest' if n % 2 else 'records'}-*")):
            file.write_bytes(file.read_bytes()[:-20])
            break

    def damage_index(self, page: int) -> None:
        """A page of it reads as zeros."""
        index = self.root / "index.sqlite"
        data = bytearray(index.read_bytes())
        at = page * 4096 % len(data)
        data[at : at + 4096] = bytes(len(data[at : at + 4096]))
        index.write_bytes(data)


STEPS = ("seal", "tear", "replace", "take_away", "copy", "stranger", "pack", "tear_packed")
step = st.tuples(
    st.sampled_from((*STEPS, "seal", "seal", "refresh")),
    st.integers(0, NUM_RUNS - 1),
    st.integers(0, 9),
)


def agrees(store: FileStore, index: RunIndex) -> None:
    scan = store.scan()
    records = list(scan.records)
    report = index.refresh()
    briefs = index.briefs(sorted(index.digests()))
    assert [b.run_id for b in briefs] == [r.run_id for r in records]
    for brief, record in zip(briefs, records, strict=True):
        assert (brief.name, brief.spec) == (record.name, record.spec)
        assert brief.measurements == of_group(record.measurements)
    assert [row.run_id for row in index.list(0)] == [r.run_id for r in reversed(records)]
    for seed in {b.spec["tags"]["seed"] for b in briefs}:
        tagged = [r.run_id for r in records if r.spec["tags"]["seed"] == seed]
        assert list(index.tagged("seed", seed)) == tagged
    assert sorted(t.path for t in report.torn) == sorted(t.path for t in scan.torn)
    assert report.num_records == len(records)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(step, min_size=2, max_size=12))
def test_any_story_of_a_store_ends_with_the_answer_of_a_full_scan(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    root = tmp_path_factory.mktemp("story")
    harm = Harm(root)
    harm.seal(0, 0)
    for name, n, seed in steps:
        if name == "refresh":
            agrees(harm.store, RunIndex(harm.store))
        else:
            getattr(harm, name)(n, seed)
    index = RunIndex(harm.store)
    agrees(harm.store, index)
    assert index.refresh().num_read == 0
    shutil.rmtree(root)


def test_an_index_with_a_lost_page_is_made_anew_with_a_word(tmp_path: Path) -> None:
    harm, said = Harm(tmp_path), list[str]()
    for n in range(NUM_RUNS):
        harm.seal(n, n)
    agrees(harm.store, RunIndex(harm.store, say=said.append))
    assert said == []
    num_pages = (tmp_path / "index.sqlite").stat().st_size // 4096
    for page in range(num_pages):
        harm.damage_index(page)
        agrees(harm.store, RunIndex(harm.store, say=said.append))
    assert len(said) > num_pages // 2 and all("was made anew" in one for one in said)


def test_one_bit_in_a_brief_is_noticed(tmp_path: Path) -> None:
    harm, said = Harm(tmp_path), list[str]()
    harm.seal(0, 0)
    RunIndex(harm.store).refresh()
    path = tmp_path / "index.sqlite"
    data = path.read_bytes()
    at = data.index(b"order statistics")
    path.write_bytes(data[:at] + b"O" + data[at + 1 :])
    agrees(harm.store, RunIndex(harm.store, say=said.append))
    (one,) = said
    assert "was made anew" in one and "is damaged" in one


def num_reads(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    reads, plain = [], store.objects.read
    monkeypatch.setattr(store.objects, "read", lambda path: (reads.append(path), plain(path))[1])

    def since() -> int:
        num = len(reads)
        reads.clear()
        return num

    return since


def test_what_is_known_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harm = Harm(tmp_path)
    for n in range(NUM_RUNS):
        harm.seal(n, n)
    index = RunIndex(harm.store)
    since = num_reads(harm.store, monkeypatch)
    assert index.refresh().num_read == NUM_RUNS and since() == NUM_RUNS
    assert index.refresh().num_read == 0 and since() == 0
    mark = index.mark()
    compact(FileStore(tmp_path), LATER, delete=True)
    since()
    # Each day's manifest and file, and no record in them is decoded.
    assert index.refresh().num_read == 0 and since() == 4
    assert index.refresh().num_read == 0 and since() == 0
    assert index.mark() != mark
    mark = index.mark()
    harm.seal(NUM_RUNS, 0)
    since()
    assert index.refresh().num_read == 1 and since() == 1
    assert index.mark() != mark


def test_a_bucket_is_asked_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore("memory://changes")
    for n in range(3):
        seal(store, n)
    index = RunIndex(store)
    since = num_reads(store, monkeypatch)
    assert index.refresh().num_read == 3 and since() == 3
    assert index.refresh().num_read == 0 and since() == 0
    fs = fsspec.filesystem("memory")
    fs.pipe_file(f"/changes/{record_path(run_id(1))}", b"{")
    report = index.refresh()
    assert (report.num_records, report.num_torn, since()) == (2, 1, 1)
    fs.rm(f"/changes/runs/{run_id(0) and 'dt=2026-11-23'}", recursive=True)
    assert index.refresh().num_records == 0
    fs.rm("/changes", recursive=True)


def test_a_place_that_tells_no_stamps_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm = Harm(tmp_path)
    harm.seal(0, 0)
    monkeypatch.setattr(
        harm.store.objects, "stamps", lambda path, leaf="": {run_id(0): "?"} if leaf else {}
    )
    known = Known(runs={run_id(0): ("?", "")})
    assert [s.run_id for s in changes(harm.store.objects, known).new] == [run_id(0)]


KILLED = """
import os, signal, sys
import results.store_index as index
from results.store_files import FileStore
index._AT_ONCE = 3
left = [int(sys.argv[2])]
plain = index._put
def put(connection, sealed, **named):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(connection, sealed, **named)
index._put = put
index.RunIndex(FileStore(sys.argv[1])).refresh()
"""


@pytest.mark.parametrize("after", [0, 4])
def test_a_killed_refresh_is_gone_on_with(tmp_path: Path, after: int) -> None:
    harm = Harm(tmp_path)
    for n in range(NUM_RUNS):
        harm.seal(n, n)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(after)], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    index = RunIndex(harm.store)
    assert index.refresh().num_read == NUM_RUNS - after // 3 * 3  # whole transactions stay
    agrees(harm.store, index)


def test_runs_of_a_beginning_are_looked_for_on_their_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm = Harm(tmp_path)
    for n in range(4):
        harm.seal(n, 0)
    compact(harm.store, LATER, delete=True)
    since = num_reads(harm.store, monkeypatch)
    assert harm.store.get("20261124T170000Z-0000000001").run_id == run_id(1)
    since()
    assert harm.store.get("20261123T170000Z-0000000002").run_id == run_id(2)
    assert since() == 3  # no record of its own, a manifest and a file
    with pytest.raises(StoreError, match="nearest: 2026112"):
        harm.store.get("20251123T17")
