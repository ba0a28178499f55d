"""docs/lookup-api.md: every curl in it is run, and every route and field it names exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import requests

from results.api.door import TARGETS
from results.recommendation.question import Question

TEXT = (Path(__file__).resolve().parents[3] / "docs/lookup-api.md").read_text()
COMMANDS = [
    command.strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for command in re.split(r"\n(?=curl )", block)
]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 12
    assert all(command.startswith("curl -s ") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_work(
    url: str, command: str, require: Callable[[bool, str], None]
) -> None:
    require(shutil.which("curl") is not None, "curl is not installed")
    done = subprocess.run(
        ["sh", "-c", command.replace("curl -s", "curl -sS --fail-with-body", 1)],
        env={"URL": url, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)


def test_every_field_of_a_question_is_told() -> None:
    for field in fields(Question):
        assert f"`{field.name}`" in TEXT, field.name
    assert set(TARGETS) == {
        f"target_{name}_milliseconds" for name in ("ttft", "itl", "tpot", "ntpot", "e2e")
    }


def test_every_route_is_told(url: str) -> None:
    paths = requests.get(f"{url}/openapi.json", timeout=10).json()["paths"]
    for path in paths:
        assert path.partition("{")[0].rstrip("/") in TEXT, path
