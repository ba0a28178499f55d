"""Two Typer functions as one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.joined import joined
from harness.cli.scale_simulated import scale_simulated

said_so_far: list[object] = []


def measure(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="What to measure.")],
    workers: Annotated[str, typer.Option("--workers", help="Sizes.")] = "1,2",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure it."""
    said_so_far.append(("measured", spec, workers, quiet))


def app() -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False)
    made.command()(joined(measure, scale_simulated, flag="simulate"))
    return made


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    said_so_far.clear()


def test_without_the_flag_it_measures() -> None:
    ran = CliRunner().invoke(app(), ["spec.yaml", "--workers", "4", "-q"])
    assert ran.exit_code == 0, ran.output
    assert said_so_far == [("measured", Path("spec.yaml"), "4", True)]


def test_with_the_flag_it_simulates() -> None:
    words = ["--simulate", "--chips", "512", "--days", "2", "--seeds", "2"]
    ran = CliRunner().invoke(app(), [*words, "--no-store", "--no-page", "-q"])
    assert ran.exit_code == 0, ran.output
    assert "[simulated]" in ran.stdout
    assert said_so_far == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "SPEC is missing: name it, or say --simulate"),
        (["spec.yaml", "--chips", "8"], "--chips goes with --simulate alone"),
        (["spec.yaml", "--simulate"], "SPEC does not go with --simulate"),
        (["--simulate", "--workers", "8"], "--workers does not go with --simulate"),
    ],
)
def test_what_does_not_go_together(words: list[str], said: str) -> None:
    ran = CliRunner().invoke(app(), words)
    assert ran.exit_code == 2
    assert said in ran.stderr
    assert said_so_far == []


def test_the_help_has_both() -> None:
    ran = CliRunner().invoke(app(), ["--help"], env={"COLUMNS": "140", "TERM": "dumb"})
    assert ran.exit_code == 0
    for word in ("SPEC", "--workers", "--simulate", "--mtbf-chip-hours", "Simulation"):
        assert word in ran.stdout
