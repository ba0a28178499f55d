"""A series over its nights with the step that was seen in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import altair as alt

from reports.model import Mark, Plot
from reports.plots import BAD, MUTED, SERIES, finish, plain_axis, rows_of, summary
from reports.series import Night, Series
from reports.suspicion import Suspicion
from results.metrics import metric
from results.units import format_value, metric_label

_HEIGHT = 180
_NIGHTS = 90
_EPOCH = date(1970, 1, 1)
_FEW_NIGHTS = 10
_MOST_ROWS = 30  # of the table below the picture


def history_plot(series: Series, suspicion: Suspicion, key: str) -> Plot | None:
    """Every night's median run and its runs, the levels before and after, and the range of nights
    in which the step may have been. None below two nights."""
    nights = series.nights[-_NIGHTS:]
    if len(nights) < 2:
        return None
    unit = metric(series.metric).unit
    label = metric_label(series.metric, series.statistic)
    spec = _spec(nights, suspicion, f"{label}, {unit.value}" if unit.value else label)
    before, after = format_value(suspicion.before, unit), format_value(suspicion.after, unit)
    return Plot(
        key=key,
        title=f"{label} over {len(nights)} nights",
        spec=spec,
        description=f"{label} of {series.name}: {before} before the night of {suspicion.likely}, "
        f"{after} since.",
        summary=summary(
            label,
            ("night", "median run", "runs"),
            [
                (str(n.night), format_value(n.value, unit), str(len(n.values)))
                for n in nights[-_MOST_ROWS:]
            ],
        ),
        marks=(
            Mark(name="median run of a night", color=SERIES[0]),
            Mark(name="every run", color=MUTED),
            Mark(name="level before and after", color=BAD, shape="square"),
        ),
        note="Grey: the nights in which the step may have been, with 95 %.",
        wide=True,
    )


def _spec(nights: Sequence[Night], suspicion: Suspicion, title: str) -> dict[str, Any]:
    # Milliseconds, and the scale of UTC: a date as text would be read in the reader's own zone.
    utc = alt.Scale(type="utc")
    # Of few nights the hours between would get ticks of their own, each with its day's name.
    few = {"values": [_ms(n.night) for n in nights]} if len(nights) <= _FEW_NIGHTS else {}
    x = alt.X("night:T", axis=plain_axis("night", format="%d %b", **few), scale=utc)
    y = alt.Y(
        "value:Q",
        axis=plain_axis(title),
        scale=alt.Scale(zero=False),
    )
    each = [(_ms(n.night), v) for n in nights for v in n.values]
    runs = rows_of({"night": [d for d, _ in each], "value": [v for _, v in each]})
    medians = rows_of({"night": [_ms(n.night) for n in nights], "value": [n.value for n in nights]})
    first, last = _ms(nights[0].night), _ms(nights[-1].night)
    likely = max(_ms(suspicion.likely), first)
    levels = rows_of(
        {
            "from": [first, likely],
            "to": [likely, last],
            "value": [suspicion.before, suspicion.after],
        }
    )
    band = rows_of(
        {
            "from": [max(_ms(suspicion.earliest), first)],
            "to": [max(_ms(suspicion.latest), first)],
        }
    )
    return finish(
        alt.layer(
            band.mark_rect(color=MUTED, opacity=0.25).encode(
                x=alt.X("from:T", scale=utc), x2="to:T"
            ),
            rows_of({"night": [likely]}).mark_rule(color=BAD, strokeDash=[4, 3]).encode(x=x),
            runs.mark_circle(size=14, color=MUTED, opacity=0.6).encode(x=x, y=y),
            medians.mark_line(color=SERIES[0], point={"size": 22, "color": SERIES[0]}).encode(
                x=x, y=y
            ),
            levels.mark_rule(color=BAD, strokeWidth=1.5).encode(
                x=alt.X("from:T", scale=utc), x2="to:T", y=y
            ),
        ),
        _HEIGHT,
    )


def _ms(night: date) -> int:
    """The night's date as milliseconds since 1970, UTC."""
    return (night - _EPOCH).days * 86_400_000
