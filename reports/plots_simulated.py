"""Plots of a simulated training: efficiency by size, where the time goes, how often to save."""

from __future__ import annotations

from typing import Any

import altair as alt

from reports.model import Mark, Plot
from reports.plots import INK, SERIES, finish, plain_axis, rows_of, summary
from reports.plots_goodput import goodput_bar
from results.simulated_training import Range, ScalePredicted
from results.units import format_interval, format_value

_HEIGHT = 260
_SIMULATED, _PUBLISHED = "simulated", "published"
_RANGES = "The band is where 90 % of the seeds fall."
_SHARE_AXIS = "format(datum.value, '.0%')"


def efficiency_plot(p: ScalePredicted, key: str) -> Plot | None:
    """Efficiency against one domain over the size, with what was published where it was."""
    sizes = [s for s in p.sizes if s.num_domains >= 1]
    if len(sizes) < 2:
        return None
    table = rows_of(
        {
            "chips": [s.num_chips for s in sizes],
            "value": [s.efficiency.value for s in sizes],
            "low": [_low(s.efficiency) for s in sizes],
            "high": [_high(s.efficiency) for s in sizes],
        }
    )
    ticks = [s.num_chips for s in sizes]
    x = alt.X(
        "chips:Q",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=plain_axis("chips, log axis", values=ticks, labelExpr="format(datum.value, ',')"),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=[0, 1.2], nice=False),
        axis=plain_axis("efficiency against one domain", labelExpr=_SHARE_AXIS),
    )
    colour = SERIES[0]
    layers: list[Any] = [
        rows_of({"one": [1.0]}).mark_rule(strokeDash=[4, 3], color=INK).encode(y="one:Q"),
        table.mark_area(opacity=0.2, color=colour).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        table.mark_line(color=colour, strokeWidth=2).encode(x=x, y=y),
        _dots(p, x, y),
    ]
    marks = [Mark(name=_SIMULATED, color=colour)]
    if p.published:
        marks.append(Mark(name=_PUBLISHED, color=SERIES[1], shape="square"))
    return Plot(
        key=key,
        title="Efficiency by number of chips, simulated",
        spec=finish(alt.layer(*layers), height=_HEIGHT),
        marks=tuple(marks),
        wide=True,
        description=(
            f"Simulated efficiency falls from {_words(sizes[0].efficiency)} at "
            f"{sizes[0].num_chips:,} chips to {_words(sizes[-1].efficiency)} at "
            f"{sizes[-1].num_chips:,}."
        ),
        note=f"{_RANGES} The dashed line is one domain's own throughput per chip.",
        summary=summary(
            "Efficiency",
            ("chips", "efficiency", "90 % of seeds"),
            [
                (
                    f"{s.num_chips:,}",
                    format_value(s.efficiency.value, "ratio"),
                    format_interval(s.efficiency.low, s.efficiency.high, "ratio"),
                )
                for s in sizes
            ],
        ),
    )


def _dots(p: ScalePredicted, x: alt.X, y: alt.Y) -> alt.Chart:
    """Both kinds in one layer, so that a picture of its own has a legend."""
    dots = [(s.num_chips, s.efficiency.value, _SIMULATED) for s in p.sizes]
    dots += [(s.num_chips, s.efficiency, _PUBLISHED) for s in p.published]
    kinds = list(dict.fromkeys(kind for _, _, kind in dots))
    chips, values, kind = zip(*dots, strict=True)
    table = rows_of({"chips": chips, "value": values, "kind": kind})
    drawn: alt.Chart = table.mark_point(filled=True, size=50, opacity=1).encode(
        x=x,
        y=y,
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=list(SERIES[: len(kinds)])),
            legend=None,
        ),
        shape=alt.Shape(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=["circle", "square"][: len(kinds)]),
            legend=None,
        ),
        tooltip=["kind:N", "chips:Q", alt.Tooltip("value:Q", title="efficiency", format=".1%")],
    )
    return drawn


def goodput_plot(p: ScalePredicted, key: str) -> Plot | None:
    """The wall time as one bar, its parts in order: means over the seeds."""
    return goodput_bar(
        {part: found.value for part, found in p.parts.items()},
        {part: _words(found) for part, found in p.parts.items()},
        title="Where the wall time goes, simulated",
        whole=f"{p.days:g} days",
        key=key,
    )


_OPTIMA = ("best simulated", "Daly", "Young")
_OPTIMA_COLOURS = (INK, SERIES[1], SERIES[3])


def interval_plot(p: ScalePredicted, key: str) -> Plot | None:
    """Goodput over the work between two saves, with the three optima."""
    if not p.intervals:
        return None
    best = max((t.goodput for t in p.intervals), key=_value)
    return Plot(
        key=key,
        title="Goodput by checkpoint interval, simulated",
        spec=_interval_spec(p),
        marks=(
            Mark(name="goodput", color=SERIES[0]),
            *(
                Mark(name=name, color=colour, shape="square")
                for name, colour in zip(_OPTIMA, _OPTIMA_COLOURS, strict=True)
            ),
        ),
        wide=True,
        description=(
            f"Goodput is highest, {_words(best)}, "
            f"with a save after {format_value(p.best_interval_s.value, 's')} of work."
        ),
        note=f"{_RANGES} Every interval was tried on the same failures.",
        summary=summary(
            "Intervals tried",
            ("work between saves", "goodput", "90 % of seeds"),
            [
                (
                    format_value(t.interval_s, "s"),
                    format_value(t.goodput.value, "ratio"),
                    format_interval(t.goodput.low, t.goodput.high, "ratio"),
                )
                for t in p.intervals
            ],
        ),
    )


def _interval_spec(p: ScalePredicted) -> dict[str, Any]:
    table = rows_of(
        {
            "interval": [t.interval_s for t in p.intervals],
            "value": [t.goodput.value for t in p.intervals],
            "low": [_low(t.goodput) for t in p.intervals],
            "high": [_high(t.goodput) for t in p.intervals],
        }
    )
    optima = rows_of(
        {
            "optimum": list(_OPTIMA),
            "interval": [p.best_interval_s.value, p.daly_interval_s, p.young_interval_s],
        }
    )
    x = alt.X(
        "interval:Q",
        scale=alt.Scale(type="log", nice=False),
        axis=plain_axis(
            "work between two saves, log axis", labelExpr="format(datum.value, '~s') + 's'"
        ),
    )
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(zero=False),
        axis=plain_axis("goodput", labelExpr=_SHARE_AXIS),
    )
    colours = alt.Scale(domain=list(_OPTIMA), range=list(_OPTIMA_COLOURS))
    line = {"color": SERIES[0]}
    layers = [
        table.mark_area(opacity=0.2, color=SERIES[0]).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        table.mark_line(color=SERIES[0], strokeWidth=2, point=line).encode(x=x, y=y),
        optima.mark_rule(strokeDash=[5, 3], strokeWidth=1.5).encode(
            x=x,
            color=alt.Color("optimum:N", scale=colours, legend=None),
            tooltip=["optimum:N", alt.Tooltip("interval:Q", title="seconds", format=".4~s")],
        ),
    ]
    return finish(alt.layer(*layers), height=_HEIGHT)


def _value(found: Range) -> float:
    return found.value


def _low(found: Range) -> float:
    return found.value if found.low is None else found.low


def _high(found: Range) -> float:
    return found.value if found.high is None else found.high


def _words(found: Range) -> str:
    bounds = format_interval(found.low, found.high, "ratio")
    return f"{format_value(found.value, 'ratio')}{f' ({bounds})' if bounds else ''}"
