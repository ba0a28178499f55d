"""A study as one page: the answer, what it stands on, what was tried and what it cost. Pure."""

from __future__ import annotations

from itertools import combinations

from reports.model import (
    Badge,
    Block,
    KeyFigure,
    KeyFigures,
    Listing,
    Paragraph,
    Plot,
    Plots,
    Report,
    Section,
    Tone,
)
from reports.plots_study import history, trade_off
from reports.plots_study_knobs import importance_plot, parallel, progress_plot
from reports.plots_study_time import timeline
from reports.study_failures import failure_blocks, foreseen_table
from reports.study_tables import (
    cost_blocks,
    remeasured_table,
    resolved_table,
    trials_table,
    winner_table,
)
from reports.study_told import BoundTold, GoalTold, StudyTold, TrialState, config_words
from results.units import counted, format_chance, format_value

_UNFINISHED = ("interrupted", "not ended")
MAX_PAIRS = 6  # of goals, drawn against each other
_SIMULATED = "A model of an engine answered: these numbers stand for no hardware."


def study_report(told: StudyTold) -> Report:
    return Report(
        title=f"Study {told.name}",
        kind="study",
        sentence=study_sentence(told),
        badges=_badges(told),
        banners=_banners(told),
        sections=tuple(
            s
            for s in (
                _answer(told),
                _again(told),
                _traded(told),
                _knobs(told),
                _over_trials(told),
                _failures(told),
                _configuration(told),
                _cost(told),
                _every_trial(told),
                _reproduce(told),
            )
            if s.blocks
        ),
    )


def study_sentence(told: StudyTold) -> str:
    """The answer, or why there is none yet."""
    if told.winner is not None:
        return _winner_sentence(told)
    if not told.trials:
        return "Nothing has been measured yet."
    searched = told.searched
    if told.state == "running":
        start = f"Still searching: {counted(len(searched), 'trial')} so far"
    elif told.state in _UNFINISHED:
        start = f"Not at its end: {counted(len(searched), 'trial')} so far"
    else:
        start = f"No winner: {told.why_none}"
    failed = sum(t.state is TrialState.FAILED for t in searched)
    if searched and failed == len(searched):
        return f"{start}. {'The' if failed == 1 else 'All'} {counted(failed, 'trial')} failed."
    best = _best_words(told)
    return f"{start}. {best}" if best else f"{start}."


def _winner_sentence(told: StudyTold) -> str:
    winner = told.winner
    assert winner is not None
    what = config_words(winner.config, "The run as it stands")
    numbers = ", ".join(f"{g.label} {g.words(winner.goals.get(g.name))}" for g in told.goals)
    gain = f", {gain_words(told)}" if told.gain is not None else ""
    kept = ""
    if told.bounds and winner.probability is not None:
        chance = format_chance(winner.probability)
        kept = f"; it keeps its limits next time with probability ≥ {chance}"
    return f"{what}: {numbers}{gain}{kept}."


def gain_words(told: StudyTold) -> str:
    """``+23.1 % over the baseline (95 %: +20.0 % … +26.3 %)``."""
    gain = told.gain
    if gain is None:
        return "the gain is not known"
    interval = ""
    if gain.low is not None and gain.high is not None:
        interval = f" (95 %: {_change(gain.low)} … {_change(gain.high)})"
    of = "" if len(told.goals) == 1 else " by the mean of the goals' ratios"
    return f"{_change(gain.ratio)} over the baseline{of}{interval}"


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def _best_words(told: StudyTold) -> str:
    keeps = [t for t in told.searched if t.state is TrialState.KEEPS]
    if not keeps:
        measured = [t for t in told.searched if t.state is TrialState.BREAKS]
        if not measured:
            return ""
        return f"None of {counted(len(measured), 'measured trial')} keeps every limit."
    goal = told.goals[0]
    best = (max if goal.maximize else min)(keeps, key=lambda t: t.goals[goal.name])
    return (
        f"Best seen once: {config_words(best.config)} with {goal.label} "
        f"{goal.words(best.goals[goal.name])}; it is not proven until it is measured again."
    )


def _badges(told: StudyTold) -> tuple[Badge, ...]:
    tones: dict[str, Tone] = {"ended": "plain", "running": "good"}
    state = Badge(text=told.state, meaning=told.state_words, tone=tones.get(told.state, "warn"))
    if told.evidence == "simulated":
        evidence = Badge(text="simulated", meaning=_SIMULATED, tone="warn")
    else:
        evidence = Badge(text=told.evidence or "no runs", meaning="How its numbers came to be.")
    winner: tuple[Badge, ...] = ()
    if told.winner is not None:
        meaning = "measured again with other requests, and it kept its limits"
        winner = (Badge(text="winner proven", meaning=meaning, tone="good"),)
    elif told.state == "ended":
        winner = (Badge(text="no winner", meaning=told.why_none, tone="warn"),)
    return (*winner, state, evidence)


def _banners(told: StudyTold) -> tuple[Paragraph, ...]:
    found = []
    if told.evidence == "simulated":
        found.append(Paragraph(text=_SIMULATED, tone="warn", loud=True))
    if told.state in _UNFINISHED:
        text = f"This study has not come to its end: {told.state_words}."
        found.append(Paragraph(text=text, tone="warn", loud=True))
    return tuple(found)


def _answer(told: StudyTold) -> Section:
    blocks: list[Block] = [KeyFigures(figures=_figures(told))]
    if told.baseline is not None or told.winner is not None:
        blocks.append(winner_table(told))
    return Section(key="answer", heading="Answer", blocks=tuple(blocks) if told.trials else ())


def _figures(told: StudyTold) -> tuple[KeyFigure, ...]:
    searched, winner, gain = told.searched, told.winner, told.gain
    keeps = sum(t.state is TrialState.KEEPS for t in searched)
    share = f"{format_value(keeps / len(searched), 'ratio')}" if searched else ""
    failed = sum(t.state is TrialState.FAILED for t in searched)
    interval = ""
    if gain is not None and gain.low is not None and gain.high is not None:
        pairs = counted(gain.num_pairs, "pair")
        interval = f"95 %: {_change(gain.low)} … {_change(gain.high)}, {pairs}"
    elif gain is not None:
        interval = "one pair: no interval"
    gained = KeyFigure(
        label="gain over the baseline",
        value=_change(gain.ratio) if gain is not None else "n/a",
        detail=interval or told.why_none or "no baseline was measured beside it",
    )
    chance = None if winner is None else winner.probability
    return (
        gained,
        KeyFigure(
            label="keeps its limits next time",
            value=format_chance(chance) if chance is not None and told.bounds else "n/a",
            detail=f"probability at least; {told.probability_wanted:g} was asked"
            if told.bounds
            else "the study has no limits",
        ),
        KeyFigure(
            label="trials that keep the limits",
            value=f"{keeps} of {len(searched)}",
            detail=share,
        ),
        KeyFigure(
            label="failed",
            value=str(failed),
            detail=_failed_words(told),
        ),
        KeyFigure(
            label="cost",
            value=f"{told.usd:.2f} USD" if told.usd is not None else format_value(told.wall_s, "s"),
            detail=f"{format_value(told.wall_s, 's')} of runs"
            if told.usd is not None
            else told.why_no_usd,
        ),
    )


def _failed_words(told: StudyTold) -> str:
    invalid = sum(t.state is TrialState.INVALID for t in told.searched)
    words = [f"{invalid} more invalid"] if invalid else []
    if told.num_foreseen:
        words.append(f"{told.num_foreseen} more foreseen and never started")
    return ", ".join(words)


def _again(told: StudyTold) -> Section:
    blocks: tuple[Block, ...] = ()
    if told.remeasured:
        blocks = (
            Paragraph(
                text="The best of many noisy trials looks better than it is, so the best were "
                "measured again with other requests. Only these runs count."
            ),
            remeasured_table(told),
        )
    return Section(key="again", heading="Measured again", blocks=blocks)


def _plots(*plots: Plot | None) -> tuple[Plots, ...]:
    drawn = tuple(p for p in plots if p is not None)
    return (Plots(plots=drawn),) if drawn else ()


def _traded(told: StudyTold) -> Section:
    """Goals against each other; with one goal, the goal against the limit that binds."""
    pairs: list[tuple[GoalTold, GoalTold]] = list(combinations(told.goals, 2))[:MAX_PAIRS]
    if not pairs:
        bound = _nearest_bound(told)
        pairs = [] if bound is None else [(bound, told.goals[0])]
    plots = [trade_off(told, x, y, f"trade-{x.name}-{y.name}") for x, y in pairs]
    heading = "Pareto front" if len(told.goals) > 1 else "Goal against limit"
    return Section(key="front", heading=heading, blocks=_plots(*plots))


def _nearest_bound(told: StudyTold) -> BoundTold | None:
    """The limit that most trials break, or that the measured ones come nearest to."""
    measured = [t for t in told.searched if t.bounds]
    if not told.bounds or not measured:
        return None

    def strain(bound: BoundTold) -> tuple[int, float]:
        values = [t.bounds[bound.name] for t in measured if bound.name in t.bounds]
        broken = sum(not bound.keeps(v) for v in values)
        limit = bound.limit or float("inf")
        ratio = [limit / v if bound.maximize else v / limit for v in values if v > 0]
        return broken, max(ratio, default=0.0)

    return max(told.bounds, key=strain)


def _knobs(told: StudyTold) -> Section:
    blocks: tuple[Block, ...] = _plots(
        importance_plot(told, "importances"), parallel(told, "parallel")
    )
    if not told.importances and told.why_no_importances and told.searched:
        text = f"No importance is given: {told.why_no_importances}."
        blocks = (Paragraph(text=text, tone="muted"), *blocks)
    return Section(key="knobs", heading="Knobs", blocks=blocks)


def _over_trials(told: StudyTold) -> Section:
    plots = [history(told, goal, f"history-{goal.name}") for goal in told.goals]
    return Section(
        key="history",
        heading="Over trials",
        blocks=_plots(progress_plot(told, "hypervolume"), *plots),
    )


def _failures(told: StudyTold) -> Section:
    blocks = failure_blocks(told)
    if told.num_foreseen and told.foreseen:
        blocks = (*blocks, foreseen_table(told))
    return Section(key="failures", heading="What failed, and why", blocks=blocks)


def _configuration(told: StudyTold) -> Section:
    table = resolved_table(told)
    blocks: tuple[Block, ...] = () if table is None else (table,)
    return Section(key="configuration", heading="Configuration", blocks=blocks)


def _cost(told: StudyTold) -> Section:
    plots = _plots(timeline(told, "timeline"))
    blocks = (*cost_blocks(told), *plots) if told.trials else ()
    return Section(key="cost", heading="What it cost", blocks=blocks)


def _every_trial(told: StudyTold) -> Section:
    blocks: tuple[Block, ...] = (trials_table(told),) if told.trials else ()
    return Section(key="trials", heading="Every run", blocks=blocks, folded=len(told.trials) > 12)


def _reproduce(told: StudyTold) -> Section:
    blocks: list[Block] = []
    if told.deploy:
        blocks.append(Listing(title="The command that runs the winner", text=told.deploy))
    if told.winner_spec:
        text = told.winner_spec
        blocks.append(Listing(title="The winner's run as a file", text=text, folded=True))
    if told.command:
        blocks.append(Listing(title="The command that makes the study", text=told.command))
    return Section(key="reproduce", heading="Reproduce", blocks=tuple(blocks))
