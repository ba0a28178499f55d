"""``windtunnel nightly`` at the terminal: a night, its page, its index; killed and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from harness.cli import nightly_work
from harness.cli.app import app
from harness.cli.exits import Exit
from harness.fake_deployer import FakeDeployer
from harness.nightly.journal import Journal, alone, nights_kept
from results.nights import night_runs
from results.record import Failed
from results.store_files import FileStore
from results.testing import EPOCH

ROOT = Path(__file__).parents[2]
SPEC = """\
name: {name}
workload: {{kind: simulated, model: tiny-llama, accelerator: H100}}
hardware: {{accelerator: {accelerator}, num_chips: {chips}, cpus: 0.5, pools: {pools}}}
traffic:
  arrivals: {{kind: constant, rate_rps: 40}}
  prompt_tokens: {{kind: fixed, tokens: 8}}
  output_tokens: {{kind: fixed, tokens: 4}}
  num_requests: 40
  duration_s: 20
"""
SUITE = """\
name: small
runs: [{spec: a.yaml, repeats: 2, metrics: [ttft_p50]}]
canaries: [{spec: canary.yaml, metrics: [ttft_p50]}]
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a", "b", "canary"):
        text = SPEC.format(name=name, accelerator="cpu", chips=0, pools="[]")
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "suite.yaml").write_text(SUITE)
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WINDTUNNEL_STORE", str(tmp_path / "store"))
    return tmp_path


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fake(*_: object) -> Iterator[FakeDeployer]:
        yield FakeDeployer()

    monkeypatch.setattr(nightly_work, "deployer", fake)


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, ["nightly", *words])


def test_a_night_leaves_records_a_page_and_an_index(files: Path, without_ray: None) -> None:
    suite, metrics = str(files / "suite.yaml"), files / "night.prom"
    made = invoke(suite, "--quiet", "--json", "--date", "2026-11-23", "--prometheus", str(metrics))
    night = json.loads(made.stdout)
    assert night["schema"] == "windtunnel.nightly/1"
    assert made.exit_code in (Exit.OK, Exit.INFRASTRUCTURE), made.output
    slots = [run["slot"] for run in night["runs"]]
    assert slots == ["canary#1", "a#1", "canary#2", "a#2", "canary#3"]
    page = Path(night["page"])
    assert page.is_file() and "night of 2026-11-23" in page.read_text()
    assert page.name in (page.parent / "index.html").read_text()
    assert page.with_suffix(".md").is_file() and "windtunnel_night_runs" in metrics.read_text()
    # A series has one value a night.
    again = invoke(suite, "--quiet", "--date", "2026-11-23")
    assert again.exit_code == Exit.USAGE and f"--resume {night['night']}" in again.stderr
    ended = invoke(suite, "--quiet", "--resume", "last")
    assert ended.exit_code == Exit.USAGE and "unfinished" in ended.stderr


def test_a_suite_that_changed_is_another_night(files: Path, without_ray: None) -> None:
    suite = files / "suite.yaml"
    journal = Journal(files / "home", "small", "20261123T170000Z-0000000001")
    journal.append(EPOCH, "begun", date="2026-11-23", suite="other", subject="", slots=[])
    found = invoke(str(suite), "--quiet", "--resume", "last")
    assert found.exit_code == Exit.USAGE and "has changed since night" in found.stderr


def test_a_night_beside_another_is_refused(files: Path, without_ray: None) -> None:
    with alone(files / "home", "night n1 of t"):
        found = invoke(str(files / "suite.yaml"), "--quiet")
    assert found.exit_code == Exit.INFRASTRUCTURE and "night n1 of t (process" in found.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--date", "tonight"), "accepted: a day"),
        (("--across", "a", "b"), "names no subject"),
        (("--resume", "2020"), "0 nights of small begin so"),
    ],
)
def test_bad_input_is_named(
    files: Path, without_ray: None, monkeypatch: pytest.MonkeyPatch, words: Any, says: str
) -> None:
    found = invoke(str(files / "suite.yaml"), "--quiet", *words)
    assert found.exit_code == Exit.USAGE and says in found.stderr


# ---- two lanes on real Ray, killed and gone on with ----

POOLS = """\
pools:
  - {name: one, accelerator: H100, num_nodes: 1, chips_per_node: 1, cpus_per_node: 2,
     memory_gib_per_node: 4, capacity: on-demand}
  - {name: two, accelerator: H100, num_nodes: 1, chips_per_node: 1, cpus_per_node: 2,
     memory_gib_per_node: 4, capacity: spot}
"""
START = "import sys; from harness.cli.app import main; sys.argv[0] = 'windtunnel'; main()"
DEADLINE_S = 240.0


def night_process(files: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-c", START, "nightly", str(files / "suite.yaml"), *words),
            *("--pools", str(files / "pools.yaml"), "--json", "--date", "2026-11-23"),
        ],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.alone
def test_a_killed_night_goes_on_on_both_pools(files: Path) -> None:
    (files / "pools.yaml").write_text(POOLS)
    for name, pool in (("a", "one"), ("b", "two"), ("canary", "one")):
        text = SPEC.format(name=name, accelerator="H100", chips=1, pools=f"[{pool}]")
        (files / f"{name}.yaml").write_text(text)
    (files / "suite.yaml").write_text(
        SUITE.replace("repeats: 2", "repeats: 1").replace(
            "runs: [", "runs: [{spec: b.yaml, repeats: 1, metrics: [ttft_p50]}, "
        )
    )
    killed = night_process(files)
    family: list[psutil.Process] = []
    try:
        began = time.monotonic()
        while _num_made(files) < 1:
            assert killed.poll() is None, killed.communicate()
            assert time.monotonic() - began < DEADLINE_S
            time.sleep(0.05)
        family = psutil.Process(killed.pid).children(recursive=True)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == [], alive
    before = _runs(files)
    resumed = night_process(files, "--resume", "last")
    out, err = resumed.communicate(timeout=DEADLINE_S)
    assert resumed.returncode in (Exit.OK, Exit.INFRASTRUCTURE, Exit.INVALID), err
    night = json.loads(out)
    runs = _runs(files)
    made = [r.slot for r in runs if not isinstance(r.record.outcome, Failed)]
    assert sorted(made) == ["a#1", "b#1", "canary#1", "canary#2"]
    assert {r.record.run_id for r in before if not isinstance(r.record.outcome, Failed)} <= {
        r.record.run_id for r in runs
    }
    assert {r.pool for r in runs if r.series == "b" and r.pool} == {"two"}
    assert night["night"] == runs[0].night_id


def _num_made(files: Path) -> int:
    nights = nights_kept(files / "home", "small")
    return len(Journal(files / "home", "small", nights[0]).read().all("made")) if nights else 0


def _runs(files: Path) -> Any:
    (runs,) = night_runs(FileStore(files / "store").scan().records, "small").values()
    return runs
