"""Plots of a study's search: what was traded for what, trial after trial, and what it bought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from reports.model import Mark, Plot
from reports.plots import (
    BAD,
    INK,
    SERIES,
    finish,
    plain_axis,
    rows_of,
    seconds_axis,
    summary,
)
from reports.study_told import (
    CandidateTold,
    GoalTold,
    StudyTold,
    TrialState,
    TrialTold,
    config_words,
)
from reports.thinning import is_wide
from results.metrics import Unit
from results.units import counted

GOOD = "var(--good)"
_HEIGHT = 280
_SUMMARY_ROWS = 12

FRONT, BEATEN, BREAKS = "no other beats it", "keeps its limits", "breaks a limit"
FAILED, BASELINE, WINNER = "failed or invalid", "baseline", "winner, measured again"
STOPPED = "stopped after its probe"
# Colour and shape of each, in the order of the legend.
_LOOKS: dict[str, tuple[str, Any]] = {
    FRONT: (SERIES[3], "circle"),
    BEATEN: (SERIES[0], "circle"),
    BREAKS: (SERIES[1], "triangle"),
    STOPPED: (INK, "cross"),
    FAILED: (BAD, "cross"),
    BASELINE: (INK, "square"),
    WINNER: (GOOD, "square"),
}
_VEGA_SHAPES = {"triangle": "triangle-up"}


def kind_of(told: StudyTold, trial: TrialTold) -> str:
    """Which mark a trial is drawn with."""
    if trial.state in (TrialState.FAILED, TrialState.INVALID, TrialState.INFRASTRUCTURE):
        return FAILED
    if trial.state is TrialState.STOPPED:
        return STOPPED
    if trial.phase == "baseline":
        return BASELINE
    if trial.state is TrialState.BREAKS:
        return BREAKS
    return FRONT if trial.number in told.front and len(told.goals) > 1 else BEATEN


def value_of(quantity: GoalTold, holder: TrialTold | CandidateTold) -> float | None:
    return holder.goals.get(quantity.name, holder.bounds.get(quantity.name))


def goal_axis(goal: GoalTold, *, log: bool, direction: bool) -> alt.Axis:
    """``direction``: say which way is better."""
    better = f", {'more' if goal.maximize else 'less'} is better" if direction else ""
    title = f"{goal.label}{better}{', log axis' if log else ''}"
    if goal.unit is Unit.SECONDS:
        axis = seconds_axis(title)
    elif goal.unit is Unit.RATIO:
        axis = plain_axis(title, format=".3~%")
    else:
        axis = plain_axis(
            f"{title}" if goal.unit is Unit.COUNT else _with_unit(goal, title), format="~s"
        )
    axis.tickCount = 6
    return axis


def _with_unit(goal: GoalTold, title: str) -> str:
    return title.replace(goal.label, f"{goal.label}, {goal.unit}", 1)


def trade_off(told: StudyTold, x: GoalTold, y: GoalTold, key: str) -> Plot | None:
    """One quantity against another, a mark per trial. Limits on either are dashed lines."""
    shown = [
        (kind_of(told, t), t, value_of(x, t), value_of(y, t))
        for t in told.trials
        if t.phase != "remeasure" and value_of(x, t) is not None and value_of(y, t) is not None
    ]
    if not shown:
        return None
    kinds = [k for k in _LOOKS if any(s[0] == k for s in shown)]
    rows = [
        (k, float(a or 0.0), float(b or 0.0), _tip(t), t.run_id or "none") for k, t, a, b in shown
    ]
    if told.winner is not None and told.winner.num_runs:
        kinds.append(WINNER)
        wx, wy = value_of(x, told.winner), value_of(y, told.winner)
        words = f"mean of {counted(told.winner.num_runs, 'run')}"
        rows.append(
            (WINNER, float(wx or 0.0), float(wy or 0.0), config_words(told.winner.config), words)
        )
    not_drawn = sum(t.is_search for t in told.trials) - sum(t.is_search for _, t, _, _ in shown)
    without = f"{counted(not_drawn, 'trial')} without numbers cannot be drawn here."
    note = without if not_drawn else ""
    limits = [q for q in (x, y) if q.name in _limits(told)]
    if limits:
        note = f"{note} The dashed line is the limit.".strip()
    if FRONT in kinds and len(told.goals) == 2:
        note = f"{note} The line joins the trials that no other beats in both.".strip()
    return Plot(
        key=key,
        title=f"{y.label} against {x.label}",
        spec=_trade_off_spec(told, x, y, rows, kinds),
        description=_trade_off_sentence(x, y, shown),
        marks=_marks(kinds),
        note=note,
        summary=_trade_off_summary(x, y, shown),
        wide=True,
    )


def _trade_off_spec(
    told: StudyTold,
    x: GoalTold,
    y: GoalTold,
    rows: Sequence[tuple[str, float, float, str, str]],
    kinds: Sequence[str],
) -> dict[str, Any]:
    table = rows_of(
        {
            "kind": [r[0] for r in rows],
            "x": [r[1] for r in rows],
            "y": [r[2] for r in rows],
            "config": [r[3] for r in rows],
            "x_shown": [x.words(r[1]) for r in rows],
            "y_shown": [y.words(r[2]) for r in rows],
            "run": [r[4] for r in rows],
        }
    )
    xs, ys = np.array([r[1] for r in rows]), np.array([r[2] for r in rows])
    channel_x = _channel(alt.X, "x:Q", x, xs, told)
    channel_y = _channel(alt.Y, "y:Q", y, ys, told)
    layers: list[alt.Chart] = []
    limits = _limits(told)
    for quantity, encode in ((x, alt.X), (y, alt.Y)):
        if quantity.name in limits:
            rule = rows_of({"limit": [limits[quantity.name]]})
            rule = rule.mark_rule(strokeDash=[4, 3], color=INK)
            layers.append(rule.encode(**{encode.__name__.lower(): encode("limit:Q")}))
    front = [r for r in rows if r[0] == FRONT]
    # Of three goals, what no other beats in all need not lie on the edge of two.
    if len(front) > 1 and len(told.goals) == 2:
        line = rows_of({"x": [r[1] for r in front], "y": [r[2] for r in front]})
        line = line.mark_line(color=SERIES[3], strokeWidth=1.5, opacity=0.6)
        layers.append(line.encode(x=channel_x, y=channel_y, order="x:Q"))
    colour, shape = _channels(kinds)
    points = table.mark_point(filled=True, size=70, opacity=0.9).encode(
        x=channel_x,
        y=channel_y,
        color=colour,
        shape=shape,
        tooltip=[
            alt.Tooltip("config:N"),
            alt.Tooltip("x_shown:N", title=x.label),
            alt.Tooltip("y_shown:N", title=y.label),
            alt.Tooltip("kind:N", title="which is"),
            alt.Tooltip("run:N"),
        ],
    )
    layers.append(points)
    return finish(alt.layer(*layers), height=_HEIGHT)


def _limits(told: StudyTold) -> dict[str, float]:
    return {b.name: b.limit for b in told.bounds if b.limit is not None}


def _channel(kind: Any, field: str, goal: GoalTold, values: Any, told: StudyTold) -> Any:
    log = is_wide(values, 12.0)
    is_goal = goal.name in {g.name for g in told.goals}
    scale = alt.Scale(type="log", nice=False, padding=16)
    if not log:
        scale = alt.Scale(zero=False, nice=False, padding=16)
    return kind(field, axis=goal_axis(goal, log=log, direction=is_goal), scale=scale)


def _channels(kinds: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    colours = [_LOOKS[k][0] for k in kinds]
    shapes = [_VEGA_SHAPES.get(_LOOKS[k][1], _LOOKS[k][1]) for k in kinds]
    return (
        alt.Color("kind:N", scale=alt.Scale(domain=list(kinds), range=colours), legend=None),
        alt.Shape("kind:N", scale=alt.Scale(domain=list(kinds), range=shapes), legend=None),
    )


def _marks(kinds: Sequence[str]) -> tuple[Mark, ...]:
    return tuple(Mark(name=k, color=_LOOKS[k][0], shape=_LOOKS[k][1]) for k in kinds)


def _tip(trial: TrialTold) -> str:
    words = "the run as it stands" if trial.phase == "baseline" else config_words(trial.config)
    return f"trial {trial.number}: {words}"


def _trade_off_sentence(
    x: GoalTold, y: GoalTold, shown: Sequence[tuple[str, TrialTold, Any, Any]]
) -> str:
    keeps = [s for s in shown if s[1].state is TrialState.KEEPS and s[1].is_search]
    measured = [s for s in shown if s[1].is_search]
    said = f"{len(keeps)} of {counted(len(measured), 'measured trial')} keep the limits"
    if not keeps:
        return f"{said}."
    best = (max if y.maximize else min)(keeps, key=lambda s: s[3])
    return (
        f"{said}; the best of them by {y.label} has {y.words(best[3])} at {x.words(best[2])} "
        f"{x.label}, with {config_words(best[1].config)}."
    )


def _trade_off_summary(
    x: GoalTold, y: GoalTold, shown: Sequence[tuple[str, TrialTold, Any, Any]]
) -> Any:
    order = sorted(
        shown,
        key=lambda s: (list(_LOOKS).index(s[0]), -s[3] if y.maximize else s[3]),
    )
    return summary(
        f"The first {_SUMMARY_ROWS} of {len(order)}"
        if len(order) > _SUMMARY_ROWS
        else "Every trial",
        ("trial", x.label, y.label, "which is"),
        [(_tip(t), x.words(a), y.words(b), kind) for kind, t, a, b in order[:_SUMMARY_ROWS]],
    )


def history(told: StudyTold, goal: GoalTold, key: str) -> Plot | None:
    """A goal trial after trial; failures stand on the floor. With one goal, the best so far too."""
    trials = [t for t in told.trials if t.phase != "remeasure"]
    if not trials:
        return None
    kinds = [k for k in _LOOKS if any(kind_of(told, t) == k for t in trials)]
    single = len(told.goals) == 1
    measured = [t for t in trials if value_of(goal, t) is not None]
    note = (
        "Trials that failed, were invalid or stopped stand on the floor: they have no number. "
        if {FAILED, STOPPED} & set(kinds)
        else ""
    )
    if single and told.progress:
        note += "The line is the best so far that keeps its limits."
    return Plot(
        key=key,
        title=f"{goal.label}, trial after trial",
        spec=_history_spec(told, goal, trials, kinds),
        description=_history_sentence(told, goal, measured),
        marks=_marks(kinds),
        note=note.strip(),
        summary=_history_summary(told, goal, trials),
        wide=single,
    )


def _history_spec(
    told: StudyTold, goal: GoalTold, trials: Sequence[TrialTold], kinds: Sequence[str]
) -> dict[str, Any]:
    values = [value_of(goal, t) for t in trials]
    axis = plain_axis("trial", format="d", tickMinStep=1)
    x = alt.X("number:Q", axis=axis, scale=alt.Scale(zero=False, nice=False, padding=10))
    seen = np.array([v for v in values if v is not None], dtype=np.float64)
    y = _channel(alt.Y, "value:Q", goal, seen, told)
    layers: list[alt.Chart] = []
    if len(told.goals) == 1 and told.progress:
        line = rows_of(
            {
                "number": [p.number for p in told.progress],
                "value": [p.value for p in told.progress],
            }
        )
        line = line.mark_line(color=SERIES[0], strokeWidth=1.5, interpolate="step-after")
        layers.append(line.encode(x=x, y=y))
    colour, shape = _channels(kinds)
    columns: dict[str, list[Any]] = {
        "number": [t.number for t in trials],
        "kind": [kind_of(told, t) for t in trials],
        "value": [np.nan if v is None else v for v in values],
        "config": [_tip(t) for t in trials],
        "shown": [_outcome_words(goal, t) for t in trials],
        "run": [t.run_id or "none" for t in trials],
    }
    tips = [
        alt.Tooltip("config:N"),
        alt.Tooltip("shown:N", title=goal.label),
        alt.Tooltip("kind:N", title="which"),
        alt.Tooltip("run:N"),
    ]
    for there in (True, False):
        rows = [i for i, v in enumerate(values) if (v is not None) == there]
        if not rows:
            continue
        table = rows_of({name: [column[i] for i in rows] for name, column in columns.items()})
        points = table.mark_point(filled=True, size=60, opacity=0.9)
        layers.append(
            points.encode(
                x=x,
                y=y if there else alt.value(alt.expr("height - 8")),
                color=colour,
                shape=shape,
                tooltip=tips,
            )
        )
    return finish(alt.layer(*layers), height=_HEIGHT)


def _outcome_words(goal: GoalTold, trial: TrialTold) -> str:
    value = value_of(goal, trial)
    return goal.words(value) if value is not None else f"{trial.state}: {trial.kind}"


def _history_sentence(told: StudyTold, goal: GoalTold, measured: Sequence[TrialTold]) -> str:
    keeps = [t for t in measured if t.state is TrialState.KEEPS and t.is_search]
    if not keeps:
        return "No trial that was measured keeps its limits."
    best = (max if goal.maximize else min)(keeps, key=lambda t: t.goals[goal.name])
    return (
        f"The best that keeps its limits came in trial {best.number} of "
        f"{max(t.number for t in told.trials if t.phase != 'remeasure')}: "
        f"{goal.words(best.goals[goal.name])}."
    )


def _history_summary(told: StudyTold, goal: GoalTold, trials: Sequence[TrialTold]) -> Any:
    groups: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for trial in trials:
        kind = kind_of(told, trial)
        counts[kind] = counts.get(kind, 0) + 1
        value = value_of(goal, trial)
        if value is not None:
            groups.setdefault(kind, []).append(value)

    def words(kind: str, pick: Any) -> str:
        return goal.words(pick(groups[kind])) if kind in groups else "n/a"

    return summary(
        f"{goal.label} by how a trial ended",
        ("trials", "how many", "lowest", "highest"),
        [(k, str(n), words(k, min), words(k, max)) for k, n in counts.items()],
    )
