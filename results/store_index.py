"""A cache of what is asked of many runs at once, so that no command reads a record twice.

It is never the truth: the store's listing says what there is, and whether an object is the one that
was taken up. Nothing is lost with it: it is rebuilt from the store whenever it is missing, damaged
or of an older layout, and it lives in memory where its file cannot be written (a read-only store, a
full disk).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from results.brief import PARTS, Brief, Unpacker, Wanted, decode_environment, pack
from results.environment import Environment
from results.index_file import (
    BRIEF_COLUMNS,
    COLUMNS,
    Damaged,
    brief_of,
    created,
    is_of_the_place,
    locked,
    opened,
    part_of,
    put_brief,
    unlink,
)
from results.index_rows import RunRow, row_of, tags_of, utc_text, values_of
from results.store import Torn
from results.store_changes import Known, PackedDay, Sealed, changes
from results.store_files import FileStore
from results.store_layout import INDEX
from results.store_objects import LocalObjects

_AT_ONCE: Final = 500  # records in one transaction: a crash loses no more of the work
_INSERT: Final = f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"
_BRIEF: Final = f"SELECT {BRIEF_COLUMNS}, briefs.crc FROM briefs WHERE run_id = ?"

Made = TypeVar("Made")
Say = Callable[[str], None]


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


class RunIndex:
    """The index of one store. ``path`` is its file: by default ``index.sqlite`` in a local store;
    a remote store has no default and is indexed in memory unless a path is given. ``say`` is told
    when the index had to be made anew, and when it cannot be kept.

    Raises what ``FileStore.scan`` raises, and nothing about the index file itself.
    """

    def __init__(self, store: FileStore, path: Path | None = None, say: Say | None = None) -> None:
        self.store = store
        # A cache folder is ours to make; a store that is not there yet is not.
        self._makes_folder = path is not None
        if path is None and isinstance(store.objects, LocalObjects):
            path = store.objects.root / INDEX
        self.path = path
        self._say = say
        self._is_fresh = False
        self._memory: sqlite3.Connection | None = None
        self._memory_why = "" if path else "a remote store has no index file unless a path is given"

    # ---- keeping it ----

    def refresh(self) -> IndexReport:
        """Take up what was sealed or replaced since the last time and drop what is gone."""
        return self._refresh(why="")

    def reindex(self, why: str = "") -> IndexReport:
        """Build the index from nothing."""
        self.close()
        if self.path is not None:
            try:
                with locked(self.path):
                    unlink(self.path)
            except OSError:
                pass  # refresh meets the same obstacle and says what it is
        return self._refresh(why=why)

    def close(self) -> None:
        """Let go of an index that lives in memory; a file is never held open."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    # ---- asking it, as of the last ``refresh`` ----

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
        """The latest ``limit`` runs (0: all) that fit every filter given, the newest first.
        ``name`` may hold ``*``; ``before`` is a run id, where the page before ended."""
        asked: list[tuple[str, str]] = [
            ("name GLOB ?", name),
            ("workload = ?", workload),
            ("outcome = ?", outcome),
            ("evidence = ?", evidence),
            ("experiment_id = ?", experiment_id),
            ("workload_hash = ?", workload_hash),
            ("started_at >= ?", utc_text(since) if since is not None else ""),
            ("run_id < ?", before),
        ]
        clauses = [clause for clause, value in asked if value]
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        query = (
            f"SELECT {', '.join(COLUMNS)} FROM runs{where} "
            f"ORDER BY run_id DESC LIMIT {int(limit) or -1}"
        )
        return tuple(map(row_of, self.query(query, [value for _, value in asked if value])))

    def tagged(self, name: str, value: str) -> tuple[str, ...]:
        """The ids of the runs whose spec has this tag, oldest first.

        Values longer than 128 characters are not kept: nothing has them."""
        query = "SELECT run_id FROM tags WHERE name = ? AND value = ? ORDER BY run_id"
        return tuple(run_id for (run_id,) in self.query(query, (name, value)))

    def tag_values(self, name: str) -> tuple[str, ...]:
        """Every value that this tag has, in the order of the first run that has it."""
        query = "SELECT value FROM tags WHERE name = ? GROUP BY value ORDER BY min(run_id)"
        return tuple(value for (value,) in self.query(query, (name,)))

    def count(self) -> int:
        """The number of runs."""
        return int(self.query("SELECT count(*) FROM runs")[0][0])

    def briefs(self, run_ids: Iterable[str], wanted: Wanted | None = None) -> tuple[Brief, ...]:
        """What is kept of the records of these runs, in the order asked, less those that are not
        there. ``wanted``: the measurements to be decoded; None: all."""
        asked = tuple(run_ids)

        def read(connection: sqlite3.Connection) -> tuple[Brief, ...]:
            unpacker = Unpacker(partial(part_of, connection), wanted)
            execute = connection.execute
            found = (execute(_BRIEF, (run_id,)).fetchone() for run_id in asked)
            try:
                return tuple(unpacker.brief(*brief_of(row)) for row in found if row is not None)
            except (msgspec.MsgspecError, ValueError, TypeError) as error:
                raise Damaged(f"a brief cannot be read: {error}") from error

        return self._ask(read)

    def environments(self) -> dict[str, Environment]:
        """Each that any run has, less its noise, by the digest that briefs know it by."""

        def read(connection: sqlite3.Connection) -> dict[str, Environment]:
            query = "SELECT DISTINCT environment FROM briefs WHERE environment != ''"
            digests = [digest for (digest,) in connection.execute(query).fetchall()]
            try:
                return {d: decode_environment(part_of(connection, d)) for d in digests}
            except msgspec.MsgspecError as error:
                raise Damaged(f"an environment cannot be read: {error}") from error

        return self._ask(read)

    def digests(self) -> dict[str, str]:
        """Of every run, the digest of its record's text."""
        return dict(self.query("SELECT run_id, digest FROM runs"))

    def mark(self) -> str:
        """Another one whenever anything in the index is."""
        query = "SELECT value FROM state WHERE name IN ('generation', 'index_id') ORDER BY name"
        return "-".join(str(value) for (value,) in self.query(query))

    def query(self, query: str, values: Sequence[str] = ()) -> Sequence[tuple[Any, ...]]:
        """Whatever else is asked of the tables of ``index_file``."""
        return self._ask(lambda connection: connection.execute(query, values).fetchall())

    # ---- how ----

    def _refresh(self, why: str) -> IndexReport:
        self._is_fresh = True
        report = self._refresh_file(why)
        if self._say is not None and report.why and self.path is not None:
            if report.rebuilt:
                self._say(f"the index of {self.store.url} was made anew: {report.why}")
            elif not report.persistent and report.num_records:
                self._say(f"no index is kept, so that every record is read anew: {report.why}")
        return report

    def _refresh_file(self, why: str) -> IndexReport:
        if self.path is None or self._memory is not None:
            return self._refresh_memory()
        for rebuilt in (bool(why), True):
            try:
                if self._makes_folder:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                with locked(self.path):
                    if rebuilt:
                        unlink(self.path)
                    with closing(opened(self.path)) as connection:
                        return self._refreshed(connection, rebuilt, why)
            except (sqlite3.DatabaseError, UnicodeDecodeError, OSError) as error:
                why = f"{self.path}: {getattr(error, 'strerror', None) or error}"
                if is_of_the_place(error):
                    break
        self._memory_why = why
        return self._refresh_memory()

    def _refresh_memory(self) -> IndexReport:
        if self._memory is None:
            self._memory = created(sqlite3.connect(":memory:"))
        return self._refreshed(self._memory, False, self._memory_why)

    def _refreshed(self, connection: sqlite3.Connection, rebuilt: bool, why: str) -> IndexReport:
        known = _known(connection)
        days = dict(known.days)
        found = changes(self.store.objects, known)
        fresh: set[str] = set()
        num_read = pending = 0
        for sealed in found.new:
            fresh.add(sealed.run_id)
            num_read += _put(connection, sealed, replaced=sealed.run_id in known.runs)
            pending += 1
            if pending >= _AT_ONCE:
                _commit(connection)
                pending = 0
        gone = known.runs.keys() - found.kept - fresh
        if gone:
            _drop(connection, gone)
        if known.days != days:
            _put_days(connection, known.days)
        if pending or gone or known.days != days:
            _commit(connection)
        return IndexReport(
            path=str(self.path) if connection is not self._memory else "",
            num_records=len(found.kept) + len(fresh),
            num_read=num_read,
            num_dropped=len(gone),
            torn=tuple(found.torn),
            rebuilt=rebuilt,
            persistent=connection is not self._memory,
            why=why,
        )

    def _ask(self, read: Callable[[sqlite3.Connection], Made]) -> Made:
        if not self._is_fresh:
            self.refresh()
        if self._memory is None and self.path is not None:
            try:
                return self._ask_file(self.path, read)
            except (sqlite3.DatabaseError, UnicodeDecodeError, OSError) as error:
                if is_of_the_place(error):  # or gone since
                    self.refresh()
                else:
                    self.reindex(f"{self.path}: {error}")
        if self._memory is not None:
            return read(self._memory)
        assert self.path is not None
        return self._ask_file(self.path, read)

    def _ask_file(self, path: Path, read: Callable[[sqlite3.Connection], Made]) -> Made:
        with locked(path), closing(opened(path)) as connection:
            return read(connection)


def _known(connection: sqlite3.Connection) -> Known:
    runs = connection.execute("SELECT run_id, stamp, digest FROM runs")
    days = connection.execute("SELECT day, listed, file, run_ids FROM days")
    try:
        return Known(
            runs={run_id: (stamp, digest) for run_id, stamp, digest in runs},
            days={
                day: PackedDay(listed=listed, file=file, run_ids=tuple(json.loads(run_ids)))
                for day, listed, file, run_ids in days
            },
        )
    except (ValueError, TypeError) as error:
        raise Damaged(f"what is known of a day cannot be read: {error}") from error


def _put(connection: sqlite3.Connection, sealed: Sealed, *, replaced: bool) -> int:
    """1 for a record that was read, 0 for one that lies elsewhere now."""
    record, kept = sealed.record, (sealed.stamp, sealed.digest)
    if record is None:
        query = "UPDATE runs SET stamp = ?, digest = ? WHERE run_id = ?"
        connection.execute(query, (*kept, sealed.run_id))
        return 0
    if replaced:  # seldom, and every tag is looked at
        connection.execute("DELETE FROM tags WHERE run_id = ?", (sealed.run_id,))
    connection.execute(_INSERT, (*values_of(record), *kept))
    connection.executemany("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", tags_of(record))
    put_brief(connection, record.run_id, *pack(record))
    return 1


def _drop(connection: sqlite3.Connection, gone: Iterable[str]) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone (run_id PRIMARY KEY)")
    connection.executemany("INSERT INTO gone VALUES (?)", [(run_id,) for run_id in gone])
    for table in ("runs", "tags", "briefs"):
        connection.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM gone)")
    connection.execute("DELETE FROM gone")
    used = " UNION ".join(f"SELECT {part} FROM briefs" for part in PARTS)
    connection.execute(f"DELETE FROM parts WHERE digest NOT IN ({used})")


def _put_days(connection: sqlite3.Connection, days: dict[str, PackedDay]) -> None:
    connection.execute("DELETE FROM days")
    connection.executemany(
        "INSERT INTO days VALUES (?, ?, ?, ?)",
        [(day, d.listed, d.file, json.dumps(d.run_ids)) for day, d in days.items()],
    )


def _commit(connection: sqlite3.Connection) -> None:
    """What was put, and that something was: whoever rests on the index sees both or neither."""
    connection.execute("UPDATE state SET value = value + 1 WHERE name = 'generation'")
    connection.commit()
