"""Plots of a served run: throughput over time, and every request where it lay in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import numpy as np

from reports.model import Mark, Plot
from reports.plots import (
    BAD,
    MUTED,
    SERIES,
    finish,
    plain_axis,
    rows_of,
    seconds_axis,
    si_seconds,
    summary,
)
from reports.thinning import even_edges, even_with_extremes, is_wide, rates
from results.samples import BoolColumn, FloatColumn, IntColumn, RequestSamples
from results.units import format_value

MAX_BINS, MIN_BINS = 60, 8
# A request is a bar where bars can be seen: not thinner than a pixel, nor a dot on a long axis.
MAX_GANTT = 300
MIN_BAR_SHARE = 0.01
SHAPES: tuple[Literal["circle", "square", "cross"], ...] = ("circle", "square", "cross")
WAITING, STREAMING, WARMUP, FAILED = "until first token", "streaming", "warm-up", "failed"
PART_COLOURS = {WARMUP: MUTED, WAITING: SERIES[1], STREAMING: SERIES[0], FAILED: BAD}
SINCE_LOAD = "seconds since the load began"
ZOOM_HINT = "Ctrl + wheel zooms, dragging moves, a double click resets."


def measured_window(samples: RequestSamples) -> tuple[float, float] | None:
    """First intended send → last answer or failure of the measured requests; None if there is
    no such stretch."""
    keep = ~samples.is_warmup
    sent, done = samples.intended_s[keep], samples.done_s[keep]
    if not np.isfinite(sent).any() or not np.isfinite(done).any():
        return None
    start, end = float(np.nanmin(sent)), float(np.nanmax(done))
    return (start, end) if end > start else None


def _edges(samples: RequestSamples) -> FloatColumn | None:
    window = measured_window(samples)
    if window is None:
        return None
    # Ten requests a bin, so that a bin's count says more than chance does.
    num = int(np.clip((~samples.is_warmup).sum() // 10, MIN_BINS, MAX_BINS))
    return even_edges(*window, num)


def _ones(values: FloatColumn) -> FloatColumn:
    return np.ones(len(values))


def request_rate(samples: RequestSamples, key: str) -> Plot | None:
    """Requests intended, answered and failed per second of the measured window."""
    edges = _edges(samples)
    if edges is None:
        return None
    keep = ~samples.is_warmup
    answered = keep & (samples.error == "")
    failed = keep & ~answered
    done = samples.done_s
    failed_at = done[failed][np.isfinite(done[failed])]
    series = {
        "intended": rates(samples.intended_s[keep], _ones(samples.intended_s[keep]), edges),
        "answered": rates(done[answered], _ones(done[answered]), edges),
    }
    colours = [MUTED, SERIES[0]]
    if failed.any():
        series["failed"] = rates(failed_at, _ones(failed_at), edges)
        colours.append(BAD)
    return _rate_plot(key, "Requests per second", "requests/s", edges, series, colours)


def token_rate(samples: RequestSamples, key: str) -> Plot | None:
    """Output tokens per second as they arrived, of the measured requests."""
    edges = _edges(samples)
    if edges is None or not len(samples.event_s):
        return None
    owner = np.repeat(np.arange(samples.num_requests), np.diff(samples.event_offset))
    keep = ~samples.is_warmup[owner]
    tokens = samples.event_tokens[keep]
    known = tokens >= 0
    times = samples.event_s[keep][known]
    if not known.any():
        return None
    series = {"output tokens": rates(times, tokens[known].astype(np.float64), edges)}
    plot = _rate_plot(key, "Output tokens per second", "tokens/s", edges, series, [SERIES[0]])
    unknown = int((~known).sum())
    if not unknown:
        return plot
    note = f"{plot.note} {unknown:,} chunks of unknown token count are left out."
    return Plot(
        key=key,
        title=plot.title,
        spec=plot.spec,
        description=plot.description,
        summary=plot.summary,
        note=note,
    )


def _rate_plot(
    key: str,
    title: str,
    unit: str,
    edges: FloatColumn,
    series: dict[str, FloatColumn],
    colours: Sequence[str],
) -> Plot:
    names = list(series)
    bins = len(edges) - 1
    width = float(edges[1] - edges[0])
    rows = [
        (
            name,
            *(format_value(float(f(values)), unit) for f in (np.min, np.median, np.max)),
        )
        for name, values in series.items()
    ]
    return Plot(
        key=key,
        title=title,
        spec=_rate_spec(unit, edges, series, colours),
        description=f"{title} over the measured window of {format_value(edges[-1] - edges[0], 's')}"
        f": {', '.join(names)}, in {bins} bins of {format_value(width, 's')}.",
        marks=tuple(
            Mark(name=name, color=colour, shape=shape)
            for name, colour, shape in zip(names, colours, SHAPES, strict=False)
        )
        if len(names) > 1
        else (),
        note=f"{bins} bins of {format_value(width, 's')}; warm-up left out.",
        summary=summary(
            f"{title}, by bin", ("what", "lowest bin", "median bin", "highest bin"), rows
        ),
    )


def _rate_spec(
    unit: str, edges: FloatColumn, series: dict[str, FloatColumn], colours: Sequence[str]
) -> dict[str, Any]:
    names = list(series)
    bins = len(edges) - 1
    table = rows_of(
        {
            "from": np.tile(edges[:-1], len(names)),
            "to": np.tile(edges[1:], len(names)),
            "rate": np.concatenate(list(series.values())),
            "what": np.repeat(names, bins).tolist(),
        }
    )
    colour_scale = alt.Scale(domain=names, range=list(colours))
    chart = (
        table.transform_calculate(middle="(datum.from + datum.to) / 2")
        .mark_line(strokeWidth=2, point={"size": 14, "filled": True})
        .encode(
            x=alt.X(
                "middle:Q",
                axis=plain_axis(SINCE_LOAD),
                scale=alt.Scale(zero=False, nice=False),
            ),
            y=alt.Y("rate:Q", axis=plain_axis(unit, tickCount=5), scale=alt.Scale(zero=True)),
            color=alt.Color("what:N", scale=colour_scale, legend=None),
            shape=alt.Shape(
                "what:N", scale=alt.Scale(domain=names, range=list(SHAPES)), legend=None
            ),
            tooltip=[
                alt.Tooltip("what:N"),
                alt.Tooltip("rate:Q", title=unit, format=".3~r"),
                alt.Tooltip("from:Q", title="from second", format=".2f"),
                alt.Tooltip("to:Q", title="to second", format=".2f"),
            ],
        )
    )
    return finish(chart, height=190)


def request_timeline(samples: RequestSamples, key: str, limit: int) -> Plot | None:
    """Every request in time (bars: intended → first token → done), or, of long runs, its latency
    by the time it was intended (dots), of at most ``limit`` requests."""
    n = samples.num_requests
    if not n or not np.isfinite(samples.intended_s).any():
        return None
    order = np.argsort(samples.intended_s, kind="stable")
    failed = samples.error != ""
    e2e = samples.done_s - samples.intended_s
    rows = order[even_with_extremes(e2e[order], limit, always=failed[order])]
    bars = _bars_can_be_seen(samples, e2e) and n <= limit
    spec, marks = _gantt(samples, order) if bars else _scatter(samples, rows)
    sample = ""
    if not bars and len(rows) < n:
        kept = f", and {failed[rows].sum():,} of {failed.sum():,} failures" if failed.any() else ""
        sample = (
            f"A sample of {len(rows):,} of {n:,} requests, evenly by time; extremes kept{kept}. "
        )
    return Plot(
        key=key,
        title="Requests in time",
        spec=spec,
        marks=marks,
        wide=True,
        description=_timeline_sentence(samples, failed),
        note=sample + ZOOM_HINT,
        summary=_timeline_summary(samples, failed, e2e),
    )


def _bars_can_be_seen(samples: RequestSamples, e2e: FloatColumn) -> bool:
    if samples.num_requests > MAX_GANTT or not np.isfinite(e2e).any():
        return False
    span = float(np.nanmax(samples.done_s) - np.nanmin(samples.intended_s))
    return float(np.nanmedian(e2e)) >= MIN_BAR_SHARE * span


def _timeline_sentence(samples: RequestSamples, failed: BoolColumn) -> str:
    n = samples.num_requests
    return (
        f"{n:,} requests in time, {int(samples.is_warmup.sum()):,} of them warm-up; "
        f"{int(failed.sum()):,} failed."
    )


def _timeline_summary(samples: RequestSamples, failed: BoolColumn, e2e: FloatColumn) -> Any:
    groups = {
        "warm-up": samples.is_warmup & ~failed,
        "answered": ~samples.is_warmup & ~failed,
        "failed": failed,
    }
    rows = []
    for name, members in groups.items():
        times = e2e[members & np.isfinite(e2e)]
        spread = (
            [format_value(float(q), "s") for q in np.quantile(times, (0, 0.5, 1))]
            if len(times)
            else ["–"] * 3
        )
        rows.append((name, f"{int(members.sum()):,}", *spread))
    columns = ("requests", "number", "shortest", "median", "longest")
    return summary("Intended send → done or failed", columns, rows)


def _request_columns(samples: RequestSamples, rows: IntColumn) -> dict[str, Any]:
    """What a tooltip says of a request, whatever its mark."""
    ttft = samples.first_token_s - samples.intended_s
    e2e = samples.done_s - samples.intended_s
    return {
        "request": rows,
        "at": samples.intended_s[rows],
        "ttft": ttft[rows],
        "e2e": e2e[rows],
        "tokens": samples.output_tokens[rows],
        # One endless error text times thousands of rows would be the whole page.
        "error": [str(text)[:120] for text in samples.error[rows]],
    }


def _tooltip(chart: alt.Chart) -> alt.Chart:
    tips = [
        alt.Tooltip("request:Q", title="request", format="d"),
        alt.Tooltip("at:Q", title="intended at second", format=".3f"),
        alt.Tooltip("ttft_text:N", title="TTFT"),
        alt.Tooltip("e2e_text:N", title="until done"),
        alt.Tooltip("tokens_text:N", title="output tokens"),
        alt.Tooltip("error_text:N", title="error"),
    ]
    return chart.transform_calculate(
        ttft_text=f"isValid(datum.ttft) ? {si_seconds('ttft')} : 'none'",
        e2e_text=f"isValid(datum.e2e) ? {si_seconds('e2e')} : 'never'",
        tokens_text="datum.tokens < 0 ? 'not known' : datum.tokens",
        error_text="datum.error || 'none'",
    ).encode(tooltip=tips)


def _zoom() -> alt.Parameter:
    # The bare wheel stays the page's: a chart must not catch a reader who scrolls past it.
    return alt.selection_interval(
        name="zoom",
        bind="scales",
        encodings=["x"],
        zoom="wheel![event.ctrlKey || event.metaKey]",
    )


def _gantt(samples: RequestSamples, order: IntColumn) -> tuple[dict[str, Any], tuple[Mark, ...]]:
    spans = [(rank, i, *span) for rank, i in enumerate(order) for span in _spans(samples, int(i))]
    ranks, owners, starts, ends, parts = zip(*spans, strict=True)
    table = rows_of(
        {
            **_request_columns(samples, np.array(owners)),
            "rank": ranks,
            "from": starts,
            "to": ends,
            "part": parts,
        }
    )
    names = [name for name in PART_COLOURS if name in parts]
    height = int(np.clip(3 * len(order), 140, 460))
    y = alt.Y(
        "rank:Q",
        scale=alt.Scale(domain=[-1, len(order)], reverse=True, nice=False),
        axis=plain_axis("request, by intended time", tickMinStep=1, grid=False),
    )
    base = _tooltip(table)
    bars = base.mark_bar(orient="horizontal", size=max(1.2, 0.7 * height / len(order))).encode(
        x=alt.X("from:Q", axis=plain_axis(SINCE_LOAD), scale=alt.Scale(zero=False, nice=False)),
        x2="to:Q",
        y=y,
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=names, range=[PART_COLOURS[name] for name in names]),
            legend=None,
        ),
    )
    layers: list[alt.Chart | alt.LayerChart] = [bars.add_params(_zoom())]
    if FAILED in names:
        crosses = base.transform_filter(f"datum.part == '{FAILED}'").mark_point(
            shape="cross", size=70, filled=True, color=BAD, angle=45
        )
        layers.append(crosses.encode(x="to:Q", y=y))
    spec = finish(alt.layer(*layers), height=height)
    return spec, tuple(
        Mark(name=n, color=PART_COLOURS[n], shape="cross" if n == FAILED else "square")
        for n in names
    )


def _spans(samples: RequestSamples, i: int) -> list[tuple[float, float, str]]:
    """(from, to, part) of one request; a request that never ended has no bar, only a row."""
    sent, first, done = samples.intended_s[i], samples.first_token_s[i], samples.done_s[i]
    if samples.error[i]:
        return [(sent, sent if np.isnan(done) else done, FAILED)]
    if samples.is_warmup[i]:
        return [(sent, done, WARMUP)]
    return [(sent, first, WAITING), (first, done, STREAMING)]


def _scatter(samples: RequestSamples, rows: IntColumn) -> tuple[dict[str, Any], tuple[Mark, ...]]:
    columns = _request_columns(samples, rows)
    failed, warm = samples.error[rows] != "", samples.is_warmup[rows]
    what = {
        "first token": "datum.error || datum.warm ? null : datum.ttft",
        "done": "datum.error || datum.warm ? null : datum.e2e",
        FAILED: "datum.error ? datum.e2e : null",
        WARMUP: "datum.warm && !datum.error ? datum.e2e : null",
    }
    marks = (
        Mark(name="first token", color=SERIES[1], shape="circle"),
        Mark(name="done", color=SERIES[0], shape="square"),
        *([Mark(name=FAILED, color=BAD, shape="cross")] if failed.any() else []),
        *([Mark(name=WARMUP, color=MUTED, shape="triangle")] if (warm & ~failed).any() else []),
    )
    names = [mark.name for mark in marks]
    log = is_wide(np.concatenate([columns["ttft"], columns["e2e"]]), factor=10.0)
    base = (
        _tooltip(rows_of({**columns, "warm": warm}))
        .transform_calculate(**what)
        .transform_fold([*names], as_=["what", "latency"])
        .transform_filter("isValid(datum.latency) && datum.latency > 0")
    )
    chart = base.mark_point(filled=True, opacity=0.75).encode(
        size=alt.condition(f"datum.what == '{FAILED}'", alt.value(60), alt.value(16)),
        x=alt.X("at:Q", axis=plain_axis(SINCE_LOAD), scale=alt.Scale(zero=False, nice=False)),
        y=alt.Y(
            "latency:Q",
            scale=alt.Scale(type="log", nice=False) if log else alt.Scale(zero=True),
            axis=seconds_axis("after the intended send" + (", log axis" if log else "")),
        ),
        color=alt.Color(
            "what:N", scale=alt.Scale(domain=names, range=[m.color for m in marks]), legend=None
        ),
        shape=alt.Shape(
            "what:N", scale=alt.Scale(domain=names, range=[m.shape for m in marks]), legend=None
        ),
    )
    return finish(chart.add_params(_zoom()), height=300), marks
