"""A cache of what lists of runs need, so that ``runs list`` opens no record it has seen before.

Nothing is lost with it: it is rebuilt from the store whenever it is missing, damaged or of an older
layout, and it lives in memory where its file cannot be written (a read-only store).
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from results.measurement import of_group
from results.record import Evidence, Failed, RunRecord
from results.store import Torn
from results.store_files import FileStore
from results.store_layout import INDEX
from results.store_objects import LocalObjects

_APPLICATION_ID: Final = 0x77747831  # in the file's header: ours to rebuild
_LAYOUT: Final = 2  # of the tables below; any other is rebuilt
# A tag to find runs by is a word or a hash; nobody looks for a whole configuration as JSON.
_MAX_TAG: Final = 128

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


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """``num_read`` of the ``num_records`` were read anew, ``num_dropped`` are no longer in the
    store. ``persistent`` is False where the index had to live in memory; ``why`` then says why, as
    it does after a rebuild."""

    path: str
    num_records: int
    num_read: int
    num_dropped: int
    torn: tuple[Torn, ...]
    rebuilt: bool = False
    persistent: bool = True
    why: str = ""

    @property
    def num_torn(self) -> int:
        return len(self.torn)


_COLUMNS: Final = tuple(f.name for f in fields(RunRow))
_CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS runs ({", ".join(_COLUMNS)}, PRIMARY KEY (run_id));
CREATE TABLE IF NOT EXISTS tags (
    name, value, run_id, PRIMARY KEY (name, value, run_id)
) WITHOUT ROWID;
"""
_INSERT: Final = f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * len(_COLUMNS))})"


class RunIndex:
    """The index of one store. ``path`` is its file: by default ``index.sqlite`` in a local store;
    a remote store has no default and is indexed in memory unless a path is given.

    Raises what ``FileStore.scan`` raises, and nothing about the index file itself.
    """

    def __init__(self, store: FileStore, path: Path | None = None) -> None:
        self._store = store
        # A cache folder is ours to make; a store that is not there yet is not.
        self._makes_folder = path is not None
        if path is None and isinstance(store.objects, LocalObjects):
            path = store.objects.root / INDEX
        self.path = path
        self._is_fresh = False
        self._memory: sqlite3.Connection | None = None
        self._memory_why = "" if path else "a remote store has no index file unless a path is given"

    def refresh(self) -> IndexReport:
        """Take up the runs sealed since the last time and drop those that are gone."""
        self._is_fresh = True
        if self.path is None or self._memory is not None:
            return self._refresh_memory()
        why = ""
        for rebuilt in (False, True):
            try:
                if self._makes_folder:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                with _locked(self.path):
                    if rebuilt:
                        _unlink(self.path)
                    with closing(_opened(self.path)) as connection:
                        return self._refreshed(connection, rebuilt, why)
            except sqlite3.OperationalError as error:  # unwritable, full, locked by a stranger
                why = f"{self.path}: {error}"
                break
            except sqlite3.DatabaseError as error:  # not a database, malformed, another layout
                why = f"{self.path}: {error}"
            except OSError as error:
                why = f"{self.path}: {error.strerror or error}"
                break
        self._memory_why = why
        return self._refresh_memory()

    def reindex(self) -> IndexReport:
        """Build the index from nothing."""
        self.close()
        if self.path is not None:
            try:
                with _locked(self.path):
                    _unlink(self.path)
            except OSError:
                pass  # refresh meets the same obstacle and says what it is
        return self.refresh()

    def list(
        self,
        limit: int = 20,
        *,
        name: str = "",
        workload: str = "",
        outcome: str = "",
        evidence: str = "",
        experiment_id: str = "",
        workload_hash: str = "",
        since: datetime | None = None,
        before: str = "",
    ) -> tuple[RunRow, ...]:
        """The latest ``limit`` runs (0: all) that fit every filter given, the newest first, as of
        the last ``refresh``. ``name`` may hold ``*``; ``before`` is a run id, where the page before
        ended."""
        clauses: list[str] = []
        values: list[str] = []
        if name:
            clauses.append("name GLOB ?")
            values.append(name)
        for column, value in (
            ("workload", workload),
            ("outcome", outcome),
            ("evidence", evidence),
            ("experiment_id", experiment_id),
            ("workload_hash", workload_hash),
        ):
            if value:
                clauses.append(f"{column} = ?")
                values.append(value)
        if since is not None:
            clauses.append("started_at >= ?")
            values.append(_utc_text(since))
        if before:
            clauses.append("run_id < ?")
            values.append(before)
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        query = f"SELECT * FROM runs{where} ORDER BY run_id DESC LIMIT {int(limit) or -1}"
        return tuple(_row(found) for found in self._query(query, values))

    def tagged(self, name: str, value: str) -> tuple[str, ...]:
        """The ids of the runs whose spec has this tag, oldest first, as of the last ``refresh``.

        Values longer than 128 characters are not kept: nothing has them."""
        query = "SELECT run_id FROM tags WHERE name = ? AND value = ? ORDER BY run_id"
        return tuple(run_id for (run_id,) in self._query(query, (name, value)))

    def tag_values(self, name: str) -> tuple[str, ...]:
        """Every value that this tag has, in the order of the first run that has it."""
        query = "SELECT value FROM tags WHERE name = ? GROUP BY value ORDER BY min(run_id)"
        return tuple(value for (value,) in self._query(query, (name,)))

    def count(self) -> int:
        """The number of runs, as of the last ``refresh``."""
        return int(self._query("SELECT count(*) FROM runs", ())[0][0])

    def close(self) -> None:
        """Let go of an index that lives in memory; a file is never held open."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _refresh_memory(self) -> IndexReport:
        if self._memory is None:
            self._memory = sqlite3.connect(":memory:")
            self._memory.executescript(_CREATE)
        return self._refreshed(self._memory, False, self._memory_why)

    def _refreshed(self, connection: sqlite3.Connection, rebuilt: bool, why: str) -> IndexReport:
        known = {run_id for (run_id,) in connection.execute("SELECT run_id FROM runs")}
        scan = self._store.scan(skip=known)
        num_read = 0
        with connection:  # one transaction: a crash leaves the index as it was
            for record in scan.records:
                connection.execute(_INSERT, _values(record))
                connection.executemany(
                    "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", _tags(record)
                )
                num_read += 1
            gone = known.difference(scan.skipped)
            for table in ("runs", "tags") if gone else ():
                connection.executemany(
                    f"DELETE FROM {table} WHERE run_id = ?", [(i,) for i in gone]
                )
        return IndexReport(
            path=str(self.path) if connection is not self._memory else "",
            num_records=len(known) - len(gone) + num_read,
            num_read=num_read,
            num_dropped=len(gone),
            torn=tuple(scan.torn),
            rebuilt=rebuilt,
            persistent=connection is not self._memory,
            why=why,
        )

    def _query(self, query: str, values: Sequence[str]) -> Sequence[tuple[Any, ...]]:
        if not self._is_fresh:
            self.refresh()
        if self._memory is None and self.path is not None:
            try:
                with _locked(self.path), closing(_opened(self.path)) as connection:
                    return connection.execute(query, values).fetchall()
            except (sqlite3.DatabaseError, OSError):  # damaged or gone since
                self.refresh()
                return self._query_again(query, values)
        return self._query_again(query, values)

    def _query_again(self, query: str, values: Sequence[str]) -> Sequence[tuple[Any, ...]]:
        if self._memory is not None:
            return self._memory.execute(query, values).fetchall()
        assert self.path is not None
        with _locked(self.path), closing(_opened(self.path)) as connection:
            return connection.execute(query, values).fetchall()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time opens the file, so that none has it open while another replaces it."""
    with path.with_name(path.name + ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _opened(path: Path) -> sqlite3.Connection:
    """OperationalError: must be left alone. Any other DatabaseError: may be rebuilt."""
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        layout = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and owner != _APPLICATION_ID:
            raise sqlite3.OperationalError("a database of another program; left alone")
        if tables and layout != _LAYOUT:
            raise sqlite3.DatabaseError(f"layout {layout}, not {_LAYOUT}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_LAYOUT}")
            connection.executescript(_CREATE)
    except BaseException:
        connection.close()
        raise
    return connection


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _utc_text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def _values(record: RunRecord) -> tuple[Any, ...]:
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
        _utc_text(record.started_at),
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


def _tags(record: RunRecord) -> list[tuple[str, str, str]]:
    tags = record.spec.get("tags") or {}
    return [
        (str(name), str(value), record.run_id)
        for name, value in tags.items()
        if len(str(value)) <= _MAX_TAG
    ]


def _row(found: tuple[Any, ...]) -> RunRow:
    values = dict(zip(_COLUMNS, found, strict=True))
    values["evidence"] = Evidence(values["evidence"])
    values["started_at"] = datetime.fromisoformat(values["started_at"])
    values["headline"] = json.loads(values["headline"])
    return RunRow(**values)
