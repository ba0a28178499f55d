"""What lies in a store, counted and compared with what was sealed. Reads all, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from results.errors import StoreError
from results.events import read_events
from results.record import RunRecord
from results.store import Torn
from results.store_compact import read_manifest
from results.store_files import FileStore
from results.store_layout import (
    COMPACTED,
    EVENTS,
    OPEN,
    RECORD,
    RUNS,
    TEMPORARY,
    is_run_id,
    run_folder,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCheck:
    """``torn``: objects that should be whole and are not; each loses a run or a table.

    The rest is harmless. ``num_unsealed``: folders of runs that have tables and no record, being
    written or left by a crash. ``leftovers``: temporary files of writes that never ended.
    ``unreferenced``: other files in a sealed run's folder, which its record does not name.
    """

    url: str
    num_records: int
    num_compacted: int
    num_artifacts: int
    num_open: int
    num_unsealed: int
    torn: tuple[Torn, ...]
    leftovers: tuple[str, ...]
    unreferenced: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return not self.torn


def check(store: FileStore) -> StoreCheck:
    """Count and verify everything in the store; nothing found in it is fatal."""
    scan = store.scan()
    sealed: set[str] = set()
    torn: list[Torn] = []
    leftovers: list[str] = []
    unreferenced: list[str] = []
    num_artifacts = 0
    for record in scan.records:
        sealed.add(record.run_id)
        num_artifacts += len(record.artifacts)
        torn += _torn_tables(store, record)
        unreferenced += _unreferenced(store, record)
    open_runs, torn_open = store.read_open_runs()
    _, torn_events = read_events(store.objects)
    torn += [*scan.torn, *torn_open, *torn_events]
    broken = {t.path for t in scan.torn}
    num_unsealed = 0
    for folder in ("", OPEN, EVENTS):
        leftovers += _temporary(store, folder)
    for day in store.days():
        leftovers += _temporary(store, f"{COMPACTED}/{day}")
        for name in store.objects.names(f"{RUNS}/{day}"):
            folder = f"{RUNS}/{day}/{name}"
            leftovers += _temporary(store, folder)
            if is_run_id(name) and name not in sealed and f"{folder}/{RECORD}" not in broken:
                num_unsealed += folder not in broken
    manifests = [read_manifest(store.objects, day) for day in store.days()]
    return StoreCheck(
        url=store.url,
        num_records=len(sealed),
        num_compacted=sum(len(m.run_ids) for m in manifests if m is not None),
        num_artifacts=num_artifacts,
        num_open=len(open_runs),
        num_unsealed=num_unsealed,
        torn=tuple(sorted(set(torn), key=lambda t: (t.path, t.reason))),
        leftovers=tuple(leftovers),
        unreferenced=tuple(unreferenced),
    )


def _torn_tables(store: FileStore, record: RunRecord) -> list[Torn]:
    torn = []
    for artifact in record.artifacts:
        try:
            _, reason = store.read_artifact(record, artifact)
        except StoreError as error:
            reason = str(error)
        if reason:
            path = f"{run_folder(record.run_id)}/{artifact.name}"
            torn.append(Torn(path=path, reason=reason))
    return torn


def _unreferenced(store: FileStore, record: RunRecord) -> list[str]:
    folder = run_folder(record.run_id)
    named = {RECORD, *(artifact.name for artifact in record.artifacts)}
    return [
        f"{folder}/{name}"
        for name in store.objects.names(folder)
        if name not in named and not name.startswith(TEMPORARY)
    ]


def _temporary(store: FileStore, folder: str) -> list[str]:
    names = store.objects.names(folder)
    return [f"{folder}/{name}".lstrip("/") for name in names if name.startswith(TEMPORARY)]
