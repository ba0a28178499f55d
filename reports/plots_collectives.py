"""Plots and tables of collectives: busbw over the size, a line for each collective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from reports.model import Cell, Column, Mark, Plot, Table, Tone
from reports.plots import SERIES, finish, plain_axis, rows_of, summary
from results.collectives import CollectiveRow, size_text
from results.measurement import Measurement
from results.metrics import metric
from results.units import NOT_AVAILABLE, format_interval, format_value

_HEIGHT = 260


def busbw_plot(rows: Sequence[CollectiveRow], key: str) -> Plot | None:
    """busbw against the size, both on log axes; vertical lines are 95 % intervals. ``rows`` are of
    one record."""
    drawn = [
        (row, found)
        for row in rows
        if (found := row.by.get(("busbw", "value"))) is not None and found.value
    ]
    if not drawn:
        return None
    names = list(dict.fromkeys(row.collective for row, _ in drawn))
    best = max(drawn, key=lambda pair: pair[1].value or 0.0)
    ranks = drawn[0][0].num_ranks
    return Plot(
        key=key,
        title=f"Bus bandwidth over {ranks} ranks",
        spec=_spec(drawn, names),
        marks=tuple(Mark(name=n, color=c) for n, c in zip(names, SERIES, strict=False)),
        wide=True,
        note="Vertical lines are 95 % intervals of the mean within this run.",
        description=f"Bus bandwidth of {len(names)} collectives over {ranks} ranks; the highest is "
        f"{_words(best[1])} in {best[0].collective} of {size_text(best[0].size_bytes)}.",
        summary=_numbers(rows),
    )


def _spec(drawn: Sequence[tuple[CollectiveRow, Measurement]], names: list[str]) -> dict[str, Any]:
    table = rows_of(
        {
            "collective": [row.collective for row, _ in drawn],
            "size": [row.size_bytes for row, _ in drawn],
            "busbw": [m.value for _, m in drawn],
            "low": [m.value if m.low is None else m.low for _, m in drawn],
            "high": [m.value if m.high is None else m.high for _, m in drawn],
            "shown": [_words(m) for _, m in drawn],
            "sized": [size_text(row.size_bytes) for row, _ in drawn],
            "time": [_words(row.by.get(("collective_time_s", "mean"))) for row, _ in drawn],
        }
    )
    # Sizes go by powers of two, and so do the ticks: 1,048,576 is 1 MiB.
    label = (
        "datum.value < 1024 ? format(datum.value, 'd') + ' B' : "
        "datum.value < 1048576 ? format(datum.value / 1024, '~g') + ' KiB' : "
        "format(datum.value / 1048576, '~g') + ' MiB'"
    )
    x = alt.X(
        "size:Q",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=plain_axis("size S, log axis", labelExpr=label, tickCount=10, labelOverlap=True),
    )
    y = alt.Y(
        "busbw:Q",
        scale=alt.Scale(type="log"),
        axis=plain_axis(
            "busbw, log axis",
            labelExpr="format(datum.value, '~s') + 'B/s'",
            values=[10.0**k for k in range(15)],  # Vega's own ticks are no round numbers here
        ),
    )
    colour = alt.Color(
        "collective:N",
        scale=alt.Scale(domain=names, range=list(SERIES[: len(names)])),
        legend=None,
    )
    lines = table.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=colour)
    bars = table.mark_rule(strokeWidth=1.5).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    dots = table.mark_point(filled=True, size=45, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        tooltip=[
            alt.Tooltip("collective:N"),
            alt.Tooltip("sized:N", title="size"),
            alt.Tooltip("shown:N", title="busbw"),
            alt.Tooltip("time:N", title="mean time"),
        ],
    )
    return finish(alt.layer(lines, bars, dots), height=_HEIGHT)


def _numbers(rows: Sequence[CollectiveRow]) -> Table:
    columns = ("collective", "size", "time p50", "mean", "algbw", "busbw")
    cells = [
        (
            row.collective,
            size_text(row.size_bytes),
            _words(row.by.get(("collective_time_s", "p50"))),
            _words(row.by.get(("collective_time_s", "mean"))),
            _words(row.by.get(("algbw", "value"))),
            _words(row.by.get(("busbw", "value"))),
        )
        for row in rows
    ]
    return summary(f"Collectives over {rows[0].num_ranks} ranks", columns, cells)


def fits_table(rows: Sequence[CollectiveRow]) -> Table | None:
    """α and β with their intervals; ``rows`` are those without a size."""
    if not rows:
        return None
    return Table(
        caption="α and β of one message",
        columns=(
            Column(name="collective"),
            *(
                Column(name=name, numeric=True, meaning=metric(of).meaning)
                for name, of in (("α", "alpha_s"), ("β", "beta_s_per_byte"))
            ),
            Column(name="how"),
        ),
        rows=tuple(
            (
                Cell(text=row.collective),
                *(_cell(row.by[name, "value"]) for name in ("alpha_s", "beta_s_per_byte")),
                Cell(text=row.by["alpha_s", "value"].method or row.by["alpha_s", "value"].reason),
            )
            for row in rows
        ),
        note="Small print: 95 % interval, from the residuals of the line.",
    )


def _cell(m: Measurement) -> Cell:
    unit = metric(m.metric).unit
    detail = format_interval(m.low, m.high, unit)
    tone: Tone = "muted" if m.value is None else "plain"
    return Cell(text=format_value(m.value, unit), detail=detail, tone=tone, meaning=m.reason)


def _words(m: Measurement | None) -> str:
    return NOT_AVAILABLE if m is None else format_value(m.value, metric(m.metric).unit)
