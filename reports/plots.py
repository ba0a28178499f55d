"""Plots by Altair: the parts all of them share, the startup waterfall and the distributions.

A plot here is a Vega-Lite dict without a theme. Colours are CSS custom properties that the page
defines for light and dark, so that a plot changes with the page and nothing is drawn twice.
Each function returns None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from reports.model import Cell, Column, Mark, Plot, Table
from reports.thinning import ecdf, is_wide
from results.samples import FloatColumn
from results.startup import StartupTimeline
from results.units import format_value, metric_label

SERIES = tuple(f"var(--series-{i})" for i in range(1, 9))
BAD, MUTED, INK = "var(--bad)", "var(--muted)", "var(--ink)"
UNATTRIBUTED = "unattributed"
ECDF_POINTS = 240
_DECIMALS = 6  # microseconds

Values = Sequence[Any] | npt.NDArray[Any]


def rows_of(columns: Mapping[str, Values]) -> alt.Chart:
    """A chart over these columns, one mark per row; NaN becomes null.

    They travel as one object of arrays, a third of the size of an object per row. (CSV would be as
    small, but its parser makes code from strings, which the page's security policy forbids.)
    """
    whole = {name: [_plain(value) for value in values] for name, values in columns.items()}
    lengths = {len(values) for values in whole.values()}
    if len(lengths) != 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    return alt.Chart(alt.InlineData(values=[whole])).transform_flatten(list(whole))


def _plain(value: Any) -> str | float | int | None:
    if isinstance(value, str):
        return value
    if isinstance(value, float | np.floating):
        return round(float(value), _DECIMALS) if np.isfinite(value) else None
    return int(value)


def finish(chart: alt.Chart | alt.LayerChart | alt.FacetChart, height: int) -> dict[str, Any]:
    """As wide as its place on the page; the page brings the config.

    The schema is checked by the tests, which know every plot; here it would take half the time.
    """
    spec: dict[str, Any] = chart.properties(width="container", height=height).to_dict(
        validate=False
    )
    spec.pop("config", None)
    return spec


def si_seconds(field: str) -> str:
    """A Vega expression that prints a field in seconds as 31.2ms."""
    return f"format(datum.{field}, '.3s') + 's'"


def seconds_axis(title: str) -> alt.Axis:
    return alt.Axis(
        title=title, labelExpr="datum.value == 0 ? '0' : format(datum.value, '~s') + 's'"
    )


def plain_axis(title: str, **options: Any) -> alt.Axis:
    return alt.Axis(title=title, **options)


def summary(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The table under a plot: the first column names the row, the others are numbers."""
    return Table(
        caption=caption,
        columns=tuple(Column(name=name, numeric=i > 0) for i, name in enumerate(columns)),
        rows=tuple(tuple(Cell(text=text) for text in row) for row in rows),
    )


def gaps(timeline: StartupTimeline) -> list[tuple[float, float]]:
    """The stretches of [0, ready] that no phase covers, in order."""
    found, reached = [], 0.0
    for phase in sorted(timeline.phases, key=lambda p: p.start_s):
        if phase.start_s > reached:
            found.append((reached, min(phase.start_s, timeline.ready_s)))
        reached = max(reached, phase.end_s)
        if reached >= timeline.ready_s:
            break
    if reached < timeline.ready_s:
        found.append((reached, timeline.ready_s))
    return [(a, b) for a, b in found if b > a]


def startup_waterfall(timeline: StartupTimeline, key: str) -> Plot | None:
    """One bar per phase, where it really lay; what no phase covers is a row of its own."""
    phases = sorted(timeline.phases, key=lambda p: (p.start_s, p.end_s))
    if not phases:
        return None
    rows = [
        (p.name, p.start_s, p.end_s, p.source.value, format_value(p.resolution_s, "s"), p.detail)
        for p in phases
    ]
    label = f"{UNATTRIBUTED}, {format_value(timeline.unattributed_s, 's')}"
    rest = [
        (label, a, b, UNATTRIBUTED, "", "no phase was observed here") for a, b in gaps(timeline)
    ]
    names = list(dict.fromkeys(row[0] for row in rows + rest))
    sources = list(dict.fromkeys(row[3] for row in rows))
    marks = tuple(
        Mark(name=f"seen by {source}", color=color, shape="square")
        for source, color in zip(sources, SERIES, strict=False)
    )
    if rest:
        marks += (Mark(name="seen by nobody", color=MUTED, shape="hatch"),)
    spec = _waterfall_spec(rows + rest, names, sources, timeline.ready_s)
    overlap = sum(p.duration_s for p in phases) + timeline.unattributed_s - timeline.ready_s
    return Plot(
        key=key,
        title="Startup, phase by phase",
        spec=spec,
        marks=marks,
        wide=True,
        description=(
            f"Startup waterfall: {len(phases)} phases over {format_value(timeline.ready_s, 's')}, "
            f"of which {format_value(timeline.unattributed_s, 's')} belong to no observed phase."
        ),
        note="The dashed line is the end of startup: the first token, or the first step. "
        + (
            f"Phases overlap: their lengths add up to {format_value(overlap, 's')} more than the "
            "startup took."
            if overlap > 1e-3
            else ""
        ),
        summary=summary(
            "Startup phases",
            ("phase", "from", "to", "took", "source", "resolution"),
            [
                (
                    name,
                    format_value(a, "s"),
                    format_value(b, "s"),
                    format_value(b - a, "s"),
                    source,
                    f"± {resolution}" if resolution else "–",
                )
                for name, a, b, source, resolution, _ in rows + rest
            ],
        ),
    )


def _waterfall_spec(
    rows: Sequence[tuple[str, float, float, str, str, str]],
    names: list[str],
    sources: list[str],
    ready_s: float,
) -> dict[str, Any]:
    table = rows_of(
        {
            "phase": [r[0] for r in rows],
            "start": [r[1] for r in rows],
            "end": [r[2] for r in rows],
            "took": [format_value(r[2] - r[1], "s") for r in rows],
            # Gaps lie close together, where their lengths would overprint each other.
            "written": [
                "" if r[3] == UNATTRIBUTED else format_value(r[2] - r[1], "s") for r in rows
            ],
            "source": [r[3] for r in rows],
            "resolution": [f"± {r[4]}" if r[4] else "" for r in rows],
            "detail": [r[5] for r in rows],
        }
    )
    longest = max(ready_s, *(r[2] for r in rows))
    # A length stands behind its bar, or before it where the bar ends far right; only where a bar
    # fills the whole width the axis makes room.
    fills = any(r[1] < 0.3 * longest and r[2] > 0.7 * longest for r in rows)
    x = alt.X("start:Q", axis=plain_axis("seconds since the ask"))
    x = x.scale(domain=[0, longest * (1.3 if fills else 1.02)], nice=False)
    y = alt.Y("phase:N", sort=names, title=None, axis=alt.Axis(labelLimit=150, grid=False))
    tips = ["phase:N", "took:N", "start:Q", "end:Q", "source:N", "resolution:N", "detail:N"]
    scale = alt.Scale(
        domain=[*sources, UNATTRIBUTED], range=[*SERIES[: len(sources)], "url(#hatch)"]
    )
    bars = table.mark_bar(height={"band": 0.62}, minBandSize=2, stroke=MUTED, strokeWidth=0).encode(
        x=x,
        x2="end:Q",
        y=y,
        color=alt.Color("source:N", scale=scale, legend=None),
        tooltip=tips,
    )
    before = f"datum.start > 0.3 * {longest} && datum.end > 0.7 * {longest}"
    left, right = table.mark_text(align="left", dx=5), table.mark_text(align="right", dx=-5)
    words = [
        text.transform_filter(rule).encode(x=f"{end}:Q", y=y, text="written:N")
        for text, rule, end in ((left, f"!({before})", "end"), (right, before, "start"))
    ]
    ready = (
        rows_of({"ready": [ready_s]}).mark_rule(strokeDash=[4, 3], color=INK).encode(x="ready:Q")
    )
    return finish(alt.layer(ready, bars, *words), height=26 * len(names) + 10)


def distribution(
    metric: str, by_run: Mapping[str, FloatColumn], key: str, points: int = ECDF_POINTS
) -> Plot | None:
    """The empirical distribution of one latency metric, a line per run; values in seconds."""
    seen = {run: v[np.isfinite(v)] for run, v in by_run.items()}
    seen = {run: v for run, v in seen.items() if len(v)}
    if not seen:
        return None
    pooled = np.concatenate(list(seen.values()))
    log = is_wide(pooled)
    runs, xs, shares = [], [], []
    zeros = 0.0
    for run, values in seen.items():
        x, share = ecdf(values, points)
        if log:
            zeros = max(zeros, float(np.mean(values <= 0)))
            x, share = x[x > 0], share[x > 0]
        runs += [run] * len(x)
        xs.append(x)
        shares.append(share)
    label = metric_label(metric)
    table = rows_of({"run": runs, "x": np.concatenate(xs), "share": np.concatenate(shares)})
    spec = _ecdf_spec(table, list(seen), label, log)
    return Plot(
        key=key,
        title=label,
        spec=spec,
        marks=tuple(Mark(name=run, color=color) for run, color in zip(seen, SERIES, strict=False))
        if len(seen) > 1
        else (),
        description=_ecdf_sentence(label, pooled, len(seen)),
        note=_ecdf_note(seen, points, zeros),
        summary=_ecdf_summary(label, seen),
    )


def _ecdf_spec(table: alt.Chart, runs: list[str], label: str, log: bool) -> dict[str, Any]:
    x_scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False, nice=False)
    axis = seconds_axis(f"{label}, log axis" if log else label)
    axis.tickCount = 6
    line = (
        table.transform_calculate(value=si_seconds("x"))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("x:Q", scale=x_scale, axis=axis),
            y=alt.Y(
                "share:Q",
                scale=alt.Scale(domain=[0, 1]),
                axis=plain_axis("share at or below", format="%", tickCount=5),
            ),
            color=alt.Color(
                "run:N",
                scale=alt.Scale(domain=runs, range=list(SERIES[: len(runs)])),
                legend=None,
            ),
        )
    )
    # A line has no place of its own to point at: invisible dots carry the tooltip.
    dots = line.mark_point(size=60, opacity=0, filled=True).encode(
        tooltip=[
            alt.Tooltip("value:N", title=label),
            alt.Tooltip("share:Q", title="share at or below", format=".1%"),
            *([alt.Tooltip("run:N")] if len(runs) > 1 else []),
        ]
    )
    return finish(alt.layer(line, dots), height=190)


def _ecdf_sentence(label: str, values: FloatColumn, num_runs: int) -> str:
    low, mid, high = (format_value(float(v), "s") for v in np.quantile(values, [0, 0.5, 1]))
    whose = f"{num_runs} runs" if num_runs > 1 else "one run"
    return (
        f"Distribution of {label} over {len(values):,} values of {whose}: "
        f"smallest {low}, median {mid}, largest {high}."
    )


def _ecdf_note(seen: Mapping[str, FloatColumn], points: int, zeros: float) -> str:
    n = max(len(v) for v in seen.values())
    parts = []
    if n > points:
        parts.append(
            f"Drawn from about {points} of {n:,} ordered values, extremes and the tail kept."
        )
    if zeros:
        parts.append(
            f"{format_value(zeros, 'ratio')} of the values are 0 and lie left of the log axis: "
            "tokens that came together in one chunk."
        )
    return " ".join(parts)


def _ecdf_summary(label: str, seen: Mapping[str, FloatColumn]) -> Table:
    quantiles = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    rows = [
        (run, f"{len(v):,}", *(format_value(float(q), "s") for q in np.quantile(v, quantiles)))
        for run, v in seen.items()
    ]
    columns = ("run", "values", "smallest", "25 %", "median", "75 %", "90 %", "largest")
    return summary(f"{label}: what was seen (no statement about the next run)", columns, rows)
