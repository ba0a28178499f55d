"""Plots of a study's knobs: how much each mattered, and which values the good trials share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt

from reports.model import Mark, Plot
from reports.plots import INK, SERIES, finish, plain_axis, rows_of, summary
from reports.plots_study import BEATEN, BREAKS, GOOD, WINNER
from reports.study_told import (
    GoalTold,
    KnobTold,
    ProgressPoint,
    StudyTold,
    TrialState,
    TrialTold,
    Value,
    config_words,
    value_words,
)
from results.units import counted, format_value

MAX_KNOBS = 8
_MAX_VALUES = 7  # of a knob, written below its line
_MAX_LINES = 120
_BEST = 5
BEST = f"among the best {_BEST}"
# Drawn below a word, so that lines that cross it do not cross it out.
_HALO: dict[str, Any] = {"stroke": "var(--ground)", "strokeWidth": 4, "strokeOpacity": 0.85}
_ROW = 58  # pixels from one knob to the next


def importance_plot(told: StudyTold, key: str) -> Plot | None:
    """A bar per knob, the most important first, with its spread."""
    found = told.importances[:MAX_KNOBS]
    if not found:
        return None
    labels = {k.path: k.label for k in told.knobs}
    names = [labels.get(i.path, i.path) for i in found]
    table = rows_of(
        {
            "knob": names,
            "share": [i.share for i in found],
            "low": [i.low for i in found],
            "high": [i.high for i in found],
            "shown": [format_value(i.share, "ratio") for i in found],
            "spread": [f"{i.low:.0%} to {i.high:.0%}" for i in found],
        }
    )
    tips = [
        alt.Tooltip("knob:N"),
        alt.Tooltip("shown:N", title="share"),
        alt.Tooltip("spread:N", title="middle 80 % over resampled trials"),
    ]
    y = alt.Y("knob:N", sort=names, axis=plain_axis("", labelLimit=170))
    axis = plain_axis("share of what the knobs explain", format="%")
    x = alt.X("share:Q", axis=axis, scale=alt.Scale(domain=[0, 1]))
    bars = table.mark_bar(color=SERIES[0], height={"band": 0.55}).encode(x=x, y=y, tooltip=tips)
    rules = table.mark_rule(color=INK, strokeWidth=1.5)
    spread = rules.encode(x=alt.X("low:Q"), x2="high:Q", y=y)
    first = found[0]
    left = len(told.importances) - len(found)
    return Plot(
        key=key,
        title="Which knobs mattered",
        spec=finish(alt.layer(bars, spread), height=34 * len(found) + 10),
        description=f"{names[0]} explains {format_value(first.share, 'ratio')} of what sets the "
        f"best trials apart ({first.low:.0%} to {first.high:.0%}).",
        note="PED-ANOVA: how differently a knob is set among the best trials and among all. Lines "
        "are the middle 80 % over resampled trials: where they overlap, the order is not known."
        + (f" {counted(left, 'knob')} below are not drawn." if left else ""),
        summary=summary(
            "Importance of each knob",
            ("knob", "share", "spread"),
            [
                (n, format_value(i.share, "ratio"), f"{i.low:.0%} to {i.high:.0%}")
                for n, i in zip(names, found, strict=True)
            ],
        ),
    )


def parallel(told: StudyTold, key: str) -> Plot | None:
    """Every measured trial as a line through its values: a row per knob, the goal last."""
    measured = [
        t for t in told.searched if t.state in (TrialState.KEEPS, TrialState.BREAKS) and t.config
    ]
    knobs = _knobs_drawn(told, measured)
    if len(measured) < 2 or not knobs:
        return None
    lines = sorted(measured, key=lambda t: _rank(told, t))[-_MAX_LINES:]
    goal = told.goals[0]
    winner = told.winner.config if told.winner is not None else None
    kinds = {t.number: _kind(t) for t in lines}
    kinds |= {t.number: BEST for t in lines[-_BEST:] if t.state is TrialState.KEEPS}
    kinds |= {t.number: WINNER for t in lines if t.config == winner}
    left, cut = len(told.knobs) - len(knobs), len(measured) - len(lines)
    colours = {BREAKS: SERIES[1], BEATEN: SERIES[0], BEST: SERIES[3], WINNER: GOOD}
    colours = {k: c for k, c in colours.items() if k in kinds.values()}
    note = "Each line is one trial; it passes each knob at the value it was set to."
    note += (
        f" {counted(left, 'knob')} had one value or mattered least and are not drawn."
        if left > 0
        else ""
    )
    note += f" The {len(lines)} best of {len(measured)} trials." if cut else ""
    return Plot(
        key=key,
        title="What the good trials share",
        spec=_parallel_spec(knobs, lines, goal, colours, kinds),
        description=_parallel_sentence(told, knobs, measured),
        marks=tuple(Mark(name=k, color=c, shape="circle") for k, c in colours.items()),
        note=note,
        summary=summary(
            "The best trials",
            ("configuration", goal.label, "limits"),
            [
                (config_words(t.config), goal.words(t.goals[goal.name]), str(t.state))
                for t in reversed(lines[-5:])
            ],
        ),
        wide=True,
    )


def _kind(trial: TrialTold) -> str:
    return BEATEN if trial.state is TrialState.KEEPS else BREAKS


def _rank(told: StudyTold, trial: TrialTold) -> tuple[bool, float]:
    goal = told.goals[0]
    value = trial.goals[goal.name]
    return trial.state is TrialState.KEEPS, value if goal.maximize else -value


def _knobs_drawn(told: StudyTold, trials: Sequence[TrialTold]) -> list[KnobTold]:
    order = {i.path: place for place, i in enumerate(told.importances)}
    varied = [
        k
        for k in told.knobs
        if len({value_words(t.config[k.path]) for t in trials if k.path in t.config}) > 1
    ]
    return sorted(varied, key=lambda k: order.get(k.path, len(order)))[:MAX_KNOBS]


def _place(knob: KnobTold, value: Value) -> float:
    words = [value_words(v) for v in knob.values]
    return words.index(value_words(value)) / max(len(words) - 1, 1)


def _goal_place(goal: GoalTold, trials: Sequence[TrialTold], value: float) -> float:
    values = [t.goals[goal.name] for t in trials]
    low, high = min(values), max(values)
    at = (value - low) / (high - low) if high > low else 1.0
    return at if goal.maximize else 1.0 - at


def _parallel_spec(
    knobs: Sequence[KnobTold],
    lines: Sequence[TrialTold],
    goal: GoalTold,
    colours: dict[str, str],
    kinds: Mapping[int, str],
) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {n: [] for n in ("trial", "row", "x", "kind", "tip", "shown")}
    for trial in lines:
        kind = kinds[trial.number]
        points = [
            (row, _place(knob, trial.config[knob.path]))
            for row, knob in enumerate(knobs)
            if knob.path in trial.config
        ]
        points.append((len(knobs), _goal_place(goal, lines, trial.goals[goal.name])))
        for row, at in points:
            for name, value in (
                ("trial", trial.number),
                ("row", row),
                ("x", at),
                ("kind", kind),
                ("tip", f"trial {trial.number}: {config_words(trial.config)}"),
                ("shown", goal.words(trial.goals[goal.name])),
            ):
                columns[name].append(value)
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, 1], padding=14))
    rows = len(knobs) + 1
    y = alt.Y("row:Q", axis=None, scale=alt.Scale(domain=[rows - 0.45, -0.5], nice=False))
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(colours), range=list(colours.values())),
        legend=None,
    )
    chosen = (alt.datum.kind == WINNER) | (alt.datum.kind == BEST)
    tips = [alt.Tooltip("tip:N", title="trial"), alt.Tooltip("shown:N", title=goal.label)]
    drawn = rows_of(columns).encode(
        x=x, y=y, color=colour, detail="trial:N", order="row:Q", tooltip=tips
    )
    opacity = 0.35 if len(lines) < 40 else 0.2
    layers: list[alt.Chart] = [
        rows_of({"row": list(range(rows)), "from": [0.0] * rows, "to": [1.0] * rows})
        .mark_rule(color="var(--line)", strokeWidth=1)
        .encode(x=alt.X("from:Q", axis=None), x2="to:Q", y=y),
        drawn.transform_filter(~chosen).mark_line(opacity=opacity, strokeWidth=1.5),
        drawn.transform_filter(chosen).mark_line(strokeWidth=2.5, opacity=0.9),
        drawn.mark_point(filled=True, size=26, opacity=0.8),
        *_labels(knobs, lines, goal, y),
    ]
    return finish(alt.layer(*layers), height=_ROW * rows)


def _labels(
    knobs: Sequence[KnobTold], lines: Sequence[TrialTold], goal: GoalTold, y: alt.Y
) -> list[alt.Chart]:
    """A knob's name above its line, its values below; the ends are kept inside the picture."""
    names = [*(k.label for k in knobs), goal.label]
    titles = rows_of({"row": list(range(len(names))), "text": names, "x": [0.0] * len(names)})
    x = alt.X("x:Q", axis=None)
    bold: dict[str, Any] = {"align": "left", "dy": -15, "fontWeight": "bold"}
    layers = [
        titles.mark_text(**bold, **look).encode(x=x, y=y, text="text:N")
        for look in (_HALO, {"fill": INK})
    ]
    ends = sorted((t.goals[goal.name] for t in lines), reverse=not goal.maximize)
    words: list[tuple[int, float, str]] = [
        (len(knobs), 0.0, goal.words(ends[0])),
        (len(knobs), 1.0, f"{goal.words(ends[-1])}, the best"),
    ]
    for row, knob in enumerate(knobs):
        n = len(knob.values)
        step = 1 if n <= _MAX_VALUES else (n - 1) / 2  # first, middle, last
        places = sorted({round(i * step) for i in range(n if n <= _MAX_VALUES else 3)})
        words += [(row, _place(knob, knob.values[p]), value_words(knob.values[p])) for p in places]
    sides: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "right")
    for side, align in enumerate(sides):
        some = [w for w in words if (w[1] > 0.0) + (w[1] == 1.0) == side]
        if some:
            table = rows_of(
                {
                    "row": [w[0] for w in some],
                    "x": [w[1] for w in some],
                    "text": [w[2] for w in some],
                }
            )
            for look in ({**_HALO}, {"fill": "var(--soft)"}):
                marks = table.mark_text(align=align, dy=15, **look)
                layers.append(marks.encode(x=x, y=y, text="text:N"))
    return layers


def _parallel_sentence(
    told: StudyTold, knobs: Sequence[KnobTold], measured: Sequence[TrialTold]
) -> str:
    """What the best trials agree on."""
    keeps = [t for t in measured if t.state is TrialState.KEEPS]
    best = sorted(keeps, key=lambda t: _rank(told, t))[-5:]
    if len(best) < 2:
        return f"{counted(len(keeps), 'trial')} of {len(measured)} kept the limits."
    same = [
        f"{k.label} {value_words(best[0].config[k.path])}"
        for k in knobs
        if len({value_words(t.config[k.path]) if k.path in t.config else "–" for t in best}) == 1
        and k.path in best[0].config
    ]
    agreed = f"all have {', '.join(same)}" if same else "agree on no knob"
    return f"The best {len(best)} trials that keep the limits {agreed}."


def progress_plot(told: StudyTold, key: str) -> Plot | None:
    """Of several goals: how much of the space between worst and best was covered, over trials."""
    points: Sequence[ProgressPoint] = told.progress
    if len(told.goals) < 2 or not points:
        return None
    table = rows_of(
        {
            "number": [p.number for p in points],
            "value": [p.value for p in points],
            "shown": [format_value(p.value, "ratio") for p in points],
        }
    )
    x = alt.X(
        "number:Q",
        axis=plain_axis("trial", format="d", tickMinStep=1),
        scale=alt.Scale(zero=False, nice=False, padding=10),
    )
    y = alt.Y("value:Q", axis=plain_axis("hypervolume", format="%"), scale=alt.Scale(domain=[0, 1]))
    tips = [
        alt.Tooltip("number:Q", title="after trial"),
        alt.Tooltip("shown:N", title="hypervolume"),
    ]
    line = table.mark_line(interpolate="step-after", color=SERIES[0], point=True)
    last, half = points[-1], next(p for p in points if p.value >= points[-1].value / 2)
    names = " and ".join(g.label for g in told.goals)
    return Plot(
        key=key,
        title="Hypervolume over trials",
        spec=finish(line.encode(x=x, y=y, tooltip=tips), height=240),
        description=f"After trial {last.number} the front covers "
        f"{format_value(last.value, 'ratio')} of the space between the worst and the best {names} "
        f"that kept the limits; half of that was there after trial {half.number}.",
        note="Only trials that keep the limits count. The reference lies a tenth of each goal's "
        "spread below the worst.",
        summary=summary(
            "Hypervolume",
            ("after trial", "share covered"),
            [(str(p.number), format_value(p.value, "ratio")) for p in _few(points)],
        ),
    )


def _few(points: Sequence[ProgressPoint]) -> list[ProgressPoint]:
    """Where it rose, at most ten."""
    rises = [p for i, p in enumerate(points) if i == 0 or p.value > points[i - 1].value]
    return rises if len(rises) <= 10 else [*rises[:5], *rises[-5:]]
