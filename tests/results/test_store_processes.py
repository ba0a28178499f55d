"""The store among processes that race and die: what was told is kept, the rest is readable."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from results.store_check import check
from results.store_files import FileStore

# Imports once, then forks writers that all start when the last of them is there. What a writer
# tells goes out in one write each, so that lines of many never mix.
FORK = """
import os, sys
from results.errors import DuplicateRecord
from results.store_files import FileStore
from results.testing import make_open_run, make_record, make_requests

root, num_writers, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
gate, opener = os.pipe()
for writer in range(num_writers):
    if os.fork() == 0:
        os.close(opener)
        os.read(gate, 1)
        try:
            store = FileStore(root)
            tell = lambda text: os.write(1, f"{writer} {os.getpid()} {text}\\n".encode())
            BODY
        finally:
            os._exit(0)
os.close(opener)
for _ in range(num_writers):
    os.wait()
"""

APPEND = """
            table = make_requests(20, seed=writer).to_table()
            for i in range(count):
                index = writer * 1_000_000 + i
                store.begin(make_open_run(index=index))
                kept = store.seal(make_record(index=index), {"requests": table})
                tell(kept.run_id)
"""

SEAL_THE_SAME = """
            table = make_requests(writer + 1).to_table()
            for i in range(count):
                record = make_record(index=i, name=f"writer-{writer}")
                try:
                    tell(store.seal(record, {"requests": table}).run_id)
                except DuplicateRecord:
                    pass
"""

# Kills itself before the n-th system call that can change a disk, for every n there is.
EVERY_STEP = """
import itertools, json, os, pathlib, signal, sys
from results.store_files import FileStore
from results.testing import make_open_run, make_record, make_requests

COUNTED = ("fsync", "link", "unlink", "mkdir", "open", "rename", "replace")
table = make_requests(5).to_table()

def child(root, index, last):
    steps = itertools.count(1)
    def counted(real):
        def call(*args, **kwargs):
            if next(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    for name in COUNTED:
        setattr(os, name, counted(getattr(os, name)))
    import io
    io.open = pathlib.io.open = counted(io.open)
    store = FileStore(root)
    store.begin(make_open_run(index=index))
    os.write(report, b"begun ")
    store.seal(make_record(index=index), {"requests": table})
    os.write(report, b"sealed ")

for last in itertools.count(1):
    receive, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(sys.argv[1], last, last)
        finally:
            os._exit(0)
    os.close(report)
    told = b"".join(iter(lambda: os.read(receive, 100), b"")).decode().split()
    os.close(receive)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print(json.dumps({"last": last, "told": told, "killed": killed}), flush=True)
    if not killed:
        break
"""


class Writers:
    """A process and its forks; ``lines`` are (writer, pid, run id) as they are told."""

    def __init__(self, body: str, root: Path, num_writers: int, count: int) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                FORK.replace("BODY", body.strip()),
                root,
                *map(str, (num_writers, count)),
            ],
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.pids: set[int] = set()

    def lines(self, timeout_s: float = 120.0) -> Iterator[tuple[int, int, str]]:
        assert self.process.stdout is not None
        ends_at, rest = time.monotonic() + timeout_s, b""
        while True:
            readable, _, _ = select.select([self.process.stdout], [], [], timeout_s)
            assert readable and time.monotonic() < ends_at, f"not done in {timeout_s} s"
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                assert rest == b""  # a write to a pipe is whole or not at all
                return
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                writer, pid, run_id = line.decode().split()
                self.pids.add(int(pid))
                yield int(writer), int(pid), run_id


@contextmanager
def writers(body: str, root: Path, num_writers: int, count: int) -> Iterator[Writers]:
    started = Writers(body, root, num_writers, count)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            os.killpg(started.process.pid, signal.SIGKILL)
        started.process.communicate()


def test_eight_processes_append_forty_runs_each_and_all_are_found(tmp_path: Path) -> None:
    with writers(APPEND, tmp_path, 8, 40) as started:
        acknowledged = sorted(run_id for _, _, run_id in started.lines())
    assert len(acknowledged) == 320 and len(started.pids) == 8
    store = FileStore(tmp_path)
    scan = store.scan()
    assert [record.run_id for record in scan.records] == acknowledged
    assert scan.torn == [] and store.open_runs() == ()
    report = check(store)
    assert (report.num_records, report.num_artifacts) == (320, 320)
    assert report.healthy and report.leftovers == ()


def test_of_processes_that_seal_the_same_runs_one_wins_each(tmp_path: Path) -> None:
    with writers(SEAL_THE_SAME, tmp_path, 4, 15) as started:
        told = [(run_id, f"writer-{writer}") for writer, _, run_id in started.lines()]
    assert set(Counter(run_id for run_id, _ in told).values()) == {1}
    assert len(told) == 15
    store = FileStore(tmp_path)
    found = {record.run_id: record for record in store.scan().records}
    assert {run_id: record.name for run_id, record in found.items()} == dict(told)
    for record in found.values():
        table = store.table(record, "requests")
        assert table is not None and f"writer-{table.num_rows - 1}" == record.name
    assert check(store).healthy


@pytest.mark.chaos
def test_killed_at_every_step_of_a_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_STEP, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    assert not deaths[-1]["killed"] and deaths[-1]["told"] == ["begun", "sealed"]
    assert all(death["killed"] for death in deaths[:-1])
    assert len(deaths) > 25  # begin and seal have some forty steps; fewer means none was counted
    assert {tuple(death["told"]) for death in deaths} == {(), ("begun",), ("begun", "sealed")}
    store = FileStore(tmp_path)
    indices = {int(record.run_id.rsplit("-")[-1], 16) for record in store.scan().records}
    open_indices = {int(run.run_id.rsplit("-")[-1], 16) for run in store.open_runs()}
    for death in deaths:
        if "sealed" in death["told"]:
            assert death["last"] in indices
        elif "begun" in death["told"]:
            assert death["last"] in indices | open_indices
    assert indices.isdisjoint(open_indices)
    report = check(store)
    assert report.torn == () and report.num_records == len(indices)
    assert report.leftovers != ()  # some died with a temporary file in hand, and it is counted


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_points_no_acknowledged_run_is_lost(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    left = {writer: rng.randrange(1, 12) for writer in range(6)}
    acknowledged: set[str] = set()
    killed = []
    with writers(APPEND, tmp_path, 6, 100_000) as started:
        for writer, pid, run_id in started.lines():
            acknowledged.add(run_id)
            left[writer] -= 1
            if left[writer] == 0:
                # Any instant of the writing of the next run, or of the ones after it, may be hit.
                select.select([], [], [], rng.uniform(0.0, 0.05))
                os.kill(pid, signal.SIGKILL)
                killed.append(writer)
        assert started.process.wait(timeout=30) == 0
    assert sorted(killed) == list(range(6))
    store = FileStore(tmp_path)
    scan = store.scan()
    found = {record.run_id for record in scan.records}
    assert acknowledged <= found
    assert scan.torn == []
    assert len(found) <= len(acknowledged) + 6  # each may have sealed one more, untold
    report = check(store)
    assert report.healthy
    assert report.num_open + report.num_records <= len(acknowledged) + 6
