"""The search loop: ask, filter, measure, tell, until the budget is spent; then measure winners
again.

What runs a configuration is passed in (``Evaluate``), so that a study does not know whether a
cluster or a table answers. Everything that is decided between two trials is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from results.clock import Clock
from tuners.errors import StudyError
from tuners.goals import Reading, Wish
from tuners.outcome import Crashed, FailureKind, Measured, Outcome, Transient, Unusable
from tuners.remeasure import Candidate, Gain, Judged, Verdict, choose, gain, judge
from tuners.search import Asked, Searcher
from tuners.seeds import Seeder, key
from tuners.space import Branch, Config

MAX_IDLE = 50  # asks in a row that cost nothing: foreseen failures and what is known already


class Phase(StrEnum):
    BASELINE = "baseline"  # the run as its file says it
    SEED = "seed"  # proposed by the forecast
    SEARCH = "search"
    REMEASURE = "remeasure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """``usd``: None where no price is known."""

    wall_s: float = 0.0
    chip_hours: float = 0.0
    usd: float | None = None

    def plus(self, other: Spent) -> Spent:
        known = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Spent(
            wall_s=self.wall_s + other.wall_s,
            chip_hours=self.chip_hours + other.chip_hours,
            usd=sum(known) if known else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """``run_ids``: the records behind it. ``from_memory``: nothing was run, it was known."""

    outcome: Outcome
    run_ids: tuple[str, ...] = ()
    spent: Spent = field(default_factory=Spent)
    from_memory: bool = False


class Evaluate(Protocol):
    """Run one configuration. ``repeat``: 0 for the search, so that all its trials send the same
    requests and differ by their configuration alone; 1, 2 … have seeds of their own."""

    def __call__(self, config: Config, phase: Phase, repeat: int) -> Evaluated: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration's turn. ``number`` counts those that cost something, from 1."""

    number: int
    branch: str
    phase: Phase
    config: Config
    evaluated: Evaluated


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What ends the search: whichever is reached first. None: no such limit."""

    num_trials: int
    wall_s: float | None = None
    chip_hours: float | None = None
    usd: float | None = None

    def spent_by(self, num_trials: int, spent: Spent) -> str:
        """Which limit is reached, or ""."""
        if num_trials >= self.num_trials:
            return f"{num_trials} trials"
        for name, limit, value in (
            ("s", self.wall_s, spent.wall_s),
            ("chip-hours", self.chip_hours, spent.chip_hours),
            ("USD", self.usd, spent.usd or 0.0),
        ):
            if limit is not None and value >= limit:
                return f"{value:.4g} of {limit:g} {name}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One branch with what searches it. ``seeder``: None where nothing can be forecast."""

    branch: Branch
    searcher: Searcher
    seeder: Seeder | None = None
    num_seeds: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a search ended. ``winner``: None with ``why_none``. ``judged`` by candidate, in order."""

    trials: tuple[Trial, ...]
    num_foreseen: int
    stopped_by: str
    winner: Candidate | None
    gain: Gain | None = None  # the winner's, over the baseline measured again beside it
    judged: tuple[tuple[Candidate, Judged], ...] = ()
    why_none: str = ""
    spent: Spent = field(default_factory=Spent)


OnTrial = Callable[[Trial], None]


class Search:
    """One study over the parts of a space. Not for several threads."""

    def __init__(
        self,
        parts: Sequence[Part],
        wish: Wish,
        evaluate: Evaluate,
        budget: Budget,
        clock: Clock,
        *,
        max_attempts: int = 2,
        on_trial: OnTrial | None = None,
    ) -> None:
        if not parts:
            raise StudyError("a search needs a branch of the space")
        self._parts, self._wish, self._evaluate = tuple(parts), wish, evaluate
        self._budget, self._clock = budget, clock
        self._max_attempts, self._on_trial = max_attempts, on_trial
        self._begun_s = clock.monotonic_s()
        self.trials: list[Trial] = []
        self.spent = Spent()
        self.num_foreseen = 0
        self._known: dict[object, Evaluated] = {}
        self._reference: list[Reading | None] = []  # the baseline measured again, by repeat

    def resume(self, trials: Sequence[Trial]) -> None:
        """Go on after ``trials``, which this study has paid for before; re-measured ones count for
        what they cost alone. To be called before anything else."""
        for trial in trials:
            self.spent = self.spent.plus(trial.evaluated.spent)
            if trial.phase is Phase.REMEASURE:
                continue
            self.trials.append(replace(trial, number=len(self.trials) + 1))
            if trial.phase is not Phase.BASELINE:
                self._known[key(trial.config)] = trial.evaluated

    def run_baseline(self, config: Config) -> Trial:
        """The run as it stands, for comparison; it counts as a trial and is told to nobody."""
        return self._made("", Phase.BASELINE, config, self._attempts(config, Phase.BASELINE))

    def search(self) -> str:
        """Until the budget is spent or nothing new is proposed; returns which."""
        for part in self._parts:  # what a process that is gone had asked for
            for number, config in part.searcher.open_trials().items():
                self._answer(part, Asked(number=number, config=config), Phase.SEARCH)
        idle = 0
        while True:
            reached = self._budget.spent_by(len(self.trials), self._elapsed())
            if reached:
                return reached
            if idle >= MAX_IDLE:
                return f"the last {MAX_IDLE} proposals were known or foreseen to fail"
            idle = 0 if self._one_trial(self._next_part()) else idle + 1

    def candidates(self) -> list[Candidate]:
        """Measured configurations that keep every bound with its margin, best first."""
        found = [
            Candidate(config=t.config, searched=t.evaluated.outcome.reading)
            for t in self.trials
            if t.phase is not Phase.BASELINE
            and isinstance(t.evaluated.outcome, Measured)
            and t.evaluated.outcome.reading.keeps(self._wish)
        ]
        return sorted(found, key=lambda c: -self._wish.score(c.searched.goals))

    def remeasure(
        self, candidates: Sequence[Candidate], *, top: int, probability: float, max_repeats: int
    ) -> tuple[Candidate | None, tuple[tuple[Candidate, Judged], ...]]:
        """The first ``top`` candidates measured again; where none passes, the next ones, one by
        one, until one does. Among those that passed the best, or its equal with fewer overrides."""
        judged: list[tuple[Candidate, Judged]] = []
        for index, candidate in enumerate(candidates):
            passed = [c for c, j in judged if j.verdict is Verdict.PASSED]
            if index >= top and passed:
                break
            judged.append(self._judged(candidate, probability, max_repeats))
        passed = [c for c, j in judged if j.verdict is Verdict.PASSED]
        return choose(passed, self._wish), tuple(judged)

    def gain_of(self, winner: Candidate) -> Gain | None:
        """Over the baseline's fresh runs, which were made beside the candidates'."""
        both = [
            (mine, theirs)
            for mine, theirs in zip(winner.fresh, self._reference, strict=False)
            if theirs is not None
        ]
        baseline = replace(winner, config={}, fresh=tuple(theirs for _, theirs in both))
        return gain(replace(winner, fresh=tuple(mine for mine, _ in both)), baseline, self._wish)

    # ---- one trial ----

    def _one_trial(self, part: Part) -> bool:
        phase = self._propose(part)
        return self._answer(part, part.searcher.ask(), phase)

    def _answer(self, part: Part, asked: Asked, phase: Phase) -> bool:
        """False where it cost nothing: foreseen to fail, or known."""
        known = self._known.get(key(asked.config))
        if known is not None:
            self._tell(part, asked, known)
            return False
        foreseen = part.seeder.foreseen(asked.config) if part.seeder else ""
        if foreseen:
            self.num_foreseen += 1
            crash = Crashed(kind=FailureKind.DOES_NOT_FIT, message=foreseen, severity=0.75)
            self._known[key(asked.config)] = Evaluated(outcome=crash)
            part.searcher.tell(asked.number, crash)
            return False
        evaluated = self._attempts(asked.config, phase)
        self._known[key(asked.config)] = evaluated
        self._tell(part, asked, evaluated)
        self._made(part.branch.name, phase, asked.config, evaluated)
        return True

    def _propose(self, part: Part) -> Phase:
        """Ask for a seed first, as long as this branch has had too few."""
        mine = [t for t in self.trials if t.branch == part.branch.name and t.phase is Phase.SEED]
        if part.seeder is None or len(mine) >= part.num_seeds:
            return Phase.SEARCH
        seed = part.seeder.propose(self._measured(part), taken=[t.config for t in self.trials])
        if seed is None:
            return Phase.SEARCH
        part.searcher.want([seed])
        return Phase.SEED

    def _tell(self, part: Part, asked: Asked, evaluated: Evaluated) -> None:
        outcome = evaluated.outcome
        if isinstance(outcome, Measured | Crashed):
            part.searcher.tell(asked.number, outcome)
        else:
            why = outcome.message if isinstance(outcome, Transient) else ", ".join(outcome.reasons)
            part.searcher.forget(asked.number, why)

    def _attempts(self, config: Config, phase: Phase, repeat: int = 0) -> Evaluated:
        """Again after a transient failure; what was spent on all attempts."""
        spent = Spent()
        for attempt in range(1, self._max_attempts + 1):
            evaluated = self._evaluate(config, phase, repeat)
            spent = spent.plus(evaluated.spent)
            if not isinstance(evaluated.outcome, Transient) or attempt == self._max_attempts:
                break
        return replace(evaluated, spent=spent)

    def _made(self, branch: str, phase: Phase, config: Config, evaluated: Evaluated) -> Trial:
        trial = Trial(
            number=len(self.trials) + 1,
            branch=branch,
            phase=phase,
            config=config,
            evaluated=evaluated,
        )
        if phase is not Phase.REMEASURE:
            self.trials.append(trial)
        self.spent = self.spent.plus(evaluated.spent)
        if self._on_trial is not None:
            self._on_trial(trial)
        return trial

    def _judged(
        self, candidate: Candidate, probability: float, max_repeats: int
    ) -> tuple[Candidate, Judged]:
        while True:
            verdict = judge(candidate, self._wish, probability, max_repeats)
            if verdict.verdict is not Verdict.MEASURE:
                return candidate, verdict
            repeat = len(candidate.fresh) + 1
            self._refer(repeat)
            evaluated = self._attempts(candidate.config, Phase.REMEASURE, repeat)
            self._made("", Phase.REMEASURE, candidate.config, evaluated)
            match evaluated.outcome:
                case Measured(reading=reading):
                    candidate = replace(candidate, fresh=(*candidate.fresh, reading))
                case Crashed():
                    candidate = replace(candidate, num_failed=candidate.num_failed + 1)
                case Transient() | Unusable():
                    return candidate, replace(verdict, verdict=Verdict.INVALID)

    def _refer(self, repeat: int) -> None:
        """The baseline with the seeds of ``repeat``, once, just before the first candidate that
        needs it. A study without a baseline has none."""
        asked = any(trial.phase is Phase.BASELINE for trial in self.trials)
        if not asked or repeat <= len(self._reference):
            return
        evaluated = self._attempts({}, Phase.REMEASURE, repeat)
        self._made("", Phase.REMEASURE, {}, evaluated)
        outcome = evaluated.outcome
        self._reference.append(outcome.reading if isinstance(outcome, Measured) else None)

    # ---- which branch next ----

    def _next_part(self) -> Part:
        """Every branch gets its seeds or its start in turn; then every other trial goes to the
        branch of the best so far, the rest in turn."""
        counts = {p.branch.name: 0 for p in self._parts}
        for trial in self.trials:
            if trial.branch in counts and trial.phase is not Phase.BASELINE:
                counts[trial.branch] += 1
        least = min(self._parts, key=lambda p: counts[p.branch.name])
        best = self._best_branch()
        if counts[least.branch.name] < least.num_seeds or best is None or len(self.trials) % 2:
            return least
        return best

    def _best_branch(self) -> Part | None:
        top = self.candidates()
        if not top:
            return None
        return next((p for p in self._parts if p.branch.holds(top[0].config)), None)

    def _measured(self, part: Part) -> list[tuple[Config, Reading]]:
        return [
            (t.config, t.evaluated.outcome.reading)
            for t in self.trials
            if t.branch == part.branch.name and isinstance(t.evaluated.outcome, Measured)
        ]

    def _elapsed(self) -> Spent:
        """With the wall time of this sitting, which is more than that of its trials."""
        return replace(self.spent, wall_s=self._clock.monotonic_s() - self._begun_s)


def failures_by_kind(trials: Sequence[Trial]) -> Mapping[str, int]:
    """How many trials failed for which reason, the most frequent first."""
    counts: dict[str, int] = {}
    for trial in trials:
        match trial.evaluated.outcome:
            case Crashed(kind=kind):
                counts[str(kind)] = counts.get(str(kind), 0) + 1
            case Transient():
                name = str(FailureKind.INFRASTRUCTURE)
                counts[name] = counts.get(name, 0) + 1
            case Unusable():
                counts["invalid"] = counts.get("invalid", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
