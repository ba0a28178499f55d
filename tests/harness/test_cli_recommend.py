"""From another tool's table to a deployment, by the commands alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from harness.cli.app import app_with
from harness.cli.lookups import name_failure
from results.record import Failed

ROWS = [
    ("h100_sxm", 2, 32, 500, 15),
    ("h100_sxm", 2, 64, 900, 20),
    ("h200_sxm", 1, 32, 400, 18),
]
PRICES = """\
as_of: 2026-10-01
source: test
usd_per_chip_hour: {H100: {on-demand: 4}, H200: {on-demand: 5}}
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with three imported runs of one model."""
    monkeypatch.chdir(tmp_path)
    names = ["silicon_data_source", "backend", "backend_version", "model_path", "system", "mode"]
    names += ["isl", "osl", "tp_size", "batch_size", "silicon_ttft_ms", "silicon_tpot_ms"]
    with Path("silicon_sample.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for system, tp, users, ttft, tpot in ROWS:
            about = f"silicon_concurrency={users}; measured=2026-04-17; image=vllm/vllm-openai:v1"
            writer.writerow(
                [about, "vllm", "0.19.0", "a/b", system, "agg", 1024, 101, tp, users, ttft, tpot]
            )
    Path("prices.yaml").write_text(PRICES)
    folder = tmp_path / "store"
    run("import", "silicon_sample.csv", store=folder)
    return folder


def run(command: str, *words: str, store: Path, code: int = 0) -> Any:
    group = command.partition(" ")[0]
    done = CliRunner().invoke(app_with(group), [*command.split(), *words, "--store", str(store)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def document(*words: str, store: Path, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", store=store, code=code).stdout)


def test_a_recommendation_is_priced_and_can_be_deployed(store: Path) -> None:
    asked = ("--model", "a/b", "--rate", "40", "--target-ttft-milliseconds", "600")
    answer = document("recommend", *asked, "--prices", "prices.yaml", store=store)
    first = answer["recommendations"][0]
    # H100: 32 in flight / 2.0 s = 16/s → 3 × 2 chips × $4. H200: 32 / 2.2 s → 3 × 1 × $5.
    assert [r["cost"]["usd_per_hour"] for r in answer["recommendations"]] == [15.0, 24.0]
    assert (first["replicas"], first["profile"]["machine"]["accelerator"]) == (3, "H200")
    assert "statistic_unstated" in answer["flags"]
    told = run("recommend", *asked, "--format", "yaml", store=store).stdout
    assert yaml.safe_load(told)["recommendations"][0]["cost"]["usd_per_hour"] is None
    table = run("recommend", *asked, store=store).stdout
    assert "no price is known" in table and first["profile"]["profile_id"] in table
    profile = first["profile"]["profile_id"]
    done = run("manifest", profile, "--replicas", "3", store=store)
    deployment, service = yaml.safe_load_all(done.stdout)
    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    assert deployment["spec"]["replicas"] == 3
    run("manifest", "feedfeedfeedfeed", store=store, code=2)


def test_no_answer_is_a_document_and_exit_code_4(store: Path) -> None:
    asked = ("--model", "a/b", "--target-ttft-milliseconds", "1")
    none = document("recommend", *asked, store=store, code=4)["no_answer"]
    assert none["binding"] == "ttft_s" and none["relax_to"] == pytest.approx(0.4)
    assert "no deployment will do" in run("recommend", *asked, store=store, code=4).stdout
    assert document("recommend", "--model", "b", store=store, code=4)["no_answer"][
        "did_you_mean"
    ] == ["a/b"]
    early = document("recommend", "--model", "a/b", "--as-of", "2026-04-01", store=store, code=4)
    assert early["no_answer"]["binding"] == "model"
    error = document("recommend", "--rate", "-1", store=store, code=2)
    assert "rate_rps = -1" in error["error"]["message"]
    run("recommend", "--percentile", "99", store=store, code=2)
    run("recommend", "--pricing-model", "gift", store=store, code=2)


def test_pools_stand_side_by_side_and_a_flag_takes_a_run_out(store: Path) -> None:
    asked = ("--model", "a/b", "--rate", "40", "--prices", "prices.yaml")
    pools = document("compare-pools", *asked, store=store)["pools"]
    assert [p["accelerator"] for p in pools] == ["H100", "H200"]
    assert pools[1]["ratios"]["usd_per_hour"] == pytest.approx(15 / 16)
    table = run(
        "compare-pools", *asked, "--accelerator", "H200", "--accelerator", "L4", store=store
    )
    assert "L4: 3 profiles of a/b were left" in table.stdout
    told = document("recommend", "--model", "a/b", store=store)
    (run_id,) = told["recommendations"][0]["profile"]["evidence"]["run_ids"]
    run("store flag", run_id, "--reason", "wrong machine", "--kind", "retracted", store=store)
    after = document("recommend", "--model", "a/b", store=store)
    assert run_id not in str(after)
    report = document("store reindex", store=store)
    assert (report["num_records"], report["num_profiles"]) == (3, 2)


def test_a_failure_is_named_by_what_the_engine_said() -> None:
    failed = Failed(stage="startup", error="engine_died", message="CUDA out of memory")
    assert name_failure(failed) == "oom_at_load"
    silent = Failed(stage="startup", error="engine_died", message="it ended with status 1")
    assert name_failure(silent) == "engine_died"


def test_a_home_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path / "file"))  # under it no folder can be
    error = document("recommend", "--model", "m", store=tmp_path / "file" / "store", code=3)
    assert "WINDTUNNEL_HOME" in error["error"]["message"]


def test_the_future_has_no_answer_yet(store: Path) -> None:
    error = document("recommend", "--as-of", "2999-01-01", store=store, code=2)
    assert "yet to come" in error["error"]["message"]
