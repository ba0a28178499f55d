"""Plots of the server's side of a load: small multiples on one time axis, the load's own.

What lies outside the measured window (warm-up, the last look) is shaded. A series that nobody read
has no plot; of many replicas or devices the lowest, the median and the highest are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np

from reports.model import Mark, Plot
from reports.plots import MUTED, SERIES, finish, plain_axis, rows_of, summary
from reports.thinning import even_with_extremes
from results.samples import FloatColumn, IntColumn, RequestSamples
from results.telemetry import Series, Telemetry
from results.telemetry_energy import DEVICE_POWER
from results.telemetry_measure import (
    CPU_BUSY,
    CPU_STEAL,
    DEVICE_MEMORY,
    DEVICE_UTILISATION,
    ENGINE_CPU,
    KV_USAGE,
    OUTPUT_TOKENS,
    PREEMPTIONS,
    PREFIX_HITS,
    PREFIX_QUERIES,
    RUNNING,
    WAITING,
    window_of,
)
from results.units import format_value

HEIGHT = 130
MAX_LINES = 4
MAX_DOTS = 60
MIN_POINTS = 20
# Of what was stolen by other guests, less than this is no line of its own.
MIN_STEAL = 0.005
SINCE_LOAD = "seconds since the load began"
SINCE_START = "seconds since the rank's loop or the load began"

Lines = Mapping[str, Series]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What all plots share: the axis' ends, the measured window, the points each may have, and what
    the axis counts from."""

    start_s: float
    end_s: float
    window: tuple[float, float]
    points: int
    zero: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """``unit`` formats the table; ``axis`` is Vega's format; ``top`` is where the axis ends."""

    unit: str
    axis: str = "~s"
    top: float | None = None

    @property
    def title(self) -> str:
        """A share and a count speak for themselves."""
        return "" if self.unit in ("ratio", "count") else self.unit


_RATIO = _Kind(unit="ratio", axis="%", top=1.0)


def telemetry_plots(
    telemetry: Telemetry, samples: RequestSamples | None, prefix: str, points: int
) -> tuple[Plot, ...]:
    """Every plot that these readings can fill; ``points`` is what all of them may hold together."""
    drawn = _pictures(telemetry)
    times = [s.t_s for _, _, _, lines in drawn for s in lines.values()]
    if not times:
        return ()
    start, end = min(float(t[0]) for t in times), max(float(t[-1]) for t in times)
    frame = _Frame(
        start_s=start,
        end_s=end,
        window=window_of(samples) if samples is not None else (start, end),
        points=max(points // len(drawn), MIN_POINTS),
        zero=SINCE_LOAD if samples is not None else SINCE_START,
    )
    return tuple(
        _plot(f"{prefix}telemetry-{key}", title, kind, lines, frame)
        for key, title, kind, lines in drawn
    )


def _pictures(telemetry: Telemetry) -> list[tuple[str, str, _Kind, Lines]]:
    """(key, title, kind, lines by name) of what has at least two readings."""
    output = _rate(telemetry.total(OUTPUT_TOKENS))
    pictures: list[tuple[str, str, _Kind, dict[str, Series | None]]] = [
        (
            "requests",
            "Requests on the server",
            _Kind(unit="requests"),
            {"running": telemetry.total(RUNNING), "waiting": telemetry.total(WAITING)},
        ),
        ("kv", "KV cache in use", _RATIO, _spread(telemetry, KV_USAGE)),
        (
            "tokens",
            "Output tokens by the server's count",
            _Kind(unit="tokens/s"),
            {"output tokens": output},
        ),
        ("hits", "Prompt tokens from the prefix cache", _RATIO, {"share": _hits(telemetry)}),
        (
            "preemptions",
            "Preemptions",
            _Kind(unit="count"),
            {"since the first reading": _nonzero(_since_first(telemetry.total(PREEMPTIONS)))},
        ),
        ("devices", "Devices busy", _RATIO, _spread(telemetry, DEVICE_UTILISATION)),
        (
            "memory",
            "Device memory in use",
            _Kind(unit="bytes"),
            _spread(telemetry, DEVICE_MEMORY),
        ),
        (
            "power",
            "Power of all devices",
            _Kind(unit="W"),
            {"power": telemetry.total(DEVICE_POWER)},
        ),
        ("cpu", "The server's host", _RATIO, _host(telemetry)),
    ]
    found = [
        (key, title, kind, {n: s for n, s in lines.items() if s is not None and len(s.t_s) > 1})
        for key, title, kind, lines in pictures
    ]
    return [picture for picture in found if picture[3]]


def _spread(telemetry: Telemetry, name: str) -> dict[str, Series | None]:
    """A line per replica or device; of many the lowest, the median and the highest at each time."""
    series = {
        _name(replica, label): found
        for (_, replica, label), found in telemetry.series(name).items()
    }
    if len(series) <= MAX_LINES:
        return dict(series)
    times = np.unique(np.concatenate([s.t_s for s in series.values()]))
    grid = np.stack([np.interp(times, s.t_s, s.value) for s in series.values()])
    low, mid, high = np.quantile(grid, (0.0, 0.5, 1.0), axis=0)
    return {
        f"highest of {len(series)}": Series(times, high),
        "median": Series(times, mid),
        "lowest": Series(times, low),
    }


def _name(replica: str, label: str) -> str:
    parts = (f"engine {replica}" if replica else "", label.replace("=", " "))
    return " ".join(part for part in parts if part) or "all"


def _host(telemetry: Telemetry) -> dict[str, Series | None]:
    busy = telemetry.series(CPU_BUSY)
    whole = next((s for (_, _, label), s in busy.items() if not label), None)
    cores = [s for (_, _, label), s in busy.items() if label]
    if whole is None:
        return {}
    busiest = None
    if len(cores) > 1 and all(len(s.t_s) == len(whole.t_s) for s in cores):
        busiest = Series(whole.t_s, np.max(np.stack([s.value for s in cores]), axis=0))
    engine = _rate(telemetry.total(ENGINE_CPU))
    share = None
    if engine is not None and cores:
        share = Series(engine.t_s, np.clip(engine.value / len(cores), 0.0, 1.0))
    steal = next(iter(telemetry.series(CPU_STEAL).values()), None)
    shown = steal if steal is not None and np.any(steal.value > MIN_STEAL) else None
    return {
        "all cores": whole,
        "busiest core": busiest,
        "the engine's share of all cores": share,
        "stolen by other guests": shown,
    }


def _rate(counter: Series | None) -> Series | None:
    """Growth per second between readings, at the later one; nothing where the counter went back."""
    if counter is None or len(counter.t_s) < 2:
        return None
    spans, grown = np.diff(counter.t_s), np.diff(counter.value)
    known = (spans > 0) & (grown >= 0)
    return Series(counter.t_s[1:][known], grown[known] / spans[known])


def _hits(telemetry: Telemetry) -> Series | None:
    """Hits / lookups between two readings in which anything was looked up."""
    queries, hits = telemetry.total(PREFIX_QUERIES), telemetry.total(PREFIX_HITS)
    if queries is None or hits is None or len(queries.t_s) != len(hits.t_s):
        return None
    asked, found = np.diff(queries.value), np.diff(hits.value)
    known = (asked > 0) & (found >= 0)
    return Series(queries.t_s[1:][known], np.clip(found[known] / asked[known], 0.0, 1.0))


def _since_first(counter: Series | None) -> Series | None:
    if counter is None:
        return None
    return Series(counter.t_s, np.maximum(counter.value - counter.value[0], 0.0))


def _nonzero(series: Series | None) -> Series | None:
    return series if series is not None and np.any(series.value > 0) else None


def _plot(key: str, title: str, kind: _Kind, lines: Lines, frame: _Frame) -> Plot:
    names = list(lines)
    each = max(frame.points // len(names), 3)
    kept = {name: even_with_extremes(s.value, each) for name, s in lines.items()}
    table = rows_of(
        {
            "t": np.concatenate([s.t_s[kept[n]] for n, s in lines.items()]),
            "value": np.concatenate([s.value[kept[n]] for n, s in lines.items()]),
            "series": [n for n in names for _ in kept[n]],
        }
    )
    y_scale = alt.Scale(zero=True) if kind.top is None else alt.Scale(domain=[0.0, kind.top])
    drawn = table.mark_line(
        strokeWidth=1.8,
        clip=True,
        point=_points(max(len(rows) for rows in kept.values())),
    ).encode(
        x=alt.X(
            "t:Q",
            scale=alt.Scale(domain=[frame.start_s, frame.end_s], nice=False),
            axis=plain_axis(frame.zero, tickCount=6),
        ),
        y=alt.Y(
            "value:Q",
            scale=y_scale,
            axis=plain_axis(kind.title, format=kind.axis, tickCount=4),
        ),
        color=alt.Color(
            "series:N",
            scale=alt.Scale(domain=names, range=list(SERIES[: len(names)])),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("t:Q", title="at", format=".1f"),
            alt.Tooltip("value:Q", format=".1%" if kind.unit == "ratio" else ".3~s"),
        ],
    )
    rows = [(name, *_told(series, kind, frame)) for name, series in lines.items()]
    return Plot(
        key=key,
        title=title,
        spec=finish(alt.layer(*_outside(frame), drawn), height=HEIGHT),
        marks=tuple(
            Mark(name=name, color=color) for name, color in zip(names, SERIES, strict=False)
        )
        if len(names) > 1
        else (),
        description=_sentence(title, rows),
        note=_note(lines, kept),
        summary=summary(
            f"{title}, in the measured window", ("series", "mean", "largest", "readings"), rows
        ),
    )


def _points(num: int) -> alt.OverlayMarkDef:
    """Dots carry the tooltip; where they would run together they are there but not seen."""
    return alt.OverlayMarkDef(size=14, filled=True, opacity=1.0 if num <= MAX_DOTS else 0.0)


def _outside(frame: _Frame) -> list[alt.Chart]:
    """What is in no number: before the load's zero and after the last answer."""
    start, end = frame.window
    spans = [(frame.start_s, min(start, frame.end_s)), (max(end, frame.start_s), frame.end_s)]
    spans = [(a, b) for a, b in spans if b > a]
    if not spans:
        return []
    band = rows_of({"from": [a for a, _ in spans], "to": [b for _, b in spans]})
    return [band.mark_rect(color=MUTED, opacity=0.18, clip=True).encode(x="from:Q", x2="to:Q")]


def _told(series: Series, kind: _Kind, frame: _Frame) -> tuple[str, str, str]:
    values = series.within(*frame.window)
    if not len(values):
        return ("–", "–", "0")
    functions: Sequence[Callable[[FloatColumn], np.floating]] = (np.mean, np.max)
    mean, largest = (format_value(float(f(values)), kind.unit) for f in functions)
    return (mean, largest, f"{len(values):,}")


def _sentence(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    said = "; ".join(f"{name}: mean {mean}, largest {largest}" for name, mean, largest, _ in rows)
    return f"{title} over the load: {said}."


def _note(lines: Lines, kept: Mapping[str, IntColumn]) -> str:
    total = sum(len(series.t_s) for series in lines.values())
    shown = sum(len(rows) for rows in kept.values())
    return "" if shown == total else f"{shown:,} of {total:,} readings, evenly; extremes kept."
