"""``windtunnel serve`` as a process: it starts, takes up records, asks for its token, and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from harness.cli.app import app
from results.clock import SystemClock
from results.store_files import FileStore
from results.testing import make_record

TOKEN = "s3cret-of-the-tests"


@contextmanager
def serving(
    *options: str, store: Path, env: dict[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """The start line's document; the process is in it as ``process``."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from harness.cli.app import main; main()",
            "serve",
            "--port",
            "0",
            "--json",
            "--store",
            str(store),
            *options,
        ],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            lines.append(line)
        yield {**json.loads("".join(lines)), "process": process}
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_it_takes_up_records_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    """A run that is no evidence changes no answer, and yet stands in the list of runs."""
    store = FileStore(str(tmp_path / "store"))
    store.seal(make_record(index=1), {})
    with serving("--reload-every", "0.2", store=tmp_path / "store") as said:
        assert said["schema"] == "windtunnel.serve/1"
        assert said["url"].startswith("http://127.0.0.1:")
        answer = requests.get(f"{said['url']}/v1/recommendations", timeout=30).json()
        assert answer["no_answer"]["words"]
        assert requests.get(f"{said['url']}/", timeout=30).text.startswith("<!DOCTYPE html>")
        store.seal(make_record(index=2), {})
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + 60.0
        while len(requests.get(f"{said['url']}/v1/runs", timeout=30).json()["runs"]) < 2:
            assert clock.monotonic_s() < deadline_s
            clock.sleep(0.2)
        said["process"].send_signal(signal.SIGINT)
        out, errors = said["process"].communicate(timeout=30)
    assert said["process"].returncode == 0
    assert "Traceback" not in errors
    assert out == ""


def test_a_token_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    options = ("--token-file", str(token), "--reload-every", "0")
    with serving(*options, store=tmp_path / "store") as said:
        models = f"{said['url']}/v1/models"
        assert said["token"] is True
        assert requests.get(models, timeout=30).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(models, headers=headers, timeout=30).ok
        said["process"].send_signal(signal.SIGTERM)
        _, errors = said["process"].communicate(timeout=30)
    assert said["process"].returncode == 0
    assert TOKEN not in errors
    assert TOKEN not in json.dumps({k: v for k, v in said.items() if k != "process"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "no token is asked for"),
        (["--token-file", "/nonexistent"], "No such file"),
        (["--host", "256.1.1.1", "--no-token"], "cannot listen on 256.1.1.1"),
        (["--prices", "/nonexistent.yaml"], "nonexistent"),
    ],
)
def test_what_cannot_be_served_is_said(tmp_path: Path, options: list[str], said: str) -> None:
    ran = CliRunner().invoke(app, ["serve", "--port", "0", "--store", str(tmp_path), *options])
    assert ran.exit_code in (2, 3)
    assert said in ran.stderr


def test_a_token_of_two_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one two")
    (tmp_path / "empty").write_text("\n")
    for name, said in (("token", "one word"), ("empty", "is empty")):
        ran = CliRunner().invoke(app, ["serve", "--token-file", str(tmp_path / name)])
        assert ran.exit_code == 2
        assert said in ran.stderr
        assert "one two" not in ran.stderr
