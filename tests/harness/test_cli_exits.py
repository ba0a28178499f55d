from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from harness.cli import output
from harness.cli.app import app
from harness.cli.exits import Afterwards, Exit, exit_code, interrupt_on_sigterm, told
from harness.errors import EngineDied, SpecError
from results.errors import RecordNotFound, StoreUnwritable
from results.record import Failed, Invalid, Succeeded
from results.testing import make_record


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], Exit.OK),
        ([Succeeded()], Exit.OK),
        ([Succeeded(), Invalid(reasons=("client_late",))], Exit.INVALID),
        (
            [Invalid(reasons=("x",)), Failed(stage="load", error="e", message="m"), Succeeded()],
            Exit.INFRASTRUCTURE,
        ),
    ],
)
def test_the_gravest_outcome_decides(outcomes: list[object], code: Exit) -> None:
    assert exit_code([make_record(outcome=o) for o in outcomes]) is code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("a.yaml: x: unknown key"), 2),
        (RecordNotFound("no run 2026"), 2),
        (EngineDied("startup", "exit code 1"), 3),
        (StoreUnwritable("no space left"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_a_sentence_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped, told():
        raise error
    assert stopped.value.exit_code == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("windtunnel: ")
    assert str(error) in said.err


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), told():
        _ = 1 / 0


def test_what_comes_after_the_document_brings_no_second_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as stopped, told(as_json=True):
        raise Afterwards(StoreUnwritable("no space left"))
    assert stopped.value.exit_code == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "windtunnel: no space left\n"


def test_a_failed_deployment_tells_its_stage_and_last_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit), told(as_json=True):
        raise EngineDied("startup", "exit code 1", ("oops",))
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["stage"], error["log_tail"]) == (
        "engine_died", "startup", ["oops"],
    )  # fmt: skip


def test_ctrl_c_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, told(as_json=True):
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["exit_code"]) == ("interrupted", 130)
    assert "--resume" in error["what_to_do"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_who_has_gone_ends_nothing(stream: str) -> None:
    """`windtunnel compare a b | head -1` has compare's exit code, and a log that nobody reads any
    more costs no night."""
    script = (
        "import sys, time\n"
        "from harness.cli import output\n"
        f"console = output.{stream}()\n"
        "sys.stdin.read()  # until the reader has gone\n"
        "for _ in range(3):\n"
        "    console.print('x' * 100_000)\n"
        f"print('still here', file=sys.{'stderr' if stream == 'stdout' else 'stdout'})\n"
        "sys.exit(4)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin and child.stdout and child.stderr
    gone, kept = child.stdout, child.stderr
    if stream == "stderr":
        gone, kept = kept, gone
    gone.close()
    child.stdin.close()
    said = kept.read().decode()
    kept.close()
    assert child.wait(30) == 4
    assert said == "still here\n"


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    words = "a[/]b [red]c :bug: [1]"
    table = Table()
    table.add_column()
    table.add_row(words)
    output.stdout().print(words)
    output.stdout().print(table)
    assert capsys.readouterr().out.count(words) == 2


def test_a_ctrl_c_in_a_finalizer_is_not_lost() -> None:
    script = (
        "import threading\n"
        "from harness.cli.exits import lose_no_interrupt, told\n"
        "class Finalized:\n"
        "    def __del__(self):\n"
        "        raise KeyboardInterrupt\n"
        "lose_no_interrupt()\n"
        "with told():\n"
        "    Finalized()\n"
        "    threading.Event().wait(30)\n"
        "    print('went on to its end')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "" and "windtunnel: stopped" in done.stderr


@pytest.fixture
def handlers() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_closed_terminal_interrupts_once(handlers: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    interrupt_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)  # the shell's, and then the kernel's
    interrupt_on_sigterm()  # again, when Ray has started
    signal.raise_signal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_under_nohup_a_closed_terminal_is_nothing(handlers: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt_on_sigterm()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    with pytest.raises(KeyboardInterrupt):  # SIGTERM is heard all the same
        signal.raise_signal(signal.SIGTERM)


def test_what_is_said_to_a_closed_terminal_is_lost_and_no_error() -> None:
    ours, theirs = pty.openpty()
    code = (
        "from harness.cli.output import stderr; c = stderr(); input(); c.print('a'); c.print('b')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=theirs
    ) as run:
        os.close(theirs)
        os.close(ours)
        run.communicate(b"\n", timeout=60)
    assert run.returncode == 0


def broken(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``windtunnel runs list`` whose listing has a defect."""
    code = (
        "from harness.cli import runs\n"
        "def index_of(*_): raise ZeroDivisionError('division\\nby zero')\n"
        "runs.index_of = index_of\n"
        "from harness.cli.app import main\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "runs", "list", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environ,
    )


def test_a_defect_is_no_regression() -> None:
    done = broken("--json")
    assert done.returncode == 3
    assert "defect" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(done.stdout)["error"]
    assert (error["kind"], error["exit_code"]) == ("defect", 3)
    (kept,) = Path(os.environ["WINDTUNNEL_HOME"]).glob("defects/*.txt")
    assert str(kept) in done.stderr
    assert kept.read_text().startswith("Traceback")
    assert "in index_of" in kept.read_text()


def test_a_defect_is_printed_whole_where_it_is_asked_for() -> None:
    done = broken(WINDTUNNEL_TRACEBACK="1", WINDTUNNEL_HOME="/proc/no-such-home")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert "could not be kept" in done.stderr


def test_an_end_of_input_is_a_defect_and_no_regression() -> None:
    """Typer has an exit code of its own for it: 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.cli.runs.index_of", lambda *_: input())
        done = CliRunner().invoke(app, ["runs", "list"])
    assert done.exit_code == 3
