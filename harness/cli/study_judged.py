"""A study's candidates judged from its records alone, as the search itself judged them.

What was measured again is found by its phase, configurations by their knobs, and pairs with the
baseline by the seed of their requests or data. A study that was killed is judged by what it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from harness.cli.study_kept import KeptStudy
from results.record import RunRecord
from tuners.goals import Reading, Wish
from tuners.loop import Phase, Trial
from tuners.outcome import Crashed, Measured, Transient, Unusable
from tuners.remeasure import Candidate, Gain, Judged, Verdict, choose, gain, judge
from tuners.seeds import key
from tuners.space import Config
from tuners.study_spec import StudySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A configuration and its runs with other requests, by seed; ``run_ids`` of all of them."""

    candidate: Candidate
    judged: Judged
    by_seed: dict[object, Reading]
    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """``baseline``: its runs beside the candidates'; None without any."""

    candidates: tuple[Again, ...]
    baseline: Again | None
    winner: Again | None
    gain: Gain | None


def settings_of(study: KeptStudy) -> tuple[float, int]:
    """The probability asked and the repeats at most: as the file said, or as a file says that does
    not say."""
    fields = StudySpec.__dataclass_fields__
    asked = study.asked
    probability = asked.get("probability", fields["probability"].default)
    repeats = asked.get("max_repeats", fields["max_repeats"].default)
    return float(probability), int(repeats)


def verdicts(study: KeptStudy) -> Verdicts:
    probability, max_repeats = settings_of(study)
    groups: dict[object, list[tuple[Trial, RunRecord]]] = {}
    for trial, record in zip(study.trials, study.records, strict=True):
        if trial.phase is Phase.REMEASURE:
            groups.setdefault(key(trial.config), []).append((trial, record))
    found = [_again(study, runs, probability, max_repeats) for runs in groups.values()]
    baseline = next((a for a in found if not a.candidate.config), None)
    candidates = [a for a in found if a.candidate.config]
    passed = [a for a in candidates if a.judged.verdict is Verdict.PASSED]
    chosen = choose([a.candidate for a in passed], study.wish)
    winner = next((a for a in passed if a.candidate is chosen), None)
    return Verdicts(
        candidates=tuple(candidates),
        baseline=baseline,
        winner=winner,
        gain=_gain(winner, baseline, study.wish),
    )


def _again(
    study: KeptStudy, runs: list[tuple[Trial, RunRecord]], probability: float, max_repeats: int
) -> Again:
    config = runs[0][0].config
    by_seed: dict[object, Reading] = {}
    num_failed, spoiled = 0, False
    for i, (trial, record) in enumerate(runs):
        match trial.evaluated.outcome:
            case Measured(reading=reading):
                by_seed[seed_of(record, i)] = reading
            case Crashed():
                num_failed += 1
            case Unusable():
                spoiled = True
            case Transient():
                pass  # made again: the next run of this seed says what came of it
    fresh = tuple(by_seed.values())
    searched = _searched(study, config) or (fresh[0] if fresh else Reading(goals={}, bounds={}))
    candidate = Candidate(config=config, searched=searched, fresh=fresh, num_failed=num_failed)
    judged = judge(candidate, study.wish, probability, max_repeats)
    if spoiled and judged.verdict is Verdict.MEASURE:
        judged = replace(judged, verdict=Verdict.INVALID)
    return Again(
        candidate=candidate,
        judged=judged,
        by_seed=by_seed,
        run_ids=tuple(record.run_id for _, record in runs),
    )


def seed_of(record: RunRecord, place: int) -> object:
    """Of the requests; of a training, which has none, that of its data and first weights."""
    drawn = record.spec.get("traffic") or record.spec.get("workload") or {}
    return drawn.get("seed", f"run {place}")


def _searched(study: KeptStudy, config: Config) -> Reading | None:
    return next(
        (
            trial.evaluated.outcome.reading
            for trial in study.trials
            if trial.phase is not Phase.REMEASURE
            and key(trial.config) == key(config)
            and isinstance(trial.evaluated.outcome, Measured)
        ),
        None,
    )


def _gain(winner: Again | None, baseline: Again | None, wish: Wish) -> Gain | None:
    if winner is None or baseline is None:
        return None
    shared = [seed for seed in winner.by_seed if seed in baseline.by_seed]
    mine = replace(winner.candidate, fresh=tuple(winner.by_seed[s] for s in shared))
    theirs = replace(baseline.candidate, fresh=tuple(baseline.by_seed[s] for s in shared))
    return gain(mine, theirs, wish)


def why(again: Again, wish: Wish, probability: float) -> str:
    """A verdict in a few words."""
    judged, runs = again.judged, again.candidate.fresh
    if again.candidate.num_failed:
        return "it failed under fresh requests"
    match judged.verdict:
        case Verdict.PASSED:
            return "" if wish.bounds else "no limits to keep"
        case Verdict.MEASURE:
            return f"after {len(runs)} runs; it was not measured to the end"
        case Verdict.INVALID:
            return "its fresh runs could not be used"
    if math.isnan(judged.probability):
        return "no fresh run kept the limits"
    return f"below {probability:g}"


def why_none(study: KeptStudy, found: Verdicts) -> str:
    """Why there is no winner; "" where there is one."""
    if found.winner is not None:
        return ""
    kept_word = str(study.ended.get("why_none") or "")
    if kept_word:
        return kept_word
    searched = [t for t in study.trials if t.phase not in (Phase.BASELINE, Phase.REMEASURE)]
    if not searched:
        return "no trial was made"
    if not any(_keeps(t, study.wish) for t in searched):
        return "no configuration kept every limit with its margin"
    if not found.candidates:
        return "no candidate was measured again yet"
    return f"none of {len(found.candidates)} candidates has passed"


def _keeps(trial: Trial, wish: Wish) -> bool:
    outcome = trial.evaluated.outcome
    return isinstance(outcome, Measured) and outcome.reading.keeps(wish)
