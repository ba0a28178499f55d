"""``windtunnel bench`` as a user meets it: documents, exit codes, Ctrl-C, and nothing left."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from harness.cli.app import COMMANDS, GROUPS, app, app_with
from results.client import Calibration
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import GoldenServer, golden_server

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
START = "from harness.cli.app import main; main()"
QUICK = ("--num-requests", "20", "--rate", "50", "--output-tokens", "uniform:1:4", "--quiet")


@pytest.fixture
def server() -> Iterator[GoldenServer]:
    with golden_server(Behaviour(ttft_s=0.005, itl_s=0.001)) as server:
        yield server


def bench(*words: str) -> Any:
    return CliRunner().invoke(app, ["bench", *words], catch_exceptions=False)


def until(true: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < DEADLINE_S, f"in vain for {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, "bench", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_one_document_and_its_record(server: GoldenServer, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = bench(
        "--endpoint", server.url, *QUICK, "--no-calibrate", "--json", "--out", str(out),
        "--slo", "ttft_p99=500ms,e2e=1min,attainment=90%",
    )  # fmt: skip
    document = json.loads(done.stdout)
    # Whether the client was late is this machine's business; the exit code says what the document
    # says.
    assert done.exit_code == (0 if document["valid"] else 4)
    assert document["schema"] == "windtunnel.bench/1"
    assert document == json.loads(out.read_text())
    assert document["endpoint"] == server.url
    assert document["num_requests"] == 20
    assert document["num_failed"] == 0
    assert document["evidence"] == "simulated"
    assert 0.005 <= document["metrics"]["ttft_s"]["p50"] < 2.0
    listed = CliRunner().invoke(app, ["runs", "list", "--json"], catch_exceptions=False)
    assert listed.exit_code == 0
    assert document["run_id"] in listed.stdout
    shown = CliRunner().invoke(app, ["runs", "show", document["run_id"], "--json"])
    record = json.loads(shown.stdout)
    kept = record.get("record", record)
    assert kept["workload"] == "endpoint"
    assert kept["client"]["workers"][0]["num_requests"] == 22
    assert kept["seeds"] == {"traffic.seed": 0}
    assert [a["num_rows"] for a in kept["artifacts"]] == [22]
    assert kept["outcome"]["kind"] == ("succeeded" if document["valid"] else "invalid")
    assert kept["spec"]["slo"] == {"ttft_p99_s": 0.5, "e2e_s": 60.0, "attainment": 0.9}
    assert kept["slo"] == document["slo"]
    assert kept["slo"][0]["verdict"] == "undecided"
    assert kept["slo"][0]["reason"] == "n = 20; needs at least 1000"
    people = CliRunner().invoke(app, ["runs", "show", document["run_id"]])
    assert "SLO ttft p99 ≤ 500 ms: undecided (n = 20" in people.stdout


def test_a_person_gets_tables(server: GoldenServer) -> None:
    done = bench(
        "--endpoint", server.url, "--concurrency", "2", "--num-requests", "20", "--no-calibrate",
        "--no-store", "--slo", "ttft_p50=5s", "--quiet",
    )  # fmt: skip
    assert done.exit_code in (0, 4)
    assert server.url in done.stdout
    assert "[simulated]" in done.stdout
    assert "ttft_s" in done.stdout
    # On a busy machine 20 requests follow each other too closely for an interval.
    assert re.search(r"SLO ttft p50 ≤ 5 s: (met|undecided) \(", done.stdout)
    assert "not calibrated" in done.stdout
    home = Path(os.environ["WINDTUNNEL_HOME"])
    assert not (home / "store").exists()


def test_the_first_request_has_the_loads_own_time_limit() -> None:
    with golden_server(Behaviour(ttft_s=0.6, itl_s=0.001)) as slow:
        words = ("--endpoint", slow.url, "--concurrency", "1", "--num-requests", "1", "--quiet",
                 "--no-calibrate", "--no-store", "--warmup", "0")  # fmt: skip
        done = bench(*words, "--timeout", "0.2")
        assert done.exit_code == 3
        assert "no answer within 0.2 s" in done.stderr
        assert bench(*words, "--timeout", "5").exit_code in (0, 4)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_exit_codes_tell_whose_fault_it_is(server: GoldenServer) -> None:
    nobody = bench("--endpoint", f"http://127.0.0.1:{closed_port()}", "--rate", "1", "--quiet")
    assert nobody.exit_code == 3
    assert "nobody listens" in nobody.stderr
    for words in (
        (),  # no rate
        ("--rate", "1", "--concurrency", "1"),
        ("--rate", "1", "--input-tokens", "many"),
        ("--rate", "1", "--workers", "0"),
        ("--rate", "1", "--out", "/no/such/folder/x.json"),
    ):
        wrong = bench("--endpoint", server.url, "--quiet", *words)
        assert wrong.exit_code == 2, words
        assert wrong.stderr.startswith("windtunnel: ")


def test_failed_requests_make_it_invalid() -> None:
    with golden_server(Behaviour(ttft_s=0.001, itl_s=0.001, fail_share=0.5)) as server:
        # Of the two requests that look at the endpoint one fails or not, by the server's seed.
        done = bench("--endpoint", server.url, *QUICK, "--no-calibrate", "--no-store", "--json")
    if done.exit_code != 3:
        document = json.loads(done.stdout)
        assert done.exit_code == 4
        assert "failed_requests" in document["reasons"]
        assert document["num_failed"] > 0


def known_ceiling(monkeypatch: pytest.MonkeyPatch, ceiling_rps: float) -> None:
    def calibrate(fleet: Any, *_: object) -> Calibration:
        return Calibration(
            asked_rps=0.0,
            ceiling_rps=ceiling_rps,
            ceiling_is_bound=True,
            floor_ttft_p50_s=1e-3,
            floor_ttft_p99_s=None,
            duration_s=0.1,
            num_workers=fleet.num_workers,
        )

    monkeypatch.setattr("harness.load.calibrate.calibrate", calibrate)
    monkeypatch.setattr("harness.load.local_workers.num_cores", lambda: 1)


def test_above_half_the_ceiling_it_refuses_unless_forced(
    server: GoldenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_ceiling(monkeypatch, 60.0)
    words = ("--endpoint", server.url, "--num-requests", "60", "--rate", "50", "--quiet",
             "--arrival", "constant", "--no-store", "--json", "--output-tokens", "2")  # fmt: skip
    refused = bench(*words)
    assert refused.exit_code == 4
    assert "asks for 50 requests/s" in refused.stderr
    assert "up to 60 requests/s" in refused.stderr
    assert len(server.served) == 1, "the look at the endpoint, and nothing of the load"
    forced = json.loads(bench(*words, "--force").stdout)
    assert "near_client_ceiling" in [doubt["code"] for doubt in forced["doubts"]]
    assert forced["client"]["calibration"]["ceiling_rps"] == 60.0
    assert forced["client"]["calibration"]["asked_rps"] == pytest.approx(50.0, abs=1.0)


@pytest.mark.chaos
def test_ctrl_c_tells_what_there_was_and_leaves_nothing(server: GoldenServer) -> None:
    process = started(
        "--endpoint", server.url, "--rate", "50", "--duration", "300", "--no-calibrate",
        "--workers", "2", "--output-tokens", "2", "--json",
    )  # fmt: skip
    try:
        until(lambda: len(server.served) > 40, "the load to be under way")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, stderr
    document = json.loads(stdout)
    assert document["ending"] == "interrupted"
    assert 20 < document["num_requests"] < 5_000
    assert document["num_failed"] == 0
    assert document["run_id"]
    assert not any(child.is_running() for child in children)


@pytest.mark.chaos
def test_a_bench_that_is_killed_takes_its_workers_along(server: GoldenServer) -> None:
    process = started(
        "--endpoint", server.url, "--rate", "20", "--duration", "300", "--no-calibrate",
        "--workers", "2", "--output-tokens", "2",
    )  # fmt: skip
    try:
        until(lambda: len(server.served) > 10, "the load to be under way")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
    finally:
        process.kill()
        process.communicate()
    until(lambda: not any(child.is_running() for child in children), "the workers to be gone")


# pydantic is not among them: typer itself brings it.
HEAVY = ("ray", "pandas", "altair", "scipy", "fsspec", "pyarrow.dataset", "torch")
LOOK = f"""
import json, sys
from harness.load.fleet import Fleet
start = Fleet.start
def told(self):
    loaded = [m for m in {HEAVY!r} if m in sys.modules]
    print(json.dumps(loaded), file=sys.stderr)
    return start(self)
Fleet.start = told
{START}
"""


def test_nothing_heavy_is_imported_before_the_first_request(server: GoldenServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, "bench", "--endpoint", server.url, *QUICK, "--no-calibrate"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode in (0, 4), done.stderr
    assert json.loads(done.stderr.splitlines()[0]) == []


def test_a_command_alone_is_the_same_as_among_all() -> None:
    for name in (*COMMANDS, *GROUPS):
        alone = CliRunner().invoke(app_with(name), [name, "--help"])
        among = CliRunner().invoke(app, [name, "--help"])
        assert alone.exit_code == among.exit_code == 0
        assert alone.stdout == among.stdout
