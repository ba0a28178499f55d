"""Documents that are made from the code equal it; documents that name the code name what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from harness.cli.app import app
from reports.metrics_page import metrics_page
from reports.noise import OTHERS, PROMISED
from reports.noise_unseen import UNSEEN
from reports.scaling_page import scaling_page

ROOT = Path(__file__).resolve().parents[2]


def commands(group: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found


COMMANDS = commands(typer.main.get_command(app))


def test_metrics_page_is_current() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == metrics_page(), "run `make docs`"


def test_scaling_page_is_current() -> None:
    assert (ROOT / "docs/scaling.md").read_text() == scaling_page(), "run `make docs`"


def test_cli_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "typer", "harness.cli.app", "utils", "docs", "--name", "windtunnel"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (ROOT / "docs/cli.md").read_text().strip() == done.stdout.strip(), "run `make docs`"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_an_example_and_stands_in_the_readme(name: str) -> None:
    assert f"windtunnel {name}" in (ROOT / "README.md").read_text()
    words = COMMANDS[name].help or ""
    assert "windtunnel " in words or name == "doctor", f"{name} --help shows no example"


def test_the_readme_names_only_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`windtunnel ([a-z-]+(?: [a-z]+)?)", text))
    assert named
    for words in named:
        first = words.split()[0]
        assert words in COMMANDS or first in COMMANDS, words


def test_files_the_readme_points_at_exist() -> None:
    text = (ROOT / "README.md").read_text()
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert linked
    for path in [*linked, *re.findall(r"\bexamples/[\w.-]+\.yaml", text)]:
        assert (ROOT / path).exists(), path


def test_make_has_the_targets_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("quickstart", "test"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci/run").read_text()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_there_are_pages() -> None:
    assert len(PAGES) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_no_placeholder_stands_where_output_belongs(page: Path) -> None:
    """A block that is one word in capitals was to be filled in and was not."""
    text = page.read_text()
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert not [b for b in blocks if re.fullmatch(r"\s*[A-Z_]*\s*", b)]
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX)\b", text)


def test_the_calibration_shown_is_of_the_kinds_of_noise_there_are() -> None:
    text = (ROOT / "docs/detection.md").read_text()
    (shown,) = re.findall(r"^```\n(Null series that alarm.*?)^```", text, re.MULTILINE | re.DOTALL)
    for family in [*PROMISED, *OTHERS, *UNSEEN]:
        assert re.search(rf"^{re.escape(family)} .*%", shown, re.MULTILINE), family
    assert "BROKEN" not in shown
