"""How a study reads: one line a trial while it goes on, tables and a document at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from harness.cli.tables import facts
from results.metrics import metric
from results.units import counted, format_chance, format_value
from tuners.goals import Goal, Reading, Wish
from tuners.loop import Evaluated, Found, Phase, Spent, Trial, failures_by_kind
from tuners.outcome import Crashed, Measured, Stopped, Transient, Unusable
from tuners.remeasure import Candidate, Gain
from tuners.space import Config, Value


def describe_config(config: Config) -> str:
    """Knobs by their last word; those left to the engine are not named."""
    words = [f"{p.rpartition('.')[2]}={_text(v)}" for p, v in config.items() if v is not None]
    return " ".join(words) or "the engine's own defaults"


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def outcome_words(evaluated: Evaluated, wish: Wish) -> str:
    match evaluated.outcome:
        case Measured(reading=reading):
            broken = _broken(reading, wish)
            kept = f"breaks {', '.join(broken)}" if broken else "keeps its limits"
            at = f" at {evaluated.at}" if evaluated.at else ""
            return f"{goal_words(reading, wish)}{at}, {kept if wish.bounds else 'measured'}"
        case Crashed(kind=kind):
            return f"failed: {kind}"
        case Stopped(why=why):
            return f"stopped after its probe: {why}"
        case Transient(message=message):
            return f"infrastructure: {message.splitlines()[0][:80]}"
        case Unusable(reasons=reasons):
            return f"invalid: {'; '.join(reasons)[:120]}"


def goal_words(reading: Reading, wish: Wish) -> str:
    return ", ".join(_valued(goal, reading.goals[goal.name]) for goal in wish.goals)


def _valued(goal: Goal, value: float) -> str:
    statistic = "" if goal.statistic == "value" else f" {goal.statistic}"
    return f"{goal.metric}{statistic} {format_value(value, metric(goal.metric).unit)}"


def _broken(reading: Reading, wish: Wish) -> list[str]:
    return [
        f"{bound.name} ({format_value(reading.bounds[bound.name], metric(bound.metric).unit)})"
        for bound in wish.bounds
        if bound.slack(reading.bounds[bound.name]) > 0
    ]


def best_of(wish: Wish, trials: Sequence[Trial]) -> Reading | None:
    kept = [
        t.evaluated.outcome.reading
        for t in trials
        if isinstance(t.evaluated.outcome, Measured) and t.evaluated.outcome.reading.keeps(wish)
    ]
    return max(kept, key=lambda reading: wish.score(reading.goals), default=None)


def baseline_of(trials: Sequence[Trial]) -> Reading | None:
    for trial in trials:
        if trial.phase is Phase.BASELINE and isinstance(trial.evaluated.outcome, Measured):
            return trial.evaluated.outcome.reading
    return None


def gain_over(reading: Reading, baseline: Reading | None, wish: Wish) -> str:
    """Against the baseline, of the first goal."""
    if baseline is None:
        return ""
    name = wish.goals[0].name
    if baseline.goals[name] <= 0:
        return ""
    return f" ({reading.goals[name] / baseline.goals[name] - 1:+.1%} over the baseline)"


def found_tables(name: str, wish: Wish, found: Found) -> Iterator[Any]:
    """Every trial, the candidates measured again, and the answer."""
    yield Text.assemble("\n", (name, "bold"), f"  stopped: {found.stopped_by}")
    yield trial_table(wish, found.trials)
    if found.judged:
        yield "\nmeasured again"
        yield _judged_table(wish, found)
    yield ""
    yield facts(_answer(wish, found))


def trial_table(wish: Wish, trials: Sequence[Trial]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("trial", "phase", "configuration", "outcome", "run"):
        table.add_column(column)
    for trial in trials:
        table.add_row(
            str(trial.number),
            str(trial.phase),
            describe_config(trial.config),
            outcome_words(trial.evaluated, wish),
            ", ".join(trial.evaluated.run_ids) or "–",
        )
    return table


def _judged_table(wish: Wish, found: Found) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("configuration", "runs", "goal, mean", "keeps its limits next time", "verdict"):
        table.add_column(column)
    for candidate, judged in found.judged:
        chance = (
            format_chance(judged.probability) if judged.probability == judged.probability else "–"
        )
        table.add_row(
            describe_config(candidate.config),
            str(len(candidate.fresh)),
            goal_words(mean_reading(candidate), wish) if candidate.fresh else "–",
            chance if wish.bounds else "no limits",
            str(judged.verdict),
        )
    return table


def mean_reading(candidate: Candidate) -> Reading:
    """Of the fresh runs alone."""
    n = len(candidate.fresh)
    return Reading(
        goals={k: sum(r.goals[k] for r in candidate.fresh) / n for k in candidate.fresh[0].goals},
        bounds={
            k: sum(r.bounds[k] for r in candidate.fresh) / n for k in candidate.fresh[0].bounds
        },
    )


def _answer(wish: Wish, found: Found) -> list[tuple[str, str]]:
    lines = [("foreseen", f"{found.num_foreseen} refused before they were paid for")]
    spent = found.spent
    cost = f", {spent.usd:.2f} USD" if spent.usd is not None else ""
    lines.append(
        ("spent", f"{spent.wall_s:.0f} s of runs, {spent.chip_hours:.3g} chip-hours{cost}")
    )
    lines.append(("restarts", restart_words(spent)))
    if waited := turn_words(spent):
        lines.append(("waits", waited))
    if probed := race_words(found.trials, spent):
        lines.append(("probes", probed))
    if found.winner is None:
        return [*lines, ("winner", f"none: {found.why_none}")]
    mean, runs = mean_reading(found.winner), len(found.winner.fresh)
    lines += [
        ("winner", describe_config(found.winner.config)),
        ("measured", f"{goal_words(mean, wish)}, the mean of {runs} fresh runs"),
    ]
    return [*lines, ("gain", _gain_words(found.gain))]


def restart_words(spent: Spent) -> str:
    """``412 s in 12 starts, 34.3 s each, 38 % of the runs' time``."""
    share = spent.startup_share
    if share is None or not spent.num_starts:
        return "none"
    starts = counted(spent.num_starts, "start")
    each_s = spent.startup_s / spent.num_starts
    whole = (
        f"{spent.startup_s:.0f} s in {starts}, {each_s:.1f} s each, {share:.0%} of the runs' time"
    )
    named = {name: seconds for name, seconds in parts_words(spent).items() if seconds >= 0.05}
    listed = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in named.items())
    return f"{whole}; of each {listed}" if listed else whole


PARTS = {
    "place_s": "placing",
    "imports_s": "imports",
    "load_s": "loading",
    "compile_s": "compiling",
    "warmup_s": "warm-up",
    "rest_s": "else",
}


def parts_words(spent: Spent) -> dict[str, float]:
    """Seconds of one start, on average, by what they were spent on."""
    each = max(spent.num_starts, 1)
    return {words: getattr(spent.startup_parts, name) / each for name, words in PARTS.items()}


def turn_words(spent: Spent) -> str:
    """``95 s for their turn to be loaded``; "" where nobody waited for one."""
    if not spent.waited_s:
        return ""
    share = spent.waited_s / spent.wall_s
    return f"{spent.waited_s:.0f} s for their turn to be loaded, {share:.0%} of the runs' time"


def race_words(trials: Sequence[Trial], spent: Spent) -> str:
    """``4 of 11 trials stopped, 480 s of load not made; 264 s spent on probes``; "" without any."""
    stopped = [t.evaluated.outcome for t in trials if isinstance(t.evaluated.outcome, Stopped)]
    if not stopped and not spent.probe_s:
        return ""
    saved_s = sum(outcome.saved_s for outcome in stopped)
    return (
        f"{len(stopped)} of {counted(len(trials), 'trial')} stopped, {saved_s:.0f} s of load not "
        f"made; {spent.probe_s:.0f} s spent on probes"
    )


def _gain_words(found: Gain | None) -> str:
    if found is None:
        return "not known: the baseline could not be measured beside it"
    interval = (
        f" (95 %: {found.low - 1:+.1%} … {found.high - 1:+.1%})"
        if found.low is not None and found.high is not None
        else ", one pair: no interval"
    )
    pairs = f"{found.num_pairs} pairs with the baseline"
    return f"{found.ratio - 1:+.1%}{interval}, {pairs} measured beside it"


def found_document(name: str, wish: Wish, found: Found) -> dict[str, Any]:
    """The same for programs."""
    return {
        "name": name,
        "stopped_by": found.stopped_by,
        "trials": [
            {
                "number": t.number,
                "phase": str(t.phase),
                "branch": t.branch,
                "config": dict(t.config),
                "run_ids": list(t.evaluated.run_ids),
                "from_memory": t.evaluated.from_memory,
                "at": t.evaluated.at,
                "startup_s": t.evaluated.spent.startup_s,
                "startup_parts": asdict(t.evaluated.spent.startup_parts),
                "waited_s": t.evaluated.spent.waited_s,
                **outcome_document(t.evaluated, wish),
            }
            for t in found.trials
        ],
        "num_foreseen": found.num_foreseen,
        "failures": dict(failures_by_kind(found.trials)),
        "remeasured": [
            {
                "config": dict(candidate.config),
                "verdict": str(judged.verdict),
                "probability": judged.probability
                if judged.probability == judged.probability
                else None,
                "by_bound": dict(judged.by_bound),
                "runs": [
                    {"goals": dict(r.goals), "bounds": dict(r.bounds)} for r in candidate.fresh
                ],
            }
            for candidate, judged in found.judged
        ],
        "winner": dict(found.winner.config) if found.winner else None,
        "gain": asdict(found.gain) if found.gain else None,
        "why_none": found.why_none,
        "spent": spent_document(found.spent, found.trials),
        "took_s": found.took_s,
    }


def spent_document(spent: Spent, trials: Sequence[Trial]) -> dict[str, Any]:
    stopped = [t.evaluated.outcome for t in trials if isinstance(t.evaluated.outcome, Stopped)]
    return {
        "wall_s": spent.wall_s,
        "chip_hours": spent.chip_hours,
        "usd": spent.usd,
        "startup_s": spent.startup_s,
        "num_starts": spent.num_starts,
        "startup_share": spent.startup_share,
        "startup_parts": asdict(spent.startup_parts),
        "waited_s": spent.waited_s,
        "probe_s": spent.probe_s,
        "num_stopped": len(stopped),
        "saved_s": sum(outcome.saved_s for outcome in stopped),
    }


def outcome_document(evaluated: Evaluated, wish: Wish) -> dict[str, Any]:
    match evaluated.outcome:
        case Measured(reading=reading):
            return {
                "outcome": "measured",
                "goals": dict(reading.goals),
                "bounds": dict(reading.bounds),
                "keeps": reading.keeps(wish),
            }
        case Crashed(kind=kind, message=message):
            return {"outcome": "failed", "kind": str(kind), "message": message}
        case Stopped(rule=rule, why=why, goals=goals, bounds=bounds, saved_s=saved_s):
            at_best = {"goals": dict(goals), "bounds": dict(bounds)}
            return {
                "outcome": "stopped",
                "rule": rule,
                "why": why,
                "at_best": at_best,
                "saved_s": saved_s,
            }
        case Transient(message=message):
            return {"outcome": "infrastructure", "message": message}
        case Unusable(reasons=reasons):
            return {"outcome": "invalid", "reasons": list(reasons)}
