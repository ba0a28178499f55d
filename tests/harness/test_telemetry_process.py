"""A child that samples: it tells what it read, goes with its parent, and its trouble is told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

from harness.telemetry.process import READY, ProcessWatch

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "http://127.0.0.1:9"  # the discard port: no server; the host is still there
DEADLINE_S = 30.0


def test_what_the_child_read_comes_back_on_our_clock() -> None:
    made_s = time.monotonic()
    watch = ProcessWatch(NOBODY, time.monotonic, interval_s=0.05)
    watch.begin()
    began_s = time.monotonic()
    ended_s = began_s + 0.3
    while time.monotonic() < ended_s:
        time.sleep(0.01)
    telemetry = watch.end()
    notes = {note.source: note for note in telemetry.sources()}
    assert notes["host"].num_reads >= 2
    assert "127.0.0.1:9" in notes["vllm"].absent
    load = telemetry.total("load_1m")
    assert load is not None
    assert made_s < load.t_s[0] <= began_s  # read before ``begin`` came back
    assert ended_s <= load.t_s[-1] <= time.monotonic()


def child_of(watch: ProcessWatch) -> psutil.Process:
    process = watch._process
    assert process is not None
    return psutil.Process(process.pid)


def test_an_abandoned_child_is_gone() -> None:
    watch = ProcessWatch(NOBODY, time.monotonic)
    child = child_of(watch)
    watch.abandon()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_child_that_dies_is_told_as_absent() -> None:
    watch = ProcessWatch(NOBODY, time.monotonic)
    watch.begin()
    child_of(watch).kill()
    notes = watch.end().sources()
    assert {note.source for note in notes} == {"vllm", "host"}
    assert all("sampling process" in note.absent for note in notes)


def test_the_child_ends_with_its_input() -> None:
    """Nobody has to end it: a parent that is killed closes the pipe."""
    ask = json.dumps({"base_url": NOBODY, "interval_s": 60.0})
    child = subprocess.Popen(
        [sys.executable, "-m", "harness.telemetry.process", ask],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == READY
        child.stdin.close()
        assert child.stdout.read()
        assert child.wait(DEADLINE_S) == 0
