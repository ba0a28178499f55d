"""The index's file: what is in it, how it is opened, and who may open it when.

Its tables are a cache. Another layout, or anything that is damaged, is thrown away and made again;
a database that is not ours is left alone.
"""

from __future__ import annotations

import fcntl
import secrets
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from results.brief import PARTS, Packed
from results.index_rows import RunRow
from results.record import SCHEMA_VERSION

_APPLICATION_ID: Final = 0x77747831  # in the file's header: ours to rebuild
# Of the tables below, and of what is taken of a record; any other is rebuilt.
_LAYOUT: Final = 3 * 1000 + SCHEMA_VERSION

COLUMNS: Final = tuple(f.name for f in fields(RunRow))
# The newest run ids come last in every table, so that a night adds to their ends. What a brief is
# made of lies apart: whoever lists runs does not walk over it.
CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS runs (
    {", ".join(COLUMNS)}, stamp, digest, PRIMARY KEY (run_id)
);
CREATE TABLE IF NOT EXISTS tags (
    name, value, run_id, PRIMARY KEY (name, value, run_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS briefs (
    run_id PRIMARY KEY, {", ".join(PARTS)}, head, measured, crc
);
CREATE TABLE IF NOT EXISTS parts (digest PRIMARY KEY, data, crc);
CREATE TABLE IF NOT EXISTS days (day PRIMARY KEY, listed, file, run_ids);
CREATE TABLE IF NOT EXISTS state (name PRIMARY KEY, value);
"""
MARKS: Final = ("index_id", "generation")


class Damaged(sqlite3.DatabaseError):
    """What is in the index is not what was put there."""


class NotOurs(sqlite3.DatabaseError):
    """A database of another program lies there."""


# What SQLite says of a place rather than of what lies in it; there is nothing to be rebuilt.
_OF_THE_PLACE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def is_of_the_place(error: Exception) -> bool:
    """Whether the index cannot be kept there, for now; else it is damaged, and can be rebuilt."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more of the same
    return isinstance(error, NotOurs | OSError) or code in _OF_THE_PLACE


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time opens the file, so that none has it open while another replaces it."""
    with path.with_name(path.name + ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def opened(path: Path) -> sqlite3.Connection:
    """Raises DatabaseError, and UnicodeDecodeError where not even the names of tables are whole."""
    connection = sqlite3.connect(path, timeout=5.0)
    try:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        layout = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and owner != _APPLICATION_ID:
            raise NotOurs("a database of another program; left alone")
        if tables and layout != _LAYOUT:
            raise Damaged(f"layout {layout}, not {_LAYOUT}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_LAYOUT}")
            created(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def created(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.executescript(CREATE)
    with connection:
        connection.execute(
            "INSERT OR IGNORE INTO state VALUES ('index_id', ?), ('generation', 0)",
            (secrets.token_hex(8),),
        )
    return connection


def unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def put_brief(
    connection: sqlite3.Connection, run_id: str, packed: Packed, parts: dict[str, bytes]
) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO parts VALUES (?, ?, ?)",
        [(digest, data, zlib.crc32(data)) for digest, data in parts.items()],
    )
    row = (run_id, *(getattr(packed, name) for name in PARTS), packed.head, packed.measured)
    connection.execute(
        "INSERT OR REPLACE INTO briefs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, _crc(row))
    )


BRIEF_COLUMNS: Final = ", ".join(f"briefs.{c}" for c in ("run_id", *PARTS, "head", "measured"))


def brief_of(found: tuple[Any, ...]) -> tuple[str, Packed]:
    """Of a row of ``BRIEF_COLUMNS`` and its checksum. Raises Damaged."""
    *row, crc = found
    try:
        right = _crc(tuple(row)) == crc
    except (TypeError, AttributeError):
        right = False
    if not right:
        raise Damaged(f"the brief of {found[0]} is damaged")
    run_id, *digests, head, measured = row
    parts = dict(zip(PARTS, digests, strict=True))
    return run_id, Packed(head=head, measured=measured, **parts)


def part_of(connection: sqlite3.Connection, digest: str) -> bytes:
    """Raises Damaged."""
    found = connection.execute("SELECT data, crc FROM parts WHERE digest = ?", (digest,)).fetchone()
    if found is None or not isinstance(found[0], bytes) or zlib.crc32(found[0]) != found[1]:
        raise Damaged(f"the part {digest} is damaged or gone")
    return found[0]


def _crc(row: tuple[Any, ...]) -> int:
    """SQLite finds a page that is out of shape, not a bit that fell over in a value."""
    *words, head, measured = row
    return zlib.crc32(measured, zlib.crc32(head, zlib.crc32("|".join(words).encode())))
