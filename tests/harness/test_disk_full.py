"""A full disk is told by its name, and costs no sealed record."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.exits import Exit
from results.store_check import check
from results.store_files import FileStore
from results.testing import make_record

SPEC = """\
name: serve
workload: {kind: simulated, accelerator: H100}
hardware: {accelerator: cpu}
traffic:
  arrivals: {kind: constant, rate_rps: 40}
  prompt_tokens: {kind: fixed, tokens: 8}
  output_tokens: {kind: fixed, tokens: 4}
  num_requests: 10
"""
SUITE = "name: s\nruns: [{spec: serve.yaml, metrics: [ttft_p50]}]\n"


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Home and store on a file system of their own, three records in it, and no room for more."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "windtunnel-test", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    monkeypatch.setenv("WINDTUNNEL_HOME", str(folder))
    monkeypatch.delenv("WINDTUNNEL_STORE", raising=False)
    for index in range(3):
        FileStore(folder / "store").seal(make_record(index=index), {})
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def ask(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_every_command_tells_what_is_full_and_loses_nothing(full: Path, tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text(SPEC)
    (tmp_path / "suite.yaml").write_text(SUITE)
    listed = ask("runs", "list", "--json")
    assert listed.exit_code == Exit.OK and listed.stdout.count('"run_id"') == 3
    assert "no index is kept" in listed.stderr and "disk is full" in listed.stderr
    for words in (
        ("recommend", "--model", "m", "--input-tokens", "8", "--output-tokens", "8"),
        ("store", "reindex"),
        ("nightly", str(tmp_path / "suite.yaml"), "--quiet"),
        ("nights", "ack", "2026-11-23", "--reason", "known"),
    ):
        found = ask(*words)
        assert found.exit_code == Exit.INFRASTRUCTURE, (words, found.output)
        (*_, last) = found.stderr.strip().splitlines()
        said = " ".join(found.stderr.split())
        assert "full" in said or "No space left" in said, (words, last)
        assert str(full) in found.stderr.replace("\n", ""), words
    assert check(FileStore(full / "store")).num_records == 3
    (full / "filler").unlink()
    assert ask("store", "reindex").exit_code == Exit.OK
    assert ask("runs", "list").stderr == ""
