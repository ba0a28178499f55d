from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from results.errors import DuplicateRecord, StoreUnwritable
from results.lost import (
    MAX_AGE_S,
    ProcessIdentity,
    is_lost,
    process_alive,
    seal_lost,
    this_process,
)
from results.record import Evidence, Failed, RunRecord
from results.store import OpenRun
from results.store_files import FileStore
from results.testing import (
    EPOCH,
    FakeClock,
    FakeRecordStore,
    make_open_run,
    make_record,
    make_run_id,
)

ME = ProcessIdentity(host="here", boot_id="boot-1/ns-1", pid=1000, process_started_s=50.0)


def open_run(**changes: Any) -> OpenRun:
    mine = {"host": ME.host, "boot_id": ME.boot_id, "pid": 7, "process_started_s": 1.0}
    return make_open_run(**(mine | changes))


def dead(pid: int, process_started_s: float) -> bool:
    return False


def living(pid: int, process_started_s: float) -> bool:
    return True


def not_to_be_asked(pid: int, process_started_s: float) -> bool:
    raise AssertionError("a pid means nothing there")


@pytest.mark.parametrize(
    ("changes", "alive", "verdict"),
    [
        ({}, dead, True),
        ({}, living, False),
        ({"boot_id": "boot-2/ns-1"}, not_to_be_asked, True),
        ({"boot_id": "boot-2/ns-9"}, not_to_be_asked, True),
        ({"boot_id": "boot-1/ns-2"}, not_to_be_asked, None),
        ({"host": "elsewhere"}, not_to_be_asked, None),
        ({"host": "elsewhere", "boot_id": "boot-2/ns-1"}, not_to_be_asked, None),
    ],
)
def test_the_verdict(changes: dict[str, Any], alive: Any, verdict: bool | None) -> None:
    assert is_lost(open_run(**changes), ME.host, ME.boot_id, alive) is verdict


def test_alive_is_asked_for_the_pid_and_its_start() -> None:
    asked = []

    def spy(pid: int, process_started_s: float) -> bool:
        asked.append((pid, process_started_s))
        return True

    is_lost(open_run(pid=7, process_started_s=1.25), ME.host, ME.boot_id, spy)
    assert asked == [(7, 1.25)]


def test_a_lost_run_becomes_a_failed_record_with_what_was_asked() -> None:
    store, clock = FakeRecordStore(), FakeClock()
    run = open_run(repeat_index=2, num_repeats=5, evidence=Evidence.SIMULATED)
    store.begin(run)
    clock.advance(300.0)
    [record] = seal_lost(store, clock, me=ME, alive=dead)
    assert store.get(run.run_id) == record and store.open_runs() == ()
    assert isinstance(record.outcome, Failed)
    assert (record.outcome.stage, record.outcome.error) == ("lost", "driver_died")
    assert "pid 7 on here" in record.outcome.message and "300 s" in record.outcome.message
    assert (record.started_at, record.ended_at) == (EPOCH, EPOCH + timedelta(seconds=300))
    assert record.duration_s == 300.0
    for name in ("experiment_id", "name", "workload", "workload_hash", "spec", "plan"):
        assert getattr(record, name) == getattr(run, name)
    assert (record.repeat_index, record.num_repeats) == (2, 5)
    assert record.evidence is Evidence.SIMULATED
    assert record.measurements == () and record.environment_hash == ""
    assert seal_lost(store, clock, me=ME, alive=dead) == ()


def test_a_living_run_is_left_alone_however_old() -> None:
    store, clock = FakeRecordStore(), FakeClock()
    store.begin(open_run())
    clock.advance(10 * MAX_AGE_S)
    assert seal_lost(store, clock, me=ME, alive=living) == ()
    assert len(store.open_runs()) == 1


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"boot_id": "boot-1/ns-2"}])
def test_what_cannot_be_asked_is_left_alone_until_it_is_old(changes: dict[str, Any]) -> None:
    store, clock = FakeRecordStore(), FakeClock()
    store.begin(open_run(**changes))
    clock.advance(MAX_AGE_S)
    assert seal_lost(store, clock, me=ME, alive=not_to_be_asked) == ()
    clock.advance(1.0)
    [record] = seal_lost(store, clock, me=ME, alive=not_to_be_asked)
    assert isinstance(record.outcome, Failed) and record.outcome.error == "driver_silent"
    assert "7.0 days" in record.outcome.message


def test_a_wall_clock_that_was_set_back_makes_no_negative_duration() -> None:
    store, clock = FakeRecordStore(), FakeClock()
    store.begin(open_run())
    clock.step_date(-3600.0)
    [record] = seal_lost(store, clock, me=ME, alive=dead)
    assert record.duration_s == 0.0


class OvertakenStore(FakeRecordStore):
    """The driver turns out to live, and seals its run just before we do."""

    def seal(self, record: RunRecord, tables: Mapping[str, Any]) -> RunRecord:
        if isinstance(record.outcome, Failed):
            super().seal(make_record(), {})
        return super().seal(record, tables)


def test_a_run_sealed_by_its_driver_meanwhile_keeps_that_record() -> None:
    store = OvertakenStore()
    store.begin(open_run())
    assert seal_lost(store, FakeClock(), me=ME, alive=dead) == ()
    assert store.get(make_run_id()) == make_record()


def test_an_unwritable_store_is_said() -> None:
    store = FakeRecordStore()
    store.begin(open_run())
    store.fail_seal = StoreUnwritable("read-only")
    with pytest.raises(StoreUnwritable):
        seal_lost(store, FakeClock(), me=ME, alive=dead)
    assert len(store.open_runs()) == 1


def test_this_process_is_itself_and_lives() -> None:
    me = this_process()
    assert me == this_process() and me.pid == os.getpid()
    assert process_alive(me.pid, me.process_started_s)
    # An independent source of the same start: psutil's, by dates, on a clock nobody stepped.
    by_date = psutil.Process().create_time() - psutil.boot_time()
    assert abs(by_date - me.process_started_s) < 2.0
    assert not process_alive(me.pid, me.process_started_s - 1.0)  # the pid was used again
    assert not process_alive(2**22 + 1, me.process_started_s)  # above any pid


CHILD = """
import sys
from results.lost import this_process
me = this_process()
print(me.pid, me.process_started_s, flush=True)
sys.stdin.readline()
"""


@pytest.mark.chaos
def test_a_killed_process_is_dead_at_once_and_as_a_zombie() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    pid, started_s = child.stdout.readline().split()
    assert int(pid) == child.pid and process_alive(child.pid, float(started_s))
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert not process_alive(child.pid, float(started_s))
    child.communicate()
    assert not process_alive(child.pid, float(started_s))


DRIVER = """
import sys
from dataclasses import asdict
from results.lost import this_process
from results.store_files import FileStore
from results.testing import make_open_run
FileStore(sys.argv[1]).begin(make_open_run(**asdict(this_process())))
print("begun", flush=True)
sys.stdin.readline()
"""


@pytest.mark.chaos
def test_a_killed_driver_is_sealed_by_the_next_start(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "begun\n"
    store, clock = FileStore(tmp_path), FakeClock()
    assert seal_lost(store, clock) == ()  # it lives
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    [record] = seal_lost(store, clock)
    assert isinstance(record.outcome, Failed) and record.outcome.error == "driver_died"
    assert list(store.scan().records) == [record]
    assert store.open_runs() == ()
    with pytest.raises(DuplicateRecord):
        store.begin(replace(make_open_run(), pid=1))
