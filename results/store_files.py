"""The record store in a folder or a bucket: one immutable object per run.

There is no lock and no shared file: every run has names of its own, each written once, the record
last. What a crash leaves behind is therefore never half a record; it is an open run, a table
without a record, or a temporary file, and ``store_check`` counts all three.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa

from results.codec import dumps_open_run, dumps_record, loads_open_run, loads_record
from results.errors import (
    DuplicateRecord,
    RecordFormatError,
    RecordNotFound,
    StoreError,
    StoreUnwritable,
)
from results.record import Artifact, RunRecord
from results.store import OpenRun, Scan, Torn
from results.store_changes import changes, days_of, read_record
from results.store_compact import read_manifest
from results.store_layout import (
    OPEN,
    RUNS,
    TEMPORARY,
    check_table_name,
    day_of,
    is_run_id,
    open_path,
    record_path,
    resolve_run_id,
    run_folder,
)
from results.store_objects import Objects, open_objects
from results.store_tables import artifact_of, decode_table, encode_table


class FileStore:
    """A ``RecordStore`` at a path or a URL (``gs://…``, ``s3://…``, any fsspec file system that
    has put-if-absent). Nothing is made before the first write.

    Raises StoreUnwritable, saying why, when the place is not a folder, read-only, full, or a file
    system that cannot refuse to overwrite.
    """

    def __init__(
        self, url: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self.objects: Objects = open_objects(url, storage_options)
        self.url = self.objects.url
        self._prepared = False

    def prepare(self) -> None:
        """Prove that the place can be written: worth asking before an expensive run starts."""
        if not self._prepared:
            self.objects.prepare()
            self._prepared = True

    def begin(self, run: OpenRun) -> None:
        """Raises DuplicateRecord for a run id that is already open or sealed."""
        path = open_path(run.run_id)
        text = dumps_open_run(run, secrets.token_hex(8))
        self.prepare()
        if self._is_sealed(run.run_id):
            raise DuplicateRecord(f"run {run.run_id} is already sealed in {self.url}")
        try:
            self.objects.put_new(path, text.encode())
        except FileExistsError:
            raise DuplicateRecord(f"run {run.run_id} is already open in {self.url}") from None

    def seal(self, record: RunRecord, tables: Mapping[str, pa.Table]) -> RunRecord:
        """See ``RecordStore.seal``. The record returned is decoded from the very text kept."""
        path = record_path(record.run_id)
        for name in tables:
            check_table_name(name)
        encoded = {name: encode_table(table) for name, table in tables.items()}
        dumps_record(record)  # what cannot be written is refused before anything is
        self.prepare()
        if self._is_sealed(record.run_id):
            raise self._duplicate(record.run_id)
        artifacts: list[Artifact] = []
        try:
            for name, data in encoded.items():
                num_rows = tables[name].num_rows
                artifacts.append(self._put_table(record.run_id, name, data, num_rows))
            kept = replace(record, artifacts=tuple(artifacts))
            text = dumps_record(kept, secrets.token_hex(8))
            kept = loads_record(text)
            self.objects.put_new(path, text.encode())
        except FileExistsError:
            raise self._duplicate(record.run_id) from None
        except StoreUnwritable:
            self._withdraw(record.run_id, artifacts)
            raise
        # Acknowledged from here on. An open run that cannot be removed is overruled by its record.
        with suppress(StoreError):
            self.objects.remove(open_path(record.run_id))
        return kept

    def open_runs(self) -> tuple[OpenRun, ...]:
        """In order of run id. One that cannot be read is left out here and counted by ``check``."""
        runs, _ = self.read_open_runs()
        return runs

    def read_open_runs(self) -> tuple[tuple[OpenRun, ...], tuple[Torn, ...]]:
        """The open runs and the objects beside them that are none."""
        runs: list[OpenRun] = []
        torn: list[Torn] = []
        for name in self.objects.names(OPEN):
            run_id, path = name.removesuffix(".json"), f"{OPEN}/{name}"
            if name.startswith(TEMPORARY):
                continue
            if not (name.endswith(".json") and is_run_id(run_id)):
                torn.append(Torn(path=path, reason="not an open run's name"))
            elif not self._is_sealed(run_id):  # the record wins
                try:
                    runs.append(loads_open_run(self.objects.read(path)))
                except FileNotFoundError:
                    continue  # sealed while we looked
                except (RecordFormatError, StoreError) as error:
                    torn.append(Torn(path=path, reason=str(error)))
        return tuple(runs), tuple(torn)

    def scan(self) -> Scan:
        """Every record in order of run id. Reads all; ``store_index`` reads what is new."""
        found = changes(self.objects)
        return Scan(records=(s.record for s in found.new if s.record is not None), torn=found.torn)

    def get(self, run_id: str) -> RunRecord:
        """Raises RecordNotFound (with the nearest ids, or all that the prefix fits), or
        RecordFormatError when the record is there and torn."""
        if is_run_id(run_id):
            try:
                return read_record(self.objects, run_id)
            except FileNotFoundError:
                pass
        found = self._resolve(run_id)
        try:
            return read_record(self.objects, found)
        except FileNotFoundError:
            raise RecordNotFound(f"run {found} is not sealed in {self.url}") from None

    def table(self, record: RunRecord, name: str) -> pa.Table | None:
        """Raises StoreError when the table is missing or is not what was sealed."""
        artifact = artifact_of(record, name)
        if artifact is None:
            return None
        data, reason = self.read_artifact(record, artifact)
        if reason:
            raise StoreError(
                f"store {self.url}: {run_folder(record.run_id)}/{artifact.name}: {reason}"
            )
        return decode_table(data)

    def read_artifact(self, record: RunRecord, artifact: Artifact) -> tuple[bytes, str]:
        """Its bytes, and what is wrong with them ("" when they are the ones sealed)."""
        try:
            data = self.objects.read(f"{run_folder(record.run_id)}/{artifact.name}")
        except FileNotFoundError:
            return b"", "missing"
        if len(data) != artifact.num_bytes:
            return data, f"{len(data)} bytes; {artifact.num_bytes} were sealed"
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            return data, "its SHA-256 is not the one that was sealed"
        return data, ""

    def days(self) -> tuple[str, ...]:
        """``dt=YYYY-MM-DD`` of every day that has a run, in order."""
        return days_of(self.objects)

    def _put_table(self, run_id: str, name: str, data: memoryview, num_rows: int) -> Artifact:
        digest = hashlib.sha256(data).hexdigest()
        file = f"{name}.parquet"
        try:
            self.objects.put_new(f"{run_folder(run_id)}/{file}", data)
        except FileExistsError:
            # A seal that died before its record, or one that races us, left another table of that
            # name. It may yet become part of a record, so ours takes a name that is its content's.
            file = f"{name}.{digest[:16]}.parquet"
            self.objects.put_new(f"{run_folder(run_id)}/{file}", data)
        return Artifact(name=file, sha256=digest, num_bytes=len(data), num_rows=num_rows)

    def _withdraw(self, run_id: str, artifacts: Sequence[Artifact]) -> None:
        """Make room again after a write that failed, so that the word of the failure may fit."""
        with suppress(StoreError):
            if not self.objects.exists(record_path(run_id)):
                for artifact in artifacts:
                    self.objects.remove(f"{run_folder(run_id)}/{artifact.name}")

    def _is_sealed(self, run_id: str) -> bool:
        if self.objects.exists(record_path(run_id)):
            return True
        manifest = read_manifest(self.objects, day_of(run_id))
        return manifest is not None and run_id in manifest.run_ids

    def _duplicate(self, run_id: str) -> DuplicateRecord:
        return DuplicateRecord(
            f"run {run_id} is already sealed in {self.url}; a record is never overwritten"
        )

    def _resolve(self, asked: str) -> str:
        days = self.days()
        likely = [day for day in days if _may_hold(day, asked)]
        run_ids = self._known_ids(likely)
        if len(likely) < len(days) and not any(i.startswith(asked) for i in run_ids):
            run_ids = self._known_ids(days)  # the nearest of all are named
        return resolve_run_id(asked, run_ids, self.url, self._is_sealed)

    def _known_ids(self, days: Sequence[str]) -> list[str]:
        known = [name.removesuffix(".json") for name in self.objects.names(OPEN)]
        for day in days:
            manifest = read_manifest(self.objects, day)
            known += self.objects.names(f"{RUNS}/{day}")
            known += manifest.run_ids if manifest else ()
        return sorted({run_id for run_id in known if is_run_id(run_id)})


def _may_hold(day: str, asked: str) -> bool:
    """Whether a run of ``day`` can have an id that begins with ``asked``."""
    date = day.removeprefix("dt=").replace("-", "")
    return date.startswith(asked[:8]) or asked.startswith(date)
