"""Plots of scaling: efficiency by size with what more chips would do, and where the loss went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import altair as alt

from reports.model import Mark, Plot
from reports.plots import INK, MUTED, SERIES, finish, plain_axis, rows_of, summary
from results.scaling.efficiency import Ratio, Scaling
from results.scaling.extrapolate import Extrapolation
from results.scaling.further import what_is_predicted
from results.units import format_interval, format_value

MEASURED = "efficiency"
TOGETHER = "run / control"
HOST = "control alone"
PREDICTED = "predicted"
_HEIGHT = 260
Shape = Literal["circle", "square", "triangle"]
_LOOK: dict[str, tuple[str, Shape]] = {
    MEASURED: (SERIES[0], "circle"),
    TOGETHER: (SERIES[1], "triangle"),
    HOST: (SERIES[2], "square"),
    PREDICTED: (SERIES[4], "circle"),
}
# In this order from the axis up, each with a colour of its own.
PARTS = ("host contention", "communication", "imbalance", "waiting for data", "not attributed")
_PART_COLOURS = (SERIES[2], SERIES[0], SERIES[4], SERIES[1], MUTED)


class _Dot(NamedTuple):
    series: str
    n: float
    value: float
    low: float
    high: float
    words: str


def efficiency_plot(scaling: Scaling, further: Extrapolation | None, key: str) -> Plot | None:
    """Efficiency over the size, on a log axis, with the ideal line at 100 %; where a control was
    run its two factors, and where asked for the predictions. None without a measured size."""
    dots = _dots(scaling, further)
    if not dots:
        return None
    names = [name for name in _LOOK if any(d.series == name for d in dots)]
    note = "Vertical lines are 95 % intervals over the rounds"
    if PREDICTED in names:
        note += f", 90 % for what is predicted ({what_is_predicted(scaling)})"
    note += f". The dashed line is the ideal. Efficiency: {scaling.rule}."
    if HOST in names:
        note += (
            " The control is the same ranks on the same cores without exchange: what it loses is "
            "the host's, what the run loses against it is scaling."
        )
    last = next(d for d in reversed(dots) if d.series == MEASURED)
    return Plot(
        key=key,
        title="Scaling efficiency",
        spec=_efficiency_spec(dots, names),
        description=f"Scaling efficiency at {len(scaling.sizes)} sizes, {last.words} at "
        f"{last.n:g} workers.",
        marks=tuple(Mark(name=n, color=_LOOK[n][0], shape=_LOOK[n][1]) for n in names),
        note=note,
        summary=summary(
            "Efficiency by size",
            ("workers", "what", "value", "interval"),
            [
                (f"{d.n:g}", d.series, d.words, format_interval(d.low, d.high, "ratio"))
                for d in dots
            ],
        ),
        wide=True,
    )


def _dots(scaling: Scaling, further: Extrapolation | None) -> list[_Dot]:
    found: list[_Dot] = []
    for size in scaling.sizes:
        for series, ratio in (
            (MEASURED, size.efficiency),
            (TOGETHER, size.together),
            (HOST, size.host),
        ):
            if ratio is not None and ratio.value is not None:
                found.append(_dot(series, size.num_workers, ratio))
    for p in further.predictions if further is not None else ():
        if p.efficiency is not None and p.low is not None and p.high is not None:
            words = format_value(p.efficiency, "ratio")
            found.append(_Dot(PREDICTED, p.n, p.efficiency, p.low, p.high, words))
    return found


def _dot(series: str, n: int, ratio: Ratio) -> _Dot:
    assert ratio.value is not None
    low = ratio.value if ratio.low is None else ratio.low
    high = ratio.value if ratio.high is None else ratio.high
    return _Dot(series, n, ratio.value, low, high, format_value(ratio.value, "ratio"))


def _efficiency_spec(dots: Sequence[_Dot], names: list[str]) -> dict[str, Any]:
    table = rows_of(
        {
            "series": [d.series for d in dots],
            "workers": [d.n for d in dots],
            "value": [d.value for d in dots],
            # An interval from two rounds may reach far beyond the picture.
            "low": [max(d.low, 0.0) for d in dots],
            "high": [min(d.high, 1.5) for d in dots],
            "shown": [d.words for d in dots],
            "interval": [format_interval(d.low, d.high, "ratio") or "none" for d in dots],
        }
    )
    sizes = sorted({d.n for d in dots})
    top = max(1.1, *(min(d.high, 1.5) for d in dots)) + 0.02
    x = alt.X(
        "workers:Q",
        scale=alt.Scale(type="log", base=2, nice=False, padding=18),
        axis=plain_axis("workers, log axis", values=sizes, format="~d"),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[0.0, top], nice=False),
        axis=plain_axis("efficiency", format="%", tickCount=6),
    )
    colours = alt.Scale(domain=names, range=[_LOOK[n][0] for n in names])
    colour = alt.Color("series:N", scale=colours, legend=None)
    shapes = alt.Scale(domain=names, range=[_SHAPE_NAMES[_LOOK[n][1]] for n in names])
    ideal = rows_of({"ideal": [1.0]}).mark_rule(strokeDash=[4, 3], color=INK)
    lines = table.transform_filter(f"datum.series !== '{PREDICTED}'").mark_line(
        strokeWidth=1.5, opacity=0.7
    )
    bars = table.mark_rule(strokeWidth=1.5)
    points = table.mark_point(filled=True, size=60, opacity=1)
    tips = [
        alt.Tooltip("series:N", title="what"),
        alt.Tooltip("workers:Q", format="~d"),
        alt.Tooltip("shown:N", title="value"),
        alt.Tooltip("interval:N"),
    ]
    return finish(
        alt.layer(
            ideal.encode(y=alt.Y("ideal:Q")),
            lines.encode(x=x, y=y, color=colour),
            bars.encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
            points.encode(
                x=x, y=y, color=colour, shape=alt.Shape("series:N", scale=shapes, legend=None),
                tooltip=tips,
            ),
        ),
        height=_HEIGHT,
    )  # fmt: skip


_SHAPE_NAMES = {"circle": "circle", "square": "square", "triangle": "triangle-up"}


def loss_plot(scaling: Scaling, key: str) -> Plot | None:
    """Stacked bars: what share of the ideal each cause took, by size. None without a loss."""
    sizes = [s for s in scaling.sizes if s.loss]
    if not sizes:
        return None
    rows = [
        (str(s.num_workers), p.name, p.share, PARTS.index(p.name), p.method)
        for s in sizes
        for p in s.loss
    ]
    names = [name for name in PARTS if any(r[1] == name for r in rows)]
    colours = dict(zip(PARTS, _PART_COLOURS, strict=True))
    return Plot(
        key=key,
        title="Where the loss went",
        spec=_loss_spec(rows, names, colours),
        description=f"Share of the ideal throughput lost to each of {len(names)} causes, at "
        f"{len(sizes)} sizes.",
        marks=tuple(Mark(name=n, color=colours[n], shape="square") for n in names),
        note="The parts of a bar add up to what is missing from 100 %. A part below zero took less "
        f"than at n₀ = {scaling.n0}, or noise hides it.",
        summary=summary(
            "Lost by cause",
            ("workers", "cause", "lost", "told from"),
            [(r[0], r[1], format_value(r[2], "ratio"), r[4]) for r in rows],
        ),
        wide=True,
    )


def _loss_spec(
    rows: Sequence[tuple[str, str, float, int, str]], names: list[str], colours: dict[str, str]
) -> dict[str, Any]:
    table = rows_of(
        {
            "workers": [r[0] for r in rows],
            "part": [r[1] for r in rows],
            "share": [r[2] for r in rows],
            "place": [r[3] for r in rows],
            "shown": [format_value(r[2], "ratio") for r in rows],
            "method": [r[4] for r in rows],
        }
    )
    bars = table.mark_bar(size=34).encode(
        x=alt.X(
            "workers:N",
            sort=list(dict.fromkeys(r[0] for r in rows)),
            axis=plain_axis("workers", labelAngle=0),
        ),
        y=alt.Y(
            "share:Q",
            stack="zero",
            axis=plain_axis("lost of the ideal", format="%", tickCount=6),
        ),
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=names, range=[colours[n] for n in names]),
            legend=None,
        ),
        order=alt.Order("place:Q"),
        tooltip=[
            alt.Tooltip("workers:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("shown:N", title="lost"),
            alt.Tooltip("method:N", title="told from"),
        ],
    )
    zero = rows_of({"zero": [0.0]}).mark_rule(color=INK).encode(y=alt.Y("zero:Q"))
    return finish(alt.layer(bars, zero), height=_HEIGHT)
