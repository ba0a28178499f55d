"""What stands behind a study's trials: a configuration becomes a run, and a run what it means.

The same question is never measured twice: a run carries the fingerprint of what was asked as a tag,
and a record that has it answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from harness.errors import SpecError
from harness.model_identity import model_identity
from harness.runner import RunContext, run_spec
from harness.spec import RunSpec
from harness.spec_overrides import NotLegal, place
from harness.specfile import spec_from_mapping, spec_to_mapping
from results.environment import stable_hash
from results.measurement import of_group
from results.record import RunRecord
from results.store import RecordStore
from tuners.goals import Bound, Goal, Wish
from tuners.loop import Evaluated, Phase, Spent, Trial
from tuners.outcome import SEVERITY, Crashed, FailureKind, Transient, outcome_of
from tuners.space import Config, Space, Value

STUDY, PHASE, CONFIG, WISH = "study", "study.phase", "study.config", "study.wish"
FINGERPRINT = "study.fingerprint"
# Seeds of re-measured runs lie this far apart, so that no repeat of one meets another's.
_SEEDS_APART = 1009


def configured(base: RunSpec, config: Config) -> RunSpec:
    """``base`` with each knob at its value; null takes an engine argument out, and leaves a field
    of the spec as it is. Raises SpecError for a path that leads nowhere, and for a value that is
    not legal there."""
    data: Any = spec_to_mapping(base)
    for path, value in config.items():
        parts = tuple(path.split("."))
        if value is None:
            _taken_out(data, parts)
            continue
        try:
            data = place(RunSpec, data, parts, value)
        except NotLegal as refusal:
            raise SpecError(f"knob {path}: {refusal.reason}") from None
    return spec_from_mapping(data)


def _taken_out(data: Any, path: tuple[str, ...]) -> None:
    *parents, last = path
    for part in parents:
        if not isinstance(data, Mapping) or part not in data:
            return
        data = data[part]
    if parents and parents[-1] in ("engine_args", "env") and isinstance(data, dict):
        data.pop(last, None)


def fingerprint(spec: RunSpec) -> str:
    """Of everything that was asked; not of who asked, nor of how long it may take."""
    asked = spec_to_mapping(spec)
    for name in ("name", "tags", "num_repeats", "redeploy", "deadlines"):
        asked.pop(name, None)
    return stable_hash({"asked": asked, "model": model_identity(spec)})


class RunnerEvaluate:
    """An ``Evaluate`` on the runner. ``memory`` maps fingerprints to records made before."""

    def __init__(
        self,
        base: RunSpec,
        wish: Wish,
        context: RunContext,
        study: str,
        memory: Mapping[str, RunRecord],
    ) -> None:
        self._base, self._wish, self._context, self._study = base, wish, context, study
        self._memory = dict(memory)

    def spec(self, config: Config, phase: Phase, repeat: int) -> RunSpec:
        """The run of one trial. Raises SpecError."""
        made = replace(configured(self._base, config), num_repeats=1, redeploy=True)
        if repeat and made.traffic is not None:
            seed = made.traffic.seed + _SEEDS_APART * repeat
            made = replace(made, traffic=replace(made.traffic, seed=seed))
        tags = {
            **made.tags,
            STUDY: self._study,
            PHASE: str(phase),
            CONFIG: json.dumps(dict(config), sort_keys=True),
            WISH: json.dumps(asdict(self._wish), sort_keys=True),
            FINGERPRINT: fingerprint(made),
        }
        return replace(made, name=self._study, tags=tags)

    def __call__(self, config: Config, phase: Phase, repeat: int) -> Evaluated:
        try:
            spec = self.spec(config, phase, repeat)
        except SpecError as error:
            kind = FailureKind.CONFIG_INVALID
            return Evaluated(
                outcome=Crashed(kind=kind, message=str(error), severity=SEVERITY[kind])
            )
        known = self._memory.get(spec.tags[FINGERPRINT])
        if known is not None:
            found = evaluated(known, self._wish)
            return replace(found, spent=Spent(), from_memory=True)
        (record,) = run_spec(spec, self._context)
        made = evaluated(record, self._wish)
        if not isinstance(made.outcome, Transient):
            self._memory[spec.tags[FINGERPRINT]] = record
        return made


def evaluated(record: RunRecord, wish: Wish) -> Evaluated:
    """What a record means, and what it cost."""
    numbers = {m.metric: m.value for m in of_group(record.measurements) if m.statistic == "value"}
    return Evaluated(
        outcome=outcome_of(record, wish),
        run_ids=(record.run_id,),
        spent=Spent(
            wall_s=record.duration_s,
            chip_hours=numbers.get("chip_hours") or 0.0,
            usd=numbers.get("cost_usd"),
        ),
    )


def tags_of(record: RunRecord) -> Mapping[str, str]:
    tags: Mapping[str, str] = record.spec.get("tags") or {}
    return tags


def remembered(store: RecordStore, wish: Wish) -> dict[str, RunRecord]:
    """Every record of the store that a study made and that says something, by fingerprint; the
    newest of several."""
    return {
        tags[FINGERPRINT]: record
        for record in store.scan().records
        if (tags := tags_of(record)).get(FINGERPRINT)
        and not isinstance(outcome_of(record, wish), Transient)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStudy:
    """A study as its runs tell it: what it wanted, and its trials, oldest first."""

    name: str
    wish: Wish
    trials: tuple[Trial, ...]
    started_at: datetime
    ended_at: datetime


def kept_studies(store: RecordStore) -> dict[str, KeptStudy]:
    """Every study that has a run in the store, by name, in the order of their first runs. The wish
    is that of its newest run."""
    runs: dict[str, list[RunRecord]] = {}
    for record in store.scan().records:
        if name := tags_of(record).get(STUDY):
            runs.setdefault(name, []).append(record)
    return {name: _kept(name, records) for name, records in runs.items()}


def _kept(name: str, records: list[RunRecord]) -> KeptStudy:
    wish = _wish_of(tags_of(records[-1])[WISH])
    return KeptStudy(
        name=name,
        wish=wish,
        trials=tuple(_trial(record, wish, i + 1) for i, record in enumerate(records)),
        started_at=records[0].started_at,
        ended_at=records[-1].ended_at,
    )


def _trial(record: RunRecord, wish: Wish, number: int) -> Trial:
    tags = tags_of(record)
    config: dict[str, Value] = json.loads(tags[CONFIG])
    return Trial(
        number=number,
        branch="",
        phase=Phase(tags[PHASE]),
        config=config,
        evaluated=evaluated(record, wish),
    )


def _wish_of(text: str) -> Wish:
    data = json.loads(text)
    return Wish(
        goals=tuple(Goal(**goal) for goal in data["goals"]),
        bounds=tuple(Bound(**bound) for bound in data["bounds"]),
    )


def trials_of(store: RecordStore, study: str, space: Space, wish: Wish) -> Iterator[Trial]:
    """The trials that a study of that name has paid for, re-measurements too, oldest first, each
    in its branch of ``space`` and read with ``wish``."""
    number = 0
    for record in store.scan().records:
        if tags_of(record).get(STUDY) == study:
            number += 1
            made = _trial(record, wish, number)
            branch = space.branch_of(made.config)
            yield replace(made, branch=branch.name if branch else "")
