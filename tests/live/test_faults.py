"""Bad input and faults from the outside: a clear sentence, the exit code, one record, nothing left.

The engine is the simulated server (see ``stand_in``): the path that deploys and ends it is real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(300)]


def only_failure(done: Any) -> Any:
    (record,) = done.json()["records"]
    assert record["outcome"]["kind"] == "failed", record["outcome"]
    return record["outcome"]


def kept(program: Any) -> list[Any]:
    """Every record of the program's store, read as files."""
    paths = sorted((program.home / "store").glob("runs/*/*/record.json"))
    return [json.loads(p.read_text()) for p in paths]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("traffic.rate=3", ["traffic.rate", "arrivals"]),
        ("traffic.duration_s=soon", ["traffic.duration_s", "soon"]),
        ("workload.kind=vlm", ["workload", "vlm", "vllm"]),
        ("num_repeats=0", ["num_repeats"]),
    ],
)
def test_bad_specs_are_refused_before_anything_starts(
    program: Any, override: str, words: list[str]
) -> None:
    done = program.run("run", "examples/serving-poisson.yaml", "--set", override)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert kept(program) == []


def test_a_missing_spec_file(program: Any) -> None:
    done = program.run("run", "examples/no-such.yaml")
    assert done.returncode == 2
    assert "no-such.yaml" in done.stderr


def test_a_missing_model_folder(program: Any, serving_spec: Callable[..., Path]) -> None:
    done = program.run(
        "run", str(serving_spec()), "--set", "workload.model=/no/such/model", "--json"
    )
    assert done.returncode == 3, done.stderr
    failed = only_failure(done)
    assert "/no/such/model" in failed["message"]


def test_hardware_that_nobody_has_is_refused_with_both_numbers(program: Any) -> None:
    done = program.run(
        "run",
        "examples/serving-poisson.yaml",
        "--set",
        "hardware.accelerator=H100",
        "--set",
        "hardware.num_chips=8",
        "--json",
    )
    assert done.returncode == 3
    failed = only_failure(done)
    assert failed["stage"] == "plan"
    assert "8 x H100" in failed["message"]
    assert "CPUs in pool local" in failed["message"]


def test_a_server_that_dies_while_loading(program: Any, serving_spec: Callable[..., Path]) -> None:
    done = program.run(
        "run", str(serving_spec("--startup-delay-s", "30", "--die-after-s", "1")), "--json"
    )
    assert done.returncode == 3, done.stderr
    failed = only_failure(done)
    assert (failed["stage"], failed["error"]) == ("startup", "engine_died")
    assert failed["log_tail"]


def test_a_server_that_hangs(program: Any, serving_spec: Callable[..., Path]) -> None:
    done = program.run("run", str(serving_spec("--hang", startup_s=4.0)), "--json")
    assert done.returncode == 3, done.stderr
    failed = only_failure(done)
    assert (failed["stage"], failed["error"]) == ("startup", "deadline_exceeded")
    assert "4" in failed["message"]


def test_a_server_that_dies_under_load(program: Any, serving_spec: Callable[..., Path]) -> None:
    spec = serving_spec("--die-after-s", "3", duration_s=8.0)
    done = program.run("run", str(spec), "--json")
    assert done.returncode == 3, done.stderr
    failed = only_failure(done)
    assert (failed["stage"], failed["error"]) == ("load", "engine_died")


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("SIGINT", "the process"),  # kill
        ("SIGTERM", "the group"),  # timeout; with SIGHUP a terminal that is closed
        ("SIGTERM", "everything"),  # systemd's KillMode=control-group: Ray's GCS dies, too
    ],
)
def test_stopped_by_a_signal(
    program: Any, serving_spec: Callable[..., Path], name: str, to: str
) -> None:
    process = program.start("run", str(serving_spec(duration_s=60.0)), start_new_session=True)
    wait_for(process, "sending")
    number = getattr(signal, name)
    sent_s = time.monotonic()
    if to == "the process":
        process.send_signal(number)
    elif to == "the group":
        os.killpg(process.pid, number)
    else:
        for pid in program.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    _, err = process.communicate(timeout=60)
    # Left to itself Ray would end the process 60 s after its GCS, without a word and a record.
    assert time.monotonic() - sent_s < 30.0
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert program.wait_until_gone() == []
    (record,) = kept(program)
    assert record["outcome"]["stage"] == "interrupted"


def test_a_killed_driver_leaves_nothing_and_is_sealed_as_lost(
    program: Any, serving_spec: Callable[..., Path]
) -> None:
    process = program.start("run", str(serving_spec(duration_s=60.0)))
    wait_for(process, "sending")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert program.wait_until_gone() == []
    assert kept(program) == []
    done = program.run("run", str(serving_spec()), "--json")
    assert done.returncode in (0, 4), done.stderr
    assert "lost" in done.stderr
    outcomes = sorted(r["outcome"].get("stage", "ran") for r in kept(program))
    assert outcomes == ["lost", "ran"]


def test_a_full_disk(program: Any, serving_spec: Callable[..., Path], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    # Room for the plan and the word that it failed, not for the tables.
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode()}")
    try:
        spec = serving_spec(duration_s=30.0)
        done = program.run("run", str(spec), "--store", str(small / "store"), "--no-report")
        assert done.returncode == 3, done.stderr
        assert "full" in done.stderr
        assert "Traceback" not in done.stderr
        records = list((small / "store").glob("runs/*/*/record.json"))
        (outcome,) = [json.loads(p.read_text())["outcome"] for p in records]
        assert (outcome["kind"], outcome["stage"]) == ("failed", "store")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_read_only_store(program: Any, serving_spec: Callable[..., Path], tmp_path: Path) -> None:
    store = tmp_path / "read-only"
    store.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(store)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a read-only file system: {mounted.stderr.decode()}")
    try:
        done = program.run("run", str(serving_spec()), "--store", str(store / "s"))
        assert done.returncode == 3
        assert str(store) in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", str(store)], check=True)


def test_two_runs_of_one_spec_have_equal_hashes(
    program: Any, serving_spec: Callable[..., Path]
) -> None:
    spec = str(serving_spec())
    first, second = (program.run("run", spec, "--json").json()["records"][0] for _ in range(2))
    assert first["run_id"] != second["run_id"]
    assert first["workload_hash"] == second["workload_hash"]
    assert first["environment_hash"] == second["environment_hash"]


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Read the progress lines until one has the word; the rest stays in the pipe."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    pytest.fail(f"the program ended before it said {word!r}")
