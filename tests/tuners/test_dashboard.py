"""A study's storage opened by optuna-dashboard: a process of its own, asked over its HTTP API."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from results.clock import SystemClock
from tuners.dashboard import shown_config
from tuners.goals import Reading, Wish
from tuners.optuna_study import OptunaSearcher, sampler_named
from tuners.outcome import Crashed, FailureKind, Measured
from tuners.space import Branch
from tuners.study_storage import storage_at

START_S = 60.0
CRASH = Crashed(kind=FailureKind.OOM_AT_LOAD, message="out of memory", severity=0.5)


def test_knobs_are_named_by_their_last_word_where_that_is_enough() -> None:
    shown = shown_config({"a.seqs": None, "b.x": 4, "c.x": False})
    assert shown == {"knob seqs": "default", "knob b.x": 4, "knob c.x": False}


@contextmanager
def dashboard(storage: Path) -> Iterator[str]:
    binary = Path(sys.executable).parent / "optuna-dashboard"
    if not binary.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("optuna-dashboard is not installed; it is among the dev dependencies")
        pytest.skip("optuna-dashboard is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(binary), "--host", "127.0.0.1", "--port", str(port), "--quiet", str(storage)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait(timeout=30)


def asked(url: str) -> Any:
    """Waits for it to listen: a refused connection answers at once."""
    clock = SystemClock()
    end_s = clock.monotonic_s() + START_S
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
        if clock.monotonic_s() > end_s:
            raise TimeoutError(f"{url} does not answer")
        clock.sleep(0.1)


def test_the_dashboard_shows_trials_knobs_limits_and_failures(
    tmp_path: Path, branch: Branch, wish: Wish
) -> None:
    journal = tmp_path / "study.journal"
    searcher = OptunaSearcher(
        branch,
        wish,
        name="a study",
        sampler=sampler_named("random", seed=0, num_trials=4),
        storage=storage_at(str(journal)),
    )
    searcher.want([{"seqs": 8, "chunked": True}, {"seqs": None, "chunked": False}])
    first, second, third = searcher.ask(), searcher.ask(), searcher.ask()
    good = Reading(goals={"output_throughput": 80.0}, bounds={"ttft_s_p99": 0.25})
    late = Reading(goals={"output_throughput": 90.0}, bounds={"ttft_s_p99": 0.75})
    searcher.tell(first.number, Measured(reading=good))
    searcher.tell(second.number, Measured(reading=late))
    searcher.tell(third.number, CRASH)

    with dashboard(journal) as api:
        (summary,) = asked(f"{api}/studies")["study_summaries"]
        assert summary["study_name"] == "a study"
        found = asked(f"{api}/studies/{summary['study_id']}?after=0")
    assert found["objective_names"] == ["output_throughput"]
    trials = [
        (t["state"], {a["key"]: a["value"].strip('"') for a in t["user_attrs"]}, t.get("values"))
        for t in found["trials"]
    ]
    assert [state for state, _, _ in trials] == ["Complete"] * 3
    shown = [attributes for _, attributes, _ in trials]
    assert shown[0]["knob seqs"] == "8"
    assert shown[1]["knob seqs"] == "default"
    assert [a["keeps limits"] for a in shown] == ["True", "False", "False"]
    assert [a.get("limit ttft_s_p99") for a in shown] == ["0.25", "0.75", None]
    assert shown[2]["failed"] == "oom_at_load"
    assert json.loads(shown[2]["why"])["message"] == "out of memory"
    assert [values for _, _, values in trials] == [[80.0], [90.0], [80.0]]  # the worst seen
