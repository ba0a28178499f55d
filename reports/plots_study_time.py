"""When each trial of a study started, waited for its turn and was loaded, on one axis of time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import altair as alt

from reports.model import Mark, Plot
from reports.plots import INK, MUTED, SERIES, finish, plain_axis, rows_of, summary
from reports.study_told import SpanPart, SpanTold, StudyTold, TrialTold, config_words
from results.units import format_value

MAX_ROWS = 60
MAX_PAUSE_S = 60.0  # a study that goes on next week is not drawn as a week
_ROW = 15
_LOOKS = {
    SpanPart.START: (SERIES[1], "start"),
    SpanPart.WAIT: (MUTED, "ready, waits for its turn"),
    SpanPart.LOAD: (SERIES[0], "under load"),
}

Interval = tuple[float, float]


def timeline(told: StudyTold, key: str) -> Plot | None:
    """None where fewer than two trials are known by their times."""
    trials = [t for t in told.trials if t.spans]
    if len(trials) < 2:
        return None
    parts = [p for p in SpanPart if any(s.part is p for t in trials for s in t.spans)]
    note = "A pause of more than a minute is drawn as a minute. " if _pauses(trials) else ""
    if len(trials) > MAX_ROWS:
        note += f"The first {MAX_ROWS} of {len(trials)} runs are drawn."
    return Plot(
        key=key,
        title="Starts and loads",
        spec=_spec(trials, parts),
        description=_sentence(trials),
        marks=tuple(Mark(name=_LOOKS[p][1], color=_LOOKS[p][0], shape="square") for p in parts),
        note=note.strip(),
        summary=summary(
            "Seconds by part",
            ("part", "all runs", "the longest"),
            [_row(trials, part) for part in parts],
        ),
        wide=True,
    )


def _spec(trials: Sequence[TrialTold], parts: Sequence[SpanPart]) -> dict[str, object]:
    drawn = trials[:MAX_ROWS]
    pauses = _pauses(drawn)
    begun_s = min(s.start_s for t in drawn for s in t.spans)
    rows = [(t, s) for t in drawn for s in t.spans]
    table = rows_of(
        {
            "trial": [_name(t) for t, _ in rows],
            "config": [config_words(t.config, "as it stands") for t, _ in rows],
            "part": [_LOOKS[s.part][1] for _, s in rows],
            "start": [_drawn(s.start_s, pauses) - begun_s for _, s in rows],
            "end": [_drawn(s.end_s, pauses) - begun_s for _, s in rows],
            "took": [format_value(s.end_s - s.start_s, "s") for _, s in rows],
        }
    )
    looks = [_LOOKS[p] for p in parts]
    order = list(dict.fromkeys(_name(t) for t in drawn))
    bars = table.mark_bar(stroke=INK, strokeWidth=0.3).encode(
        x=alt.X("start:Q", axis=plain_axis("seconds since the first start"), scale={"nice": False}),
        x2="end:Q",
        y=alt.Y("trial:N", sort=order, axis=plain_axis("", labelLimit=90, labelOverlap=False)),
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=[name for _, name in looks], range=[c for c, _ in looks]),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip("trial:N"),
            alt.Tooltip("config:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("took:N"),
        ],
    )
    return finish(alt.layer(bars), height=max(_ROW * len(order), 4 * _ROW))


def _name(trial: TrialTold) -> str:
    words = {"baseline": " baseline", "remeasure": " again"}
    return f"{trial.number}{words.get(trial.phase, '')}"


def _spans(trials: Iterable[TrialTold], *parts: SpanPart) -> list[SpanTold]:
    return [s for t in trials for s in t.spans if s.part in (parts or tuple(SpanPart))]


def joined(spans: Iterable[SpanTold]) -> list[Interval]:
    """What they cover, as intervals that do not touch, in order."""
    made: list[Interval] = []
    for start_s, end_s in sorted((s.start_s, s.end_s) for s in spans):
        if made and start_s <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], end_s))
        else:
            made.append((start_s, end_s))
    return made


def both_s(one: Sequence[Interval], other: Sequence[Interval]) -> float:
    """Seconds that lie in both."""
    return sum(
        max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) for a in one for b in other if a[0] < b[1]
    )


def _pauses(trials: Sequence[TrialTold]) -> list[tuple[float, float]]:
    """Long times in which nothing ran: where each ends, and how much of it is not drawn."""
    covered = joined(_spans(trials))
    between = [(b[0], b[0] - a[1]) for a, b in itertools.pairwise(covered)]
    return [(end_s, gap_s - MAX_PAUSE_S) for end_s, gap_s in between if gap_s > MAX_PAUSE_S]


def _drawn(at_s: float, pauses: Sequence[tuple[float, float]]) -> float:
    return at_s - sum(cut_s for end_s, cut_s in pauses if end_s <= at_s)


def _sentence(trials: Sequence[TrialTold]) -> str:
    ran_s = sum(b - a for a, b in joined(_spans(trials)))
    starts, loads = joined(_spans(trials, SpanPart.START)), joined(_spans(trials, SpanPart.LOAD))
    load_s, beside_s = sum(b - a for a, b in loads), both_s(starts, loads)
    return (
        f"Of {format_value(ran_s, 's')} in which something ran, a trial was under load for "
        f"{format_value(load_s, 's')}; for {format_value(beside_s, 's')} of it another one started."
    )


def _row(trials: Sequence[TrialTold], part: SpanPart) -> tuple[str, str, str]:
    took = [s.end_s - s.start_s for s in _spans(trials, part)]
    return _LOOKS[part][1], format_value(sum(took), "s"), format_value(max(took), "s")
