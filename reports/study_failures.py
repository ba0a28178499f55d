"""What failed in a study, and why: by kind, with what it said and which run to look at. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reports.model import Block, Cell, Column, Paragraph, Table, Tone
from reports.study_told import StudyTold, TrialState, TrialTold, config_words
from results.units import counted

MAX_RUN_IDS = 3
MAX_FORESEEN = 12
MAX_MESSAGE = 400
TONES: dict[TrialState, Tone] = {
    TrialState.KEEPS: "good",
    TrialState.BREAKS: "warn",
    TrialState.FAILED: "bad",
    TrialState.INVALID: "warn",
    TrialState.STOPPED: "muted",
    TrialState.INFRASTRUCTURE: "muted",
}


def failure_blocks(told: StudyTold) -> tuple[Block, ...]:
    """One row per kind: how many, what it said, which runs."""
    bad = [t for t in told.trials if t.state not in (TrialState.KEEPS, TrialState.BREAKS)]
    broken = [t for t in told.searched if t.state is TrialState.BREAKS]
    if not bad and not broken:
        if not told.trials:
            return ()
        return (Paragraph(text="No run failed, and every trial kept its limits."),)
    blocks: list[Block] = []
    if bad:
        blocks.append(_kinds_table(bad))
    if broken:
        blocks.append(_broken_table(told, broken))
    return tuple(blocks)


def _kinds_table(bad: Sequence[TrialTold]) -> Table:
    kinds: dict[tuple[TrialState, str], list[TrialTold]] = {}
    for trial in bad:
        kinds.setdefault((trial.state, trial.kind), []).append(trial)
    rows = []
    for (state, kind), trials in sorted(kinds.items(), key=lambda k: -len(k[1])):
        ids = [t.run_id for t in trials if t.run_id]
        more = f" and {len(ids) - MAX_RUN_IDS} more" if len(ids) > MAX_RUN_IDS else ""
        rows.append(
            (
                Cell(text=kind or str(state), tone=TONES[state], code=bool(kind)),
                Cell(text=str(len(trials))),
                Cell(
                    text=short(trials[0].message) or "no message",
                    detail="the first of them; the others differ"
                    if len({t.message for t in trials}) > 1
                    else "",
                ),
                Cell(text=_shared(trials)),
                Cell(text=", ".join(ids[:MAX_RUN_IDS]) + more or "not run", code=bool(ids)),
            )
        )
    return Table(
        caption="Runs without usable numbers, by kind",
        columns=(
            Column(name="kind"),
            Column(name="runs", numeric=True),
            Column(name="what it said"),
            Column(name="what they share", meaning="values that all of them had"),
            Column(name="run"),
        ),
        rows=tuple(rows),
        note="windtunnel runs show RUN tells the whole of one, with its log's end.",
    )


def short(message: str) -> str:
    words = " ".join(message.split())
    return words if len(words) <= MAX_MESSAGE else f"{words[:MAX_MESSAGE]}…"


def _shared(trials: Sequence[TrialTold]) -> str:
    first = trials[0].config
    same = {
        path: value
        for path, value in first.items()
        if all(path in t.config and t.config[path] == value for t in trials)
    }
    if not same:
        return "nothing" if first else "–"
    return config_words(same, "defaults only")


def _broken_table(told: StudyTold, broken: Sequence[TrialTold]) -> Table:
    """How many trials broke each limit, and the nearest miss of it."""
    rows = []
    for bound in told.bounds:
        mine = [
            t for t in broken if bound.name in t.bounds and not bound.keeps(t.bounds[bound.name])
        ]
        if not mine:
            continue
        near = (max if bound.maximize else min)(mine, key=lambda t: t.bounds[bound.name])
        rows.append(
            (
                Cell(text=bound.label, detail=bound.limit_words),
                Cell(text=str(len(mine))),
                Cell(text=bound.words(near.bounds[bound.name]), detail=config_words(near.config)),
            )
        )
    kept = sum(
        all(b.keeps(t.bounds[b.name]) for b in told.bounds if b.name in t.bounds) for t in broken
    )
    return Table(
        caption="Trials that broke a limit",
        columns=(
            Column(name="limit"),
            Column(name="trials", numeric=True),
            Column(name="nearest miss"),
        ),
        rows=tuple(rows),
        note=f"{counted(kept, 'trial')} kept every limit, and not the margin that is kept free "
        "while searching."
        if kept
        else "",
    )


def foreseen_table(told: StudyTold) -> Table:
    shown = told.foreseen[:MAX_FORESEEN]
    left = told.num_foreseen - len(shown)
    return Table(
        caption="Foreseen not to fit, and never started",
        columns=(Column(name="configuration"), Column(name="why")),
        rows=tuple((Cell(text=config_words(f.config)), Cell(text=short(f.why))) for f in shown),
        note=f"and {left} more" if left > 0 else "",
    )
