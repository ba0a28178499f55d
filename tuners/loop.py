"""The search loop: ask, filter, measure, tell, until the budget is spent; then measure winners
again.

What runs a configuration is passed in (a ``Crew``), so that a study does not know whether a cluster
or a table answers, nor whether one is measured at a time or several. Everything that is decided
between two trials is decided here, in one thread of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from results.clock import Clock
from tuners.again import Again
from tuners.crew import Attempts, Crew, Done
from tuners.errors import StudyError
from tuners.goals import Reading, Wish
from tuners.guide import Guide, Known
from tuners.outcome import Crashed, FailureKind, Measured, Stopped, Told, Transient
from tuners.remeasure import Candidate, Gain, Judged, gain
from tuners.search import Asked, Searcher
from tuners.seeds import Seeder, key
from tuners.space import Branch, Config
from tuners.trial import (
    Budget,
    Evaluate,
    Evaluated,
    Phase,
    Spent,
    Trial,
    failures_by_kind,
)

__all__ = [  # a study's own words, wherever they are defined
    "Budget",
    "Evaluate",
    "Evaluated",
    "Found",
    "Part",
    "Phase",
    "Search",
    "Spent",
    "Trial",
    "failures_by_kind",
]

MAX_IDLE = 50  # asks in a row that cost nothing: foreseen failures and what is known already


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One branch with what searches it. ``seeder``: None where nothing can be foreseen. ``guide``:
    proposes what the searcher then asks; None: the searcher's own sampler proposes, after
    ``num_seeds`` of the seeder."""

    branch: Branch
    searcher: Searcher
    seeder: Seeder | None = None
    num_seeds: int = 8
    guide: Guide | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a search ended. ``winner``: None with ``why_none``. ``judged`` by candidate, in order.
    ``took_s``: this sitting, by the wall clock."""

    trials: tuple[Trial, ...]
    num_foreseen: int
    stopped_by: str
    winner: Candidate | None
    gain: Gain | None = None  # the winner's, over the baseline measured again beside it
    judged: tuple[tuple[Candidate, Judged], ...] = ()
    why_none: str = ""
    spent: Spent = field(default_factory=Spent)
    took_s: float = 0.0


OnTrial = Callable[[Trial], None]
Others = Callable[[], Sequence[Trial]]


@dataclass(slots=True, kw_only=True)
class _Running:
    """A trial under way. ``twins`` were asked since, and are the same configuration."""

    part: Part
    asked: Asked
    phase: Phase
    twins: list[tuple[Part, Asked]] = field(default_factory=list)


class Search:
    """One study over the parts of a space. Not for several threads.

    ``others`` hands out, once each, the trials that other processes have made of the same study.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        wish: Wish,
        crew: Crew,
        budget: Budget,
        clock: Clock,
        *,
        max_attempts: int = 2,
        on_trial: OnTrial | None = None,
        others: Others = tuple,
    ) -> None:
        if not parts:
            raise StudyError("a search needs a branch of the space")
        self._parts, self._wish = tuple(parts), wish
        self._crew = Attempts(crew, max_attempts)
        self._budget, self._clock = budget, clock
        self._on_trial, self._others = on_trial, others
        self._begun_s = clock.monotonic_s()
        self.trials: list[Trial] = []
        self.spent = Spent()
        self.foreseen: list[tuple[Config, str]] = []  # refused before they were paid for, and why
        self._known: dict[object, Evaluated] = {}
        self._running: dict[int, _Running] = {}  # by ticket
        self._reference: list[Reading | None] = []

    @property
    def num_foreseen(self) -> int:
        return len(self.foreseen)

    def resume(self, trials: Sequence[Trial]) -> None:
        """Go on after ``trials``, which this study has paid for before. Re-measured ones, and those
        that infrastructure ended, count for what they cost alone: the latter are asked again."""
        for trial in trials:
            self.spent = self.spent.plus(trial.evaluated.spent)
            transient = isinstance(trial.evaluated.outcome, Transient)
            if trial.phase is Phase.REMEASURE or transient:
                continue
            if trial.phase is Phase.BASELINE:
                is_new = all(t.phase is not Phase.BASELINE for t in self.trials)
            else:
                is_new = key(trial.config) not in self._known
                self._known[key(trial.config)] = trial.evaluated
            if is_new:  # a second record of one configuration is no trial of its own
                self.trials.append(replace(trial, number=len(self.trials) + 1))

    def run_baseline(self, config: Config) -> Trial:
        """The run as it stands, for comparison; it counts as a trial and is told to nobody."""
        (done,) = self._crew.run([(config, Phase.BASELINE, 0)])
        return self._made("", Phase.BASELINE, config, done.evaluated)

    def search(self) -> str:
        """Until the budget is spent or nothing new is proposed; returns which."""
        idle = 0
        while True:
            self.resume(self._others())
            for part in self._parts:
                part.searcher.reclaim()
            paid_for = len(self.trials) + len(self._running)
            reached = self._budget.spent_by(paid_for, self._elapsed())
            if not reached and idle >= MAX_IDLE:
                reached = f"the last {MAX_IDLE} proposals were known or foreseen to fail"
            if not reached and self._crew.has_room():
                idle = 0 if self._one_trial(self._next_part()) else idle + 1
            elif self._running:
                for done in self._crew.wait():
                    self._ended(done)
                idle = 0  # the searcher knows more now, and may propose another
            else:
                return reached

    def candidates(self) -> list[Candidate]:
        """Measured configurations that are believed to keep every bound, the best as believed
        first; then, or where nobody believes anything, those that were seen to with its margin."""
        ranked = [
            one
            for part in self._parts
            if part.guide is not None
            for one in part.guide.ranked(self._known_of(part))
        ]
        ranked.sort(key=lambda one: -one[0])
        believed = [
            Candidate(config=config, searched=read, believed=score)
            for score, config, read in ranked
        ]
        named = {key(candidate.config) for candidate in believed}
        return [*believed, *(c for c in self._seen_to_keep() if key(c.config) not in named)]

    def _seen_to_keep(self) -> list[Candidate]:
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

        def on_done(done: Done) -> None:
            self._made("", Phase.REMEASURE, done.job.config, done.evaluated)

        again = Again(
            self._crew,
            self._wish,
            on_done,
            with_baseline=any(trial.phase is Phase.BASELINE for trial in self.trials),
            probability=probability,
            max_repeats=max_repeats,
        )
        again.reference = self._reference
        return again.remeasure(candidates, top)

    def gain_of(self, winner: Candidate) -> Gain | None:
        """Over the baseline's fresh runs, which were made beside the candidates'."""
        both = [
            (mine, theirs)
            for mine, theirs in zip(winner.fresh, self._reference, strict=False)
            if theirs is not None
        ]
        baseline = replace(winner, config={}, fresh=tuple(theirs for _, theirs in both))
        return gain(replace(winner, fresh=tuple(mine for mine, _ in both)), baseline, self._wish)

    @property
    def took_s(self) -> float:
        """Since this search was made."""
        return self._clock.monotonic_s() - self._begun_s

    # ---- one trial ----

    def _one_trial(self, part: Part) -> bool:
        """False where it cost nothing: foreseen to fail, known, or being measured already."""
        phase = self._propose(part)
        asked = part.searcher.ask()
        known = self._known.get(key(asked.config))
        if known is not None:
            self._tell(part, asked, known)
            return False
        under_way = self._under_way(asked.config)
        if under_way is not None:
            under_way.twins.append((part, asked))
            return False
        foreseen = part.seeder.foreseen(asked.config) if part.seeder else ""
        if foreseen:
            self.foreseen.append((asked.config, foreseen))
            crash = Crashed(kind=FailureKind.DOES_NOT_FIT, message=foreseen, severity=0.75)
            self._known[key(asked.config)] = Evaluated(outcome=crash)
            part.searcher.tell(asked.number, crash)
            return False
        ticket = self._crew.begin(asked.config, phase)
        self._running[ticket] = _Running(part=part, asked=asked, phase=phase)
        return True

    def _under_way(self, config: Config) -> _Running | None:
        same = (r for r in self._running.values() if key(r.asked.config) == key(config))
        return next(same, None)

    def _ended(self, done: Done) -> None:
        running = self._running.pop(done.job.ticket)
        self._known[key(done.job.config)] = done.evaluated
        for part, asked in [(running.part, running.asked), *running.twins]:
            self._tell(part, asked, done.evaluated)
        self._made(running.part.branch.name, running.phase, done.job.config, done.evaluated)

    def _propose(self, part: Part) -> Phase:
        """What the guide says next, or a seed as long as this branch has had too few."""
        name = part.branch.name
        if part.guide is not None:
            known = self._known_of(part)
            config = part.guide.propose(known)
            if config is None:
                return Phase.SEARCH
            part.searcher.want([config])
            by_forecast = part.guide.has_forecasts and not known.measured
            return Phase.SEED if by_forecast else Phase.SEARCH
        made = [t for t in self.trials if t.branch == name and t.phase is Phase.SEED]
        running = [r for r in self._running.values() if r.part is part and r.phase is Phase.SEED]
        if part.seeder is None or len(made) + len(running) >= part.num_seeds:
            return Phase.SEARCH
        taken = [t.config for t in self.trials] + [r.asked.config for r in self._running.values()]
        seed = part.seeder.propose(self._measured(part), taken=taken)
        if seed is None:
            return Phase.SEARCH
        part.searcher.want([seed])
        return Phase.SEED

    def _tell(self, part: Part, asked: Asked, evaluated: Evaluated) -> None:
        outcome = evaluated.outcome
        if isinstance(outcome, Told):
            part.searcher.tell(asked.number, outcome)
        else:
            why = outcome.message if isinstance(outcome, Transient) else ", ".join(outcome.reasons)
            part.searcher.forget(asked.number, why)

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

    # ---- which branch next ----

    def _next_part(self) -> Part:
        """Every branch gets its seeds or its start in turn; then every other trial goes to the
        branch of the best so far, the rest in turn."""
        counts = {p.branch.name: 0 for p in self._parts}
        for trial in self.trials:
            if trial.branch in counts and trial.phase is not Phase.BASELINE:
                counts[trial.branch] += 1
        for running in self._running.values():
            counts[running.part.branch.name] += 1
        fresh = [p for p in self._parts if not self._is_exhausted(p.branch)] or self._parts
        least = min(fresh, key=lambda p: counts[p.branch.name])
        best = self._best_branch()
        odd = (len(self.trials) + len(self._running)) % 2
        if counts[least.branch.name] < least.num_seeds or best is None or odd:
            return least
        return best

    def _is_exhausted(self, branch: Branch) -> bool:
        """Whether all of a small branch is known: it would only repeat itself."""
        few = branch.num_points <= MAX_IDLE
        return few and all(key(config) in self._known for config in branch.grid())

    def _best_branch(self) -> Part | None:
        top = self._seen_to_keep()
        if not top:
            return None
        return next((p for p in self._parts if p.branch.holds(top[0].config)), None)

    def _measured(self, part: Part) -> list[tuple[Config, Reading]]:
        return [
            (t.config, t.evaluated.outcome.reading)
            for t in self.trials
            if t.branch == part.branch.name and isinstance(t.evaluated.outcome, Measured)
        ]

    def _known_of(self, part: Part) -> Known:
        """What a guide has to know of its branch. Failures that were foreseen are none of it."""
        mine = [t for t in self.trials if t.branch == part.branch.name]
        mine = [t for t in mine if t.phase is not Phase.BASELINE and part.branch.holds(t.config)]
        return Known(
            measured=[m for m in self._measured(part) if part.branch.holds(m[0])],
            ruled_out=[
                (t.config, reading)
                for t in mine
                if isinstance(t.evaluated.outcome, Stopped)
                and (reading := t.evaluated.outcome.reading(self._wish)) is not None
            ],
            failed=[t.config for t in mine if isinstance(t.evaluated.outcome, Crashed)],
            running=list(part.searcher.open_trials().values()),
            taken=[t.config for t in mine],
        )

    def _elapsed(self) -> Spent:
        """With the wall time of this sitting, which is more than that of its trials."""
        return replace(self.spent, wall_s=self.took_s)
