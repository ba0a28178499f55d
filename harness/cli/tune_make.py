"""From a configuration to a trial's ask, and from what it left in the store to what it means.

The same question is never measured twice: a run carries the fingerprint of what was asked as a tag,
and a record that has it answers at once. A run of the same study that another process has under way
is waited for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from harness.capacity.ascent import Ascent, Seen, Target, Window
from harness.capacity.curve import Load
from harness.capacity.judge import conditions_of
from harness.capacity.race import Race
from harness.capacity.slo import slo_of
from harness.cli.tune_memory import Memory
from harness.cli.tune_race import own_ascent, race_of, stopped_of
from harness.cli.tune_runs import (
    CONFIG,
    PHASE,
    PROCESS,
    STUDY,
    WISH,
    configured,
    evaluated_trial,
    groups_of_trials,
    reseeded,
    tags_of,
    trials_in,
)
from harness.errors import SpecError
from harness.runner import RunContext
from harness.spec import RunSpec
from harness.trial import (
    FINGERPRINT,
    LOAD,
    REPEAT,
    TrialAsk,
    fingerprint,
    is_complete,
    marked,
    run_trial,
    seen_from,
    spec_at,
    windows_of,
)
from results.lost import is_lost, process_alive, this_process
from results.record import Failed, RunRecord
from results.store import OpenRun
from tuners.goals import Wish
from tuners.lease import Owner
from tuners.outcome import (
    SEVERITY,
    Crashed,
    FailureKind,
    Measured,
    Stopped,
    Transient,
)
from tuners.seeds import key
from tuners.space import Config, Space
from tuners.study_spec import StudySpec
from tuners.trial import Evaluated, Phase, Spent, Trial

# Seeds of re-measured runs lie this far apart, so that no repeat of one meets another's.
_SEEDS_APART = 1009
_LOOK_S = 1.0  # between two looks at a run that another process has under way
_REFRESH_S = 2.0  # the store is not listed more often


def ascent_of(study: StudySpec, base: RunSpec) -> Ascent | None:
    """None for a study of one load without a probe. Raises SpecError where the run or the limits
    have none."""
    asked = study.load
    if asked is None:
        own = own_ascent(study, base)
        return own if isinstance(own, Ascent) else None
    if base.traffic is None:
        raise SpecError(f"load: {base.name} has no traffic, so there is no load to vary")
    window_s = asked.duration_s or base.traffic.duration_s or 0.0
    if not window_s:
        raise SpecError("load.duration_s: the traffic has no duration of its own; give one here")
    limits = slo_of(study.slo) if asked.until == "slo" else None
    users = tuple(Load(num_users=n) for n in asked.concurrency)
    made = Ascent(
        loads=users or tuple(Load(rate_rps=rate) for rate in asked.rates),
        duration_s=window_s,
        probe_s=asked.probe_of(window_s),
        think_s=asked.think_time_s,
        conditions=conditions_of(limits.limits, limits.attainment) if limits else (),
    )
    spec_at(base, made, Window(number=0))  # arrivals that have no rate are found here
    return made


class TrialMaker:
    """Asks and tells of one study. ``me``: tells its runs from those of other processes."""

    def __init__(
        self,
        study: StudySpec,
        base: RunSpec,
        wish: Wish,
        space: Space,
        context: RunContext,
        memory: Memory,
    ) -> None:
        self._study, self._base, self._wish, self._space = study, base, wish, space
        self._context, self.memory = context, memory
        self.ascent, self._race = ascent_of(study, base), race_of(study, wish)
        self.me = Owner(process=this_process()).name
        self._best: float | None = None  # of the first goal, among what keeps its limits
        self._best_ids: tuple[str, ...] = ()  # the records of its trial
        self._best_at = ""  # and the load that it was read at
        self._told: set[str] = set()  # run ids that the search knows
        self._refreshed_s = -_REFRESH_S

    def spec(self, config: Config, phase: Phase, repeat: int) -> RunSpec:
        """The run of one trial, all of its loads alike. Raises SpecError."""
        made = replace(configured(self._base, config), num_repeats=1, redeploy=True)
        made = reseeded(made, _SEEDS_APART * repeat)
        tags = {
            **made.tags,
            STUDY: self._study.name,
            PHASE: str(phase),
            CONFIG: json.dumps(dict(config), sort_keys=True),
            REPEAT: str(repeat),
            WISH: json.dumps(asdict(self._wish), sort_keys=True),
            PROCESS: self.me,
        }
        return replace(made, name=self._study.name, tags=tags)

    def ask(self, config: Config, phase: Phase, repeat: int) -> TrialAsk | Evaluated:
        """What is to be run; or what is known already, from memory or from the file alone."""
        try:
            spec = self.spec(config, phase, repeat)
        except SpecError as error:
            kind = FailureKind.CONFIG_INVALID
            return Evaluated(
                outcome=Crashed(kind=kind, message=str(error), severity=SEVERITY[kind])
            )
        self._wait_for_others(spec)
        self.memory.refresh()
        ascent = self._ascent_of(config, phase)
        if ascent is None:
            answer = self.memory.answer(marked(spec).tags[FINGERPRINT])
            if answer is not None:
                return self._from_memory([answer])
            return TrialAsk(spec=spec)
        prints = [spec_at(spec, ascent, w).tags[FINGERPRINT] for w in windows_of(ascent)]
        answers = {print_: self.memory.answer(print_) for print_ in prints}
        whole = answers.get(fingerprint(spec)) if ascent.loads[0].is_own else None
        if whole is not None and tags_of(whole)[STUDY] != self._study.name:
            return self._from_memory([whole])  # no probe is needed of what is known
        known = {print_: record.run_id for print_, record in answers.items() if record}
        return TrialAsk(spec=spec, ascent=ascent, known=known)

    def told(self, ask: TrialAsk, records: Sequence[RunRecord]) -> Evaluated:
        """What a trial that was run means; what was known before costs nothing again."""
        for record in records:
            self.memory.add(record)
        known = set(ask.known.values())
        made = self._meant(ask.ascent, records)
        paid = evaluated_trial([r for r in records if r.run_id not in known] or records, self._wish)
        all_known = all(r.run_id in known for r in records)
        made = replace(made, spent=Spent() if all_known else paid.spent, from_memory=all_known)
        self._note(made)
        return made

    def evaluate(self, config: Config, phase: Phase, repeat: int) -> Evaluated:
        """Here, one at a time: an ``Evaluate``."""
        ask = self.ask(config, phase, repeat)
        if isinstance(ask, Evaluated):
            return ask
        return self.told(ask, run_trial(ask, self._context))

    def past(self) -> list[Trial]:
        """What this study has paid for, by whatever process, and the search was not told; a trial
        whose load points are not all measured is none yet, and will be asked again."""
        self.memory.refresh()
        return self._untold(self.memory.of_study())

    def others(self) -> list[Trial]:
        """The same of other processes alone, since this one began."""
        now_s = self._context.clock.monotonic_s()
        if now_s - self._refreshed_s < _REFRESH_S:
            return []
        self._refreshed_s = now_s
        self.memory.refresh()
        return self._untold(
            [r for r in self.memory.of_study() if tags_of(r).get(PROCESS) != self.me]
        )

    def _untold(self, records: Sequence[RunRecord]) -> list[Trial]:
        groups = [
            group
            for group in groups_of_trials(records)
            if not {r.run_id for r in group} <= self._told and self._is_whole(group)
        ]
        trials = []
        made = trials_in([r for group in groups for r in group], self._space, self._wish)
        for group, trial in zip(groups, made, strict=True):
            loads = self.ascent is not None and LOAD in tags_of(group[0])
            ascent = self._as_it_was(group) if loads else None
            stopped = self._stopped(ascent, group)
            if stopped is not None:
                trial = replace(trial, evaluated=replace(trial.evaluated, outcome=stopped))
            self._note(trial.evaluated)
            trials.append(trial)
        return trials

    def _meant(self, ascent: Ascent | None, records: Sequence[RunRecord]) -> Evaluated:
        made = evaluated_trial(records, self._wish)
        stopped = self._stopped(ascent, records)
        return made if stopped is None else replace(made, outcome=stopped)

    def _stopped(self, ascent: Ascent | None, records: Sequence[RunRecord]) -> Stopped | None:
        if ascent is None or any(isinstance(r.outcome, Failed) for r in records):
            return None
        return stopped_of(ascent, list(self._seen(ascent, records)), self._wish)

    def _note(self, made: Evaluated) -> None:
        self._told |= set(made.run_ids)
        outcome, goals = made.outcome, self._wish.goals
        if not isinstance(outcome, Measured) or len(goals) > 1:
            return
        if outcome.reading.keeps(self._wish):
            value = outcome.reading.goals[goals[0].name]
            better = max if goals[0].maximize else min
            if self._best is None or better(self._best, value) != self._best:
                self._best, self._best_ids = value, made.run_ids
                self._best_at = made.at

    def _from_memory(self, records: Sequence[RunRecord]) -> Evaluated:
        made = evaluated_trial(records, self._wish)
        self._note(made)
        return replace(made, spent=Spent(), from_memory=True)

    # ---- load points ----

    def _ascent_of(self, config: Config, phase: Phase) -> Ascent | None:
        if self.ascent is None:
            return None
        is_own = self.ascent.loads[0].is_own
        if phase is Phase.REMEASURE:  # the load that the search has found is what is proven
            return None if is_own else self._only(self._best_load(config))
        if phase is Phase.BASELINE:
            return self.ascent
        target = None if is_own or len(self._wish.goals) > 1 else self._target(self._best)
        return replace(self.ascent, target=target, race=self._race_now())

    def _target(self, value: float | None) -> Target | None:
        goal = self._wish.goals[0]
        if value is None:
            return None
        return Target(
            metric=goal.metric, statistic=goal.statistic, maximize=goal.maximize, value=value
        )

    def _race_now(self) -> Race | None:
        """Against the best so far, where that had a probe at the load that it was read at."""
        if self._race is None or self._best is None:
            return self._race
        for run_id in self._best_ids:
            record = self.memory.known(run_id)
            load = json.loads(tags_of(record).get(LOAD, "{}")) if record is not None else {}
            if load.get("window") == "probe" and load["at"] == self._best_at:
                return replace(self._race, rival=run_id, number=load["number"], value=self._best)
        return self._race

    def _only(self, number: int) -> Ascent:
        assert self.ascent is not None
        return replace(self.ascent, loads=(self.ascent.loads[number],), probe_s=0.0, conditions=())

    def _best_load(self, config: Config) -> int:
        """Where the trial of this configuration was read; of one without any, the lowest."""
        assert self.ascent is not None
        words = {load.words: number for number, load in enumerate(self.ascent.loads)}
        groups = groups_of_trials(self.memory.of_study())
        for group in groups:
            tags = tags_of(group[0])
            same = key(json.loads(tags[CONFIG])) == key(config)
            if same and tags[PHASE] != str(Phase.REMEASURE):
                at = evaluated_trial(group, self._wish).at
                return words.get(at, 0)
        return 0

    def _is_whole(self, group: Sequence[RunRecord]) -> bool:
        """Whether nothing is left to measure of a trial: replayed from its records."""
        tags = tags_of(group[0])
        alone = LOAD not in tags or tags[PHASE] == str(Phase.REMEASURE)
        if self.ascent is None or alone:
            return True
        outcome = evaluated_trial(group, self._wish).outcome
        if isinstance(outcome, Crashed | Transient):
            return isinstance(outcome, Crashed)
        ran = [r for r in group if not isinstance(r.outcome, Failed)]
        ascent = self._as_it_was(ran)
        return is_complete(ascent, list(self._seen(ascent, ran)))

    def _as_it_was(self, group: Sequence[RunRecord]) -> Ascent:
        """With the target and the rival of then: the same windows lead to the same end."""
        assert self.ascent is not None
        load = json.loads(tags_of(group[-1])[LOAD])
        against = load.get("race")
        race = replace(self._race, **against) if self._race and against else None
        return replace(self.ascent, target=self._target(load["target"]), race=race)

    def _seen(self, ascent: Ascent, group: Sequence[RunRecord]) -> Iterator[Seen]:
        for record in group:
            load: Mapping[str, object] = json.loads(tags_of(record).get(LOAD, "{}"))
            number = load.get("number")
            if isinstance(number, int) and number < len(ascent.loads):
                window = Window(
                    number=number,
                    is_probe=load["window"] == "probe",
                    again=load["window"] == "again",
                )
                yield seen_from(window, record, self.memory.store, ascent)

    # ---- other processes ----

    def _wait_for_others(self, spec: RunSpec) -> None:
        """As long as another process has this very trial under way: its records are ours then."""
        is_told = False
        while any(self._is_theirs(run, spec) for run in self.memory.store.open_runs()):
            if not is_told:
                self._context.progress.phase("wait", "another process measures this one; waiting")
                is_told = True
            self._context.clock.sleep(_LOOK_S)

    def _is_theirs(self, run: OpenRun, spec: RunSpec) -> bool:
        tags: Mapping[str, str] = run.spec.get("tags") or {}
        if any(tags.get(t) != spec.tags[t] for t in (STUDY, CONFIG, REPEAT)):
            return False
        if tags.get(PROCESS) == self.me:
            return False
        here = this_process()
        lost = is_lost(run, here.host, here.boot_id, process_alive)
        age_s = (self._context.clock.now_utc() - run.started_at).total_seconds()
        d = self._base.deadlines
        return lost is False or (lost is None and age_s < d.startup_s + d.load_s + d.teardown_s)
