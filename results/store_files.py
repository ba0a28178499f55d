"""The record store in a folder or a bucket: one immutable object per run.

There is no lock and no shared file: every run has names of its own, each written once, the record
last. What a crash leaves behind is therefore never half a record; it is an open run, a table
without a record, or a temporary file, and ``store_check`` counts all three.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Container, Iterator, Mapping, Sequence
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
from results.store_compact import NOTHING_COMPACTED, Compacted, read_compacted, read_manifest
from results.store_layout import (
    COMPACTED,
    OPEN,
    RUNS,
    TEMPORARY,
    check_table_name,
    day_date,
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

    def scan(self, skip: Container[str] = ()) -> Scan:
        """Every record in order of run id. Those whose ids are in ``skip`` are not read; their
        ids go to the scan's ``skipped``."""
        found = Scan(records=iter(()))
        found.records = self._records(skip, found)
        return found

    def get(self, run_id: str) -> RunRecord:
        """Raises RecordNotFound (with the nearest ids, or all that the prefix fits), or
        RecordFormatError when the record is there and torn."""
        if is_run_id(run_id):
            try:
                return self._read(run_id)
            except FileNotFoundError:
                pass
        found = self._resolve(run_id)
        try:
            return self._read(found)
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
        names = {*self.objects.names(RUNS), *self.objects.names(COMPACTED)}
        return tuple(sorted(day for day in names if day_date(day)))

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

    def _records(self, skip: Container[str], found: Scan) -> Iterator[RunRecord]:
        for foreign in self.objects.names(RUNS):
            if not day_date(foreign) and not foreign.startswith(TEMPORARY):
                found.torn.append(Torn(path=f"{RUNS}/{foreign}", reason="not a day's name"))
        for day in self.days():
            yield from self._records_of_day(day, skip, found)

    def _records_of_day(self, day: str, skip: Container[str], found: Scan) -> Iterator[RunRecord]:
        names = self.objects.names(f"{RUNS}/{day}")
        compacted = read_compacted(self.objects, day, skip, found.torn)
        for run_id in sorted({*names, *compacted.run_ids}):
            if run_id.startswith(TEMPORARY):
                continue
            path = f"{RUNS}/{day}/{run_id}"
            if not is_run_id(run_id) or day_of(run_id) != day:
                found.torn.append(Torn(path=path, reason="not a run of that day"))
            elif run_id in skip:
                found.skipped.append(run_id)
            else:
                try:
                    yield self._read(run_id, compacted)
                except FileNotFoundError:
                    continue  # not sealed, or not yet
                except (RecordFormatError, StoreError) as error:
                    found.torn.append(Torn(path=record_path(run_id), reason=str(error)))

    def _read(self, run_id: str, compacted: Compacted = NOTHING_COMPACTED) -> RunRecord:
        """FileNotFoundError when it is neither in its folder nor in its day's compacted file."""
        text: str | bytes
        if run_id in compacted.texts:
            text = compacted.texts[run_id]
        else:
            try:
                text = self.objects.read(record_path(run_id))
            except FileNotFoundError:
                # A compaction may have taken it over since its day was listed.
                now = read_compacted(
                    self.objects, day_of(run_id), (), [], but_number=compacted.number
                )
                if run_id not in now.texts:
                    raise
                text = now.texts[run_id]
        record = loads_record(text)
        if record.run_id != run_id:
            raise RecordFormatError(f"holds the record of {record.run_id}")
        return record

    def _resolve(self, asked: str) -> str:
        known = [name.removesuffix(".json") for name in self.objects.names(OPEN)]
        for day in self.days():
            manifest = read_manifest(self.objects, day)
            known += self.objects.names(f"{RUNS}/{day}")
            known += manifest.run_ids if manifest else ()
        run_ids = sorted({run_id for run_id in known if is_run_id(run_id)})
        return resolve_run_id(asked, run_ids, self.url, self._is_sealed)
