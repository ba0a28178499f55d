"""The warden ends everything, whoever dies and however. Real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import warden

PYTHON = [sys.executable, "-S", "-E"]
DEADLINE_S = 20.0

# Starts a child that leaves the session, loses its parent (the middle one ends) and, if asked to,
# does not hear SIGTERM; then says both pids and waits.
FAMILY = r"""
import os, signal, sys, time
deaf = "deaf" in sys.argv
if deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
readable, writable = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writable, f"{os.getpid()}\n".encode())
        time.sleep(1000)
    os._exit(0)
orphan = os.read(readable, 100).decode().strip()
os.wait()
print(os.getpid(), orphan, flush=True)
if "leave" in sys.argv:
    sys.exit(5)
time.sleep(1000)
"""

# Owns a warden and does nothing else: it is there to be killed.
OWNER = r"""
import subprocess, sys, time
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(1000)
"""


def guard(*command: str, grace_s: float = 1.0) -> list[str]:
    return [*PYTHON, warden.__file__, "--grace", str(grace_s), "--", *command]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes and, whatever the test does, leaves none of their trees."""
    started: list[subprocess.Popen[str]] = []
    seen: list[psutil.Process] = []

    def begin(argv: list[str], **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )
        started.append(process)
        return process

    begin.seen = seen  # type: ignore[attr-defined]
    yield begin
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    for other in seen:
        if other.is_running():
            other.kill()


def family_of(start: Any, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The command and its orphan, from what the command printed."""
    assert process.stdout is not None
    family = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    start.seen.extend(family)
    assert len(family) == 2
    return family


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(true: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < DEADLINE_S, f"in vain for {DEADLINE_S:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began


def until_gone(processes: list[psutil.Process]) -> float:
    return until(lambda: not any(map(is_alive, processes)), f"{processes} to be gone")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 11)", 139),
    ],
)
def test_the_exit_code_is_the_commands(start: Any, script: str, code: int) -> None:
    assert start(guard(*PYTHON, "-c", script)).wait(DEADLINE_S) == code


def test_output_passes_untouched_and_input_is_empty(start: Any) -> None:
    script = (
        "import sys; sys.stdout.buffer.write(b'a\\rb\\n'); sys.stdout.flush();"
        "sys.stderr.write('err'); print(repr(sys.stdin.read()))"
    )
    process = start(guard(*PYTHON, "-c", script), stderr=subprocess.PIPE)
    assert process.wait(DEADLINE_S) == 0
    assert os.read(process.stdout.fileno(), 100) == b"a\rb\n''\n"
    assert os.read(process.stderr.fileno(), 100) == b"err"


def test_a_command_that_is_not_there(start: Any) -> None:
    process = start(guard("./no-such-command"), stderr=subprocess.PIPE)
    assert process.wait(DEADLINE_S) == 127
    assert "./no-such-command: No such file" in process.stderr.read()


@pytest.mark.parametrize("arguments", [[], ["--"], ["--grace", "--", "true"], ["--what", "1"]])
def test_bad_arguments_are_told(start: Any, arguments: list[str]) -> None:
    process = start([*PYTHON, warden.__file__, *arguments], stderr=subprocess.PIPE)
    assert process.wait(DEADLINE_S) == 1
    assert process.stderr.read().startswith("usage: warden.py")


@pytest.mark.chaos
def test_the_owners_end_of_the_pipe_ends_the_tree(start: Any) -> None:
    process = start(guard(*PYTHON, "-c", FAMILY))
    family = family_of(start, process)
    assert all(map(is_alive, family))
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert not any(map(is_alive, family))  # the warden ends last


@pytest.mark.chaos
def test_sigkill_of_the_owner_ends_the_tree(start: Any) -> None:
    owner = start([*PYTHON, "-c", OWNER, *guard(*PYTHON, "-c", FAMILY)])
    family = family_of(start, owner)
    assert all(map(is_alive, family))
    owner.kill()
    owner.wait()
    until_gone(family)
    assert owner.returncode == -signal.SIGKILL


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_tree(start: Any, number: signal.Signals) -> None:
    process = start(guard(*PYTHON, "-c", FAMILY))
    family = family_of(start, process)
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert not any(map(is_alive, family))


@pytest.mark.chaos
def test_who_does_not_hear_sigterm_is_killed_after_the_grace(start: Any) -> None:
    process = start(guard(*PYTHON, "-c", FAMILY, "deaf", grace_s=0.5))
    family = family_of(start, process)
    process.stdin.close()
    began = time.monotonic()
    assert process.wait(DEADLINE_S) == 128 + signal.SIGKILL
    assert time.monotonic() - began >= 0.5
    assert not any(map(is_alive, family))


@pytest.mark.chaos
def test_what_a_command_leaves_behind_is_ended(start: Any) -> None:
    process = start(guard(*PYTHON, "-c", FAMILY, "leave"))
    _, orphan = [int(pid) for pid in process.stdout.readline().split()]
    assert process.wait(DEADLINE_S) == 5
    assert not psutil.pid_exists(orphan)


@pytest.mark.chaos
@pytest.mark.parametrize("victim", ["outer", "inner"])
def test_sigkill_of_either_warden_ends_the_tree(start: Any, victim: str) -> None:
    process = start(guard(*PYTHON, "-c", FAMILY))
    family = family_of(start, process)
    outer = psutil.Process(process.pid)
    (inner,) = outer.children()
    start.seen.append(inner)
    assert all(map(is_alive, [*family, inner, outer]))
    (outer if victim == "outer" else inner).kill()
    until_gone([*family, inner, outer])


@pytest.mark.chaos
def test_a_stopped_tree_ends_too(start: Any) -> None:
    process = start(guard(*PYTHON, "-c", FAMILY))
    family = family_of(start, process)
    for member in family:
        member.suspend()
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert not any(map(is_alive, family))


def test_it_stands_on_the_standard_library_alone() -> None:
    """It is started without site-packages, so anything else would fail on the first server."""
    source = Path(warden.__file__).read_text()
    imported = {line.split()[1] for line in source.splitlines() if line.startswith("import ")}
    assert imported <= sys.stdlib_module_names
    assert not [line for line in source.splitlines() if line.startswith("from harness")]


def test_descendants_are_found_below_a_root_only(start: Any) -> None:
    process = start(guard(*PYTHON, "-c", FAMILY))
    family = {member.pid for member in family_of(start, process)}
    below = warden.descendants(process.pid)
    assert family < set(below)
    assert os.getpid() not in below
    assert process.pid not in below
