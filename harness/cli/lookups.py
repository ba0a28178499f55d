"""The recommendations of a store, fresh: what ``recommend``, ``manifest`` and others ask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from shutil import disk_usage

from harness.cli.options import index_of
from harness.errors import HarnessError
from harness.pricefile import read_price_book
from harness.settings import read_settings
from results.environment import stable_hash
from results.lookup.refresh import Refreshed, built_as_of, refresh
from results.lookup.table import TableLookup, lookup_of, open_lookup
from results.prices import PriceBook
from results.record import Failed
from results.store_files import FileStore
from results.store_layout import LOOKUP
from results.store_objects import LocalObjects
from tuners.outcome import failure_kind


def lookup_folder(store: FileStore) -> Path:
    """Beside a local store that can be written, under our own home for any other."""
    if isinstance(store.objects, LocalObjects):
        root = store.objects.root
        if root.is_dir() and os.access(root, os.W_OK):
            return root / LOOKUP
    return read_settings().home / "indexes" / f"{stable_hash(store.url)}-{LOOKUP}"


def refreshed(store: FileStore, *, anew: bool = False) -> Refreshed:
    """The table brought up to date with the store."""
    folder = lookup_folder(store)
    try:
        return refresh(index_of(store), folder, name_failure=name_failure, anew=anew)
    except OSError as error:
        why = error.strerror or str(error)  # numpy's own has no more than words
        raise HarnessError(
            f"cannot write the table of recommendations in {folder}: {why}{_room(folder)}; it is "
            "made from the records, and none of them is touched. $WINDTUNNEL_HOME names a home "
            "that can be written"
        ) from None


def _room(folder: Path) -> str:
    try:
        free = disk_usage(folder).free
    except OSError:
        return ""
    return f" ({free / 2**20:.1f} MiB are free there)"


def fresh_lookup(store: FileStore, prices: PriceBook) -> TableLookup:
    refreshed(store)
    return open_lookup(lookup_folder(store), prices)


def past_lookup(store: FileStore, day: date, prices: PriceBook) -> TableLookup:
    """As it was at the end of ``day`` (UTC)."""
    built = built_as_of(index_of(store), end_of(day), name_failure=name_failure)
    return lookup_of(built.profiles, prices, built.fruitless)


def end_of(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC) + timedelta(days=1)


def price_book(paths: Sequence[Path] | None) -> PriceBook:
    return read_price_book(paths or ())


def name_failure(failed: Failed) -> str:
    """``oom_at_load``, ``hang``, … for what the engine's own last words say."""
    kind = failure_kind(failed).value
    return kind if kind != "engine_died" else failed.error
