"""Studies as the store tells them: their runs, found by the index, and what they logged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from harness.cli.options import index_of
from harness.cli.tune_runs import (
    CONFIG,
    PHASE,
    STUDY,
    WISH,
    evaluated,
    evaluated_trial,
    groups_of_trials,
    read_trial,
    tags_of,
)
from harness.trial import FINGERPRINT
from results.errors import RecordNotFound
from results.record import RunRecord
from results.store_files import FileStore
from results.store_index import RunIndex
from results.study_log import (
    StudyEvent,
    StudyEventKind,
    StudyState,
    read_log,
    state_of,
    study_names,
)
from tuners.goals import Bound, Goal, Wish
from tuners.loop import Phase, Spent, Trial
from tuners.outcome import Crashed, Measured, Stopped, Unusable
from tuners.space import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStudy:
    """A study as its runs tell it: what it wanted, and its trials, oldest first.

    ``records`` are those that the trials were read from, one each, in the same order; ``groups``
    all that belong to each;
    ``remembered`` the places of the trials that a run of before answered. ``asked``: the study's
    file as its last sitting read it.
    """

    name: str
    wish: Wish
    trials: tuple[Trial, ...]
    records: tuple[RunRecord, ...]
    groups: tuple[tuple[RunRecord, ...], ...]
    remembered: frozenset[int]
    state: StudyState
    state_words: str
    events: tuple[StudyEvent, ...]
    started_at: datetime
    ended_at: datetime

    @property
    def asked(self) -> Mapping[str, Any]:
        return self._last(StudyEventKind.BEGUN).get("asked", {})  # type: ignore[no-any-return]

    @property
    def ended(self) -> Mapping[str, Any]:
        return self._last(StudyEventKind.ENDED)

    @property
    def command(self) -> str:
        return str(self._last(StudyEventKind.BEGUN).get("command", ""))

    @property
    def foreseen(self) -> tuple[tuple[dict[str, Value], str], ...]:
        """Each once, however many sittings foresaw it."""
        found = {
            json.dumps(e.body.get("config"), sort_keys=True): (
                dict(e.body.get("config") or {}),
                str(e.body.get("why", "")),
            )
            for e in self.events
            if e.kind is StudyEventKind.FORESEEN
        }
        return tuple(found.values())

    def _last(self, kind: StudyEventKind) -> Mapping[str, Any]:
        return next((e.body for e in reversed(self.events) if e.kind is kind), {})


def study_names_of(store: FileStore, index: RunIndex | None = None) -> tuple[str, ...]:
    """Every study that has a run or began, in the order of their first runs."""
    names = (index or index_of(store)).tag_values(STUDY)
    return tuple(dict.fromkeys((*names, *study_names(store.objects))))


def kept_studies(store: FileStore) -> dict[str, KeptStudy]:
    """Every study of the store, by name."""
    index = index_of(store)
    names = study_names_of(store, index)
    found = {name: kept_study(store, name, index) for name in names}
    return {name: study for name, study in found.items() if study is not None}


def kept_study(store: FileStore, name: str, index: RunIndex | None = None) -> KeptStudy | None:
    """None where there is neither a run nor a word of it. The wish is that of its newest run."""
    events = read_log(store.objects, name)
    records = _records(store, name, index or index_of(store))
    if not records and not events:
        return None
    begun = next((e for e in reversed(events) if e.kind is StudyEventKind.BEGUN), None)
    asked = begun.body.get("asked", {}).get("wish") if begun is not None else None
    wish = wish_of_tag(tags_of(records[-1])[WISH]) if records else None
    if wish is None:
        wish = wish_of_tag(asked) if asked else None
    if wish is None:
        return None
    known = _remembered(store, events, records)
    groups = groups_of_trials(records)
    both: list[tuple[list[RunRecord], StudyEvent | None]] = [*((g, None) for g in groups), *known]
    both.sort(key=lambda pair: pair[1].at if pair[1] is not None else pair[0][0].started_at)
    stops = _stops(events)
    trials = [
        _stopped(_trial(group, wish, i, event), stops) for i, (group, event) in enumerate(both, 1)
    ]
    wish = _against_baseline(wish, trials)
    state, words = state_of(events)
    times = [*(e.at for e in events), *(r.started_at for r in records)]
    ends = [*(e.at for e in events), *(r.ended_at for r in records)]
    return KeptStudy(
        name=name,
        wish=wish,
        trials=tuple(trials),
        records=tuple(read_trial(group, wish)[0] for group, _ in both),
        groups=tuple(tuple(group) for group, _ in both),
        remembered=frozenset(i for i, (_, event) in enumerate(both) if event is not None),
        state=state,
        state_words=words,
        events=events,
        started_at=min(times),
        ended_at=max(ends),
    )


def _against_baseline(wish: Wish, trials: Sequence[Trial]) -> Wish:
    """Before the first trial, limits that are multiples of the baseline's stand in no run; where
    all of them were remembered, never."""
    for trial in trials:
        outcome = trial.evaluated.outcome
        if trial.phase is Phase.BASELINE and isinstance(outcome, Measured):
            return wish.against(outcome.reading) if wish.waits_for_baseline else wish
    return wish


def _records(store: FileStore, name: str, index: RunIndex) -> list[RunRecord]:
    found = []
    for run_id in index.tagged(STUDY, name):
        try:
            found.append(store.get(run_id))
        except RecordNotFound:
            continue  # gone since the index looked
    return found


def _remembered(
    store: FileStore, events: tuple[StudyEvent, ...], mine: list[RunRecord]
) -> list[tuple[list[RunRecord], StudyEvent]]:
    """Trials that a run of before answered: another study's, or one that this study made for the
    same configuration in other words. Each once, however many sittings asked."""
    found: dict[tuple[str, str, str], tuple[list[RunRecord], StudyEvent]] = {}
    own = {(r.run_id, tags_of(r)[PHASE], tags_of(r)[CONFIG]) for r in mine}
    by_id = {r.run_id: r for r in mine}
    for event in events:
        if event.kind is not StudyEventKind.REMEMBERED:
            continue
        run_id, phase = str(event.body.get("run_id", "")), str(event.body.get("phase", ""))
        which = (run_id, phase, json.dumps(event.body.get("config"), sort_keys=True))
        if which in own or which in found:
            continue
        try:
            found[which] = ([by_id.get(run_id) or store.get(run_id)], event)
        except RecordNotFound:
            continue
    return list(found.values())


def _trial(
    records: list[RunRecord], wish: Wish, number: int, event: StudyEvent | None = None
) -> Trial:
    """``event``: the study's word on a run that was not its own, and cost it nothing."""
    tags = tags_of(records[0])
    config: dict[str, Value] = json.loads(tags[CONFIG])
    made = evaluated_trial(records, wish)
    if event is None:
        return Trial(
            number=number, branch="", phase=Phase(tags[PHASE]), config=config, evaluated=made
        )
    return Trial(
        number=number,
        branch="",
        phase=Phase(str(event.body["phase"])),
        config=dict(event.body.get("config", config)),
        evaluated=replace(made, spent=Spent(), from_memory=True),
    )


def _stops(events: Sequence[StudyEvent]) -> dict[str, Stopped]:
    """By the last run of each trial that its probe ruled out."""
    found = {}
    for event in events:
        if event.kind is StudyEventKind.STOPPED:
            body = {k: v for k, v in event.body.items() if k != "run_id"}
            found[str(event.body.get("run_id", ""))] = Stopped(**body)
    return found


def _stopped(trial: Trial, stops: Mapping[str, Stopped]) -> Trial:
    """Its probe alone says nothing; the study's own word is what it was told."""
    outcome, run_ids = trial.evaluated.outcome, trial.evaluated.run_ids
    if not isinstance(outcome, Unusable) or not run_ids or run_ids[-1] not in stops:
        return trial
    return replace(trial, evaluated=replace(trial.evaluated, outcome=stops[run_ids[-1]]))


def wish_of_tag(text: str) -> Wish:
    data = json.loads(text)
    return Wish(
        goals=tuple(Goal(**goal) for goal in data["goals"]),
        bounds=tuple(Bound(**bound) for bound in data["bounds"]),
    )


class Remembered:
    """Runs that studies made before, by the fingerprint of what was asked; found by the index, so
    that a store of any size is open at once. ``only_own``: of ``study`` alone, not of others."""

    def __init__(
        self,
        store: FileStore,
        index: RunIndex,
        wish: Wish,
        study: str,
        *,
        only_own: bool = False,
    ) -> None:
        self._store, self._index, self.wish = store, index, wish
        self._study, self._only_own = study, only_own
        self._made: dict[str, RunRecord] = {}

    def get(self, fingerprint: str) -> RunRecord | None:
        """The newest of them that says something about the configuration."""
        made = self._made.get(fingerprint)
        if made is not None:
            return made
        for run_id in reversed(self._index.tagged(FINGERPRINT, fingerprint)):
            try:
                record = self._store.get(run_id)
            except RecordNotFound:
                continue
            if self._answers(record):
                return record
        return None

    def _answers(self, record: RunRecord) -> bool:
        """A run that could not be used was paid for by its own study; another tries again."""
        own = tags_of(record).get(STUDY) == self._study
        if self._only_own and not own:
            return False
        outcome = evaluated(record, self.wish).outcome
        return isinstance(outcome, Measured | Crashed) or (own and isinstance(outcome, Unusable))

    def keep(self, fingerprint: str, record: RunRecord) -> None:
        self._made[fingerprint] = record
