"""Plots as data: what is in them is what was seen, and what is missing is said."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.model import Plot
from reports.plots import distribution, gaps, rows_of, startup_waterfall
from reports.plots_requests import request_rate, request_timeline, token_rate
from reports.plots_step_parts import step_parts
from reports.plots_steps import loss_curve, step_times
from results.samples import RequestSamples
from results.startup import PhaseSource, StartupPhase, StartupTimeline


def columns(plot: Plot | None, having: str) -> dict[str, list[Any]]:
    """The columns of the plot's data set that has that column."""
    assert plot is not None
    for rows in plot.spec["datasets"].values():
        if having in rows[0]:
            found: dict[str, list[Any]] = rows[0]
            return found
    raise AssertionError(f"no data set of {plot.key} has {having}")


spans = st.lists(
    st.tuples(st.floats(0, 50), st.floats(0, 20)).map(lambda s: (s[0], s[0] + s[1])), max_size=8
)


@given(spans, st.floats(min_value=0.1, max_value=60))
def test_the_gaps_are_the_unattributed_rest(
    spans: list[tuple[float, float]], ready_s: float
) -> None:
    timeline = StartupTimeline(
        phases=tuple(
            StartupPhase(name=str(i), start_s=a, end_s=b, source=PhaseSource.LOG, resolution_s=0.01)
            for i, (a, b) in enumerate(spans)
        ),
        ready_s=ready_s,
    )
    found = gaps(timeline)
    assert sum(b - a for a, b in found) == pytest.approx(timeline.unattributed_s, abs=1e-9)
    assert all(0 <= a < b <= ready_s for a, b in found)


def test_the_waterfall_shows_every_phase_where_it_lay(make: SimpleNamespace) -> None:
    timeline = make.startup()
    plot = startup_waterfall(timeline, "startup")
    rows = columns(plot, "phase")
    assert rows["phase"][:8] == [p.name for p in timeline.phases]
    assert rows["start"][:8] == [p.start_s for p in timeline.phases]
    assert rows["end"][:8] == [p.end_s for p in timeline.phases]
    assert rows["phase"][8:] == ["unattributed, 1.20 s"] * 2
    assert rows["source"][8:] == ["unattributed"] * 2
    assert rows["resolution"][0] == "± 10.0 ms"
    assert plot is not None
    assert "1.60 s more" in plot.note
    assert plot.marks[-1].shape == "hatch"
    assert len(plot.summary.rows) == 10


def test_no_phase_no_waterfall() -> None:
    assert startup_waterfall(StartupTimeline(phases=(), ready_s=1.0), "k") is None


def test_a_distribution_says_what_it_left_out() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([np.zeros(300), rng.lognormal(-3, 1.5, 700)])
    plot = distribution("itl_s", {"this run": values}, "itl")
    rows = columns(plot, "share")
    assert plot is not None
    assert min(rows["x"]) > 0
    assert min(rows["share"]) > 0.3  # the line begins above the zeros it could not draw
    assert "30.0 % of the values are 0" in plot.note
    assert "240 of 1,000" in plot.note
    assert "log axis" in json.dumps(plot.spec)
    assert plot.marks == ()


def test_a_narrow_distribution_has_a_linear_axis_and_two_runs_a_legend() -> None:
    a, b = np.array([0.1, 0.12, 0.2]), np.array([0.11, np.nan, 0.13])
    plot = distribution("ttft_s", {"a": a, "b": b}, "ttft")
    assert plot is not None
    assert '"log"' not in json.dumps(plot.spec)
    assert [m.name for m in plot.marks] == ["a", "b"]
    assert plot.note == ""
    assert distribution("ttft_s", {"a": np.array([np.nan])}, "ttft") is None


def test_rates_over_time_add_up_to_what_happened(make: SimpleNamespace) -> None:
    samples = make.request_samples(n=200, failures=3)
    rows = columns(request_rate(samples, "r"), "rate")
    total = {
        what: sum(
            rate * (to - start)
            for rate, start, to, w in zip(
                rows["rate"], rows["from"], rows["to"], rows["what"], strict=True
            )
            if w == what
        )
        for what in ("intended", "answered", "failed")
    }
    assert total == pytest.approx({"intended": 200, "answered": 197, "failed": 3}, abs=0.01)
    rows = columns(token_rate(samples, "t"), "rate")
    tokens = sum(
        r * (b - a) for r, a, b in zip(rows["rate"], rows["from"], rows["to"], strict=True)
    )
    measured = samples.output_tokens[~samples.is_warmup & (samples.error == "")].sum()
    assert tokens == pytest.approx(float(measured), rel=1e-4)


def test_unknown_token_counts_are_left_out_and_said(make: SimpleNamespace) -> None:
    samples = make.request_samples(failures=0)
    event_tokens = samples.event_tokens.copy()
    event_tokens[-5:] = -1
    plot = token_rate(replace(samples, event_tokens=event_tokens), "t")
    assert plot is not None
    assert "5 chunks of unknown token count" in plot.note
    unknown = np.full_like(event_tokens, -1)
    assert token_rate(replace(samples, event_tokens=unknown), "t") is None


def test_few_long_requests_are_bars(make: SimpleNamespace) -> None:
    samples = make.request_samples(n=60, failures=2, warmup=3)
    plot = request_timeline(samples, "k", limit=2000)
    rows = columns(plot, "part")
    assert plot is not None
    assert "sample of" not in plot.note
    parts = rows["part"]
    assert parts.count("failed") == 2
    assert parts.count("warm-up") == 3
    assert parts.count("streaming") == parts.count("until first token") == 58
    assert sorted(set(rows["request"])) == list(range(63))
    assert [row[1].text for row in plot.summary.rows] == ["3", "58", "2"]


def test_many_requests_are_dots_and_a_sample(make: SimpleNamespace) -> None:
    samples = make.request_samples(n=5000, failures=20, rate=50.0)
    plot = request_timeline(samples, "k", limit=500)
    rows = columns(plot, "request")
    assert plot is not None
    assert "A sample of 500 of 5,004 requests, evenly by time; extremes kept" in plot.note
    assert "20 of 20 failures" in plot.note
    assert len(rows["request"]) == 500
    e2e = (samples.done_s - samples.intended_s)[samples.error == ""]
    assert max(v for v in rows["e2e"] if v is not None) >= round(float(e2e.max()), 6)
    assert sum(bool(e) for e in rows["error"]) == 20


def test_a_request_that_was_never_sent_is_a_row_without_times(make: SimpleNamespace) -> None:
    samples = make.request_samples(n=20, failures=0, warmup=0)
    error = samples.error.copy()
    error[3] = "unsent: the client stopped"
    done, first = samples.done_s.copy(), samples.first_token_s.copy()
    done[3] = first[3] = np.nan
    rows = columns(
        request_timeline(
            replace(samples, error=error, done_s=done, first_token_s=first), "k", limit=100
        ),
        "part",
    )
    at = rows["part"].index("failed")
    assert rows["request"][at] == 3
    assert rows["e2e"][at] is None


def test_no_measured_request_no_plot(make: SimpleNamespace) -> None:
    samples: RequestSamples = make.request_samples(n=5, failures=0)
    warm = replace(samples, is_warmup=np.ones(samples.num_requests, dtype=bool))
    assert request_rate(warm, "r") is None
    assert token_rate(warm, "t") is None


def test_steps_by_rank_with_the_warm_up_off_the_axis(make: SimpleNamespace) -> None:
    samples = make.step_samples(num_steps=30, ranks=2, warmup=3)
    plot = step_times(samples, "k", limit=2000)
    rows = columns(plot, "seconds")
    assert plot is not None
    assert rows["seconds"][30:] == [round(float(v), 6) for v in samples.duration_s[1::2]]
    assert [m.name for m in plot.marks] == ["rank 0", "rank 1"]
    assert columns(plot, "to")["to"] == [2.5]
    assert "leaves the axis" in plot.note
    longest = samples.duration_s[(samples.rank == 0) & ~samples.is_warmup].max()
    assert plot.summary.rows[0][3].text == f"{longest * 1e3:.0f} ms"


def test_many_ranks_are_three_lines_and_long_runs_a_sample(make: SimpleNamespace) -> None:
    samples = make.step_samples(num_steps=1000, ranks=16)
    plot = step_times(samples, "k", limit=300)
    rows = columns(plot, "seconds")
    assert plot is not None
    assert set(rows["rank"]) == {"slowest rank", "median rank", "fastest rank"}
    assert len(rows["step"]) == 300
    assert "A sample of 100 of 1,000 steps" in plot.note
    slowest = max(s for s, r in zip(rows["seconds"], rows["rank"], strict=True) if "slow" in r)
    assert slowest == pytest.approx(float(samples.duration_s.max()), abs=1e-6)


def test_a_steps_parts_add_up_to_the_step(make: SimpleNamespace) -> None:
    """Two ranks, three measured steps, by hand: the rest of the step is computing."""
    samples = make.step_samples(num_steps=4, ranks=2, warmup=1)
    by_hand = replace(
        samples,
        duration_s=np.tile([1.0, 2.0], 4),
        data_wait_s=np.tile([0.1, 0.2], 4),
        comm_s=np.tile([0.3, 0.0], 4),
        optimizer_s=np.tile([0.2, 0.2], 4),
    )
    plot = step_parts(by_hand, "k")
    assert plot is not None
    rows = columns(plot, "seconds")
    found = dict(zip(zip(rows["rank"], rows["part"], strict=True), rows["seconds"], strict=True))
    assert found == {
        ("rank 0", "computing"): 0.4,
        ("rank 0", "exposed communication"): 0.3,
        ("rank 0", "optimizer"): 0.2,
        ("rank 0", "waiting for data"): 0.1,
        ("rank 1", "computing"): 1.6,
        ("rank 1", "exposed communication"): 0.0,
        ("rank 1", "optimizer"): 0.2,
        ("rank 1", "waiting for data"): 0.2,
    }
    assert "Mean of 3 measured steps: computing 66.7" in plot.description
    assert plot.summary.rows[1][-1].text == "2.00 s"
    assert plot.note == ""


def test_a_part_that_was_not_timed_is_not_drawn_and_is_named(make: SimpleNamespace) -> None:
    plot = step_parts(make.step_samples(ranks=16), "k")
    assert plot is not None
    assert [mark.name for mark in plot.marks] == ["computing", "waiting for data"]
    assert "Not timed" in plot.note
    assert "exposed communication, optimizer" in plot.note
    rows = columns(plot, "seconds")
    assert [name.split(",")[0] for name in dict.fromkeys(rows["rank"])] == [
        "slowest",
        "median",
        "fastest",
    ]


def test_the_loss_is_the_mean_of_the_ranks_and_infinity_is_told(make: SimpleNamespace) -> None:
    samples = make.step_samples(num_steps=10, ranks=2)
    loss = samples.loss.copy()
    loss[7] = np.inf  # step 3, rank 1
    plot = loss_curve(replace(samples, loss=loss), "k", limit=100)
    rows = columns(plot, "loss")
    assert plot is not None
    assert rows["loss"][0] == pytest.approx(float(samples.loss[:2].mean()), abs=1e-6)
    assert rows["loss"][3] is None
    assert "The loss of 1 of 10 steps is not a finite number" in plot.note
    nothing = replace(samples, loss=np.full_like(loss, np.nan))
    assert loss_curve(nothing, "k", limit=100) is None


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        rows_of({"a": [1.0], "b": [1.0, 2.0]})


def test_specs_are_json_without_a_theme_a_legend_or_an_address(make: SimpleNamespace) -> None:
    samples = make.request_samples()
    plots = [
        startup_waterfall(make.startup(), "a"),
        distribution("ttft_s", {"x": np.array([1.0, 2.0])}, "b"),
        request_rate(samples, "c"),
        token_rate(samples, "d"),
        request_timeline(samples, "e", limit=100),
        step_times(make.step_samples(), "f", limit=100),
        loss_curve(make.step_samples(), "g", limit=100),
        step_parts(make.step_samples(), "h"),
    ]
    for plot in plots:
        assert plot is not None
        text = json.dumps(plot.spec, allow_nan=False)
        alt.Chart.from_dict(dict(plot.spec))  # raises where Vega-Lite's schema is not kept
        assert "config" not in plot.spec
        assert '"url"' not in text
        assert plot.description.endswith(".")
        assert plot.summary.rows
