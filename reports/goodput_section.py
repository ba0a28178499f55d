"""The goodput of one training run: where its wall time went, and each of its attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.model import Block, Cell, Column, Plots, Section, Table
from reports.plots_goodput import MEANINGS, goodput_bar, part_name
from reports.wording import number
from results.goodput import Part
from results.record import RunRecord
from results.units import format_value


def goodput_section(record: RunRecord, prefix: str) -> Section | None:
    """None where the run has no goodput: no training, or one that failed."""
    seconds = {
        part: number(
            record,
            "goodput_productive_s" if part is Part.PRODUCTIVE else f"badput_{part.value}_s",
        )
        for part in Part
    }
    known = {part: s for part, s in seconds.items() if s is not None}
    wall_s = sum(known.values())
    if wall_s <= 0:
        return None
    words = {part: format_value(s, "s") for part, s in known.items()}
    plot = goodput_bar(
        {part: s / wall_s for part, s in known.items()},
        words,
        title="Where the wall time went",
        whole=format_value(wall_s, "s"),
        key=f"{prefix}goodput",
    )
    blocks: list[Block] = [Plots(plots=(plot,))] if plot is not None else []
    blocks.append(_parts(known, wall_s))
    attempts = record.resolved.get("observed", {}).get("attempts", ())
    if len(attempts) > 1:
        blocks.append(_attempts(attempts))
    return Section(key=f"{prefix}goodput-section", heading="Goodput", blocks=tuple(blocks))


def _parts(seconds: Mapping[Part, float], wall_s: float) -> Table:
    return Table(
        caption=f"{format_value(wall_s, 's')} from asked for to ended",
        columns=(
            Column(name="part"),
            Column(name="time", numeric=True),
            Column(name="share", numeric=True),
            Column(name="what"),
        ),
        rows=tuple(
            (
                Cell(text=part_name(part)),
                Cell(text=format_value(s, "s")),
                Cell(text=format_value(s / wall_s, "ratio")),
                Cell(text=MEANINGS[part]),
            )
            for part, s in seconds.items()
            if s > 0
        ),
        note="Every second belongs to exactly one part.",
    )


def _attempts(attempts: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        caption="Attempts",
        columns=(
            Column(name="attempt"),
            Column(name="workers", numeric=True),
            Column(name="steps", numeric=True),
            Column(name="first step at", numeric=True),
            Column(name="ended at", numeric=True),
            Column(name="how it ended"),
        ),
        rows=tuple(_attempt(attempt) for attempt in attempts),
    )


def _attempt(attempt: Mapping[str, Any]) -> tuple[Cell, ...]:
    stepped = attempt["first_step"] is not None
    struck = ", ".join(attempt["struck_by"])
    cause = attempt["cause"].replace("_", " ") or "every rank returned"
    return (
        Cell(text=str(attempt["attempt"])),
        Cell(text=str(attempt["num_workers"])),
        Cell(text=f"{attempt['first_step']} to {attempt['last_step']}" if stepped else "none"),
        Cell(text=format_value(attempt["first_step_at_s"], "s")),
        Cell(text=format_value(attempt["ended_at_s"], "s")),
        Cell(
            text=cause,
            detail=f"struck by {struck}" if struck else attempt["message"][:200],
            tone="bad" if attempt["cause"] not in ("", "resized") else "plain",
        ),
    )
