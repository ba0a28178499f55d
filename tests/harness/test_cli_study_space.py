"""``windtunnel study space``: what there is to choose, as people and as programs read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli import study_space
from harness.cli.app import app
from harness.cli.exits import Exit
from tuners.engine_options import snapshot_of
from tuners.space_files import SHIPPED, read_space, shipped_spaces

SNAPSHOT = snapshot_of((SHIPPED / "vllm-0.32.0.json").read_text())


@pytest.fixture(autouse=True)
def vllm_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path))
    monkeypatch.setattr(study_space, "snapshot_at_hand", lambda *_: (SNAPSHOT, "0.32.0"))


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, ["study", "space", *words])


def test_without_a_name_the_shipped_spaces_are_listed() -> None:
    listed = json.loads(invoke("--json").stdout)["spaces"]
    assert [one["name"] for one in listed] == list(shipped_spaces())


def test_the_engine_is_told_with_its_version_and_what_is_not_reviewed() -> None:
    found = json.loads(invoke("--engine", "vllm", "--json").stdout)
    assert (found["schema"], found["name"]) == ("windtunnel.space/1", "vllm-cpu")
    assert (found["version"], found["device"]) == ("0.32.0", "cpu")
    assert "max-num-active-seqs" in {option["name"] for option in found["unreviewed"]}
    people = invoke("--engine", "vllm").stdout
    assert "max-num-seqs" in people
    assert "not reviewed" in people


@pytest.mark.parametrize("name", ["vllm-cpu", "torch"])
def test_what_is_printed_as_yaml_is_a_space(name: str, tmp_path: Path) -> None:
    result = invoke("--space", name, "--yaml")
    assert result.exit_code == Exit.OK, result.stderr
    (tmp_path / "own.yaml").write_text(result.stdout)
    made = read_space("own.yaml", tmp_path)
    assert made.knobs == read_space(name).knobs


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--engine", "vlm"), "there are vllm, torch, jax"),
        (("--space", "torhc"), "did you mean torch?"),
        (("--engine", "jax", "--space", "torch"), "is not of jax"),
    ],
)
def test_a_wrong_name_is_a_usage_error(words: tuple[str, ...], says: str) -> None:
    result = invoke(*words)
    assert result.exit_code == Exit.USAGE
    assert says in " ".join(result.stderr.split())
