"""A study whose process is killed at the worst moments goes on: nothing lost, nothing measured
twice. On real (simulated-engine) servers, without Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from results.record import Failed, RunRecord
from results.store_files import FileStore

pytestmark = pytest.mark.chaos

RUN = """
name: varied
workload: {kind: simulated, model: tiny-llama, accelerator: H100, engine_args: {max-num-seqs: 4}}
traffic:
  arrivals: {kind: closed, num_users: 2}
  prompt_tokens: {kind: fixed, tokens: 8}
  output_tokens: {kind: fixed, tokens: 4}
  duration_s: 1
"""
STUDY = """
name: small-study
spec: run.yaml
knobs:
  - {path: workload.engine_args.max-num-seqs, values: [null, 1, 2, 8]}
goals: [output_throughput]
budget: {num_trials: 3}
sampler: random
top: 1
max_repeats: 1
load: {concurrency: [1, 2], until: end}
"""
# ``windtunnel tune`` on the fake deployer. With a number it kills itself, as kill -9 would, when
# that many records have been written and the next one is to be: its tables are there already.
PROGRAM = """
import os, signal, sys
from contextlib import contextmanager
from harness.cli import tune
from harness.cli.app import main
from harness.fake_deployer import FakeDeployer
from results import store_files

@contextmanager
def fake(*_):
    yield FakeDeployer()

tune.deployer = fake
left = int(sys.argv.pop(1))
dumps = store_files.dumps_record

def dumped(record, *token):
    global left
    if token:
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    return dumps(record, *token)

store_files.dumps_record = dumped
main()
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def tune(files: Path, *words: str, die_at: int = -1) -> subprocess.Popen[str]:
    places = {"WINDTUNNEL_HOME": str(files / "home"), "WINDTUNNEL_STORE": str(files / "store")}
    command = [sys.executable, "-c", PROGRAM, str(die_at), "tune", str(files / "study.yaml")]
    return subprocess.Popen(
        [*command, "--json", *words],
        env=os.environ | places,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def records(files: Path) -> list[RunRecord]:
    return list(FileStore(str(files / "store")).scan().records)


def question(record: RunRecord) -> tuple[Any, ...]:
    tags = record.spec["tags"]
    at = json.loads(tags["study.load"])
    return tags["study.config"], tags["study.phase"], tags["study.repeat"], at["at"], at["window"]


def test_a_killed_study_goes_on(files: Path) -> None:
    # Baseline: two windows. The first trial's second window is cut off while it is written.
    first = tune(files, die_at=3)
    _, told = first.communicate(timeout=100)
    assert first.returncode == -signal.SIGKILL, told
    assert len(records(files)) == 3
    (torn,) = FileStore(str(files / "store")).open_runs()

    # The next sitting is killed from outside, in the middle of a load.
    second = tune(files, "--resume")
    deadline = time.monotonic() + 60.0
    while len(records(files)) < 6:  # the lost one, the rest of its trial, and one more
        assert second.poll() is None, second.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    before = {r.run_id: r for r in records(files)}
    assert isinstance(before[torn.run_id].outcome, Failed)

    third = tune(files, "--resume")
    out, told = third.communicate(timeout=100)
    document = json.loads(out)
    assert document["schema"] == "windtunnel.tune/1", told
    assert third.returncode in (0, 4)  # a loaded machine may spoil what is measured

    kept = records(files)
    assert FileStore(str(files / "store")).open_runs() == ()
    lost = [r for r in kept if isinstance(r.outcome, Failed)]
    assert {r.outcome.stage for r in lost if isinstance(r.outcome, Failed)} == {"lost"}
    asked = Counter(question(r) for r in kept if not isinstance(r.outcome, Failed))
    assert max(asked.values()) == 1, "a window was measured twice"
    assert {question(r) for r in lost} <= set(asked), "what was lost was not measured again"
    # Every trial of the search has both of its loads, and there are as many as the budget says.
    trials = Counter((c, p) for c, p, _, _, w in asked if p != "remeasure" and w == "full")
    assert set(trials.values()) == {2}
    assert len(trials) == len(document["trials"]) == 3
    ids = [set(t["run_ids"]) for t in document["trials"]]
    assert all(len(trial) >= 2 for trial in ids)
