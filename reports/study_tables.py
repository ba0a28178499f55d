"""The tables of a study's page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from reports.model import Block, Cell, Column, Fact, Facts, Table, Tone
from reports.study_failures import TONES, short
from reports.study_told import (
    BoundTold,
    CandidateTold,
    GoalTold,
    StudyTold,
    TrialState,
    TrialTold,
    config_words,
)
from results.units import counted, format_chance, format_interval, format_value

MAX_TRIALS = 300


def winner_table(told: StudyTold) -> Table:
    """Goals and limits: the baseline beside the winner."""
    rows = []
    for quantity in (*told.goals, *told.bounds):
        before, after = _of(told.baseline, quantity), _of(told.winner, quantity)
        rows.append(
            (
                Cell(text=quantity.label, detail=_asked(quantity)),
                _value_cell(quantity, told.baseline, before),
                *(
                    (
                        _value_cell(quantity, told.winner, after),
                        Cell(text=_ratio_words(before, after)),
                    )
                    if told.winner is not None
                    else ()
                ),
            )
        )
    runs = [
        f"{who}: mean of {counted(c.num_runs, 'run')}"
        for who, c in (("baseline", told.baseline), ("winner", told.winner))
        if c is not None
    ]
    return Table(
        caption="The baseline is the run as its file says it",
        columns=(
            Column(name="what"),
            Column(name="baseline", numeric=True),
            *(
                (Column(name="winner", numeric=True), Column(name="change", numeric=True))
                if told.winner is not None
                else ()
            ),
        ),
        rows=tuple(rows),
        note=f"{'; '.join(runs)}. Under a value the 95 % interval of its mean, where there are "
        "two runs or more.",
    )


def _of(candidate: CandidateTold | None, quantity: GoalTold) -> float | None:
    if candidate is None:
        return None
    values = candidate.bounds if isinstance(quantity, BoundTold) else candidate.goals
    return values.get(quantity.name)


def _asked(quantity: GoalTold) -> str:
    if isinstance(quantity, BoundTold):
        return f"limit {quantity.limit_words}"
    return "more is better" if quantity.maximize else "less is better"


def _value_cell(quantity: GoalTold, candidate: CandidateTold | None, value: float | None) -> Cell:
    if candidate is None or value is None:
        return Cell(text="n/a", tone="muted")
    bounds = candidate.goal_bounds.get(quantity.name)
    tone: Tone = "plain"
    if isinstance(quantity, BoundTold):
        tone = "good" if quantity.keeps(value) else "bad"
    detail = format_interval(*bounds, quantity.unit) if bounds is not None else ""
    return Cell(text=quantity.words(value), detail=detail, tone=tone)


def _ratio_words(before: float | None, after: float | None) -> str:
    if not before or after is None:
        return "n/a"
    return f"{100 * (after / before - 1):+.1f} %".replace("-", "−")


def remeasured_table(told: StudyTold) -> Table:
    rows = []
    for candidate in told.remeasured:
        is_winner = told.winner is not None and candidate.config == told.winner.config
        rows.append(
            (
                Cell(text=config_words(candidate.config), detail="the winner" if is_winner else ""),
                _verdict_cell(candidate),
                Cell(
                    text="n/a"
                    if candidate.probability is None
                    else format_chance(candidate.probability),
                    detail=_weakest(told, candidate),
                ),
                *(_value_cell(q, candidate, _of(candidate, q)) for q in told.goals),
                *(_value_cell(q, candidate, _of(candidate, q)) for q in told.bounds),
                Cell(
                    text=str(candidate.num_runs + candidate.num_failed),
                    detail=f"{candidate.num_failed} failed" if candidate.num_failed else "",
                    tone="bad" if candidate.num_failed else "plain",
                ),
            )
        )
    return Table(
        caption="Candidates in the order they were measured again",
        columns=(
            Column(name="configuration"),
            Column(name="verdict"),
            Column(
                name="keeps its limits",
                numeric=True,
                meaning="the probability that its next run does, from below",
            ),
            *(Column(name=q.label, numeric=True) for q in (*told.goals, *told.bounds)),
            Column(name="runs", numeric=True),
        ),
        rows=tuple(rows),
        note="Under a value the 95 % interval of its mean.",
    )


def _verdict_cell(candidate: CandidateTold) -> Cell:
    tones: dict[str, Tone] = {"passed": "good", "rejected": "bad", "invalid": "warn"}
    words = {"measure": "undecided"}
    return Cell(
        text=words.get(candidate.verdict, candidate.verdict),
        detail=candidate.why,
        tone=tones.get(candidate.verdict, "muted"),
    )


def _weakest(told: StudyTold, candidate: CandidateTold) -> str:
    if len(candidate.by_bound) < 2:
        return ""
    name = min(candidate.by_bound, key=lambda n: candidate.by_bound[n])
    label = next((b.label for b in told.bounds if b.name == name), name)
    return f"weakest: {label}"


def resolved_table(told: StudyTold) -> Table | None:
    """What the engine says it ran with: only where winner and baseline differ."""
    if told.winner is None:
        return None
    before, after = told.resolved_baseline, told.resolved_winner
    knobs = {
        k.path: (k.label, _knob_words(told, k.path))
        for k in told.knobs
        if k.path in told.winner.config
    }
    rows = [
        (
            Cell(text=label, detail="knob"),
            Cell(text=told.baseline_config.get(path, "not known")),
            Cell(text=value),
        )
        for path, (label, value) in knobs.items()
    ]
    differ = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
    rows += [
        (
            Cell(text=name, code=True),
            Cell(text=before.get(name, "not there")),
            Cell(text=after.get(name, "not there")),
        )
        for name in differ
    ]
    said = "What the engine resolved differs in the rows below the knobs."
    if not before or not after:
        said = "The engine's resolved configuration was not recorded for both."
    elif not differ:
        said = f"Of {len(after)} values that the engine resolved, none differs."
    return Table(
        caption="The winner's configuration, and what it changes",
        columns=(Column(name="what"), Column(name="baseline"), Column(name="winner")),
        rows=tuple(rows),
        note=said,
    )


def _knob_words(told: StudyTold, path: str) -> str:
    assert told.winner is not None
    value = told.winner.config[path]
    return "left to the engine" if value is None else config_words({path: value}).partition("=")[2]


def cost_blocks(told: StudyTold) -> tuple[Block, ...]:
    money = f"{told.usd:.2f} USD" if told.usd is not None else f"n/a ({told.why_no_usd})"
    facts = [
        Fact(label="wall time of runs", value=format_value(told.wall_s, "s")),
        Fact(label="chip-hours", value=f"{told.chip_hours:.3g}" if told.chip_hours else "none"),
        Fact(label="money", value=money),
    ]
    stopped = [t for t in told.trials if t.state is TrialState.STOPPED]
    probe_s = sum(t.probe_s for t in told.trials if not t.from_memory)
    if probe_s:
        saved_s = sum(t.saved_s for t in stopped)
        words = f"{format_value(saved_s, 's')} of load not made" if saved_s else "none stopped"
        facts.append(
            Fact(
                label="probes",
                value=f"{len(stopped)} trials stopped: {words}; {format_value(probe_s, 's')} spent",
            )
        )
    waited_s = sum(t.waited_s for t in told.trials if not t.from_memory)
    if waited_s:
        words = f"{format_value(waited_s, 's')}, ready, for their turn to be loaded"
        facts.append(Fact(label="waits", value=words))
    tables = (_phases_table(told), *_restarts_table(told))
    return (Facts(facts=tuple(facts)), *tables)


def _restarts_table(told: StudyTold) -> tuple[Table, ...]:
    """Seconds of every start by what they were spent on; nothing where nothing was started."""
    started = [t for t in told.trials if t.startup_s is not None and not t.from_memory]
    if not started:
        return ()
    parts = list(dict.fromkeys(name for t in started for name in t.startup_parts))
    rows = [
        (
            Cell(text=str(t.number)),
            Cell(text=config_words(t.config) or "as it stands"),
            Cell(text=format_value(t.startup_s, "s")),
            *(Cell(text=format_value(t.startup_parts.get(name, 0.0), "s")) for name in parts),
        )
        for t in started[:MAX_TRIALS]
    ]
    each = len(started)
    means = [sum(t.startup_parts.get(name, 0.0) for t in started) / each for name in parts]
    whole_s = sum(t.startup_s or 0.0 for t in started) / each
    rows.append(
        (
            Cell(text="mean"),
            Cell(text=f"of {each}"),
            Cell(text=format_value(whole_s, "s")),
            *(Cell(text=format_value(mean, "s")) for mean in means),
        )
    )
    return (
        Table(
            caption="Seconds of restart, trial by trial",
            columns=(
                Column(name="#"),
                Column(name="configuration"),
                Column(name="start", numeric=True, meaning="asked for → first token or step"),
                *(Column(name=name, numeric=True) for name in parts),
            ),
            rows=tuple(rows),
        ),
    )


_PHASES: Mapping[str, str] = {
    "baseline": "the baseline",
    "seed": "first trials, by the forecast",
    "search": "the search",
    "remeasure": "measured again",
}


def _phases_table(told: StudyTold) -> Table:
    rows = []
    for phase, words in _PHASES.items():
        mine = [t for t in told.trials if t.phase == phase]
        if not mine:
            continue
        paid = [t for t in mine if not t.from_memory]
        startups = [t.startup_s for t in paid if t.startup_s is not None]
        wall_s = sum(t.wall_s for t in paid)
        usd = [t.usd for t in paid if t.usd is not None]
        remembered = len(mine) - len(paid)
        rows.append(
            (
                Cell(text=words),
                Cell(text=str(len(mine)), detail=f"{remembered} remembered" if remembered else ""),
                Cell(text=format_value(wall_s, "s") if paid else "0 s"),
                Cell(text=format_value(median(startups) if startups else None, "s")),
                Cell(text=f"{sum(t.chip_hours for t in paid):.3g}"),
                Cell(text=f"{sum(usd):.2f} USD" if usd else "n/a"),
            )
        )
    return Table(
        caption="Where it went",
        columns=(
            Column(name="phase"),
            Column(name="runs", numeric=True),
            Column(name="wall time", numeric=True),
            Column(name="start, median", numeric=True, meaning="asked for → first token or step"),
            Column(name="chip-hours", numeric=True),
            Column(name="money", numeric=True),
        ),
        rows=tuple(rows),
    )


def trials_table(told: StudyTold) -> Table:
    shown = told.trials[:MAX_TRIALS]
    left = len(told.trials) - len(shown)
    return Table(
        caption="In the order they were made",
        columns=(
            Column(name="#"),
            Column(name="configuration"),
            Column(name="outcome"),
            *(Column(name=q.label, numeric=True) for q in (*told.goals, *told.bounds)),
            Column(name="wall time", numeric=True),
            Column(name="run"),
        ),
        rows=tuple(_trial_row(told, trial) for trial in shown),
        note=f"{left} more are in the JSON." if left else "",
    )


def _kind_words(trial: TrialTold) -> str:
    if trial.kind and trial.kind != trial.state:
        return trial.kind
    return "remembered" if trial.from_memory else ""


def _trial_row(told: StudyTold, trial: TrialTold) -> tuple[Cell, ...]:
    what = config_words(trial.config) if trial.config else "the run as it stands"
    return (
        Cell(text=str(trial.number), detail=_PHASES[trial.phase]),
        Cell(text=what, detail=trial.branch),
        Cell(
            text=str(trial.state),
            detail=_kind_words(trial),
            tone=TONES[trial.state],
            meaning=short(trial.message),
        ),
        *(Cell(text=g.words(trial.goals.get(g.name))) for g in told.goals),
        *(
            Cell(
                text=b.words(trial.bounds.get(b.name)),
                tone="bad"
                if b.name in trial.bounds and not b.keeps(trial.bounds[b.name])
                else "plain",
            )
            for b in told.bounds
        ),
        Cell(text="0 s" if trial.from_memory else format_value(trial.wall_s, "s")),
        Cell(text=trial.run_id or "none", code=bool(trial.run_id)),
    )
