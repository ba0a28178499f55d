from __future__ import annotations

import json

import pytest
import typer

from harness.cli.exits import Afterwards, Exit, exit_code, told
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
