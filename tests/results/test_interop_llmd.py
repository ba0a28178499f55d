"""Reports that llm-d's own model and its JSON schema accept, with our numbers in their places."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from llmd_benchmark_report import BenchmarkReportV02, load_benchmark_report, make_json_schema

from results.errors import NotExportable
from results.interop.importing import import_path
from results.interop.llmd import llmd_report
from results.interop.requests_csv import requests_csv
from results.measure import measure_requests, single
from results.record import Doubt, Evidence, Failed, Invalid, Placement, RunRecord
from results.samples import RequestSamples
from results.testing import make_record, make_requests

DATA = Path(__file__).parents[1] / "data" / "interop"
SPEC = {
    "name": "llama-on-h100",
    "workload": {
        "kind": "vllm",
        "model": "org/Llama-3.1-8B",
        "tensor_parallel_size": 2,
        "engine_args": {"max-model-len": 4096, "pipeline-parallel-size": 1},
    },
    "traffic": {
        "arrivals": {"kind": "poisson", "rate_rps": 4.0},
        "prompt_tokens": {"kind": "fixed", "tokens": 64},
        "output_tokens": {"kind": "uniform", "low": 2, "high": 6},
        "seed": 7,
    },
    "slo": {"ttft_s": 1.0},
}
N = 1200


def served(**changes: Any) -> tuple[RunRecord, RequestSamples]:
    requests = make_requests(N, seed=5)
    measurements = measure_requests(requests, {"ttft_s": 1.0}, num_chips=2)
    return make_record(**{"spec": SPEC, "measurements": measurements, **changes}), requests


@cache
def schema() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(make_json_schema("0.2")))


def accepted(document: dict[str, Any]) -> BenchmarkReportV02:
    """By the package's model and by its published schema."""
    schema().validate(json.loads(json.dumps(document)))
    report = load_benchmark_report(document)
    assert isinstance(report, BenchmarkReportV02)
    return report


def test_a_measured_run_becomes_a_report_that_is_accepted() -> None:
    record, requests = served()
    report = accepted(llmd_report(record, requests))
    assert (report.version, report.run.uid) == ("0.2", record.run_id)
    performance = report.results.request_performance
    assert performance is not None and performance.aggregate is not None
    found = performance.aggregate
    ttft = requests.first_token_s - requests.intended_s
    e2e = requests.done_s - requests.intended_s
    assert found.latency is not None and found.latency.time_to_first_token is not None
    assert found.latency.time_to_first_token.units == "s"
    assert found.latency.time_to_first_token.mean == pytest.approx(ttft.mean())
    assert found.latency.time_to_first_token.p99 == pytest.approx(np.percentile(ttft, 99))
    assert found.latency.time_per_output_token is not None
    assert found.latency.time_per_output_token.units == "s/token"
    assert found.latency.time_per_output_token.mean == pytest.approx(((e2e - ttft) / 3).mean())
    gaps = np.diff(requests.event_s.reshape(N, 4), axis=1)
    assert found.latency.inter_token_latency is not None
    assert found.latency.inter_token_latency.mean == pytest.approx(gaps.mean())
    window = requests.done_s.max() - requests.intended_s.min()
    assert found.throughput is not None and found.throughput.request_rate is not None
    assert found.throughput.request_rate.mean == pytest.approx(N / window)
    assert found.throughput.total_token_rate is not None
    assert found.throughput.total_token_rate.mean == pytest.approx(N * (64 + 4) / window)
    assert found.requests is not None
    assert (found.requests.total, found.requests.failures) == (N, 0)
    assert found.requests.output_length is not None and found.requests.output_length.max == 4


def test_the_scenario_names_model_hardware_engine_and_load() -> None:
    document = llmd_report(*served())
    (component,) = document["scenario"]["stack"]
    assert component["standardized"]["kind"] == "inference_engine"
    assert component["standardized"]["tool_version"] == "0.32.0"
    assert component["standardized"]["model"] == {"name": "org/Llama-3.1-8B"}
    accelerator = component["standardized"]["accelerator"]
    assert (accelerator["model"], accelerator["count"]) == ("H100", 2)
    assert (accelerator["parallelism"]["tp"], accelerator["parallelism"]["pp"]) == (2, 1)
    load = document["scenario"]["load"]
    assert load["metadata"]["cfg_id"] == "0123456789abcdef"
    assert load["standardized"]["tool"] == "windtunnel"
    assert load["standardized"]["rate_qps"] == 4.0
    assert load["standardized"]["input_seq_len"] == {"distribution": "fixed", "value": 64.0}
    assert load["standardized"]["output_seq_len"]["value"] == 4.0
    assert load["native"]["config"]["slo"] == {"ttft_s": 1.0}
    assert load["native"]["config"]["measurements"]["slo_attainment value"] == 1.0
    assert "intended send time" in load["metadata"]["description"]


def test_what_is_not_known_is_left_out() -> None:
    record, _ = served(measurements=(single("achieved_rate", 4.0, 3),), environment=None)
    document = llmd_report(record, None)
    accepted(document)
    aggregate = document["results"]["request_performance"]["aggregate"]
    assert aggregate == {
        "latency": {},
        "throughput": {"request_rate": {"units": "queries/s", "mean": 4.0}},
    }
    assert document["scenario"]["stack"][0]["standardized"]["tool_version"] == "unknown"
    bare = replace(record, spec={"workload": {"model": "m"}})
    assert "load" not in llmd_report(bare, None)["scenario"]  # no length of a prompt is known


def test_percentiles_that_the_samples_cannot_support_are_left_out() -> None:
    few = make_requests(30, seed=1)
    record = make_record(spec=SPEC, measurements=measure_requests(few, {}, 0))
    latency = llmd_report(record, few)["results"]["request_performance"]["aggregate"]["latency"]
    assert set(latency["time_to_first_token"]) == {"units", "mean", "p50"}


def test_a_closed_loop_has_users_and_no_rate() -> None:
    closed = {**SPEC, "traffic": {**SPEC["traffic"], "arrivals": {"num_users": 8}}}  # type: ignore[dict-item]
    standardized = llmd_report(*served(spec=closed))["scenario"]["load"]["standardized"]
    assert standardized["concurrency"] == 8 and "rate_qps" not in standardized


def test_no_pretended_accelerator_and_no_simulation_passes_as_measured() -> None:
    virtual = Placement(
        pool="fake", accelerator="H100", num_chips=8, capacity="spot", nodes=("n",), virtual=True
    )
    document = llmd_report(*served(placement=virtual))
    accelerator = document["scenario"]["stack"][0]["standardized"]["accelerator"]
    assert (accelerator["model"], accelerator["count"]) == ("cpu", 0)
    assert "virtual pool" in document["run"]["description"]
    simulated = llmd_report(*served(evidence=Evidence.SIMULATED))
    accepted(simulated)
    assert simulated["run"]["description"].startswith("SIMULATED, nothing was measured")
    assert "simulated" in simulated["run"]["keywords"]
    assert simulated["scenario"]["stack"][0]["standardized"]["kind"] == "generic"


def test_an_invalid_run_is_written_only_when_that_is_asked_and_says_so() -> None:
    doubt = Doubt(code="client_late", message="late", invalidates=True)
    record, requests = served(outcome=Invalid(reasons=("client_late",)), doubts=(doubt,))
    with pytest.raises(NotExportable, match=r"invalid \(client_late\).*--allow-invalid"):
        llmd_report(record, requests)
    document = llmd_report(record, requests, allow_invalid=True)
    accepted(document)
    assert document["run"]["description"].startswith("INVALID (client_late), not to be used")


def test_what_served_nothing_is_no_report() -> None:
    failed = Failed(stage="startup", error="engine_died", message="gone")
    with pytest.raises(NotExportable, match="failed during startup"):
        llmd_report(make_record(outcome=failed), None)
    with pytest.raises(NotExportable, match="about serving"):
        llmd_report(make_record(workload="torch"), None)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llmd_benchmark_report", None)
    with pytest.raises(NotExportable, match=r"llmd-benchmark-report>=0\.2,<0\.3"):
        llmd_report(*served())


@pytest.mark.parametrize("name", ["vllm-bench-0.32-summary.json", "aiperf-0.13.0"])
def test_an_imported_run_goes_out_again_as_imported(name: str) -> None:
    (found,) = import_path(DATA / name)
    table = found.tables.get("requests")
    samples = RequestSamples.from_table(table) if table is not None else None
    document = llmd_report(found.record, samples)
    accepted(document)
    assert document["run"]["description"].startswith("IMPORTED from ")
    assert document["scenario"]["stack"][0]["standardized"]["model"] == {"name": "tiny"}


def test_requests_as_csv_have_a_line_each_and_empty_cells_for_the_unknown() -> None:
    requests = make_requests(5, seed=2)
    requests = replace(
        requests,
        first_token_s=np.where(np.arange(5) == 3, np.nan, requests.first_token_s),
        error=np.array(["", "", "", 'timeout: "60 s", gave up', ""], dtype=object),
    )
    rows = list(csv.DictReader(io.StringIO(requests_csv(requests))))
    assert len(rows) == 5
    assert float(rows[2]["first_token_s"]) == requests.first_token_s[2]
    assert rows[3]["first_token_s"] == "" and rows[3]["error"] == 'timeout: "60 s", gave up'
    assert rows[0]["num_bytes"] == ""  # −1: not known
    assert (rows[0]["num_events"], rows[0]["output_tokens"], rows[0]["is_warmup"]) == (
        "4",
        "4",
        "0",
    )
