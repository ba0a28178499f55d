"""One metric of one workload on one pool over the nights, and how records become that."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from statistics import median

import numpy as np

from reports.compare import judgeable
from reports.wording import HEADLINES, find
from results.metrics import Direction, metric
from results.record import RunRecord, Succeeded

NightOf = Callable[[RunRecord], date]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """``values``: one per valid run, positive. ``environment``: the hash, "" where not known;
    ``revision``: what was under test, as far as the record tells (image digest, else the engine's
    version). ``run_ids`` in order of start."""

    night: date
    values: tuple[float, ...]
    run_ids: tuple[str, ...] = ()
    environment: str = ""
    revision: str = ""

    @property
    def value(self) -> float:
        """The median run."""
        return float(median(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """``key`` is its name for people's verdicts: ``pool/spec/metric statistic``. ``nights`` in
    order of date, one each. ``canary``: nothing of it was meant to change, ever."""

    key: str
    name: str
    pool: str
    metric: str
    statistic: str
    direction: Direction
    nights: tuple[Night, ...]
    canary: bool = False


def series_key(pool: str, name: str, metric: str, statistic: str) -> str:
    what = metric if statistic == "value" else f"{metric} {statistic}"
    return f"{pool}/{name}/{what}"


def started_on(record: RunRecord) -> date:
    """The UTC day: the night of a record where nothing better is known."""
    return record.started_at.astimezone(UTC).date()


def series_of(
    records: Sequence[RunRecord],
    *,
    night_of: NightOf = started_on,
    canaries: Collection[str] = (),
    metrics: Sequence[tuple[str, str]] = HEADLINES,
) -> tuple[Series, ...]:
    """Every metric of ``metrics`` of every workload, by name, pool, kind of evidence and workload
    hash: where the hash changed, another series begins, and only the newest is returned.

    Runs that failed or are invalid have no value. A zero has no logarithm and is left out, as is
    what is neither better low nor high. ``canaries``: names of specs that are canaries.
    """
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in sorted(records, key=lambda r: r.run_id):
        if isinstance(record.outcome, Succeeded):
            pool = record.placement.pool if record.placement is not None else ""
            groups.setdefault((pool, record.name, record.evidence.value), []).append(record)
    found = []
    for (pool, name, _), runs in sorted(groups.items()):
        alike = [r for r in runs if r.workload_hash == runs[-1].workload_hash]
        known = judgeable(alike)
        for metric_name, statistic in (m for m in metrics if m in known):
            nights = _nights(alike, metric_name, statistic, night_of)
            if nights:
                found.append(_series(pool, name, metric_name, statistic, nights, name in canaries))
    return tuple(found)


def _series(
    pool: str, name: str, metric_name: str, statistic: str, nights: tuple[Night, ...], canary: bool
) -> Series:
    return Series(
        key=series_key(pool, name, metric_name, statistic),
        name=name,
        pool=pool,
        metric=metric_name,
        statistic=statistic,
        direction=metric(metric_name).direction,
        nights=nights,
        canary=canary,
    )


def _nights(
    records: Sequence[RunRecord], metric_name: str, statistic: str, night_of: NightOf
) -> tuple[Night, ...]:
    by_night: dict[date, list[tuple[RunRecord, float]]] = {}
    for record in records:
        m = find(record, metric_name, statistic)
        if m is not None and m.value is not None and m.value > 0.0:
            by_night.setdefault(night_of(record), []).append((record, m.value))
    return tuple(
        Night(
            night=night,
            values=tuple(value for _, value in runs),
            run_ids=tuple(r.run_id for r, _ in runs),
            environment=runs[-1][0].environment_hash if runs[-1][0].environment else "",
            revision=revision_of(runs[-1][0]),
        )
        for night, runs in sorted(by_night.items())
    )


def revision_of(record: RunRecord) -> str:
    """The image's digest; without one, the engine's version."""
    if record.environment is None:
        return ""
    software = record.environment.software
    version = software.packages.get(record.workload, "")
    return software.image_digest or (f"{record.workload}=={version}" if version else "")


def log_values(nights: Sequence[Night]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([math.log(night.value) for night in nights])
