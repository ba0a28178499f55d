"""Where the time of a training step went, rank by rank, and how it was found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import altair as alt
import numpy as np

from reports.model import Fact, Facts, Mark, Plot
from reports.plots import SERIES, finish, rows_of, seconds_axis, si_seconds, summary
from results.measurement import Measurement
from results.record import RunRecord
from results.samples import FloatColumn, StepSamples
from results.units import format_value

MAX_RANKS = 8  # of more: the slowest, the median and the fastest


class Part(NamedTuple):
    name: str
    column: str  # of StepSamples; "": what no other part covers
    color: str


PARTS = (
    Part("computing", "", SERIES[0]),
    Part("exposed communication", "comm_s", SERIES[1]),
    Part("optimizer", "optimizer_s", SERIES[2]),
    Part("waiting for data", "data_wait_s", SERIES[3]),
)


def step_parts(samples: StepSamples, key: str) -> Plot | None:
    """One bar per rank: its mean step without warm-up, cut into its parts. A part that was not
    timed stays in what is called computing, and the note says so."""
    measured = ~samples.is_warmup
    ranks = _shown(samples)
    if not ranks:
        return None
    means = {
        part.column: [_mean(getattr(samples, part.column), samples, rank) for _, rank in ranks]
        for part in PARTS
        if part.column
    }
    untimed = [p.name for p in PARTS if p.column and np.isnan(means[p.column]).any()]
    parts = [p for p in PARTS if p.name not in untimed]
    whole = [_mean(samples.duration_s, samples, rank) for _, rank in ranks]
    known = [p.column for p in parts if p.column]
    means[""] = [
        max(0.0, total - sum(means[name][i] for name in known)) for i, total in enumerate(whole)
    ]
    names = [name for name, _ in ranks]
    shares = ", ".join(
        f"{p.name} {format_value(sum(means[p.column]) / sum(whole), 'ratio')}" for p in parts
    )
    return Plot(
        key=key,
        title="Where the step's time goes",
        spec=finish(_bars(names, parts, means), height=40 + 34 * len(names)),
        marks=tuple(Mark(name=p.name, color=p.color, shape="square") for p in parts),
        wide=True,
        description=f"Mean of {len(np.unique(samples.step[measured])):,} measured steps: {shares}.",
        note=f"Not timed, and therefore in computing: {', '.join(untimed)}. " if untimed else "",
        summary=summary(
            "Mean step without warm-up, by its parts",
            ("rank", *(p.name for p in parts), "step"),
            [
                (
                    name,
                    *(format_value(means[p.column][i], "s") for p in parts),
                    format_value(whole[i], "s"),
                )
                for i, name in enumerate(names)
            ],
        ),
    )


def _bars(names: list[str], parts: list[Part], means: Mapping[str, Sequence[float]]) -> alt.Chart:
    rows = [(name, p, means[p.column][i]) for i, name in enumerate(names) for p in parts]
    table = rows_of(
        {
            "rank": [name for name, _, _ in rows],
            "part": [part.name for _, part, _ in rows],
            "order": [parts.index(part) for _, part, _ in rows],
            "seconds": [value for _, _, value in rows],
        }
    )
    bars: alt.Chart = (
        table.transform_calculate(took=si_seconds("seconds"))
        .mark_bar(height={"band": 0.62})
        .encode(
            x=alt.X("sum(seconds):Q", axis=seconds_axis("mean step"), stack="zero"),
            y=alt.Y("rank:N", sort=names, title=None, axis=alt.Axis(grid=False)),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=[p.name for p in parts], range=[p.color for p in parts]),
                legend=None,
            ),
            order=alt.Order("order:Q"),
            tooltip=["rank:N", "part:N", alt.Tooltip("took:N", title="time")],
        )
    )
    return bars


def how_it_was_found(record: RunRecord) -> Facts | None:
    """MFU or why there is none, and the rules by which time and arithmetic were counted."""
    facts = []
    mfu = _statistic(record, "mfu", "value")
    if mfu is not None:
        known = format_value(mfu.value, "ratio") if mfu.value is not None else ""
        facts.append(Fact(label="MFU", value=known or f"none: {mfu.reason}"))
    told = {**record.resolved, **record.resolved.get("observed", {})}
    for label, name in (
        ("FLOPs of a token", "flops_rule"),
        ("communication", "comm_method"),
        ("optimizer", "optimizer_method"),
    ):
        if told.get(name):
            facts.append(Fact(label=label, value=str(told[name])))
    for label, metric in (
        ("checkpoint save, mean", "checkpoint_save_s"),
        ("checkpoint restore, mean", "checkpoint_restore_s"),
    ):
        took = _statistic(record, metric, "mean")
        if took is not None and took.value is not None:
            facts.append(Fact(label=label, value=f"{format_value(took.value, 's')} of {took.n}"))
    return Facts(facts=tuple(facts)) if facts else None


def _statistic(record: RunRecord, metric: str, statistic: str) -> Measurement | None:
    found = (m for m in record.measurements if (m.metric, m.statistic) == (metric, statistic))
    return next(found, None)


def _shown(samples: StepSamples) -> list[tuple[str, int]]:
    """(what the bar is called, its rank)."""
    ranks = [int(rank) for rank in np.unique(samples.rank[~samples.is_warmup])]
    if len(ranks) <= MAX_RANKS:
        return [(f"rank {rank}", rank) for rank in ranks]
    slow = sorted(ranks, key=lambda rank: -_mean(samples.duration_s, samples, rank))
    picked = {"slowest": slow[0], "median": slow[len(slow) // 2], "fastest": slow[-1]}
    return [(f"{word}, rank {rank}", rank) for word, rank in picked.items()]


def _mean(column: FloatColumn, samples: StepSamples, rank: int) -> float:
    return float(column[~samples.is_warmup & (samples.rank == rank)].mean())
