"""What makes records a night: the tags that its runs carry, and the runs as the tags tell them.

A night is a set of records. Everything that a report or a resumed night has to know stands in the
records themselves; the journal beside them only tells what left no record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from results.errors import UnknownMetric
from results.measurement import one_statistic
from results.record import RunRecord
from results.store_index import RunIndex

NIGHT, SUITE, SERIES, ROLE = "night", "night.suite", "night.series", "night.role"
SLOT, SUBJECT, METRICS, SUSPECT = "night.slot", "night.subject", "night.metrics", "night.suspect"
DATE = "night.date"

_COSTS = (("chip_hours", "value"), ("cost_usd", "value"))


class NightRole(StrEnum):
    """Why a run of a night was made."""

    RUN = "run"  # of the suite
    CANARY = "canary"  # pinned: when it moves, the surroundings did
    GOOD = "good"  # one half of a confirming pair: as it was on the last good night
    NEW = "new"  # the other half: as it is tonight


@dataclass(frozen=True, slots=True, kw_only=True)
class NightRun:
    """One record of a night. ``slot`` is its place in the night's order, and unique within it.
    ``date``: the night's own, whatever the clock said when the run began.

    ``subject``: the version of what is under test ("" where the suite names none); ``suspect``:
    the suspicion that a confirming run was made for; ``metrics``: the statistics that matter.
    """

    night_id: str
    date: date
    suite: str
    series: str
    role: NightRole
    slot: str
    subject: str
    suspect: str
    metrics: tuple[str, ...]
    record: RunRecord

    @property
    def pool(self) -> str:
        """Where it ran, or was to run first when it never was placed ("" where nothing says)."""
        return self.record.placement.pool if self.record.placement else ""


def night_tags(
    *,
    night_id: str,
    on: date,
    suite: str,
    series: str,
    role: NightRole,
    slot: str,
    subject: str = "",
    suspect: str = "",
    metrics: Iterable[str] = (),
) -> dict[str, str]:
    """The tags of one run; what is empty is left out."""
    tags = {
        NIGHT: night_id,
        DATE: on.isoformat(),
        SUITE: suite,
        SERIES: series,
        ROLE: str(role),
        SLOT: slot,
        SUBJECT: subject,
        SUSPECT: suspect,
        METRICS: ",".join(metrics),
    }
    return {name: value for name, value in tags.items() if value}


def night_run(record: RunRecord) -> NightRun | None:
    """The record as a run of a night; None for every other record."""
    tags: Mapping[str, str] = record.spec.get("tags") or {}
    try:
        role = NightRole(tags[ROLE])
        return NightRun(
            night_id=tags[NIGHT],
            date=date.fromisoformat(tags[DATE]),
            suite=tags[SUITE],
            series=tags[SERIES],
            role=role,
            slot=tags[SLOT],
            subject=tags.get(SUBJECT, ""),
            suspect=tags.get(SUSPECT, ""),
            metrics=tuple(filter(None, tags.get(METRICS, "").split(","))),
            record=record,
        )
    except (KeyError, ValueError):
        return None


def night_runs(records: Iterable[RunRecord], suite: str = "") -> dict[str, tuple[NightRun, ...]]:
    """Every night of ``suite`` (any, where it is empty), oldest first, each with its runs in the
    order in which they were begun."""
    found: dict[str, list[NightRun]] = {}
    for record in records:
        run = night_run(record)
        if run is not None and suite in ("", run.suite):
            found.setdefault(run.night_id, []).append(run)
    return {
        night: tuple(sorted(found[night], key=lambda run: run.record.run_id))
        for night in sorted(found)
    }


def nights_in(
    index: RunIndex, suite: str, tag: str = SUITE, value: str = ""
) -> dict[str, tuple[NightRun, ...]]:
    """The nights of a suite as the store's index has them, or what of them has another tag as well.
    Their records are briefs, with the measurements that matter to any night and no others."""
    # A metric that a series asks for today is wanted of the nights before, which did not ask.
    names = {name for text in index.tag_values(METRICS) for name in text.split(",") if name}
    try:
        matter = (*sorted(map(one_statistic, names)), *_COSTS) if names else None
    except UnknownMetric:  # of another time; all of them, then
        matter = None
    return night_runs(index.briefs(index.tagged(tag, value or suite), matter), suite)
