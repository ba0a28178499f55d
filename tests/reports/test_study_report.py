"""The page of a study: the answer first, every picture readable, half a study told as half."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import altair as alt
import pytest

from reports.html import render_html
from reports.markdown import render_markdown
from reports.model import Plot, Plots, Report, Table
from reports.plots_study import history, trade_off
from reports.plots_study_knobs import importance_plot, parallel, progress_plot
from reports.study_report import study_report
from reports.study_told import StudyTold, TrialState
from reports.testing import Page


def beside(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = beside("study_looks")
ONE = made.study()
FAILED = tuple(
    replace(
        t,
        state=TrialState.FAILED,
        kind="does_not_fit",
        message=f"<b>{made.MESSAGE}</b>",
        goals={},
        bounds={},
    )
    for t in ONE.trials[:8]
)
STUDIES: dict[str, StudyTold] = {
    "one goal": ONE,
    "two goals": made.study(goals=(made.THROUGHPUT, made.LATENCY)),
    "three goals": made.study(goals=(made.THROUGHPUT, made.LATENCY, made.COST)),
    "running": replace(
        ONE,
        state="running",
        state_words="since 09:00",
        trials=ONE.trials[:9],
        winner=None,
        gain=None,
        remeasured=(),
        baseline=None,
        importances=(),
        why_no_importances="8 trials were measured; at least 10 are needed",
        progress=ONE.progress[:5],
    ),
    "empty": made.bare(),
    "all failed": made.bare(
        trials=FAILED,
        knobs=made.KNOBS,
        evidence="measured",
        state="ended",
        state_words="8 trials",
        why_none="no configuration kept every limit with its margin",
    ),
    "one trial": made.bare(
        trials=ONE.trials[:2],
        knobs=made.KNOBS,
        evidence="simulated",
        why_none="no candidate was measured again yet",
    ),
}
REPORTS: dict[str, Report] = {kind: study_report(told) for kind, told in STUDIES.items()}
NUM_PLOTS = {
    "one goal": 4,  # goal against limit, importances, parallel, history
    "two goals": 6,  # the front, two of knobs, the hypervolume, a history each
    "three goals": 9,
    "running": 3,
    "empty": 0,
    "all failed": 1,
    "one trial": 2,
}


def plots_of(report: Report) -> Iterator[Plot]:
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Plots):
                yield from block.plots


def table_of(report: Report, key: str, caption: str = "") -> Table:
    (section,) = (s for s in report.sections if s.key == key)
    tables = [b for b in section.blocks if isinstance(b, Table)]
    return next(t for t in tables if caption in t.caption)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("one goal", "+23.4 % over the baseline (95 %: +19.0 % … +28.0 %)"),
        ("one goal", "keeps its limits next time with probability ≥ 0.991"),
        ("two goals", "by the mean of the goals' ratios"),
        ("running", "Still searching: 8 trials so far."),
        ("running", "it is not proven until it is measured again"),
        ("empty", "Nothing has been measured yet."),
        ("all failed", "All 7 trials failed."),
        ("one trial", "Not at its end: 1 trial so far."),
    ],
)
def test_the_answer_is_a_sentence(kind: str, said: str) -> None:
    assert said in REPORTS[kind].sentence


@pytest.mark.parametrize("kind", sorted(STUDIES))
def test_pages_render_with_their_plots_told_in_words(kind: str) -> None:
    found = list(plots_of(REPORTS[kind]))
    assert len(found) == NUM_PLOTS[kind]
    assert len({p.key for p in found}) == len(found)
    for plot in found:
        assert len(plot.description) > 20
        assert plot.summary.rows
    page, text = render_html(REPORTS[kind]), render_markdown(REPORTS[kind])
    assert "<b>the engine" not in page
    assert ONE.name in text or "half-done" in text
    assert render_html(study_report(STUDIES[kind])) == page  # the same study, the same bytes


def test_every_kind_of_plot_keeps_vega_lites_schema() -> None:
    """Altair raises SchemaValidationError for a plot that does not."""
    plots = list(plots_of(REPORTS["two goals"]))
    assert len(plots) > 2
    for plot in plots:
        alt.Chart.from_dict(dict(plot.spec), validate=True)


def test_winner_and_baseline_stand_beside_each_other() -> None:
    rows = texts(table_of(REPORTS["one goal"], "answer"))
    assert [row[0] for row in rows] == ["output throughput", "TTFT p99", "TPOT p50"]
    winner, baseline = ONE.winner, ONE.baseline
    assert winner is not None
    assert baseline is not None
    ratio = winner.goals["output_throughput"] / baseline.goals["output_throughput"]
    assert rows[0][3] == f"{100 * (ratio - 1):+.1f} %"
    assert len(texts(table_of(study_report(replace(ONE, winner=None)), "answer"))[0]) == 2


def test_failures_are_told_by_kind_with_message_run_and_what_they_share() -> None:
    rows = texts(table_of(REPORTS["one goal"], "failures", "by kind"))
    assert rows[0][0] == "oom_under_load"
    assert int(rows[0][1]) == sum(t.kind == "oom_under_load" for t in ONE.trials)
    assert "CUDA out of memory" in rows[0][2]
    assert "max-num-seqs=256" in rows[0][3]
    assert rows[0][4].startswith("20261124T09")
    broken = texts(table_of(REPORTS["one goal"], "failures", "broke a limit"))
    assert broken[0][0] == "TTFT p99"
    near = min(
        t.bounds["ttft_s_p99"] for t in ONE.searched if t.bounds and t.bounds["ttft_s_p99"] > 0.5
    )
    assert broken[0][2] == made.TTFT.words(near)
    assert "weights 15.0 GiB" in render_markdown(REPORTS["one goal"])


def test_the_history_marks_failures_and_draws_the_best_so_far() -> None:
    plot = history(ONE, made.THROUGHPUT, "h")
    assert plot is not None
    sets = [rows[0] for rows in plot.spec["datasets"].values()]
    (best,) = (s for s in sets if set(s) == {"number", "value"})
    assert best["value"] == sorted(best["value"])
    on_floor = [s for s in sets if "kind" in s and set(s["kind"]) == {"failed or invalid"}]
    bad = [t for t in ONE.trials if t.phase != "remeasure" and not t.goals]
    assert [s["number"] for s in on_floor] == [[t.number for t in bad]]


def test_the_front_is_joined_and_limits_are_lines() -> None:
    two = STUDIES["two goals"]
    plot = trade_off(two, made.THROUGHPUT, made.LATENCY, "t")
    assert plot is not None
    sets = [rows[0] for rows in plot.spec["datasets"].values()]
    (joined,) = (s for s in sets if set(s) == {"x", "y"})
    assert len(joined["x"]) == len(two.front)
    three = trade_off(STUDIES["three goals"], made.THROUGHPUT, made.LATENCY, "t")
    assert three is not None
    assert not any(set(rows[0]) == {"x", "y"} for rows in three.spec["datasets"].values())
    limited = trade_off(ONE, made.TTFT, made.THROUGHPUT, "t")
    assert limited is not None
    assert any(rows[0] == {"limit": [0.5]} for rows in limited.spec["datasets"].values())
    assert "The dashed line is the limit." in limited.note
    assert [m.name for m in limited.marks] == [
        "keeps its limits",
        "breaks a limit",
        "baseline",
        "winner, measured again",
    ]


def test_knobs_are_drawn_in_the_order_of_their_importance() -> None:
    plot = parallel(ONE, "p")
    assert plot is not None
    (names,) = (
        rows[0]["text"]
        for rows in plot.spec["datasets"].values()
        if "max-num-seqs" in rows[0].get("text", [])
    )
    assert names == [
        "max-num-seqs",
        "kv-cache-dtype",
        "max-num-batched-tokens",
        "enable-prefix-caching",
        "output throughput",
    ]
    shares = importance_plot(ONE, "i")
    assert shares is not None
    assert shares.description.startswith("max-num-seqs explains 71.0 %")
    assert progress_plot(ONE, "g") is None  # one goal has its best so far instead


def test_cost_is_by_phase_and_startup_beside_it() -> None:
    rows = texts(table_of(REPORTS["one goal"], "cost"))
    assert [row[1] for row in rows] == ["1", "8", "21", "9"]
    assert all(row[3].endswith(" s") for row in rows)
    assert "n/a (no chips were used, and CPUs have no price)" in render_markdown(
        study_report(replace(ONE, usd=None, why_no_usd=made.bare().why_no_usd))
    ).replace("\\", "")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("kind", "width"), [("one goal", 390), ("three goals", 1280), ("all failed", 390)]
)
def test_the_page_can_be_read_on_a_screen_and_on_a_phone(
    page: Page, tmp_path: Path, kind: str, width: int
) -> None:
    looks = beside("test_page_in_browser")
    path = tmp_path / "study.html"
    path.write_text(render_html(REPORTS[kind]), encoding="utf-8")
    page.load(path, width=width, height=844)
    looks.open_folds(page)
    assert set(page.run(looks.DRAWN)) == {"drawn"}
    marks = page.run(looks.MARKS)
    assert len(marks) == NUM_PLOTS[kind]
    assert all(count > 0 for count in marks.values()), marks
    assert page.run(looks.STICKS_OUT) == []
    for dark in (False, True):
        page.scheme(dark)
        contrast = page.run(looks.POOR_CONTRAST)
        assert contrast["seen"] > 30
        assert contrast["poor"] == []
    looks.assert_quiet(page, path)
