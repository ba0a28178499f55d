"""The command line without Ray: what it prints, where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from harness.cli.app import app
from harness.cli.doctor import Check, examine
from results.errors import StoreUnwritable
from results.record import Failed
from results.store_files import FileStore
from results.testing import make_record, make_requests


@pytest.fixture
def windtunnel() -> Any:
    runner = CliRunner()

    def invoke(*words: str) -> Result:
        return runner.invoke(app, list(words))

    return invoke


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    kept = FileStore(tmp_path / "store")
    kept.seal(make_record(index=1, name="first"), {"requests": make_requests(40).to_table()})
    failed = Failed(stage="startup", error="engine_died", message="exit code 1", log_tail=("oops",))
    kept.seal(make_record(index=2, name="second", outcome=failed, measurements=()), {})
    return kept


def test_no_words_is_help_and_a_wrong_word_is_usage(windtunnel: Any) -> None:
    assert "doctor" in windtunnel().output
    wrong = windtunnel("rnu")
    assert wrong.exit_code == 2
    assert "run" in wrong.output


def test_version(windtunnel: Any) -> None:
    done = windtunnel("--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("windtunnel 0.")


def test_the_schema_is_one(windtunnel: Any) -> None:
    done = windtunnel("spec", "schema")
    jsonschema.Draft202012Validator.check_schema(json.loads(done.stdout))


def test_runs_are_listed_newest_first(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("runs", "list", "--store", store.url)
    assert done.exit_code == 0
    assert done.stdout.index("second") < done.stdout.index("first")
    assert "startup: engine_died" in done.stdout
    listed = json.loads(windtunnel("runs", "list", "--store", store.url, "--json").stdout)
    assert listed["schema"] == "windtunnel.runs/1"
    assert [r["name"] for r in listed["runs"]] == ["second", "first"]


def test_a_narrow_terminal_folds_no_run(
    windtunnel: Any, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.runs.stdout", lambda: Console(width=80, highlight=False))
    lines = windtunnel("runs", "list", "--store", store.url).stdout.splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith(make_record(index=2).run_id) and "second" in lines[0]
    assert "failed" in lines[1] and "startup: engine_died" in lines[1]


@pytest.mark.parametrize(
    ("words", "code", "kind", "says"),
    [
        (("runs", "show", "20200101"), 2, "record_not_found", "20200101"),
        (("plan", "no-such.yaml"), 2, "spec_error", "no-such.yaml"),
        (("bench", "--endpoint", "http://127.0.0.1:9"), 3, "endpoint_unreachable", "nobody"),
        (("bench",), 2, "missing_parameter", "--endpoint"),
        (("bench", "--rate", "fast"), 2, "bad_parameter", "--rate"),
        (("runs", "shew"), 2, "usage_error", "shew"),
    ],
)
def test_an_error_is_one_document_where_one_was_asked_for(
    windtunnel: Any, words: tuple[str, ...], code: int, kind: str, says: str
) -> None:
    more = ("--rate", "1", "--no-store") if code == 3 else ()
    done = windtunnel(*words, *more, "--json")
    assert done.exit_code == code
    document = json.loads(done.stdout)
    assert document["schema"] == "windtunnel.error/1"
    assert document["error"]["kind"] == kind
    assert says in document["error"]["message"]
    assert document["error"]["what_to_do"]
    assert document["error"]["exit_code"] == code
    assert windtunnel(*words, *more).stdout == ""


def test_runs_are_filtered(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("runs", "list", "--store", store.url, "--outcome", "failed", "--json")
    assert [r["name"] for r in json.loads(done.stdout)["runs"]] == ["second"]


def test_an_empty_store_says_what_to_do(windtunnel: Any, tmp_path: Path) -> None:
    done = windtunnel("runs", "list", "--store", str(tmp_path / "none"))
    assert done.exit_code == 0
    assert "windtunnel run" in done.stdout


def test_a_run_is_shown_whole(windtunnel: Any, store: FileStore) -> None:
    record = store.get(make_record(index=1).run_id)
    done = windtunnel("runs", "show", record.run_id, "--store", store.url)
    assert done.exit_code == 0
    for words in ("first", "ttft_s", "125 ms", "weights loaded", record.workload_hash, "h100-spot"):
        assert words in done.stdout
    document = json.loads(
        windtunnel("runs", "show", record.run_id, "--store", store.url, "--json").stdout
    )
    assert document["record"]["run_id"] == record.run_id


def test_a_failure_shows_its_last_words(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("runs", "show", make_record(index=2).run_id, "--store", store.url)
    assert "oops" in done.stdout
    assert "exit code 1" in done.stdout


def test_an_unknown_run_is_usage(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("runs", "show", "20200101", "--store", store.url)
    assert done.exit_code == 2
    assert "20200101" in done.stderr


def test_reports_are_written_as_html_and_markdown(
    windtunnel: Any, store: FileStore, tmp_path: Path
) -> None:
    run_id = make_record(index=1).run_id
    for name, start in (("run.html", "<!doctype html"), ("run.md", "#")):
        out = tmp_path / "reports" / name
        done = windtunnel("report", run_id, "--store", store.url, "--out", str(out))
        assert done.exit_code == 0, done.output
        assert done.stdout.strip() == str(out)
        assert out.read_text().lower().startswith(start)


def test_a_report_that_cannot_be_written_says_where(
    windtunnel: Any, store: FileStore, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "run.html"
    done = windtunnel("report", make_record(index=1).run_id, "--store", store.url, "-o", str(out))
    assert done.exit_code == 3
    assert str(out) in done.stderr


def test_store_check_counts_the_torn(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("store", "check", "--store", store.url)
    assert done.exit_code == 0, done.output
    (victim,) = Path(store.url).glob("runs/*/*-0000000002/record.json")
    victim.write_text('{"run_id"')
    done = windtunnel("store", "check", "--store", store.url, "--json")
    assert done.exit_code == 4
    document = json.loads(done.stdout)
    assert (document["num_records"], len(document["torn"])) == (1, 1)


def test_store_reindex_and_compact(windtunnel: Any, store: FileStore) -> None:
    done = windtunnel("store", "reindex", "--store", store.url, "--json")
    assert json.loads(done.stdout)["num_records"] == 2
    done = windtunnel("store", "compact", "--store", store.url)
    assert done.exit_code == 0, done.output


def test_a_store_that_is_a_file_is_said(windtunnel: Any, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    done = windtunnel("runs", "list", "--store", str(tmp_path / "store"))
    assert done.exit_code == 3
    assert not isinstance(done.exception, StoreUnwritable)


def test_a_model_is_made_and_made_again_alike(windtunnel: Any, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    first = windtunnel("model", "make", str(tmp_path / "a"), "--json")
    second = windtunnel("model", "make", str(tmp_path / "b"), "--json")
    assert first.exit_code == 0, first.output
    a, b = (tmp_path / n / "model.safetensors" for n in "ab")
    assert a.read_bytes() == b.read_bytes()
    assert json.loads(second.stdout)["num_parameters"] > 1e6


def test_an_unknown_preset_names_those_there_are(windtunnel: Any, tmp_path: Path) -> None:
    done = windtunnel("model", "make", str(tmp_path / "a"), "--preset", "huge")
    assert done.exit_code != 0
    assert "tiny-llama" in done.stderr


def test_doctor_says_what_is_there(windtunnel: Any) -> None:
    done = windtunnel("doctor", "--json")
    assert done.exit_code == 0
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert checks["ray"]["ok"]
    assert checks["ray"]["found"].startswith("2.")
    assert "everything" in windtunnel("doctor").stdout


def test_doctor_fails_when_something_needed_is_missing(
    windtunnel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Check(
        name="ray", ok=False, found="no", what_for="everything", fix="make core", needed=True
    )
    monkeypatch.setattr("harness.cli.doctor.examine", lambda: (missing, *examine()[2:]))
    done = windtunnel("doctor")
    assert done.exit_code == 3
    assert "make core" in done.stdout


def test_virtual_pools_go_with_a_local_ray_only(windtunnel: Any) -> None:
    done = windtunnel(
        "plan", "examples/quickstart.yaml", "--ray", "auto", "--pools", "examples/pools-two.yaml"
    )
    assert done.exit_code == 2
    assert "--ray local" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--until", "ttft_p99 ±"), "ttft_p99 ±"),
        (("--until", "nonsense ±5%"), "nonsense"),
        (("--until", "ttft_p50 ±5%"), "num_repeats 1: give the most you want"),
    ],
)
def test_a_rule_to_stop_by_is_checked_before_anything_starts(
    windtunnel: Any, words: tuple[str, ...], says: str
) -> None:
    root = Path(__file__).parents[2]
    done = windtunnel("run", str(root / "examples" / "endpoint.yaml"), *words, "--quiet")
    assert done.exit_code == 2
    assert says in done.stderr
