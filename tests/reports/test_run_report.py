"""What a report says of each kind of run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from reports.model import (
    Block,
    Doubts,
    Facts,
    KeyFigures,
    Listing,
    Paragraph,
    Plots,
    Report,
    Section,
    Table,
)
from reports.run_report import MAX_TOLD, run_report
from results.record import Evidence, Invalid
from results.slo_verdict import LimitVerdict, Verdict


def sections(report: Report) -> Iterator[Section]:
    for section in report.sections:
        yield section
        yield from section.sections


def blocks(report: Report, kind: type[Any]) -> list[Any]:
    found: list[Block] = [b for s in sections(report) for b in s.blocks if isinstance(b, kind)]
    return found


def headings(report: Report) -> list[str]:
    return [s.heading for s in report.sections]


def plot_keys(report: Report) -> list[str]:
    return [p.key for b in blocks(report, Plots) for p in b.plots]


def table(report: Report, caption: str) -> Table:
    (found,) = [t for t in blocks(report, Table) if t.caption == caption]
    assert isinstance(found, Table)
    return found


def test_the_slo_is_told_with_its_verdict_and_why(serving: Any) -> None:
    limits = (
        LimitVerdict(
            asked="ttft p99 ≤ 500 ms",
            metric="ttft_s",
            statistic="p99",
            limit=0.5,
            verdict=Verdict.NOT_MET,
            value=0.72,
            low=0.65,
            high=0.81,
        ),
        LimitVerdict(
            asked="itl p99 ≤ 20 ms",
            metric="itl_s",
            statistic="p99",
            limit=0.02,
            verdict=Verdict.UNDECIDED,
            reason="n = 30; needs at least 1000",
        ),
    )
    record = replace(serving.records[0], slo=limits)
    report = run_report([record], serving.table)
    shown = table(report, "SLO")
    assert [[c.text for c in row] for row in shown.rows] == [
        ["ttft p99 ≤ 500 ms", "720 ms", "not met"],
        ["itl p99 ≤ 20 ms", "n/a", "undecided"],
    ]
    assert shown.rows[0][1].detail == "650–810 ms"
    assert shown.rows[1][2].detail == "n = 30; needs at least 1000"
    assert shown in report.sections[0].blocks, "beside the key figures"


def test_a_served_run_from_the_answer_to_the_evidence(serving: Any) -> None:
    report = run_report(serving.records, serving.table, command="windtunnel run a.yaml")
    record = serving.records[0]
    assert report.title == "quickstart 1/3"
    rate = next(m.value for m in record.measurements if m.metric == "achieved_rate")
    assert report.sentence.startswith(f"{rate:.2f} requests/s and ")
    assert "TTFT p50" in report.sentence
    assert "ready after 45.2 s" in report.sentence
    assert report.sentence.endswith("Valid, 2 doubts.")
    assert [b.text for b in report.badges] == ["valid", "measured"]
    assert report.banners == ()
    assert headings(report) == [
        "Key figures",
        "Doubts",
        "Startup",
        "Latency",
        "Over time",
        "Measurements",
        "Placement",
        "Environment",
        "Provenance",
        "Reproduce",
    ]
    assert plot_keys(report) == [
        "startup-plot",
        "ecdf-ttft_s",
        "ecdf-e2e_s",
        "ecdf-itl_s",
        "ecdf-tpot_s",
        "request-rate",
        "token-rate",
        "timeline",
    ]
    (doubts,) = blocks(report, Doubts)
    assert [d.code for d in doubts.doubts] == ["failed_requests", "host_busy"]


def test_key_figures_have_intervals_or_reasons(serving: Any) -> None:
    report = run_report(serving.records, serving.table)
    (block,) = blocks(report, KeyFigures)
    figures = {f.label: f for f in block.figures}
    assert figures["TTFT p50"].detail.startswith("95 %: ")
    assert figures["TTFT p99"].value == "n/a"
    assert figures["TTFT p99"].detail == "n = 199; needs at least 1000"
    assert figures["startup"].value == "45.2 s"
    assert "goodput rate" not in figures


def test_provenance_tells_both_hashes_and_what_equality_means(serving: Any) -> None:
    report = run_report(serving.records, serving.table)
    facts = {f.label: f for b in blocks(report, Facts) for f in b.facts}
    record = serving.records[0]
    assert facts["workload hash"].value == record.workload_hash
    assert "may be compared" in facts["workload hash"].meaning
    assert facts["environment hash"].value == record.environment_hash
    assert facts["seeds"].value == "model 0, traffic 7"
    assert facts["page cache"].value == "partly warm: 12.0 % of the model's bytes"
    assert facts["started"].value == "2026-11-23 17:00:00 UTC"
    assert facts["vllm"].value == "0.32.0"
    listings = {b.title: b for b in blocks(report, Listing)}
    assert "rate_rps: 4.0" in listings["Spec, resolved"].text
    assert listings["Spec, resolved"].folded
    assert "Reproduce" not in headings(report)  # no command was given


def test_the_rungs_that_were_tried(serving: Any) -> None:
    rows = table(run_report(serving.records, serving.table), "Rungs tried, in order").rows
    assert [[c.text for c in row] for row in rows] == [
        ["1. v6e", "reservation", "0 s", "no such accelerator"],
        ["2. cpu-a", "on-demand", "20.0 s", "timed out"],
        ["3. cpu-b", "spot", "420 ms", "taken"],
    ]


def test_a_training_run(training: Any) -> None:
    report = run_report(training.records, training.table)
    assert "step time p50" in report.sentence
    assert "final loss" in report.sentence
    assert "requests" not in report.sentence
    assert plot_keys(report) == ["startup-plot", "step-parts", "step-times", "loss"]
    assert "Latency" not in headings(report)


def test_a_failed_run_says_where_and_shows_the_log(failed: Any) -> None:
    report = run_report(failed.records, failed.table)
    assert report.sentence == (
        "Failed during startup, engine_died: vllm ended with exit code 1 before it was healthy"
    )
    assert report.badges[0].tone == "bad"
    assert headings(report)[0] == "Failure"
    (log,) = [b for b in blocks(report, Listing) if b.from_end]
    assert log.title == "Last 30 log lines"
    assert log.text.endswith("is larger than 2048")
    assert plot_keys(report) == []


def test_a_long_log_is_cut_and_says_so(make: SimpleNamespace) -> None:
    runs = make.failed_run()
    (record,) = runs.records
    outcome = replace(record.outcome, log_tail=tuple(["x" * 5000] * 500))
    report = run_report([replace(record, outcome=outcome)], runs.table)
    (log,) = [b for b in blocks(report, Listing) if b.from_end]
    assert log.title == "Last 200 log lines (300 more in the record)"
    assert len(log.text) < 210_000


def test_an_invalid_run_is_told_first_that_it_is(make: SimpleNamespace) -> None:
    runs = make.serving_run(samples=make.request_samples(failures=40))
    assert isinstance(runs.records[0].outcome, Invalid)
    report = run_report(runs.records, runs.table)
    assert "Invalid, not to be used: 40 of 200 requests" in report.sentence
    assert report.badges[0].text == "invalid"


@pytest.mark.parametrize(
    ("evidence", "start"),
    [
        (Evidence.SIMULATED, "Simulated. A model of an engine"),
        (Evidence.IMPORTED, "Imported. Taken over"),
    ],
)
def test_what_was_not_measured_has_a_banner(
    make: SimpleNamespace, evidence: Evidence, start: str
) -> None:
    runs = make.serving_run(evidence=evidence)
    report = run_report(runs.records, runs.table)
    (banner,) = report.banners
    assert banner.loud
    assert banner.text.startswith(start)
    assert report.badges[1].text == evidence.value


def test_a_virtual_pool_has_a_banner(pretended: Any) -> None:
    report = run_report(pretended.records, pretended.table)
    assert [b.text.split(".")[0] for b in report.banners] == ["Simulated", "Virtual pool"]
    assert "16 x TPU-V6E was pretended" in report.banners[1].text
    assert [b.text for b in report.badges] == ["valid", "simulated", "virtual pool"]


def test_repeats_stand_side_by_side_with_their_mean(repeats: Any) -> None:
    report = run_report(repeats.records, repeats.table, command="windtunnel run a.yaml")
    assert report.title == "3 runs of quickstart"
    assert report.sentence.startswith("3 runs: 3 valid.")
    rows = table(report, "Served runs").rows
    assert [row[0].text for row in rows] == [
        "quickstart 1/3",
        "quickstart 2/3",
        "quickstart 3/3",
        "mean of 3 runs",
    ]
    names = [c.name for c in table(report, "Served runs").columns]
    at = names.index("achieved rate")
    rates = [float(row[at].text.split()[0]) for row in rows[:3]]
    assert float(rows[3][at].text.split()[0]) == pytest.approx(sum(rates) / 3, abs=0.01)
    assert "–" in rows[3][at].detail
    p99 = names.index("TTFT p99")
    assert rows[0][p99].text == "n/a"
    assert rows[0][p99].detail == "n = 200"
    notes = [p.text for p in blocks(report, Paragraph)]
    assert any(n.startswith("All 3 runs have the same workload hash") for n in notes)
    assert any(n.startswith("All 3 runs have the same environment hash") for n in notes)
    assert plot_keys(report)[:2] == ["overlay-ttft_s", "overlay-e2e_s"]
    assert [s.folded for s in report.sections] == [False, True, True, True, False]


def test_different_hashes_are_named_with_what_differs(make: SimpleNamespace) -> None:
    other = make.environment(vllm="0.33.0")
    first = make.serving_run(0)
    spec = {**first.records[0].spec, "slo": {"ttft_s": 9.0}}
    runs = (
        first
        + make.serving_run(1, environment=other, environment_hash="b" * 16)
        + make.serving_run(2, spec=spec, workload_hash="c" * 16)
        + make.training_run(3)
    )
    report = run_report(runs.records, runs.table)
    notes = [p for p in blocks(report, Paragraph) if p.tone == "warn"]
    assert "2 different workload hashes" in notes[0].text
    assert "different environment hashes" in notes[1].text
    asked = table(report, "What was asked differently")
    labels = [s.heading for s in report.sections[1:]]
    # The training run was asked something else altogether: it is held against nothing.
    assert [c.name for c in asked.columns] == ["key", f"{labels[0]} and 1 more", labels[2]]
    assert [c.text for row in asked.rows for c in row if c.text == "9.0"] == ["9.0"]
    answered = table(report, "What answered differently")
    by_key = {row[0].text: [c.text for c in row[1:]] for row in answered.rows}
    assert by_key["packages.vllm"] == ["0.32.0", "0.33.0"]
    assert "git_sha" not in by_key
    # A mean is made only of valid runs that are alike: here there are no two.
    assert all("mean" not in row[0].text for row in table(report, "Served runs").rows)
    assert [row[0].text for row in table(report, "Training runs").rows] == [labels[3]]


def test_workloads_of_different_kinds_are_not_compared(make: SimpleNamespace) -> None:
    runs = make.serving_run(0) + make.training_run(1)
    report = run_report(runs.records, runs.table)
    texts = [p.text for p in blocks(report, Paragraph)]
    assert "Workloads of different kinds (vllm and torch): nothing to compare." in texts
    # Two are few enough to be told without a click.
    assert [s.folded for s in report.sections] == [False, False, False]


def test_runs_of_the_same_name_are_told_apart(make: SimpleNamespace) -> None:
    runs = make.serving_run(0) + make.serving_run(1, repeat_index=0)
    report = run_report(runs.records, runs.table)
    labels = [s.heading for s in report.sections[1:]]
    assert labels == ["quickstart 1/3 · 1f0c3a9b00", "quickstart 1/3 · 1f0c3a9b01"]


def test_of_many_runs_the_first_are_told_in_full(make: SimpleNamespace) -> None:
    runs = make.failed_run(0)
    for i in range(1, 30):
        runs = runs + make.failed_run(i)
    report = run_report(runs.records, runs.table)
    assert len(report.sections) == 1 + MAX_TOLD
    assert f"The first {MAX_TOLD} are told in full below" in report.sentence
    assert len(table(report, "Served runs").rows) == 30


def test_keys_are_unique(repeats: Any, training: Any) -> None:
    runs = repeats + training
    report = run_report(runs.records, runs.table)
    keys = [s.key for s in sections(report)] + plot_keys(report)
    assert len(keys) == len(set(keys))


def test_no_record_no_report(serving: Any) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        run_report([], serving.table)


def test_a_run_without_tables_is_still_told(serving: Any) -> None:
    report = run_report(serving.records, lambda record, name: None)
    assert plot_keys(report) == ["startup-plot"]
    assert "Measurements" in headings(report)
