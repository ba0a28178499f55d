"""From a kept study to what its page tells: the one place where runs become ``StudyTold``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from harness.cli.study_judged import Again, Verdicts, settings_of, verdicts, why, why_none
from harness.cli.study_kept import KeptStudy
from harness.cli.study_spans import spans_of
from harness.cli.study_tables import PARTS
from reports.commands import carried
from reports.study_told import (
    BoundTold,
    CandidateTold,
    ForeseenTold,
    GainTold,
    GoalTold,
    ImportanceTold,
    KnobTold,
    ProgressPoint,
    StudyTold,
    TrialState,
    TrialTold,
    value_words,
)
from results.record import RunRecord
from tuners.goals import Goal, Reading, Wish
from tuners.loop import Phase, Trial
from tuners.outcome import Crashed, Measured, Stopped, Transient, Unusable
from tuners.pareto import hypervolumes, on_front, points_of
from tuners.space import Config, Value

TAGS_OF_STUDIES = "study"  # and what begins with it, and a dot


def study_told(study: KeptStudy, *, with_importances: bool = True) -> StudyTold:
    found = verdicts(study)
    trials = _trials_told(study)
    usd, why_no_usd = _usd(trials)
    searched = [t for t in trials if t.is_search]
    shares, why_no_shares = _importances(study) if with_importances else ((), "not asked for")
    probability, _ = settings_of(study)
    budget = study.asked.get("budget") or {}
    return StudyTold(
        name=study.name,
        state=str(study.state),
        state_words=study.state_words,
        evidence=_joined(str(r.evidence) for r in study.records),
        workload=_joined(r.workload for r in study.records),
        model=_joined(_model(r) for r in study.records),
        goals=tuple(_goal_told(g) for g in study.wish.goals),
        bounds=tuple(
            BoundTold(
                name=b.name, metric=b.metric, statistic=b.statistic, limit=b.limit, margin=b.margin
            )
            for b in study.wish.bounds
        ),
        knobs=_knobs(study.trials),
        trials=tuple(trials),
        probability_wanted=probability,
        num_trials_asked=budget.get("num_trials"),
        baseline=_baseline(study, found, probability),
        remeasured=tuple(_candidate(a, study.wish, probability) for a in found.candidates),
        winner=None if found.winner is None else _candidate(found.winner, study.wish, probability),
        gain=None
        if found.gain is None
        else GainTold(
            ratio=found.gain.ratio,
            low=found.gain.low,
            high=found.gain.high,
            num_pairs=found.gain.num_pairs,
        ),
        why_none=why_none(study, found),
        front=_front(study.wish, searched),
        progress=_progress(study.wish, searched),
        importances=shares,
        why_no_importances=why_no_shares,
        num_foreseen=max(int(study.ended.get("num_foreseen") or 0), len(study.foreseen)),
        foreseen=tuple(ForeseenTold(config=c, why=w) for c, w in study.foreseen),
        baseline_config=_baseline_config(study, found),
        resolved_baseline=_resolved(_record_of(study, found, baseline=True)),
        resolved_winner=_resolved(_record_of(study, found, baseline=False)),
        wall_s=sum(t.wall_s for t in trials),
        chip_hours=sum(t.chip_hours for t in trials),
        usd=usd,
        why_no_usd=why_no_usd,
        started_at=study.started_at,
        ended_at=study.ended_at,
        command=study.command,
        deploy=_deploy(study, found),
        winner_spec=_winner_spec(study, found),
    )


def _goal_told(goal: Goal) -> GoalTold:
    return GoalTold(name=goal.name, metric=goal.metric, statistic=goal.statistic)


def _joined(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(w for w in words if w))


def _model(record: RunRecord) -> str:
    model: Any = (record.spec.get("workload") or {}).get("model")
    if isinstance(model, Mapping):
        return str(model.get("preset") or model.get("path") or "")
    return str(model or "")


def _trials_told(study: KeptStudy) -> list[TrialTold]:
    return [
        replace(
            _trial_told(study.wish, trial, record, i in study.remembered),
            spans=() if i in study.remembered else spans_of(study.groups[i], study.started_at),
        )
        for i, (trial, record) in enumerate(zip(study.trials, study.records, strict=True))
    ]


def _trial_told(wish: Wish, trial: Trial, record: RunRecord, remembered: bool) -> TrialTold:
    state, goals, bounds, kind, message = _outcome(trial, wish)
    spent, outcome = trial.evaluated.spent, trial.evaluated.outcome
    return TrialTold(
        number=trial.number,
        branch=trial.branch,
        phase=str(trial.phase),
        config=dict(trial.config),
        state=state,
        goals=goals,
        bounds=bounds,
        kind=kind,
        message=message,
        run_id=record.run_id,
        started_at=record.started_at,
        wall_s=spent.wall_s,
        startup_s=spent.startup_s if spent.num_starts else None,
        startup_parts={name: getattr(spent.startup_parts, key) for key, name in PARTS.items()},
        waited_s=spent.waited_s,
        probe_s=spent.probe_s,
        saved_s=outcome.saved_s if isinstance(outcome, Stopped) else 0.0,
        chip_hours=spent.chip_hours,
        usd=spent.usd,
        from_memory=remembered,
    )


def _outcome(
    trial: Trial, wish: Wish
) -> tuple[TrialState, dict[str, float], dict[str, float], str, str]:
    match trial.evaluated.outcome:
        case Measured(reading=reading):
            # What counts while searching is the limit with its margin, and afterwards the limit.
            margin = 0.0 if trial.phase in (Phase.REMEASURE, Phase.BASELINE) else None
            keeps = reading.keeps(wish, margin)
            state = TrialState.KEEPS if keeps else TrialState.BREAKS
            return state, dict(reading.goals), dict(reading.bounds), "", ""
        case Crashed(kind=kind, message=message):
            return TrialState.FAILED, {}, {}, str(kind), message
        case Stopped(rule=rule, why=words):
            return TrialState.STOPPED, {}, {}, f"stopped by its {rule}", words
        case Transient(message=message):
            return TrialState.INFRASTRUCTURE, {}, {}, "infrastructure", message
        case Unusable(reasons=reasons):
            return TrialState.INVALID, {}, {}, "invalid", "; ".join(reasons)


def _knobs(trials: Sequence[Trial]) -> tuple[KnobTold, ...]:
    """In the order of their first trial; values in theirs."""
    seen: dict[str, dict[tuple[str, Value], Value]] = {}
    for trial in trials:
        for path, value in trial.config.items():
            seen.setdefault(path, {})[type(value).__name__, value] = value
    last = [path.rpartition(".")[2] for path in seen]
    return tuple(
        KnobTold(
            path=path,
            label=short if last.count(short) == 1 else path,
            values=tuple(sorted(values.values(), key=_order)),
        )
        for (path, values), short in zip(seen.items(), last, strict=True)
    )


def _order(value: Value) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, bool | str):
        return 2, 0.0, str(value)
    return 1, float(value), ""


def _front(wish: Wish, searched: Sequence[TrialTold]) -> tuple[int, ...]:
    keeps = [t for t in searched if t.state is TrialState.KEEPS]
    if not keeps:
        return ()
    kept = on_front(points_of([t.goals for t in keeps], wish.goals))
    return tuple(t.number for t, is_on in zip(keeps, kept, strict=True) if is_on)


def _progress(wish: Wish, searched: Sequence[TrialTold]) -> tuple[ProgressPoint, ...]:
    """From the first trial that keeps the limits on, to the last trial of all."""
    keeps = [t for t in searched if t.state is TrialState.KEEPS]
    if not keeps:
        return ()
    if len(wish.goals) > 1:
        values = [float(v) for v in hypervolumes(points_of([t.goals for t in keeps], wish.goals))]
    else:
        goal = wish.goals[0]
        best = np.maximum if goal.maximize else np.minimum
        values = [float(v) for v in best.accumulate([t.goals[goal.name] for t in keeps])]
    points = [ProgressPoint(number=t.number, value=v) for t, v in zip(keeps, values, strict=True)]
    last = searched[-1].number
    if points[-1].number < last:
        points.append(ProgressPoint(number=last, value=values[-1]))
    return tuple(points)


def _importances(study: KeptStudy) -> tuple[tuple[ImportanceTold, ...], str]:
    from tuners.optuna_importance import importances  # brings optuna

    measured: list[tuple[Config, Reading]] = [
        (t.config, t.evaluated.outcome.reading)
        for t in study.trials
        if t.phase in (Phase.SEED, Phase.SEARCH) and isinstance(t.evaluated.outcome, Measured)
    ]
    found = importances(measured, study.wish)
    if isinstance(found, str):
        return (), found
    return tuple(
        ImportanceTold(path=i.path, share=i.share, low=i.low, high=i.high) for i in found
    ), ""


def _candidate(again: Again, wish: Wish, probability: float) -> CandidateTold:
    fresh = again.candidate.fresh
    goals = {g.name: [r.goals[g.name] for r in fresh] for g in wish.goals}
    bounds = {b.name: [r.bounds[b.name] for r in fresh] for b in wish.bounds}
    judged = again.judged
    known = bool(wish.bounds) and judged.probability == judged.probability
    return CandidateTold(
        config=dict(again.candidate.config),
        verdict=str(judged.verdict),
        why=why(again, wish, probability),
        probability=judged.probability if known else None,
        by_bound=dict(judged.by_bound),
        num_runs=len(fresh),
        num_failed=again.candidate.num_failed,
        goals={name: float(np.mean(v)) for name, v in goals.items() if v},
        bounds={name: float(np.mean(v)) for name, v in bounds.items() if v},
        goal_bounds={
            name: interval
            for name, values in (*goals.items(), *bounds.items())
            if (interval := _interval(values)) is not None
        },
        run_ids=again.run_ids,
    )


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Of the mean: Student's t, 95 %."""
    n = len(values)
    if n < 2:
        return None
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / n**0.5
    reach = float(stats.t.ppf(0.975, n - 1)) * spread
    return mean - reach, mean + reach


def _baseline(study: KeptStudy, found: Verdicts, probability: float) -> CandidateTold | None:
    """By its runs beside the candidates; else by the one the search began with."""
    if found.baseline is not None and found.baseline.candidate.fresh:
        return _candidate(found.baseline, study.wish, probability)
    for trial, record in zip(study.trials, study.records, strict=True):
        outcome = trial.evaluated.outcome
        if trial.phase is Phase.BASELINE and isinstance(outcome, Measured):
            return CandidateTold(
                config={},
                verdict="measure",
                why="",
                probability=None,
                by_bound={},
                num_runs=1,
                num_failed=0,
                goals=dict(outcome.reading.goals),
                bounds=dict(outcome.reading.bounds),
                run_ids=(record.run_id,),
            )
    return None


def _usd(trials: Sequence[TrialTold]) -> tuple[float | None, str]:
    """Of the runs that have a price; None where one that used chips has none."""
    known = [t.usd for t in trials if t.usd is not None]
    unknown = sum(t.usd is None and t.chip_hours > 0 for t in trials)
    if unknown:
        return None, f"no price is known of {unknown} of {len(trials)} runs"
    if not known:
        return None, "no chips were used, and CPUs have no price"
    return sum(known), ""


def _record_of(study: KeptStudy, found: Verdicts, *, baseline: bool) -> RunRecord | None:
    """The newest usable run of the winner, or of the baseline."""
    wanted: dict[str, Value] | None = {} if baseline else None
    if not baseline and found.winner is not None:
        wanted = dict(found.winner.candidate.config)
    if wanted is None:
        return None
    for trial, record in zip(reversed(study.trials), reversed(study.records), strict=True):
        if dict(trial.config) == wanted and isinstance(trial.evaluated.outcome, Measured):
            return record
    return None


def _resolved(record: RunRecord | None) -> dict[str, str]:
    """Flat, each value as text."""
    flat: dict[str, str] = {}

    def put(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                put(f"{prefix}.{name}" if prefix else str(name), inner)
        else:
            flat[prefix] = value if isinstance(value, str) else json.dumps(value, default=str)

    put("", record.resolved if record is not None else {})
    flat.pop("", None)
    return flat


def _deploy(study: KeptStudy, found: Verdicts) -> str:
    """Runs the winner: the run's file with the knobs that are set. A knob that is left to the
    engine, where the file sets it, cannot be said so: then the file below is the way."""
    path = study.asked.get("spec_path")
    if found.winner is None or not path:
        return ""
    words = ["windtunnel", "run", str(path)]
    base = _record_of(study, found, baseline=True)
    for knob, value in found.winner.candidate.config.items():
        if value is not None:
            words += ["--set", f"{knob}={value if isinstance(value, str) else json.dumps(value)}"]
        elif base is None or _at(base.spec, knob.split(".")) is not None:
            return ""
    where = carried(study.command, "--ray", "--pools", "--prices", "--store")
    return shlex.join(words) + where


def _baseline_config(study: KeptStudy, found: Verdicts) -> dict[str, str]:
    """What the run's file says of each knob."""
    base = _record_of(study, found, baseline=True)
    if base is None:
        return {}
    paths = dict.fromkeys(path for trial in study.trials for path in trial.config)
    values = {path: _at(base.spec, path.split(".")) for path in paths}
    return {p: "left to the engine" if v is None else value_words(v) for p, v in values.items()}


def _at(spec: Any, path: Sequence[str]) -> Any:
    """None where it is not there."""
    for part in path:
        if not isinstance(spec, Mapping) or part not in spec:
            return None
        spec = spec[part]
    return spec


def _winner_spec(study: KeptStudy, found: Verdicts) -> str:
    import yaml

    record = _record_of(study, found, baseline=False)
    if record is None:
        return ""
    spec = dict(record.spec)
    tags = {
        name: value
        for name, value in (spec.pop("tags", None) or {}).items()
        if name != TAGS_OF_STUDIES and not str(name).startswith(f"{TAGS_OF_STUDIES}.")
    }
    if tags:
        spec["tags"] = tags
    text: str = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)
    return text
