"""A command that a page prints does the same in another shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import again
from harness.cli.again import and_so, command_again, typed
from harness.cli.app import app
from results.store_files import FileStore
from results.testing import make_record


@pytest.fixture(autouse=True)
def _nothing_typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("WINDTUNNEL_STORE", raising=False)
    before = list(again._typed)
    typed(())
    yield
    typed(before)


def test_every_option_is_there_and_quoted_for_a_shell() -> None:
    words = [
        "tune",
        "my study.yaml",
        "--pools",
        "a'b.yaml",
        "--storage=x y",
        "--date",
        "2026-11-24",
    ]
    typed([*words, "--json", "-q", "--resume"])
    assert shlex.split(command_again(flags=("--resume",))) == ["windtunnel", *words]


def test_what_goes_on_with_a_night_is_not_what_makes_it() -> None:
    typed(["nightly", "s.yaml", "--resume", "20261124", "--resume-or-start", "--store", "d"])
    said = command_again(flags=("--resume-or-start",), options=("--resume",))
    assert said == "windtunnel nightly s.yaml --store d"
    typed(["nightly", "s.yaml", "--resume=20261124"])
    assert command_again(options=("--resume",)) == "windtunnel nightly s.yaml"


def test_the_environments_store_is_named_for_another_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WINDTUNNEL_STORE", "s3://bucket/a b")
    typed(["run", "s.yaml"])
    assert command_again() == "windtunnel run s.yaml --store 's3://bucket/a b'"
    typed(["run", "s.yaml", "--store=mine"])
    assert command_again() == "windtunnel run s.yaml --store=mine"


@pytest.mark.parametrize(
    "word",
    [
        "postgresql+psycopg://me:p%40ss@db/optuna",
        "--storage=mysql://me:p%40ss@db:3306/optuna",
        "postgresql://db/optuna?user=me&password=p%40ss&sslmode=require",
        "workload.url=http://me:p%40ss@host:8000",
    ],
)
def test_a_password_is_left_out_and_that_is_said(word: str) -> None:
    typed(["tune", "s.yaml", "--storage", word, "--store", "d"])
    said = command_again()
    assert "p%40ss" not in said
    assert said.endswith("# a password is left out: put it in the place of ***")
    first, *rest = shlex.split(said, comments=True)[1:]
    assert (first, rest[-2:]) == ("tune", ["--store", "d"])
    assert rest[2].replace("***", "p%40ss") == word


def test_other_commands_about_it_carry_where_it_is() -> None:
    typed(["run", "s.yaml", "--pools=p q.yaml", "--store", "d"])
    assert and_so("--store", "--pools") == " --store d --pools 'p q.yaml'"
    assert and_so("--ray") == ""


def test_a_run_that_is_shown_says_how_to_make_its_page(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "my store"))
    store.prepare()
    record = store.seal(make_record(), {})
    done = CliRunner().invoke(app, ["runs", "show", record.run_id, "--store", store.url])
    assert done.exit_code == 0, done.output
    line = f"windtunnel report {record.run_id} --store '{store.url}'"
    assert "".join(line.split()) in "".join(done.stdout.split())  # wherever it was wrapped


def test_a_comparison_says_every_option_of_it(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "store"))
    store.prepare()
    ids = [
        store.seal(make_record(run_id=f"20261123T17000{n}Z-1f0c3a9b2e"), {}).run_id
        for n in range(2)
    ]
    page = tmp_path / "page.md"
    words = ["compare", *ids, "--margin", "5 %", "--store", store.url]
    CliRunner().invoke(app, [*words, "--out", str(page), "--json"])
    assert f"windtunnel {shlex.join(words)}" in page.read_text()


def test_a_night_keeps_the_command_that_made_it() -> None:
    """The journal's, so that a page that is made later has the same bytes."""
    from harness.cli import nightly_work

    typed(["nightly", "s.yaml", "--date", "2026-11-24", "--resume-or-start", "--json"])
    assert nightly_work._command() == "windtunnel nightly s.yaml --date 2026-11-24"
