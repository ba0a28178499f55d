"""The store's runs for the service: asked in one thread of its own, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from results.codec import dumps_record
from results.index_rows import RunRow
from results.store_files import FileStore
from results.store_index import RunIndex

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Empty: any. ``name`` may hold ``*``."""

    name: str = ""
    workload: str = ""
    outcome: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """The newest first. ``next_before``: ask again with it as ``before``; empty at the end."""

    runs: tuple[RunRow, ...]
    next_before: str


class StoreRuns:
    """An SQLite connection belongs to the thread that made it, hence one thread for all."""

    def __init__(self, store: FileStore, index: RunIndex) -> None:
        self._store = store
        self._index = index
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runs")

    async def page(self, wanted: RunFilter, before: str, limit: int) -> RunPage:
        """Raises what ``RunIndex.list`` raises."""
        return await self._in_thread(lambda: self._page(wanted, before, limit))

    async def record(self, run_id: str) -> bytes:
        """The record as JSON. Raises RecordNotFound."""
        return await self._in_thread(lambda: dumps_record(self._store.get(run_id)).encode())

    async def refresh(self) -> None:
        await self._in_thread(self._index.refresh)

    def close(self) -> None:
        self._thread.submit(self._index.close)
        self._thread.shutdown()

    def _page(self, wanted: RunFilter, before: str, limit: int) -> RunPage:
        # One more than asked tells whether there is another page.
        rows = self._index.list(
            limit=limit + 1,
            name=wanted.name,
            workload=wanted.workload,
            outcome=wanted.outcome,
            evidence=wanted.evidence,
            before=before,
        )
        more = len(rows) > limit
        return RunPage(runs=rows[:limit], next_before=rows[limit - 1].run_id if more else "")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
