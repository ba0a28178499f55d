"""``windtunnel import`` and ``export``: what they print, keep and refuse, and how they end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from llmd_benchmark_report import import_benchmark_report
from typer.testing import CliRunner, Result

from harness.cli.app import app
from results.record import Evidence, Failed
from results.store_compact import compact
from results.store_files import FileStore
from results.testing import FakeClock, make_record

DATA = Path(__file__).parents[1] / "data" / "interop"
VLLM = DATA / "vllm-bench-0.32-detailed.json"
AIPERF = DATA / "aiperf-0.13.0"
GUIDELLM = DATA / "guidellm-0.8.1.json"


@pytest.fixture
def windtunnel(tmp_path: Path) -> Any:
    runner = CliRunner()

    def invoke(*words: object) -> Result:
        return runner.invoke(app, [*map(str, words), "--store", str(tmp_path / "store")])

    return invoke


def records(tmp_path: Path) -> list[Any]:
    return list(FileStore(str(tmp_path / "store")).scan().records)


def test_imports_are_kept_listed_and_shown_as_imported(windtunnel: Any, tmp_path: Path) -> None:
    done = windtunnel("import", VLLM, AIPERF)
    assert done.exit_code == 0, done.output
    assert "AIPerf 0.13.0" in done.stdout and done.stdout.count("imported") >= 2
    assert {r.evidence for r in records(tmp_path)} == {Evidence.IMPORTED}
    listed = windtunnel("runs", "list")
    assert listed.stdout.count("imported") == 2
    shown = windtunnel("runs", "show", "20261124T061637Z")
    assert "[imported]" in shown.stdout
    assert "timer_starts_at_send" in shown.stdout and "requests.parquet" in shown.stdout


def test_a_report_says_imported_before_any_number(windtunnel: Any, tmp_path: Path) -> None:
    windtunnel("import", VLLM, AIPERF, DATA / "vllm-bench-0.32-summary.json")
    ids = [r.run_id for r in records(tmp_path)]
    page = tmp_path / "page.md"
    done = windtunnel("report", *ids, "--out", page)
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.index("Imported. Taken over from another tool") < text.index("Side by side")
    # Nothing says that the same machine answered the two runs of one question.
    assert "mean of 2 runs" not in text
    assert "Nothing is known of what answered" in text
    assert "does not say where it ran" in text
    assert "What the other tool reported" in text


def test_the_same_result_is_kept_once(windtunnel: Any, tmp_path: Path) -> None:
    windtunnel("import", VLLM)
    again = windtunnel("import", VLLM, "--json")
    assert again.exit_code == 0
    (run,) = json.loads(again.stdout)["runs"]
    assert run["already_there"] and len(records(tmp_path)) == 1


def test_json_tells_the_whole_story(windtunnel: Any) -> None:
    done = windtunnel("import", GUIDELLM, "--name", "their-run", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["schema"] == "windtunnel.import/1"
    (run,) = document["runs"]
    assert (run["name"], run["tool"], run["tool_version"]) == ("their-run", "GuideLLM", "0.8.1")
    assert run["outcome"] == "invalid"
    assert set(run["reasons"]) == {"client_late", "rate_not_achieved"}
    assert (run["num_requests"], run["has_requests_table"]) == (20, True)
    assert "request_concurrency" in run["unmapped"]
    assert {"imported", "timer_starts_at_send"} <= {d["code"] for d in run["doubts"]}


def test_an_invalid_import_says_why(windtunnel: Any) -> None:
    done = windtunnel("import", GUIDELLM)
    assert done.exit_code == 0  # it was imported; what it is worth stands in the record
    assert "is invalid, client_late: " in done.stdout


def test_one_bad_file_and_nothing_is_imported(windtunnel: Any, tmp_path: Path) -> None:
    bad = tmp_path / "cut.json"
    bad.write_text(VLLM.read_text()[:500])
    done = windtunnel("import", VLLM, bad)
    assert done.exit_code == 2
    assert done.stdout == "" and "was it cut off?" in done.stderr and str(bad) in done.stderr
    assert not (tmp_path / "store").exists() or not records(tmp_path)


def test_rows_that_cannot_be_are_refused_by_name_and_counted(
    windtunnel: Any, tmp_path: Path
) -> None:
    good = json.loads((DATA / "vllm-bench-0.32-summary.json").read_text())
    path = tmp_path / "appended.json"
    path.write_text("\n".join(json.dumps(d) for d in (good, {**good, "mean_ttft_ms": -5.0})))
    done = windtunnel("import", path)
    assert done.exit_code == 4
    assert f"refused: {path}: row 2: mean_ttft_ms is -0.005 s; wanted: a finite" in done.stderr
    assert f"{path}: 1 row was refused, 1 imported" in done.stderr
    assert len(records(tmp_path)) == 1
    told = json.loads(windtunnel("import", path, "--json").stdout)
    assert [r["already_there"] for r in told["runs"]] == [True]
    assert [(r["row"], r["field"]) for r in told["refused"]] == [(2, "mean_ttft_ms")]
    path.write_text(json.dumps({**good, "mean_ttft_ms": -5.0}))
    done = windtunnel("import", path)
    assert done.exit_code == 4 and done.stdout == "" and "1 row was refused, 0 imp" in done.stderr


def test_the_wrong_tool_is_usage(windtunnel: Any) -> None:
    done = windtunnel("import", VLLM, "--format", "aiperf")
    assert done.exit_code == 2 and "this is vllm's result" in done.stderr
    assert windtunnel("import", VLLM, "--format", "wrk").exit_code == 2


def test_an_old_result_may_come_into_a_day_that_is_compacted(
    windtunnel: Any, tmp_path: Path
) -> None:
    windtunnel("import", VLLM)
    later = FakeClock(datetime(2027, 1, 1, tzinfo=UTC))
    report = compact(FileStore(str(tmp_path / "store")), later)
    assert report.num_records == 1
    windtunnel("import", AIPERF)
    assert len(records(tmp_path)) == 2
    assert len(json.loads(windtunnel("runs", "list", "--json").stdout)["runs"]) == 2


@pytest.mark.parametrize("name", ["report.json", "report.yaml"])
def test_export_writes_what_llmd_reads(windtunnel: Any, tmp_path: Path, name: str) -> None:
    windtunnel("import", AIPERF)
    out = tmp_path / name
    done = windtunnel("export", "20261124T061637Z", "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out)
    report = import_benchmark_report(str(out))
    assert report.run.uid.startswith("20261124T061637Z")  # type: ignore[attr-defined]


def test_export_to_stdout_and_as_a_document(windtunnel: Any) -> None:
    windtunnel("import", AIPERF)
    plain = json.loads(windtunnel("export", "20261124T061637Z").stdout)
    assert plain["version"] == "0.2"
    wrapped = json.loads(windtunnel("export", "20261124T061637Z", "--json").stdout)
    assert wrapped["schema"] == "windtunnel.export/1" and wrapped["document"] == plain


def test_requests_as_csv(windtunnel: Any, tmp_path: Path) -> None:
    windtunnel("import", AIPERF, DATA / "vllm-bench-0.32-summary.json")
    out = tmp_path / "requests.csv"
    done = windtunnel(
        "export", "20261124T061637Z", "--format", "requests-csv", "--out", out, "--json"
    )
    assert json.loads(done.stdout)["path"] == str(out)
    assert len(out.read_text().splitlines()) == 23
    none = windtunnel("export", "20261124T061319Z", "--format", "requests-csv")
    assert none.exit_code == 2 and "no requests table" in none.stderr


def test_what_must_not_go_out_does_not(windtunnel: Any, tmp_path: Path) -> None:
    windtunnel("import", GUIDELLM)
    refused = windtunnel("export", "20261124T061913Z")
    assert refused.exit_code == 2 and refused.stdout == ""
    assert "--allow-invalid" in refused.stderr
    assert windtunnel("export", "20261124T061913Z", "--allow-invalid").exit_code == 0
    failed = Failed(stage="startup", error="engine_died", message="exit code 1")
    FileStore(str(tmp_path / "store")).seal(make_record(outcome=failed), {})
    assert windtunnel("export", make_record().run_id).exit_code == 2
    assert windtunnel("export", "19990101T000000Z").exit_code == 2


def test_a_place_that_cannot_be_written_is_named(windtunnel: Any, tmp_path: Path) -> None:
    windtunnel("import", AIPERF)
    nowhere = tmp_path / "deep" / "x.json"
    done = windtunnel("export", "20261124T061637Z", "--out", nowhere)
    assert done.exit_code == 2 and f"there is no folder {nowhere.parent}" in done.stderr
    assert not nowhere.parent.exists()
