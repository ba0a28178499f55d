"""The page and the pictures of a sweep and of a capacity search."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import altair as alt
import numpy as np
import pytest
from scipy import stats

from reports.html import render_html
from reports.markdown import render_markdown
from reports.model import Cell, Plot, Plots, Report, Table
from reports.picture import standalone, write_picture
from reports.plots_sweep import attainment_plot, latency_curve
from reports.sweep_numbers import loads_seen
from reports.sweep_report import capacity_report, sweep_report
from reports.sweep_words import capacity_sentence, knee_sentence
from reports.testing import Page
from results.capacity import (
    Capacity,
    CapacityKind,
    ConstraintJudged,
    ConstraintSeen,
    Knee,
    LoadTold,
    Point,
    RateJudged,
    Verdict,
)
from results.measurement import Measurement
from results.record import Doubt

LIMITS = "TTFT ≤ 500 ms and TPOT ≤ 50 ms for 99 %"
TOLD = LoadTold(
    endpoint="http://127.0.0.1:8000",
    model="tiny-llama",
    evidence="measured",
    slo="ttft=500ms,tpot=50ms",
    traffic={"api": "chat", "prompt_tokens": "uniform:16:256"},
    command="windtunnel sweep --endpoint http://127.0.0.1:8000 --model tiny-llama --rates 1:32:6",
)


def measured(metric: str, statistic: str, value: float | None, spread: float = 0.0) -> Measurement:
    if value is None:
        return Measurement(
            metric=metric, statistic=statistic, value=None, n=10, reason="n = 10; needs more"
        )
    bounds = {"low": value - spread, "high": value + spread} if spread else {}
    return Measurement(metric=metric, statistic=statistic, value=value, n=400, **bounds)


def point(rate: float, *, repeat: int = 0, users: int | None = None, p99: bool = True) -> Point:
    """An M/M/1 server of 40/s: mean sojourn 1 / (40 − rate)."""
    mean = 1.0 / max(40.0 - rate, 2.0)
    answered = min(rate, 38.0) + 0.2 * repeat
    return Point(
        rate_rps=None if users else rate,
        num_users=users,
        duration_s=30.0,
        took_s=31.5,
        seed=repeat,
        num_requests=int(30 * rate),
        num_failed=3 if rate > 40.0 else 0,
        constraints=(
            ConstraintSeen(name=LIMITS, wanted=0.99, num_good=90, num_judged=100),
            ConstraintSeen(name="TTFT ≤ 500 ms", wanted=0.0, num_good=95, num_judged=100),
        ),
        backlog_growth=8.0 if rate > 40.0 else 0.1,
        measurements=(
            measured("achieved_rate", "value", answered),
            measured("output_throughput", "value", answered * 32),
            measured("ttft_s", "p50", 0.7 * mean, 0.05 * mean),
            measured("ttft_s", "p90", 2.3 * mean, 0.2 * mean),
            measured("ttft_s", "p99", 4.6 * mean if p99 else None, 0.6 * mean),
            measured("tpot_s", "p50", 0.011),
            measured("e2e_s", "p50", mean + 0.4, 0.02),
        ),
        repeat=repeat,
        run_id=f"20261124T06451{repeat}Z-5f0a7c11aa" if rate < 40.0 else "",
    )


RATES = (1.0, 4.0, 12.0, 24.0, 36.0, 48.0)
POINTS = tuple(point(rate) for rate in RATES)


def judged(rate: float, verdict: Verdict, share: float, n: int = 600) -> RateJudged:
    joint = ConstraintJudged(
        name=LIMITS,
        wanted=0.99,
        attainment=share,
        low=max(share - 0.02, 0.0),
        high=min(share + 0.01, 1.0),
        num_judged=n,
        effective_n=n / 7,
        verdict=verdict,
    )
    part = replace(joint, name="TTFT ≤ 500 ms", wanted=0.0, verdict=Verdict.PASS)
    return RateJudged(
        rate_rps=rate,
        verdict=verdict,
        num_points=2,
        measured_s=60.0,
        saturated=rate > 40.0,
        growing=rate > 30.0,
        constraints=(joint, part),
    )


JUDGED = (
    judged(4.0, Verdict.PASS, 1.0),
    judged(24.0, Verdict.PASS, 0.9975),
    judged(36.0, Verdict.UNDECIDED, 0.992),
    judged(48.0, Verdict.FAIL, 0.61),
)


def capacity(kind: CapacityKind = CapacityKind.BRACKETED, **changes: object) -> Capacity:
    made = Capacity(
        kind=kind,
        capacity_rps=24.0,
        failed_rps=48.0,
        estimate_rps=37.0,
        binding="TTFT ≤ 500 ms",
        binding_attainment=0.61,
        why="the budget of 600 s is spent",
        tolerance=0.05,
        confidence=0.95,
        rates=JUDGED,
        violations=(),
        num_points=8,
        spent_s=590.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def plots_of(report: Report) -> list[Plot]:
    return [
        plot
        for section in report.sections
        for block in section.blocks
        if isinstance(block, Plots)
        for plot in block.plots
    ]


def table_of(report: Report, key: str) -> Table:
    for section in report.sections:
        if section.key == key:
            return next(b for b in section.blocks if isinstance(b, Table))
    raise AssertionError(key)


def texts(row: Sequence[Cell]) -> list[str]:
    return [cell.text for cell in row]


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("found", {"failed_rps": 25.0}, "24 requests/s; 25 fails. First to fail: TTFT ≤ 500 ms"),
        ("bracketed", {}, "Between 24 and 48 requests/s, 100 % apart where 5 % was asked for: the"),
        ("at_least", {"failed_rps": None, "binding": ""}, "At least 24 requests/s: the budget"),
        ("below", {"capacity_rps": None}, "Below 48 requests/s: the budget of 600 s is spent."),
        ("undecided", {"capacity_rps": None}, "Undecided: 48/s fails; the budget"),
        (
            "undecided",
            {"capacity_rps": None, "failed_rps": None, "binding": "", "estimate_rps": None},
            "Undecided: no rate was decided; the budget of 600 s is spent.",
        ),
        (
            "invalid",
            {"capacity_rps": None, "spoiled_rps": 8.0, "faults": ("90 % hits",)},
            "Not known; at 8/s the load was not the one asked for: 90 % hits.",
        ),
        (
            "client_limited",
            {"failed_rps": None, "spoiled_rps": 64.0, "faults": ("late",)},
            "Not known, at least 24 requests/s; the client's limit was reached at 64/s, give it a",
        ),
    ],
)
def test_the_answer_is_a_sentence(kind: str, changes: dict[str, object], said: str) -> None:
    told = capacity_sentence(capacity(CapacityKind(kind), **changes))
    assert told.startswith(said)
    guessed = changes.get("estimate_rps", 37.0) is not None and kind not in (
        "found", "below", "at_least", "client_limited", "invalid",
    )  # fmt: skip
    assert ("near 37/s; that is a guess" in told) is guessed


def test_the_knee_is_a_sentence() -> None:
    loads = loads_seen(POINTS)
    told = knee_sentence(Knee(load=36.0, rule="the rule"), loads)
    assert told == "Knee at 36/s: 1,152 tokens/s of output, TTFT p50 175 ms. It is the rule."
    assert knee_sentence(Knee(load=None, rule="r", why="nothing bent"), loads) == (
        "No knee: nothing bent."
    )


def test_several_points_of_a_load_are_a_mean_with_its_t_interval() -> None:
    values = [12.0, 12.2, 12.4]
    (load,) = loads_seen([point(12.0, repeat=i) for i in range(3)])
    number = load.number("achieved_rate")
    want = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert number.value == pytest.approx(12.2)
    assert (number.low, number.high) == (pytest.approx(want[0]), pytest.approx(want[1]))
    (alone,) = loads_seen([point(12.0)])
    one = alone.number("ttft_s", "p50")
    assert one.low is not None
    assert one.high is not None
    assert one.low < (one.value or 0.0) < one.high


def test_what_the_client_spoiled_is_in_no_number_and_is_told() -> None:
    late = Doubt(code="client_late", message="late by 9 ms", invalidates=True)
    spoiled = replace(point(12.0), client_faults=("late by 9 ms",), doubts=(late,))
    (load,) = loads_seen([spoiled])
    number = load.number("achieved_rate")
    assert (number.value, number.reason) == (None, "late by 9 ms")
    report = sweep_report(TOLD, [spoiled], Knee(load=None, rule="r", why="w"))
    assert texts(table_of(report, "loads").rows[0])[-1] == "invalid"
    assert "client_late: late by 9 ms" in render_html(report)
    (both,) = loads_seen([spoiled, point(12.0, repeat=1)])
    assert both.number("achieved_rate").value == pytest.approx(12.2)


def test_the_curve_shows_what_was_seen_and_marks_overload() -> None:
    plot = latency_curve(loads_seen(POINTS), "ttft_s", "curve", knee=36.0)
    assert plot is not None
    (rows,) = (r[0] for r in plot.spec["datasets"].values() if "rate" in r[0])
    assert rows["stat"] == ["p50"] * 6 + ["p90"] * 6 + ["p99"] * 6
    assert rows["rate"][:6] == [1.0, 4.0, 12.0, 24.0, 36.0, 38.0]
    assert rows["state"][5] == "falls behind"
    assert rows["state"][:5] == ["keeps up"] * 5
    assert rows["low"][0] < rows["value"][0] < rows["high"][0]
    assert "A cross" in plot.note
    assert [m.name for m in plot.marks] == ["p50", "p90", "p99"]
    assert any(r[0] == {"knee": [36.0]} for r in plot.spec["datasets"].values())
    assert plot.description == "TTFT p50 goes from 17.9 ms at 1/s to 350 ms at 48/s, over 6 loads."


def test_a_percentile_that_no_load_has_is_missing_with_a_word() -> None:
    plot = latency_curve(loads_seen([point(r, p99=False) for r in RATES]), "ttft_s", "curve")
    assert plot is not None
    assert [m.name for m in plot.marks] == ["p50", "p90"]
    assert "p99 has too few requests at every load." in plot.note
    some = [*POINTS[:5], point(48.0, p99=False)]
    plot = latency_curve(loads_seen(some), "ttft_s", "curve")
    assert plot is not None
    assert "has no dot there: 48/s." in plot.note
    assert latency_curve(loads_seen(POINTS), "ntpot_s", "curve") is None
    assert latency_curve((), "ttft_s", "curve") is None


def test_misses_stand_on_a_log_axis_with_what_may_miss() -> None:
    plot = attainment_plot(capacity(), "a")
    assert plot is not None
    datasets = [r[0] for r in plot.spec["datasets"].values()]
    rows = next(r for r in datasets if "missed" in r)
    assert rows["missed"][1] == pytest.approx(0.0025)
    assert rows["missed"][0] == pytest.approx(1e-4)  # none, at the bottom of the axis
    assert rows["verdict"] == ["pass", "pass", "undecided", "fail"]
    assert {"allowed": [pytest.approx(0.01)]} in datasets
    assert {"from": [24.0], "to": [48.0]} in datasets
    assert "band" in plot.note
    alone = attainment_plot(capacity(failed_rps=None), "a")
    assert alone is not None
    assert "band" not in alone.note
    assert attainment_plot(capacity(rates=()), "a") is None


def test_the_capacity_page_tells_answer_rates_and_limits() -> None:
    report = capacity_report(TOLD, capacity(violations=("48/s passed although",)), POINTS)
    assert report.kind == "capacity search"
    assert report.sentence == capacity_sentence(capacity())
    assert [b.text for b in report.badges] == ["bracketed", "measured"]
    assert [b.text for b in report.banners] == ["48/s passed although"]
    rates = [texts(row) for row in table_of(report, "attainment").rows]
    assert [(row[0], row[1]) for row in rates] == [
        ("4/s", "pass"), ("24/s", "pass"), ("36/s", "undecided"), ("48/s", "fail"),
    ]  # fmt: skip
    assert [row[-1] for row in rates] == ["steady", "steady", "may grow", "grows"]
    limits = [texts(row) for row in table_of(report, "limits").rows]
    assert limits[0][:3] == [LIMITS, "99.0 %", "61.0 %"]
    assert limits[1][0] == "of these, TTFT ≤ 500 ms alone"
    assert len(table_of(report, "points").rows) == len(POINTS)


def test_a_simulation_is_never_shown_as_measured() -> None:
    told = replace(TOLD, evidence="simulated")
    for report in (
        capacity_report(told, capacity(), POINTS),
        sweep_report(told, POINTS, Knee(load=36.0, rule="r")),
    ):
        assert any("simulation" in b.text and b.loud for b in report.banners)
        assert "simulated" in [b.text for b in report.badges]
        assert "measured" not in [b.text for b in report.badges]


REPORTS = {
    "capacity": capacity_report(TOLD, capacity(), POINTS),
    "sweep": sweep_report(TOLD, POINTS, Knee(load=36.0, rule="the rule")),
    "users": sweep_report(
        replace(TOLD, evidence="simulated"),
        [point(r, users=int(r)) for r in RATES],
        Knee(load=24.0, rule="the rule"),
    ),
}


@pytest.mark.parametrize("kind", sorted(REPORTS))
def test_every_plot_keeps_vega_lites_schema(kind: str) -> None:
    plots = plots_of(REPORTS[kind])
    assert len(plots) == {"capacity": 4}.get(kind, 3)
    for plot in plots:
        json.dumps(plot.spec, allow_nan=False)
        alt.Chart.from_dict(dict(plot.spec))
        assert plot.description.endswith(".")
        assert plot.summary.rows
        whole = standalone(plot)
        assert "var(--" not in json.dumps(whole)
        del whole["config"]  # the page's own, with expressions that the schema does not know
        alt.Chart.from_dict(whole)
    assert "windtunnel" in render_html(REPORTS[kind])
    assert REPORTS[kind].sentence in render_markdown(REPORTS[kind])


def test_a_picture_brings_its_own_colours_title_and_legend(tmp_path: Path) -> None:
    (plot,) = plots_of(REPORTS["sweep"])[:1]
    write_picture(plot, tmp_path / "curve.svg")
    svg = (tmp_path / "curve.svg").read_text()
    assert "TTFT against throughput" in svg
    assert "#2166ac" in svg  # the page's first series colour in the light
    assert "var(" not in svg
    assert {"p50", "p90", "p99"} <= set(re.findall(r">(p\d\d)<", svg))
    write_picture(plot, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"\.svg or \.png"):
        write_picture(plot, tmp_path / "curve.gif")


@pytest.fixture(scope="module")
def looks() -> ModuleType:
    """The scripts that look at a page for what sticks out and what is hard to read."""
    path = Path(__file__).with_name("test_page_in_browser.py")
    spec = importlib.util.spec_from_file_location("page_in_browser", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", sorted(REPORTS))
def test_the_page_can_be_read_on_a_screen_and_on_a_phone(
    page: Page, looks: ModuleType, tmp_path: Path, kind: str, width: int
) -> None:
    path = tmp_path / f"{kind}.html"
    path.write_text(render_html(REPORTS[kind]), encoding="utf-8")
    page.load(path, width=width, height=844)
    looks.open_folds(page)
    assert set(page.run(looks.DRAWN)) == {"drawn"}
    marks = page.run(looks.MARKS)
    assert len(marks) == {"capacity": 4}.get(kind, 3)
    assert all(count > 0 for count in marks.values()), marks
    assert page.run(looks.STICKS_OUT) == []
    for dark in (False, True):
        page.scheme(dark)
        contrast = page.run(looks.POOR_CONTRAST)
        assert contrast["seen"] > 40
        assert contrast["poor"] == []
    looks.assert_quiet(page, path)
