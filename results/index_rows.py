"""One line of a list of runs: what it takes of a record, and how SQLite holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from results.measurement import of_group
from results.record import Evidence, Failed, RunRecord

# A tag to find runs by is a word or a hash; nobody looks for a whole configuration as JSON. What
# makes runs a night is kept whole.
_MAX_TAG: Final = 128
_NIGHT: Final = "night."

# What a list of runs shows, where the run has it.
_HEADLINES: Final = (
    ("startup_s", "value"),
    ("ttft_s", "p50"),
    ("ttft_s", "p99"),
    ("tpot_s", "p50"),
    ("e2e_s", "p50"),
    ("achieved_rate", "value"),
    ("output_throughput", "value"),
    ("goodput_rate", "value"),
    ("error_share", "value"),
    ("step_time_s", "p50"),
    ("training_throughput", "value"),
    ("cost_usd", "value"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One line of a list of runs. ``outcome`` is the outcome's kind; ``stage`` and ``error`` are
    empty unless it failed. ``headline`` maps ``"ttft_s p50"`` to the value, estimable ones only."""

    run_id: str
    experiment_id: str
    name: str
    workload: str
    evidence: Evidence
    outcome: str
    stage: str
    error: str
    started_at: datetime
    duration_s: float
    workload_hash: str
    environment_hash: str
    repeat_index: int
    num_repeats: int
    attempt: int
    num_doubts: int
    pool: str
    accelerator: str
    num_chips: int
    headline: Mapping[str, float]


def utc_text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def values_of(record: RunRecord) -> tuple[Any, ...]:
    """In the order of ``RunRow``'s fields, as SQLite holds them."""
    failed = record.outcome if isinstance(record.outcome, Failed) else None
    place = record.placement
    measured = {(m.metric, m.statistic): m.value for m in of_group(record.measurements)}
    headline = {
        f"{metric} {statistic}": measured[metric, statistic]
        for metric, statistic in _HEADLINES
        if measured.get((metric, statistic)) is not None
    }
    return (
        record.run_id,
        record.experiment_id,
        record.name,
        record.workload,
        str(record.evidence),
        record.outcome.kind,
        failed.stage if failed else "",
        failed.error if failed else "",
        utc_text(record.started_at),
        record.duration_s,
        record.workload_hash,
        record.environment_hash,
        record.repeat_index,
        record.num_repeats,
        record.attempt,
        len(record.doubts),
        place.pool if place else "",
        place.accelerator if place else "",
        place.num_chips if place else 0,
        json.dumps(headline, allow_nan=False),
    )


def tags_of(record: RunRecord) -> list[tuple[str, str, str]]:
    tags = record.spec.get("tags")
    if not isinstance(tags, Mapping):
        return []
    return [
        (str(name), str(value), record.run_id)
        for name, value in tags.items()
        if len(str(value)) <= _MAX_TAG or str(name).startswith(_NIGHT)
    ]


def row_of(found: tuple[Any, ...]) -> RunRow:
    values = dict(zip((f.name for f in fields(RunRow)), found, strict=True))
    values["evidence"] = Evidence(values["evidence"])
    values["started_at"] = datetime.fromisoformat(values["started_at"])
    values["headline"] = json.loads(values["headline"])
    return RunRow(**values)
