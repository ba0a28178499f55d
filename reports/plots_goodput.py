"""Where the wall time of a training went, as one bar: measured or simulated."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt

from reports.model import Mark, Plot
from reports.plots import SERIES, finish, plain_axis, rows_of, summary
from results.goodput import Part
from results.units import format_value

_COLOURS = {
    Part.PRODUCTIVE: "var(--good)",
    Part.STARTUP: SERIES[7],
    Part.FIRST_STEP: SERIES[6],
    Part.DATA_WAIT: SERIES[5],
    Part.CHECKPOINT_SAVE: SERIES[0],
    Part.CHECKPOINT_RESTORE: SERIES[4],
    Part.WASTED_PROGRESS: SERIES[1],
    Part.RECOVERY: SERIES[3],
    Part.HARDWARE_WAIT: "var(--bad)",
}
MEANINGS = {
    Part.PRODUCTIVE: "steps whose result was kept",
    Part.STARTUP: "asked for → the first step begins",
    Part.FIRST_STEP: "what an attempt's first step takes beyond a usual one",
    Part.DATA_WAIT: "steps waiting for their input",
    Part.CHECKPOINT_SAVE: "the training stands while a checkpoint is written",
    Part.CHECKPOINT_RESTORE: "reading a checkpoint back after a failure",
    Part.WASTED_PROGRESS: "work since the last checkpoint, undone and done again",
    Part.RECOVERY: "noticing the failure, starting the processes, until the loop steps again",
    Part.HARDWARE_WAIT: "no machine to go on with: waiting for one in place of the lost",
    Part.OTHER: "between steps and after the last",
}


def part_name(part: Part) -> str:
    return part.value.replace("_", " ")


def goodput_bar(
    shares: Mapping[Part, float], words: Mapping[Part, str], *, title: str, whole: str, key: str
) -> Plot | None:
    """``shares`` of the wall time; ``words[part]``: what is said of it beside its name; ``whole``:
    how long the wall time is, in words. None where no part has any time."""
    parts = [part for part in Part if shares.get(part, 0.0) > 0]
    if not parts:
        return None
    names = [part_name(part) for part in parts]
    ends, reached = [], 0.0
    for part in parts:
        ends.append((reached, reached + shares[part]))
        reached = ends[-1][1]
    table = rows_of(
        {
            "part": names,
            "start": [a for a, _ in ends],
            "end": [b for _, b in ends],
            "shown": [words[part] for part in parts],
        }
    )
    colours = [_COLOURS.get(part, "var(--muted)") for part in parts]
    bars = table.mark_bar(height=40, yOffset=-8).encode(
        x=alt.X(
            "start:Q",
            scale=alt.Scale(domain=[0, 1], nice=False),
            axis=plain_axis(f"share of {whole}", labelExpr="format(datum.value, '.0%')"),
        ),
        x2="end:Q",
        color=alt.Color("part:N", scale=alt.Scale(domain=names, range=colours), legend=None),
        tooltip=[alt.Tooltip("part:N"), alt.Tooltip("shown:N", title="time")],
    )
    told = [format_value(shares[part], "ratio") for part in parts]
    return Plot(
        key=key,
        title=title,
        spec=finish(alt.layer(bars), height=80),
        marks=tuple(
            Mark(name=f"{name}, {share}", color=colour, shape="square")
            for name, share, colour in zip(names, told, colours, strict=True)
        ),
        wide=True,
        description=f"Of {whole}: "
        + ", ".join(f"{share} {name}" for name, share in zip(names, told, strict=True))
        + ".",
        summary=summary(
            "Parts of the wall time",
            ("part", "share", "time"),
            [(n, s, words[p]) for n, s, p in zip(names, told, parts, strict=True)],
        ),
    )
