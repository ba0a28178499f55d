"""What a study's records mean: a configuration becomes a run's spec, and its records a trial."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.errors import SpecError
from harness.spec import RunSpec
from harness.spec_overrides import NotLegal, place
from harness.specfile import spec_from_mapping, spec_to_mapping
from harness.trial import FINGERPRINT, LOAD, REPEAT, SEEDED
from results.measurement import of_group
from results.record import Failed, RunRecord
from results.startup import StartupParts, parts_of
from tuners.goals import Reading, Wish
from tuners.outcome import Crashed, Measured, Transient, Unusable, outcome_of
from tuners.space import Config, Space, Value
from tuners.training_batch import same_step
from tuners.trial import Evaluated, Phase, Spent, Trial

STUDY, PHASE, CONFIG, WISH = "study", "study.phase", "study.config", "study.wish"
PROCESS = "study.process"
ONLY_PROBED = "only a probe was measured"


def configured(base: RunSpec, config: Config) -> RunSpec:
    """``base`` with each knob at its value; null takes an engine argument out, and leaves a field
    of the spec as it is. A training keeps the sequences of its step. Raises SpecError for a path
    that leads nowhere, and for a value that is not legal there."""
    data: Any = spec_to_mapping(base)
    for path, value in config.items():
        parts = tuple(path.split("."))
        if value is None:
            _taken_out(data, parts)
            continue
        try:
            data = place(RunSpec, data, parts, str(value) if parts[-2:-1] == ("env",) else value)
        except NotLegal as refusal:
            raise SpecError(f"knob {path}: {refusal.reason}") from None
    return same_step(base, spec_from_mapping(data), config)


def _taken_out(data: Any, path: tuple[str, ...]) -> None:
    *parents, last = path
    for part in parents:
        if not isinstance(data, Mapping) or part not in data:
            return
        data = data[part]
    if parents and parents[-1] in ("engine_args", "env") and isinstance(data, dict):
        data.pop(last, None)


def reseeded(spec: RunSpec, by: int) -> RunSpec:
    """Other requests; of a training other data and other first weights. What has neither stays as
    it is: its ``fingerprint`` counts the repeats."""
    if spec.traffic is not None:
        return replace(spec, traffic=replace(spec.traffic, seed=spec.traffic.seed + by))
    workload = spec.workload
    if isinstance(workload, SEEDED):
        return replace(spec, workload=replace(workload, seed=workload.seed + by))
    return spec


def evaluated(record: RunRecord, wish: Wish) -> Evaluated:
    """What a record means, and what it cost."""
    numbers = {m.metric: m.value for m in of_group(record.measurements) if m.statistic == "value"}
    startup_s, waited_s = startup_of(record), waited_of(record)
    parts = parts_of(record.startup) if record.startup is not None else None
    return Evaluated(
        outcome=outcome_of(record, wish),
        run_ids=(record.run_id,),
        spent=Spent(
            wall_s=record.duration_s,
            chip_hours=numbers.get("chip_hours") or 0.0,
            usd=numbers.get("cost_usd"),
            startup_s=startup_s,
            num_starts=int(startup_s > 0),
            startup_parts=parts or StartupParts(rest_s=startup_s),
            waited_s=waited_s,
            probe_s=record.duration_s - startup_s - waited_s if is_probe(record) else 0.0,
        ),
    )


def startup_of(record: RunRecord) -> float:
    """Seconds of the run that went into a start: all of one that ended before it was up."""
    if record.startup is not None:
        return record.startup.ready_s
    failed_s = isinstance(record.outcome, Failed) and record.outcome.stage == "startup"
    return record.duration_s if failed_s else 0.0


def waited_of(record: RunRecord) -> float:
    """Seconds in which the run was ready, and waited for its turn to be loaded. Of several load
    points of one start the first one's: that which has the start."""
    turn: Any = (record.resolved.get("observed") or {}).get("turn")
    return float(turn["waited_s"]) if turn and record.startup is not None else 0.0


def evaluated_trial(records: Sequence[RunRecord], wish: Wish) -> Evaluated:
    """See ``read_trial``."""
    return read_trial(records, wish)[1]


def read_trial(records: Sequence[RunRecord], wish: Wish) -> tuple[RunRecord, Evaluated]:
    """What the records of one trial mean together, and the one that says so: of one run, that run;
    of several load points the best one that keeps the limits, or the one that breaks them least.

    A later record of the same window counts instead of an earlier one. A permanent failure at any
    load is the trial's: a server that dies under a little more load is no recommendation. Probes
    alone are no reading: whether they ruled the trial out is for ``tune_make`` to say.
    """
    spent = Spent()
    for record in records:
        spent = spent.plus(evaluated(record, wish).spent)
    last = {tags_of(r).get(FINGERPRINT, r.run_id): r for r in records}
    each = [(record, evaluated(record, wish)) for record in last.values()]
    run_ids = tuple(record.run_id for record in records)
    for kind in (Crashed, Transient):
        found = [(r, e) for r, e in each if isinstance(e.outcome, kind)]
        if found:
            record, made = found[-1]
            return record, replace(made, run_ids=run_ids, spent=spent)
    full = [(r, e) for r, e in each if not is_probe(r)]
    if not full:
        record, made = each[-1]
        outcome = Unusable(reasons=(ONLY_PROBED,))
        return record, replace(made, outcome=outcome, run_ids=run_ids, spent=spent)
    measured = [(r, e.outcome.reading) for r, e in full if isinstance(e.outcome, Measured)]
    if not measured:
        record, made = next((pair for pair in full if _lacks_data(pair[1])), full[-1])
        return record, replace(made, run_ids=run_ids, spent=spent)
    record, reading = max(measured, key=lambda pair: _worth(pair[1], wish))
    read, at = Measured(reading=reading), _load_of(record)
    return record, Evaluated(outcome=read, run_ids=run_ids, spent=spent, at=at)


def _lacks_data(made: Evaluated) -> bool:
    """It ran well, and its windows are too short for the statistic that the study wants: that is
    for the study's author to mend, and is told before what the client did wrong elsewhere."""
    return isinstance(made.outcome, Unusable) and any(":" in r for r in made.outcome.reasons)


def _worth(reading: Reading, wish: Wish) -> tuple[float, float]:
    worst = max([0.0, *reading.slacks(wish).values()])
    return -worst, wish.score(reading.goals)


def is_probe(record: RunRecord) -> bool:
    return bool(_load(record)) and _load(record)["window"] == "probe"


def _load_of(record: RunRecord) -> str:
    return str(_load(record).get("at", ""))


def _load(record: RunRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tags_of(record).get(LOAD, "{}"))
    return found


def tags_of(record: RunRecord) -> Mapping[str, str]:
    tags: Mapping[str, str] = record.spec.get("tags") or {}
    return tags


def groups_of_trials(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """The records of each trial, in the order of the trials' first ones. A run without load points
    is a trial of its own."""
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        tags = tags_of(record)
        key: tuple[str, ...] = (record.run_id,)
        if LOAD in tags:
            key = (tags[STUDY], tags[PHASE], tags[CONFIG], tags.get(REPEAT, "0"))
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _trial(records: Sequence[RunRecord], wish: Wish, number: int) -> Trial:
    tags = tags_of(records[0])
    config: dict[str, Value] = json.loads(tags[CONFIG])
    return Trial(
        number=number,
        branch="",
        phase=Phase(tags[PHASE]),
        config=config,
        evaluated=evaluated_trial(records, wish),
    )


def trials_in(records: Iterable[RunRecord], space: Space, wish: Wish) -> Iterator[Trial]:
    """The trials that these records of one study are, re-measurements too, oldest first, each in
    its branch of ``space`` and read with ``wish``."""
    for number, group in enumerate(groups_of_trials(records), start=1):
        made = _trial(group, wish, number)
        branch = space.branch_of(made.config)
        yield replace(made, branch=branch.name if branch else "")
