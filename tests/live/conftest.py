"""The program as its users start it: a process of its own, with a home of its own.

Whatever it starts inherits a mark in its environment, so that what is left behind can be found by
reading /proc, however it renamed or detached itself.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "WINDTUNNEL_TEST_MARK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    returncode: int
    stdout: str
    stderr: str
    wall_s: float

    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """``windtunnel`` with one home; ``mark`` finds its processes."""

    home: Path
    mark: str

    def environ(self) -> dict[str, str]:
        return {**os.environ, MARK: self.mark, "WINDTUNNEL_HOME": str(self.home)}

    def start(self, *words: str, **kwargs: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from harness.cli.app import main; main()", *words],
            cwd=ROOT,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **kwargs,
        )

    def run(self, *words: str, timeout_s: float = 150.0) -> Done:
        start_s = time.monotonic()
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return Done(
            returncode=process.returncode,
            stdout=out,
            stderr=err,
            wall_s=time.monotonic() - start_s,
        )

    def processes(self) -> list[str]:
        """Command lines of all living processes that carry our mark."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append(f"{folder.name} {words.decode(errors='replace')[:160]}")
            except (OSError, ValueError):
                continue  # it ended while we looked
        return found

    def pids(self) -> list[int]:
        return [int(line.split()[0]) for line in self.processes()]

    def wait_until_gone(self, deadline_s: float = 30.0) -> list[str]:
        """What is still alive after the deadline; empty is what we want."""
        return poll(self.processes, lambda left: not left, deadline_s)


def poll(look: Callable[[], Any], good: Callable[[Any], bool], deadline_s: float) -> Any:
    """Look again until it is good or the deadline has passed; returns the last look."""
    until_s = time.monotonic() + deadline_s
    seen = look()
    while not good(seen) and time.monotonic() < until_s:
        time.sleep(0.1)
        seen = look()
    return seen


@pytest.fixture(scope="session")
def session_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(home=tmp_path_factory.mktemp("home"), mark=uuid.uuid4().hex)
    yield program
    assert program.wait_until_gone() == []


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A fresh home; the test fails if anything it started outlives it."""
    program = Program(home=tmp_path / "home", mark=uuid.uuid4().hex)
    yield program
    assert program.wait_until_gone() == []


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., Path]:
    """An interpreter that, asked for vLLM's server, starts the simulated server instead.

    For faults that must not cost an engine's start each: the deployment path is the real one, the
    numbers are never looked at. ``extra`` are options of the simulated server.
    """

    def make(*extra: str) -> Path:
        path = tmp_path / f"python-{uuid.uuid4().hex[:8]}"
        words = " ".join(extra)
        path.write_text(
            "#!/bin/sh\n"
            'case "$*" in *vllm.entrypoints*) ;; *) exec '
            f'{sys.executable} "$@";; esac\n'
            'while [ $# -gt 0 ]; do case "$1" in\n'
            "  --port) port=$2; shift;; --host) host=$2; shift;;\n"
            "  --served-model-name) model=$2; shift;;\n"
            "esac; shift; done\n"
            f"cd {ROOT} && exec {sys.executable} -m workloads.simulated.golden_server "
            f'--host "$host" --port "$port" --model "$model" {words}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


@pytest.fixture
def serving_spec(tmp_path: Path, stand_in: Callable[..., Path]) -> Callable[..., Path]:
    """A spec of a second's load on a stand-in engine; ``changes`` go to the workload."""

    def make(*extra: str, duration_s: float = 1.0, startup_s: float = 60.0) -> Path:
        path = tmp_path / "stand-in.yaml"
        path.write_text(
            "name: stand-in\n"
            "workload:\n"
            "  kind: vllm\n"
            "  model: {preset: tiny-llama, seed: 0}\n"
            f"  python: {stand_in(*extra)}\n"
            "traffic:\n"
            "  arrivals: {kind: constant, rate_rps: 20}\n"
            "  output_tokens: {kind: fixed, tokens: 4}\n"
            f"  duration_s: {duration_s}\n"
            f"deadlines: {{startup_s: {startup_s}}}\n"
        )
        return path

    return make
