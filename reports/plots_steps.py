"""Plots of a training run: how long each step took on each rank, and where the loss went."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from reports.model import Mark, Plot
from reports.plots import (
    MUTED,
    SERIES,
    finish,
    plain_axis,
    rows_of,
    seconds_axis,
    si_seconds,
    summary,
)
from reports.thinning import even_with_extremes
from results.samples import LOSS_NOT_TOLD, FloatColumn, IntColumn, StepSamples
from results.units import format_value

# More lines than this cannot be told apart; the fastest, the median and the slowest rank remain.
MAX_RANKS = 6
MAX_DOTS = 120
# A warm-up step longer than this many of the longest measured step leaves the axis.
CUT_ABOVE = 3.0


def step_times(samples: StepSamples, key: str, limit: int) -> Plot | None:
    """Step time over steps, a line per rank (of many ranks: the fastest, median and slowest at
    each step); warm-up shaded. At most ``limit`` points."""
    if not samples.num_rows:
        return None
    steps, by_line, ranks = _lines(samples)
    kept = even_with_extremes(
        np.max(np.stack(list(by_line.values())), axis=0), max(limit // len(by_line), 3)
    )
    names = list(by_line)
    table = rows_of(
        {
            "step": np.tile(steps[kept], len(names)),
            "seconds": np.concatenate([v[kept] for v in by_line.values()]),
            "rank": np.repeat(names, len(kept)).tolist(),
        }
    )
    scale, beyond = _time_scale(samples)
    lines = (
        table.transform_calculate(took=si_seconds("seconds"))
        .mark_line(strokeWidth=1.8, clip=True, point=_points(len(kept)))
        .encode(
            x=_step_axis(),
            y=alt.Y("seconds:Q", scale=scale, axis=seconds_axis("time of the step")),
            color=alt.Color(
                "rank:N",
                scale=alt.Scale(domain=names, range=list(SERIES[: len(names)])),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("rank:N"),
                alt.Tooltip("step:Q", format="d"),
                alt.Tooltip("took:N", title="time"),
            ],
        )
    )
    measured = ~np.isin(steps, samples.step[samples.is_warmup])
    rows = [(name, *_spread(v[measured])) for name, v in by_line.items()]
    return Plot(
        key=key,
        title="Step time",
        spec=finish(alt.layer(*_warmup(samples), lines), height=220),
        marks=tuple(
            Mark(name=name, color=color) for name, color in zip(names, SERIES, strict=False)
        ),
        wide=True,
        description=f"Time of each of {len(steps):,} steps on {ranks} ranks; "
        f"{int((~measured).sum())} warm-up steps are shaded.",
        note=_thinned_note(len(kept), len(steps))
        + beyond
        + (
            f"{ranks} ranks: the fastest, the median and the slowest of each step."
            if ranks > MAX_RANKS
            else ""
        ),
        summary=summary(
            "Step time without warm-up", ("rank", "shortest", "median", "longest"), rows
        ),
    )


def loss_curve(samples: StepSamples, key: str, limit: int) -> Plot | None:
    """Mean loss of the ranks over steps; a loss that is not finite leaves a gap, and a note."""
    if not np.isfinite(samples.loss).any() or np.all(samples.loss == LOSS_NOT_TOLD):
        return None
    steps, index = np.unique(samples.step, return_inverse=True)
    # NaN and infinity both stay out of the line, and one such rank spoils its step.
    loss = np.bincount(index, weights=samples.loss) / np.bincount(index)
    loss = np.where(np.isfinite(loss), loss, np.nan)
    kept = even_with_extremes(loss, limit)
    table = rows_of({"step": steps[kept], "loss": loss[kept]})
    line = table.mark_line(
        strokeWidth=2,
        point=_points(len(kept)),
        color=SERIES[0],
        invalid="break-paths-show-domains",
    ).encode(
        x=_step_axis(),
        y=alt.Y("loss:Q", scale=alt.Scale(zero=False), axis=plain_axis("loss, nats")),
        tooltip=[alt.Tooltip("step:Q", format="d"), alt.Tooltip("loss:Q", format=".4f")],
    )
    finite = loss[np.isfinite(loss)]
    if not len(finite):
        return None
    missing = len(loss) - len(finite)
    first, last = (format_value(float(v), "nats") for v in (finite[0], finite[-1]))
    lowest = format_value(float(finite.min()), "nats")
    return Plot(
        key=key,
        title="Loss",
        spec=finish(alt.layer(*_warmup(samples), line), height=220),
        wide=True,
        description=f"Loss, mean of the ranks: from {first} to {last} over {len(steps):,} steps.",
        note=_thinned_note(len(kept), len(steps))
        + (
            f"The loss of {missing} of {len(steps):,} steps is not a finite number. "
            if missing
            else ""
        ),
        summary=summary(
            "Loss, mean of the ranks",
            ("", "first", "lowest", "last"),
            [("loss", first, lowest, last)],
        ),
    )


def _time_scale(samples: StepSamples) -> tuple[alt.Scale, str]:
    """The first step compiles and caches: where it would flatten all others it leaves the top of
    the axis, and the note says how long it was."""
    measured = samples.duration_s[~samples.is_warmup]
    warm = samples.duration_s[samples.is_warmup]
    if not len(measured) or not len(warm) or warm.max() <= CUT_ABOVE * measured.max():
        return alt.Scale(zero=True), ""
    note = f"The longest warm-up step, {format_value(float(warm.max()), 's')}, leaves the axis. "
    return alt.Scale(domain=[0.0, 1.25 * float(measured.max())], nice=False), note


def _lines(samples: StepSamples) -> tuple[IntColumn, dict[str, FloatColumn], int]:
    """(steps, seconds per step by line name, number of ranks); a step a rank lacks is NaN."""
    steps, column = np.unique(samples.step, return_inverse=True)
    ranks, row = np.unique(samples.rank, return_inverse=True)
    grid = np.full((len(ranks), len(steps)), np.nan)
    grid[row, column] = samples.duration_s
    if len(ranks) <= MAX_RANKS:
        return steps, {f"rank {r}": grid[i] for i, r in enumerate(ranks)}, len(ranks)
    low, mid, high = np.nanquantile(grid, (0.0, 0.5, 1.0), axis=0)
    return steps, {"slowest rank": high, "median rank": mid, "fastest rank": low}, len(ranks)


def _points(num: int) -> alt.OverlayMarkDef:
    """Dots carry the tooltip; where they would run together they are there but not seen."""
    return alt.OverlayMarkDef(size=18, filled=True, opacity=1.0 if num <= MAX_DOTS else 0.0)


def _step_axis() -> alt.X:
    return alt.X(
        "step:Q",
        axis=plain_axis("step", tickMinStep=1, format="d"),
        scale=alt.Scale(nice=False, zero=False),
    )


def _warmup(samples: StepSamples) -> list[alt.Chart]:
    warm = samples.step[samples.is_warmup]
    if not len(warm):
        return []
    band = rows_of({"from": [float(warm.min())], "to": [float(warm.max()) + 0.5]})
    shade = band.mark_rect(color=MUTED, opacity=0.18)
    words = band.mark_text(text="warm-up", align="left", baseline="top", dx=4, dy=4)
    x: Any = alt.X("from:Q")
    return [
        shade.encode(x=x, x2="to:Q"),
        words.encode(x=x, y=alt.value(0)),
    ]


def _spread(values: FloatColumn) -> tuple[str, ...]:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return ("–",) * 3
    return tuple(format_value(float(q), "s") for q in np.quantile(seen, (0, 0.5, 1)))


def _thinned_note(kept: int, total: int) -> str:
    if kept == total:
        return ""
    return f"A sample of {kept:,} of {total:,} steps, evenly; extremes kept. "
