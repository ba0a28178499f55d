"""The snapshot that answers now, and how a newer one takes its place between two requests.

A request takes ``Serving.current`` once and is answered from it to the end, whatever is swapped in
meanwhile. What a snapshot was asked before is kept with it and goes with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Final, Protocol

from results.clock import Clock
from results.lookup.recent import Recent
from results.lookup.table import TableLookup

MAX_KEPT_BYTES: Final = 64 * 2**20
_OVERHEAD_BYTES: Final = 1024  # of one kept answer beside its text: the key, the entry


class Source(Protocol):
    """Where snapshots come from. Blocking, and called from one thread at a time."""

    def load(self) -> TableLookup:
        """The newest; the one it gave before where nothing has changed."""
        ...

    def close(self) -> None:
        """Give up a ``load`` that is under way, from another thread."""
        ...


class Kept:
    """Answers as bytes, the least used leaving first; bounded in bytes."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._bodies: Recent[bytes] = Recent(max_bytes)

    def get(self, key: Hashable) -> bytes | None:
        return self._bodies.get(key)

    def put(self, key: Hashable, body: bytes) -> None:
        self._bodies.put(key, body, len(body) + _OVERHEAD_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    lookup: TableLookup
    loaded_at: datetime
    kept: Kept

    def etag(self, now: datetime) -> str:
        """Weak: two answers of one snapshot on one day say the same, not byte for byte."""
        return f'W/"{self.lookup.snapshot_id}-{_day(now.date())}"'


@lru_cache(8)
def _day(day: date) -> str:
    return f"{day:%Y%m%d}"


@dataclass(slots=True, kw_only=True)
class Reloads:
    """``failed`` in a row, ``error`` the last one's words; an older snapshot goes on answering."""

    done: int = 0
    failed: int = 0
    error: str = ""


class Serving:
    """Holds the current snapshot. ``on_error`` is told of a reload that failed."""

    def __init__(
        self, source: Source, clock: Clock, on_error: Callable[[Exception], None] = lambda _: None
    ) -> None:
        """Loads the first snapshot; raises what ``source`` raises."""
        self._source = source
        self.clock = clock
        self._on_error = on_error
        self.reloads = Reloads()
        self.current = self._snapshot(source.load())

    async def reload(self) -> None:
        """Load in a thread, swap in this one. What goes wrong is told, and the old one stays."""
        try:
            lookup = await asyncio.to_thread(self._source.load)
        except Exception as error:  # whatever it was, those who ask are still to be answered
            self.reloads.failed += 1
            self.reloads.error = f"{type(error).__name__}: {error}"
            self._on_error(error)
            return
        self.reloads.done += 1
        self.reloads.failed, self.reloads.error = 0, ""
        if lookup.snapshot_id != self.current.lookup.snapshot_id:
            self.current = self._snapshot(lookup)

    def close(self) -> None:
        self._source.close()

    def _snapshot(self, lookup: TableLookup) -> Snapshot:
        return Snapshot(lookup=lookup, loaded_at=self.clock.now_utc(), kept=Kept())
