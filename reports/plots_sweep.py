"""Plots of a curve: latency against throughput, and the share that met the SLO against the rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import numpy as np

from reports.model import Mark, Plot
from reports.plots import (
    BAD,
    INK,
    MUTED,
    SERIES,
    finish,
    plain_axis,
    rows_of,
    seconds_axis,
    summary,
)
from reports.sweep_numbers import PERCENTILES, LoadSeen
from reports.thinning import is_wide
from results.capacity import Capacity, RateJudged, Verdict
from results.units import format_interval, format_value, metric_label

GOOD = "var(--good)"
VERDICT_COLOURS = {Verdict.PASS: GOOD, Verdict.FAIL: BAD, Verdict.UNDECIDED: MUTED}
_SHAPES: dict[Verdict, Literal["circle", "square", "cross"]] = {
    Verdict.PASS: "circle",
    Verdict.FAIL: "cross",
    Verdict.UNDECIDED: "square",
}
_VERDICT_WORDS = {
    Verdict.PASS: "passes",
    Verdict.FAIL: "fails",
    Verdict.UNDECIDED: "not decided",
}
_HEIGHT = 260


def latency_curve(
    loads: Sequence[LoadSeen], name: str, key: str, *, knee: float | None = None, wide: bool = False
) -> Plot | None:
    """Percentiles of one latency against the throughput reached; a dot per load, joined in the
    order of the load. None where no percentile of it is known."""
    drawn = [
        (load, stat, rate.value, number)
        for stat in PERCENTILES
        for load in loads
        if (rate := load.number("achieved_rate")).value is not None
        and (number := load.number(name, stat)).value is not None
    ]
    if not drawn:
        return None
    stats = [s for s in PERCENTILES if any(d[1] == s for d in drawn)]
    values = np.array([d[3].value for d in drawn], dtype=np.float64)
    label = metric_label(name)
    missing = [s for s in PERCENTILES if s not in stats]
    short = sorted({d[0].words for d in _missing(loads, name, stats)}) if len(stats) > 1 else []
    note = "Vertical lines are 95 % intervals."
    if any(d[0].behind for d in drawn):
        note += " A cross: the server fell behind, so its latency depends on how long one measures."
    if knee is not None and any(d[0].load == knee for d in drawn):
        note += " The dashed line is the knee."
    if missing:
        note += f" {' and '.join(missing)} has too few requests at every load."
    elif short:
        note += (
            f" A load with too few requests for a percentile has no dot there: {', '.join(short)}."
        )
    return Plot(
        key=key,
        title=f"{label} against throughput",
        spec=_curve_spec(drawn, stats, label, is_wide(values, 12.0), knee),
        description=_curve_sentence(label, loads, name, stats),
        marks=tuple(Mark(name=s, color=c) for s, c in zip(stats, SERIES, strict=False)),
        note=note,
        summary=_curve_summary(label, loads, name, stats),
        wide=wide,
    )


def _missing(
    loads: Sequence[LoadSeen], name: str, stats: Sequence[str]
) -> list[tuple[LoadSeen, str]]:
    return [
        (load, s)
        for load in loads
        for s in stats
        if load.usable and load.number(name, s).value is None
    ]


def _curve_spec(
    drawn: Sequence[tuple[LoadSeen, str, float | None, Any]],
    stats: list[str],
    label: str,
    log: bool,
    knee: float | None,
) -> dict[str, Any]:
    table = rows_of(
        {
            "load": [d[0].load for d in drawn],
            "offered": [d[0].words for d in drawn],
            "stat": [d[1] for d in drawn],
            "rate": [d[2] for d in drawn],
            "value": [d[3].value for d in drawn],
            "low": [d[3].value if d[3].low is None else d[3].low for d in drawn],
            "high": [d[3].value if d[3].high is None else d[3].high for d in drawn],
            "shown": [d[3].words("s") for d in drawn],
            "interval": [d[3].interval("s") or "none" for d in drawn],
            "state": ["falls behind" if d[0].behind else "keeps up" for d in drawn],
        }
    )
    axis = seconds_axis(f"{label}, log axis" if log else label)
    axis.tickCount = 6
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=True)
    x = alt.X("rate:Q", axis=plain_axis("requests answered per second"), scale=alt.Scale(zero=True))
    y = alt.Y("value:Q", axis=axis, scale=scale)
    colours = alt.Scale(domain=stats, range=list(SERIES[: len(stats)]))
    colour = alt.Color("stat:N", scale=colours, legend=None)
    shape = alt.Shape(
        "state:N",
        scale=alt.Scale(domain=["keeps up", "falls behind"], range=["circle", "cross"]),
        legend=None,
    )
    lines = table.mark_line(strokeWidth=1.5, opacity=0.7).encode(
        x=x, y=y, color=colour, order="load:Q"
    )
    bars = table.mark_rule(strokeWidth=1.5).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    dots = table.mark_point(filled=True, size=55, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        shape=shape,
        tooltip=[
            alt.Tooltip("offered:N", title="offered"),
            alt.Tooltip("rate:Q", title="answered/s", format=".3~s"),
            alt.Tooltip("stat:N", title="statistic"),
            alt.Tooltip("shown:N", title=label),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("state:N", title="server"),
        ],
    )
    layers = [lines, bars, dots]
    at = [d[2] for d in drawn if knee is not None and d[0].load == knee and d[2] is not None]
    if at:
        mark = rows_of({"knee": [at[0]]}).mark_rule(strokeDash=[4, 3], color=INK)
        layers.insert(0, mark.encode(x="knee:Q"))
    return finish(alt.layer(*layers), height=_HEIGHT)


def _curve_sentence(label: str, loads: Sequence[LoadSeen], name: str, stats: Sequence[str]) -> str:
    def words(load: LoadSeen) -> str:
        return f"{load.number(name, stats[0]).words('s')} at {load.words}"

    return (
        f"{label} {stats[0]} goes from {words(loads[0])} to {words(loads[-1])}, over "
        f"{len(loads)} loads."
    )


def _curve_summary(label: str, loads: Sequence[LoadSeen], name: str, stats: Sequence[str]) -> Any:
    columns = ["load", "answered/s", *(f"{label} {s}" for s in stats)]
    rows = []
    for load in loads:
        cells = [load.words, load.number("achieved_rate").words("requests/s")]
        for s in stats:
            number = load.number(name, s)
            interval = number.interval("s")
            cells.append(number.words("s") + (f" ({interval})" if interval else ""))
        rows.append(cells)
    return summary(f"{label} by load", columns, rows)


def attainment_plot(capacity: Capacity, key: str) -> Plot | None:
    """The share of requests that missed the condition nearest to failing, against the rate, with
    its bounds and what was decided. Misses, on a log axis: 99 and 99.9 % met look alike, 1 and
    0.1 % missed do not."""
    rates = [r for r in capacity.rates if r.constraints]
    if not rates:
        return None
    seen = [v for v in Verdict if any(r.verdict is v for r in rates)]
    return Plot(
        key=key,
        title="Share of requests that missed the SLO, by offered rate",
        spec=_attainment_spec(capacity, rates),
        description=(
            f"Share of requests that missed the SLO at {len(rates)} rates from "
            f"{rates[0].rate_rps:g} to {rates[-1].rate_rps:g} requests/s, each with its interval."
        ),
        marks=tuple(
            Mark(name=_VERDICT_WORDS[v], color=VERDICT_COLOURS[v], shape=_SHAPES[v]) for v in seen
        ),
        note="Vertical lines bound the true share; points of one run depend on each other, so they "
        "are wider than a count of requests suggests. The dashed line is the share that may miss"
        + ("; the band is where the capacity lies." if _band(capacity) else "."),
        summary=summary(
            "Share by rate",
            ("rate", "verdict", "condition", "share", "bounds", "requests", "effective"),
            [_attainment_row(r) for r in rates],
        ),
        wide=True,
    )


def _attainment_row(rate: RateJudged) -> tuple[str, ...]:
    c = rate.constraints[0]
    return (
        f"{rate.rate_rps:g}/s",
        _VERDICT_WORDS[rate.verdict],
        c.name,
        format_value(c.attainment, "ratio"),
        format_interval(c.low, c.high, "ratio"),
        f"{c.num_judged:,}",
        f"{c.effective_n:,.0f}",
    )


def _band(capacity: Capacity) -> tuple[float, float] | None:
    if capacity.capacity_rps is None or capacity.failed_rps is None:
        return None
    return capacity.capacity_rps, capacity.failed_rps


def _attainment_spec(capacity: Capacity, rates: Sequence[RateJudged]) -> dict[str, Any]:
    allowed = sorted({1.0 - r.constraints[0].wanted for r in rates})
    # A log axis has no zero: none missed is drawn at the bottom.
    floor = 10.0 ** math.floor(math.log10(max(allowed[0], 1e-6) / 20.0))
    table = _missed_by_rate(rates, floor)
    x, y = _missed_axes(rates, floor)
    known = [v.value for v in Verdict]
    colours = alt.Scale(domain=known, range=[VERDICT_COLOURS[v] for v in Verdict])
    colour = alt.Color("verdict:N", scale=colours, legend=None)
    shapes = alt.Scale(domain=known, range=[_SHAPES[v] for v in Verdict])
    layers: list[alt.Chart] = []
    if (band := _band(capacity)) is not None:
        between = rows_of({"from": [band[0]], "to": [band[1]]})
        between = between.mark_rect(color=SERIES[0], opacity=0.14)
        layers.append(between.encode(x=alt.X("from:Q"), x2="to:Q"))
    may = rows_of({"allowed": allowed}).mark_rule(strokeDash=[4, 3], color=INK)
    layers.append(may.encode(y=alt.Y("allowed:Q")))
    bars = table.mark_rule(strokeWidth=1.5)
    layers.append(bars.encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour))
    layers.append(
        table.mark_point(filled=True, size=60, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape("verdict:N", scale=shapes, legend=None),
            tooltip=[
                alt.Tooltip("rate:Q", title="offered/s", format="~g"),
                alt.Tooltip("condition:N"),
                alt.Tooltip("shown:N", title="share that met it"),
                alt.Tooltip("bounds:N"),
                alt.Tooltip("verdict:N"),
                alt.Tooltip("requests:N"),
                alt.Tooltip("points:Q"),
            ],
        )
    )
    return finish(alt.layer(*layers), height=_HEIGHT)


def _missed_by_rate(rates: Sequence[RateJudged], floor: float) -> alt.Chart:
    def missed(share: float) -> float:
        return max(1.0 - share, floor)

    first = [r.constraints[0] for r in rates]
    return rows_of(
        {
            "rate": [r.rate_rps for r in rates],
            "missed": [missed(c.attainment) for c in first],
            "low": [missed(c.high) for c in first],
            "high": [missed(c.low) for c in first],
            "verdict": [r.verdict.value for r in rates],
            "shown": [format_value(c.attainment, "ratio") for c in first],
            "bounds": [format_interval(c.low, c.high, "ratio") for c in first],
            "condition": [c.name for c in first],
            "requests": [f"{c.num_judged:,}" for c in first],
            "points": [r.num_points for r in rates],
        }
    )


def _missed_axes(rates: Sequence[RateJudged], floor: float) -> tuple[alt.X, alt.Y]:
    log = rates[-1].rate_rps / rates[0].rate_rps > 4.0
    scale = alt.Scale(type="log", nice=False, padding=12)
    if not log:
        scale = alt.Scale(zero=False, nice=False, padding=12)
    title = "offered requests per second" + (", log axis" if log else "")
    x = alt.X("rate:Q", scale=scale, axis=plain_axis(title, format="~g"))
    words = f"datum.value <= {floor * 1.001} ? 'none' : format(datum.value, '~%')"
    ticks = [10.0**k for k in range(round(math.log10(floor)), 1)]
    axis = plain_axis("missed, log axis", labelExpr=words, values=ticks)
    domain = alt.Scale(type="log", domain=[floor, 1], nice=False)
    return x, alt.Y("missed:Q", scale=domain, axis=axis)
