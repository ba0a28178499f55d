"""Real results of other tools, against their own arithmetic and the server's true times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.codec import dumps_record
from results.errors import ForeignFormatError
from results.interop.assemble import Imported
from results.interop.importing import import_path
from results.interop.sanity import Refused
from results.measurement import Measurement
from results.record import Evidence, Invalid, RunRecord, Succeeded
from results.samples import RequestSamples

DATA = Path(__file__).parents[1] / "data" / "interop"
GOLDENS = (
    "vllm-bench-0.32-detailed.json",
    "vllm-bench-0.32-summary.json",
    "vllm-bench-0.32-faults.json",
    "guidellm-0.8.1.json",
    "guidellm-0.8.1-faults.json",
    "aiperf-0.13.0",
    "aiperf-0.13.0-faults",
    "inference-perf-0.7.0",
    "inference-perf-0.7.0-stages",
)


def load(name: str) -> Any:
    return json.loads((DATA / name).read_text())


def one(name: str) -> Imported:
    (found,) = import_path(DATA / name)
    return found


def written(tmp_path: Path, document: Any, name: str = "result.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return path


def measured(record: RunRecord, metric: str, statistic: str = "mean") -> Measurement:
    (found,) = (m for m in record.measurements if (m.metric, m.statistic) == (metric, statistic))
    return found


def value(record: RunRecord, metric: str, statistic: str = "mean") -> float:
    found = measured(record, metric, statistic).value
    assert found is not None, metric
    return found


def doubts(record: RunRecord) -> dict[str, str]:
    return {d.code: d.message for d in record.doubts}


def samples(imported: Imported) -> RequestSamples:
    return RequestSamples.from_table(imported.tables["requests"])


def every_golden() -> Iterator[tuple[str, Imported]]:
    for name in GOLDENS:
        for imported in import_path(DATA / name):
            yield name, imported


# --- what holds for all ----------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDENS)
def test_an_imported_record_says_what_it_is_and_can_be_kept(name: str) -> None:
    for imported in import_path(DATA / name):
        record = imported.record
        assert record.evidence is Evidence.IMPORTED
        assert (record.environment, record.placement, record.startup, record.client) == (None,) * 4
        assert record.environment_hash == ""
        assert {"imported", "timer_starts_at_send"} <= set(doubts(record))
        assert dumps_record(record)  # no NaN, nothing that JSON cannot hold
        keys = [(m.metric, m.statistic) for m in record.measurements]
        assert len(keys) == len(set(keys)), "one number per statistic"


@pytest.mark.parametrize("name", GOLDENS)
def test_every_number_says_whose_it_is_and_a_metric_is_of_one(name: str) -> None:
    for imported in import_path(DATA / name):
        whose: dict[str, set[bool]] = {}
        for m in imported.record.measurements:
            if m.value is not None:
                ours = m.method.startswith("measured by windtunnel from the requests of ")
                assert ours or m.method.startswith("as "), m
                whose.setdefault(m.metric, set()).add(ours)
        assert whose and all(len(both) == 1 for both in whose.values())
        assert any(True in both for both in whose.values()) == bool(imported.tables)


@pytest.mark.parametrize("name", GOLDENS)
def test_what_has_no_metric_is_named_and_kept(name: str) -> None:
    for imported in import_path(DATA / name):
        record = imported.record
        unmapped = record.resolved["unmapped"]
        kept = json.dumps(record.resolved["reported"])
        assert unmapped and "unmapped" in doubts(record)
        for figure in unmapped:
            bare = figure.removeprefix("load_summary.")
            assert f'"{bare}"' in kept or "(" in figure, figure


@pytest.mark.parametrize(
    ("name", "place", "figure"),
    [
        (GOLDENS[1], (), 3.0),
        ("aiperf-0.13.0/profile_export_aiperf.json", (), {"unit": "ms", "avg": 3.0}),
        ("guidellm-0.8.1.json", ("benchmarks", 0, "metrics"), {"successful": {"mean": 3.0}}),
        (
            "inference-perf-0.7.0/summary_lifecycle_metrics.json",
            ("successes", "latency"),
            {"mean": 3.0},
        ),
        ("inference-perf-0.7.0/summary_lifecycle_metrics.json", ("successes",), 3.0),
    ],
)
def test_a_figure_that_nobody_knows_yet_is_not_dropped(
    tmp_path: Path, name: str, place: tuple[Any, ...], figure: Any
) -> None:
    document = load(name)
    inner = document
    for key in place:
        inner = inner[key]
    inner["news"] = figure
    (found,) = import_path(written(tmp_path, document))
    assert "news" in found.record.resolved["unmapped"]
    assert "3.0" in json.dumps(found.record.resolved["reported"])


def test_the_plain_runs_saw_the_server_as_it_was() -> None:
    """50 ms to the first token, 10 ms from one to the next, on a busy machine."""
    for name in (*GOLDENS[:2], "guidellm-0.8.1.json", "aiperf-0.13.0", "inference-perf-0.7.0"):
        record = one(name).record
        assert value(record, "ttft_s") >= 0.05, name
        assert value(record, "tpot_s") == pytest.approx(0.010, rel=0.1), name


def test_nothing_secret_and_no_address_is_taken_over() -> None:
    for name, imported in every_golden():
        text = dumps_record(imported.record)
        assert "sk-not-a-real-key" not in text, name
        assert "http://server" not in text, name


def test_one_question_has_one_hash_and_two_tools_never_share_it(tmp_path: Path) -> None:
    detailed, summary = one(GOLDENS[0]).record, one(GOLDENS[1]).record
    assert detailed.workload_hash == summary.workload_hash
    assert detailed.run_id != summary.run_id  # another file, another run
    faster = written(tmp_path, {**load(GOLDENS[1]), "request_rate": 11.0})
    (other,) = import_path(faster)
    assert other.record.workload_hash != summary.workload_hash
    assert len({imported.record.workload_hash for _, imported in every_golden()}) == 9


# --- vllm bench serve ------------------------------------------------------------------------


def test_vllm_with_requests_is_measured_from_when_they_were_due() -> None:
    said, imported = load(GOLDENS[0]), one(GOLDENS[0])
    record = imported.record
    queue_s = float(np.mean(said["queue_times"]))
    assert value(record, "ttft_s") == pytest.approx(said["mean_ttft_ms"] / 1e3 + queue_s)
    assert value(record, "e2e_s") == pytest.approx(said["mean_e2el_ms"] / 1e3 + queue_s)
    assert value(record, "dispatch_lag_s") == pytest.approx(queue_s)
    # What begins with the first token does not know of the queue.
    assert value(record, "tpot_s") == pytest.approx(said["mean_tpot_ms"] / 1e3)
    assert value(record, "inter_chunk_s") == pytest.approx(said["mean_itl_ms"] / 1e3)
    assert value(record, "inter_chunk_s", "p90") == pytest.approx(said["p90_itl_ms"] / 1e3)
    assert measured(record, "itl_s").value is None  # chunks are not tokens
    assert "from its schedule" in doubts(record)["timer_starts_at_send"]
    assert isinstance(record.outcome, Succeeded)
    rows = samples(imported)
    assert rows.num_requests == 20 and list(rows.output_tokens) == [8] * 20
    assert list(rows.prompt_tokens) == said["input_lens"]
    assert np.nanmin(rows.intended_s) == 0.0


def test_vllm_summary_alone_keeps_the_tools_numbers_in_seconds() -> None:
    said, imported = load(GOLDENS[1]), one(GOLDENS[1])
    record = imported.record
    assert not imported.tables
    for metric, theirs in {
        "ttft_s": "ttft",
        "tpot_s": "tpot",
        "inter_chunk_s": "itl",
        "e2e_s": "e2el",
    }.items():
        assert value(record, metric) == pytest.approx(said[f"mean_{theirs}_ms"] / 1e3)
        assert value(record, metric, "p50") == pytest.approx(said[f"median_{theirs}_ms"] / 1e3)
    assert value(record, "achieved_rate", "value") == said["request_throughput"]
    assert value(record, "output_throughput", "value") == said["output_throughput"]
    assert value(record, "goodput_rate", "value") == said["request_goodput"]
    assert value(record, "prompt_throughput", "value") == pytest.approx(254 / said["duration"])
    p99 = measured(record, "ttft_s", "p99")
    assert p99.value is None and p99.n == 20
    assert "needs at least 1000" in p99.reason and "55.4 ms" in p99.reason
    assert measured(record, "ttft_s").method == (
        "as vllm bench serve (version not stated) reports it (mean_ttft_ms)"
    )


def test_a_percentile_that_enough_requests_stand_behind_is_taken(tmp_path: Path) -> None:
    many = {**load(GOLDENS[1]), "completed": 2000, "num_prompts": 2000, "p99.9_ttft_ms": 60.0}
    (found,) = import_path(written(tmp_path, many))
    assert value(found.record, "ttft_s", "p99") == pytest.approx(0.05537794260990596)
    assert measured(found.record, "ttft_s", "p99.9").value is None


def test_vllm_failures_are_counted_and_spoil_the_run() -> None:
    imported = one("vllm-bench-0.32-faults.json")
    record, rows = imported.record, samples(imported)
    assert record.outcome == Invalid(reasons=("failed_requests",))
    assert value(record, "error_share", "value") == pytest.approx(3 / 20)
    assert [e for e in rows.error if e] == ["Internal Server Error"] * 3
    assert np.isnan(rows.first_token_s[rows.error != ""]).all()
    # Two tokens a chunk: the gaps are twice the time per token, or so the server paced them.
    assert value(record, "inter_chunk_s") == pytest.approx(0.010, rel=0.15)
    assert value(record, "tpot_s") == pytest.approx(0.005, rel=0.1)


def test_older_vllm_layout_without_start_times(tmp_path: Path) -> None:
    """Composed after 0.10: no start or queue times, no ``failed``, goodput's key misspelt."""
    old = load(GOLDENS[0])
    goodput = old.pop("request_goodput")
    for key in ("start_times", "queue_times", "latencies", "failed", "rtfx"):
        del old[key]
    (found,) = import_path(written(tmp_path, {**old, "request_goodput:": goodput, "gpu": "H100"}))
    record = found.record
    assert not found.tables
    assert value(record, "goodput_rate", "value") == goodput
    assert value(record, "ttft_s") == pytest.approx(old["mean_ttft_ms"] / 1e3)
    assert value(record, "error_share", "value") == 0.0
    assert "ttfts (per request)" in record.resolved["unmapped"]
    assert record.spec["imported"]["labels"] == {"gpu": "H100"}


def test_all_at_once_has_no_schedule_to_be_late_for(tmp_path: Path) -> None:
    """``--request-rate inf --max-concurrency N``: the queue is the limit at work."""
    closed = {**load(GOLDENS[0]), "request_rate": "inf", "max_concurrency": 4}
    closed["queue_times"] = [0.4 * i for i in range(20)]
    (found,) = import_path(written(tmp_path, closed))
    assert value(found.record, "ttft_s") == pytest.approx(closed["mean_ttft_ms"] / 1e3)
    assert measured(found.record, "dispatch_lag_s", "p50").value is None
    assert isinstance(found.record.outcome, Succeeded)
    assert not any(m.metric == "offered_rate" for m in found.record.measurements)


def test_appended_results_are_several_runs(tmp_path: Path) -> None:
    one_line = json.dumps(load(GOLDENS[1]))
    other = json.dumps({**load(GOLDENS[1]), "request_rate": 20.0})
    path = tmp_path / "appended.json"
    path.write_text(f"{one_line}\n{other}\n{one_line}")
    found = import_path(path, name="sweep")
    assert len({i.record.run_id for i in found}) == 3
    assert {i.record.experiment_id for i in found} == {found[0].record.experiment_id}
    assert {i.record.name for i in found} == {"sweep"}
    assert value(found[1].record, "offered_rate", "value") == 20.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean_ttft_ms": -5.0}, "mean_ttft_ms is -0.005 s; wanted: a finite number, 0 or more"),
        ({"p99_itl_ms": 0.5}, "p99_itl_ms is 0.0005 s; wanted: no less than p95_itl_ms"),
        ({"request_throughput": 0.0}, "request_throughput is 0; wanted: more than 0, since"),
        ({"output_throughput": 0}, "output_throughput is 0; wanted: more than 0, since"),
        ({"date": "00020102-000000"}, "the date of the measurement is 0002-01-01"),
        ({"date": "21260101-000000"}, "the date of the measurement is 2125-12-31"),
        ({"duration": -1.0}, "the duration is -1 s; wanted: 0 s or more"),
    ],
)
def test_a_result_that_cannot_be_is_refused_and_its_neighbours_are_not(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    good = load(GOLDENS[1])
    path = tmp_path / "appended.json"
    path.write_text("\n".join(json.dumps(d) for d in (good, {**good, **changes}, good)))
    refused: list[Refused] = []
    found = import_path(path, on_refused=refused.append)
    assert [i.record.started_at for i in found] == [found[0].record.started_at] * 2
    (row,) = refused
    assert str(row).startswith(f"{path}: row 2: {words}")
    alone = written(tmp_path, {**good, **changes})
    with pytest.raises(ForeignFormatError, match="row 1"):
        import_path(alone)


def test_a_row_that_cannot_be_read_does_not_take_the_others_along(tmp_path: Path) -> None:
    good = load(GOLDENS[1])
    path = tmp_path / "appended.json"
    path.write_text("\n".join(json.dumps(d) for d in (good, {**good, "completed": "many"})))
    refused: list[Refused] = []
    assert len(import_path(path, on_refused=refused.append)) == 1
    assert [r.row for r in refused] == [2]


# --- GuideLLM --------------------------------------------------------------------------------


def test_guidellm_is_counted_from_its_own_schedule() -> None:
    """The tool computes that latency too, aside: ``request_scheduled_latency``."""
    said, imported = load("guidellm-0.8.1.json")["benchmarks"][0], one("guidellm-0.8.1.json")
    record, metrics = imported.record, said["metrics"]
    scheduled = metrics["request_scheduled_latency"]["successful"]["mean"]
    delay = said["scheduler_metrics"]["request_targeted_start_delay_avg"]
    assert value(record, "e2e_s") == pytest.approx(scheduled, rel=1e-6)
    assert value(record, "dispatch_lag_s") == pytest.approx(delay, rel=1e-6)
    from_send = metrics["time_to_first_token_ms"]["successful"]["mean"] / 1e3
    assert value(record, "ttft_s") == pytest.approx(from_send + delay, rel=1e-6)
    assert isinstance(record.outcome, Invalid)
    # 30 ms later at the end than at the beginning, over some 0.9 s of schedule: late, and slower.
    assert set(record.outcome.reasons) == {"client_late", "rate_not_achieved"}
    assert "TTFT mean 71.8 ms by the tool, 86.5 ms" in doubts(record)["tool_disagrees"]
    assert doubts(record)["tool_warning"].startswith("GuideLLM warned: ")
    assert record.started_at == datetime(2026, 11, 24, 6, 19, 13, 493683, tzinfo=UTC)
    assert record.seeds == {"data": 42, "strategy": 42}
    assert record.name == "guidellm-tiny"


def test_guidellm_words_are_translated_not_copied(tmp_path: Path) -> None:
    """Its ITL is our TPOT; its TPOT, which has TTFT in it, is our NTPOT."""
    document = load("guidellm-0.8.1.json")
    del document["benchmarks"][0]["requests"]
    (found,) = import_path(written(tmp_path, document))
    metrics = document["benchmarks"][0]["metrics"]
    itl, tpot = (
        metrics[name]["successful"]["mean"] / 1e3
        for name in ("inter_token_latency_ms", "time_per_output_token_ms")
    )
    assert value(found.record, "tpot_s") == pytest.approx(itl)
    assert value(found.record, "ntpot_s") == pytest.approx(tpot)
    assert not any(m.metric == "itl_s" for m in found.record.measurements)
    lag = metrics["request_dispatch_delay"]["successful"]["mean"]
    assert value(found.record, "dispatch_lag_s") == pytest.approx(lag)
    assert not found.tables
    # The numbers count from the send, and the client was later than may be: not to be used.
    assert found.record.outcome == Invalid(reasons=("client_late",))


def test_guidellm_closed_loop_has_no_schedule_and_its_failures_count() -> None:
    imported = one("guidellm-0.8.1-faults.json")
    record, rows = imported.record, samples(imported)
    assert value(record, "error_share", "value") == pytest.approx(2 / 20)
    assert measured(record, "dispatch_lag_s", "p50").value is None
    assert "failed_requests" in record.outcome.reasons  # type: ignore[union-attr]
    (message,) = {e for e in rows.error if e}
    assert message.startswith("HTTPStatusError: Server error '500")
    assert "HTTPStatusError)" in doubts(record)["failed_requests"]
    assert np.isnan(rows.dispatched_s).all()


def test_guidellm_report_schema_1(tmp_path: Path) -> None:
    """Composed: up to 0.6 the configuration stood flat under ``args``."""
    document = load("guidellm-0.8.1.json")
    document["metadata"] |= {"version": 1, "guidellm_version": "0.5.2"}
    del document["config"], document["conclusions"]
    document["args"] = {
        "model": "org/tiny",
        "data": ["prompt_tokens=32,output_tokens=8"],
        "random_seed": 7,
        "max_requests": 20,
    }
    for key in ("backend", "constraints", "slo"):
        document["benchmarks"][0]["config"].pop(key, None)
    (found,) = import_path(written(tmp_path, document))
    assert found.record.name == "guidellm-tiny"
    assert found.record.spec["model"] == "org/tiny"
    assert found.record.spec["asked"]["data"] == ["prompt_tokens=32,output_tokens=8"]
    assert found.record.seeds["random_seed"] == 7
    assert "unknown_version" not in doubts(found.record)
    assert "0.5.2" in measured(found.record, "ttft_s").method


def test_a_sweep_is_one_run_per_benchmark_and_a_new_schema_is_doubted(tmp_path: Path) -> None:
    document = load("guidellm-0.8.1.json")
    document["benchmarks"] *= 2
    document["metadata"]["version"] = 3
    first, second = import_path(written(tmp_path, document))
    assert first.record.run_id != second.record.run_id
    assert first.record.experiment_id == second.record.experiment_id
    assert "report schema 3" in doubts(first.record)["unknown_version"]


def test_guidellm_slo_makes_our_own_goodput(tmp_path: Path) -> None:
    document = load("guidellm-0.8.1.json")
    document["benchmarks"][0]["config"]["slo"] = {"ttft_ms": 100.0, "tpot_ms": 1000.0}
    (found,) = import_path(written(tmp_path, document))
    rows = samples(found)
    good = int(((rows.first_token_s - rows.intended_s) <= 0.1).sum())
    assert 0 < good < 20
    assert value(found.record, "slo_attainment", "value") == pytest.approx(good / 20)
    assert found.record.spec["slo"] == {"ttft_s": 0.1, "tpot_s": 1.0}


# --- AIPerf ----------------------------------------------------------------------------------


def test_aiperf_folder_is_measured_request_by_request() -> None:
    said, imported = load("aiperf-0.13.0/profile_export_aiperf.json"), one("aiperf-0.13.0")
    record, rows = imported.record, samples(imported)
    for metric, theirs in {
        "ttft_s": "time_to_first_token",
        "tpot_s": "inter_token_latency",
        "inter_chunk_s": "inter_chunk_latency",
        "e2e_s": "request_latency",
    }.items():
        assert value(record, metric) == pytest.approx(said[theirs]["avg"] / 1e3, rel=1e-6)
        assert value(record, metric, "p50") == pytest.approx(said[theirs]["p50"] / 1e3, rel=1e-6)
    assert rows.num_requests == 22 and int(rows.is_warmup.sum()) == 2
    assert measured(record, "ttft_s").n == 20  # warm-up is kept and never measured
    assert value(record, "slo_attainment", "value") == said["good_request_fraction"]["avg"]
    assert record.spec["slo"] == {"ttft_s": pytest.approx(0.1)}
    assert record.started_at == datetime(2026, 11, 24, 6, 16, 37, tzinfo=UTC)
    assert value(record, "offered_rate", "value") == 10.0
    assert "as asked" in measured(record, "offered_rate", "value").method
    assert "0.13.0" in measured(record, "ttft_s").method


def test_aiperf_summary_alone() -> None:
    said = load("aiperf-0.13.0/profile_export_aiperf.json")
    imported = one("aiperf-0.13.0/profile_export_aiperf.json")
    assert not imported.tables
    assert value(imported.record, "tpot_s") == said["inter_token_latency"]["avg"] / 1e3
    gaps = measured(imported.record, "inter_chunk_s", "p90")
    assert gaps.n == 140 and gaps.value == pytest.approx(said["inter_chunk_latency"]["p90"] / 1e3)
    assert "effective_latency" in imported.record.resolved["unmapped"]
    assert imported.record.resolved["reported"]["effective_latency"]["p99"] == pytest.approx(
        said["effective_latency"]["p99"]
    )


def test_aiperf_failures_and_cancelled_runs(tmp_path: Path) -> None:
    imported = one("aiperf-0.13.0-faults")
    rows = samples(imported)
    assert value(imported.record, "error_share", "value") == pytest.approx(5 / 20)
    assert int((rows.status == 500).sum()) == 5
    assert all(e.startswith("Internal Server Error: ") for e in rows.error if e)
    said = load("aiperf-0.13.0/profile_export_aiperf.json")
    (cancelled,) = import_path(written(tmp_path, {**said, "was_cancelled": True}))
    assert cancelled.record.outcome == Invalid(reasons=("tool_incomplete",))


def test_aiperf_requests_that_do_not_match_the_summary_are_not_used(tmp_path: Path) -> None:
    for name in ("profile_export_aiperf.json", "profile_export.jsonl"):
        (tmp_path / name).write_text((DATA / "aiperf-0.13.0" / name).read_text())
    lines = (tmp_path / "profile_export.jsonl").read_text().splitlines()
    (tmp_path / "profile_export.jsonl").write_text("\n".join(lines[:-3]))
    (found,) = import_path(tmp_path)
    assert not found.tables
    assert any("17 requests in it, 20 in" in u for u in found.record.resolved["unmapped"])


# --- inference-perf --------------------------------------------------------------------------


def test_inference_perf_is_measured_by_the_servers_token_count() -> None:
    """It counted 16 tokens where the server sent 8, so its TPOT is less than half of the truth."""
    said = load("inference-perf-0.7.0/summary_lifecycle_metrics.json")["successes"]["latency"]
    record = one("inference-perf-0.7.0").record
    assert value(record, "ttft_s") == pytest.approx(said["time_to_first_token"]["mean"])
    assert value(record, "e2e_s") == pytest.approx(said["request_latency"]["mean"])
    by_hand = (said["request_latency"]["mean"] - said["time_to_first_token"]["mean"]) / 7
    assert value(record, "tpot_s") == pytest.approx(by_hand)
    assert said["time_per_output_token"]["mean"] < 0.005
    assert (
        "16 output tokens per request where the server says 8"
        in (doubts(record)["token_counts_differ"])
    )
    assert "TPOT mean 4.67 ms by the tool, 10.1 ms" in doubts(record)["tool_disagrees"]
    # What only the summary has stays the tool's.
    assert measured(record, "dispatch_lag_s").method.startswith("as inference-perf")
    assert value(record, "dispatch_lag_s") == pytest.approx(0.0003739658287372549)
    assert value(record, "offered_rate", "value") == 10.0
    assert record.started_at == datetime(2026, 11, 24, 6, 19, 39, 614290, tzinfo=UTC)
    assert (record.name, record.spec["asked"]["api"]["type"]) == (
        "inference-perf-tiny",
        "completion",
    )


def test_each_stage_of_inference_perf_is_a_run_of_its_own() -> None:
    slow, fast = import_path(DATA / "inference-perf-0.7.0-stages")
    rates = [value(i.record, "offered_rate", "value") for i in (slow, fast)]
    assert rates == [5.0, 10.0]
    assert [measured(i.record, "error_share", "value").n for i in (slow, fast)] == [10, 20]
    assert slow.record.workload_hash != fast.record.workload_hash
    assert not slow.tables and not fast.tables  # whose request was which, the file does not say


def test_inference_perf_summary_alone_has_no_date_and_no_model() -> None:
    imported = one("inference-perf-0.7.0/summary_lifecycle_metrics.json")
    assert "no_date" in doubts(imported.record)
    assert imported.record.name == "inference-perf-unknown-model"
    assert value(imported.record, "ntpot_s") == pytest.approx(0.007694524150002024)


def test_a_late_foreign_client_spoils_its_run(tmp_path: Path) -> None:
    report = load("inference-perf-0.7.0/summary_lifecycle_metrics.json")
    report["load_summary"]["schedule_delay"]["p99"] = 1.08
    (found,) = import_path(written(tmp_path, report))
    assert found.record.outcome == Invalid(reasons=("client_late",))
    assert "1080.0 ms" in doubts(found.record)["client_late"]
