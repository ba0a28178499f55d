"""A night's journal: what happened that left no record, one JSON line each, only ever appended.

``<home>/nights/<suite>/<night id>.jsonl``. A line is written whole and flushed to the disk before
its ``append`` returns; a line that a crash tore is counted when the journal is read, and what is
behind it is read all the same. One lock for each home keeps two nights from running at once: they
would measure each other.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.errors import HarnessError


class NightBusy(HarnessError):
    """Another night runs; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    at: datetime
    event: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A journal as read. ``num_torn`` lines could not be read."""

    entries: tuple[Entry, ...]
    num_torn: int = 0

    def last(self, event: str) -> Mapping[str, Any] | None:
        """What the newest entry of that name says."""
        found = [entry.detail for entry in self.entries if entry.event == event]
        return found[-1] if found else None

    def all(self, event: str) -> tuple[Mapping[str, Any], ...]:
        return tuple(entry.detail for entry in self.entries if entry.event == event)


class Journal:
    """The journal of one night. Several processes may append at once."""

    def __init__(self, home: Path, suite: str, night_id: str) -> None:
        self.path = home / "nights" / suite / f"{night_id}.jsonl"

    def append(self, at: datetime, event: str, **detail: Any) -> None:
        """Durable when it returns. Raises OSError where it cannot be written."""
        line = json.dumps({"at": at.isoformat(), "event": event, **detail}, sort_keys=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A torn line has no end; the newline in front keeps it from taking this one with it.
        data = f"\n{line}\n".encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(f"{self.path}: the disk took only a part of a line")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> Told:
        """Everything told so far; a journal that is not there tells nothing."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return Told(entries=())
        entries, torn = [], 0
        for line in filter(None, lines):
            try:
                data = json.loads(line)
                at, event = datetime.fromisoformat(data.pop("at")), data.pop("event")
            except (ValueError, KeyError, TypeError, AttributeError):
                torn += 1
                continue
            entries.append(Entry(at=at, event=event, detail=data))
        return Told(entries=tuple(entries), num_torn=torn)


def nights_kept(home: Path, suite: str) -> tuple[str, ...]:
    """The ids of the nights that have a journal, oldest first."""
    folder = home / "nights" / suite
    return tuple(sorted(path.stem for path in folder.glob("*.jsonl")))


@contextmanager
def alone(home: Path, who: str) -> Iterator[None]:
    """Holds the home's lock; it ends with the process, however that ends. Raises NightBusy."""
    folder = home / "nights"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise HarnessError(
            f"{who} cannot begin: {folder} cannot be written ({error.strerror or error}); name "
            "another home with $WINDTUNNEL_HOME"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise NightBusy(
                f"{who} cannot begin: {lock.read().strip() or 'another night'} runs, and two at "
                "once would measure each other; begin when it has ended, or give this one another "
                "home ($WINDTUNNEL_HOME) if its chips are other ones"
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"{who} (process {os.getpid()})")
        lock.flush()
        yield
