"""The seam to where records are kept.

Contract (``results.testing.RecordStoreContract`` is the same in code):

* ``begin`` is durable before it returns; it is what lets a later start seal a lost run.
* ``seal`` writes the tables first and the record last. When it returns, the run is acknowledged
  and survives a crash of any process. A second seal of the same run id raises DuplicateRecord and
  changes nothing.
* ``scan`` yields every acknowledged record, in order of run id, whatever else lies in the store;
  torn or foreign objects are skipped and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from results.record import Evidence, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that was planned and not yet sealed. ``host``/``pid``/``process_started_s`` tell
    whether its driver still lives (``process_started_s``: seconds since boot, as psutil's
    ``create_time`` is not immune to clock steps)."""

    run_id: str
    experiment_id: str
    name: str
    workload: str
    workload_hash: str
    started_at: datetime
    host: str
    boot_id: str
    pid: int
    process_started_s: float
    repeat_index: int = 0
    num_repeats: int = 1
    spec: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence = Evidence.MEASURED


@dataclass(frozen=True, slots=True, kw_only=True)
class Torn:
    """An object that should be a record and is not; ``reason`` says what is wrong with it."""

    path: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Scan:
    """What lies in a store: iterate ``records`` to the end, then read ``torn``."""

    records: Iterator[RunRecord]
    torn: list[Torn] = field(default_factory=list)


class RecordStore(Protocol):
    """Append-only; see the module's contract."""

    def begin(self, run: OpenRun) -> None: ...

    def seal(self, record: RunRecord, tables: Mapping[str, pa.Table]) -> RunRecord:
        """Keep the record and its tables (by file stem: ``requests``, ``steps``); returns the
        record as kept, its ``artifacts`` filled in."""
        ...

    def open_runs(self) -> tuple[OpenRun, ...]: ...

    def scan(self) -> Scan: ...

    def get(self, run_id: str) -> RunRecord:
        """The record of that id or unambiguous prefix; RecordNotFound says what was nearest."""
        ...

    def table(self, record: RunRecord, name: str) -> pa.Table | None:
        """A table kept beside the record, or None where the run left none of that name."""
        ...
