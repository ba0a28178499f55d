"""One Parquet file per finished day, so that a year of records is hundreds of reads, not thousands.

A manifest says which file counts and which runs it holds. It is written after its file and read
back before anything is taken away; by default nothing is. A run that is sealed late (a lost one)
is taken up by the next compaction: a new file, a manifest of the next number.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from results.clock import Clock
from results.codec import dumps_record, loads_record
from results.errors import RecordFormatError, StoreError
from results.record import RunRecord
from results.store import Torn
from results.store_layout import COMPACTED, RUNS, day_date, day_of, is_run_id, record_path
from results.store_objects import Objects

if TYPE_CHECKING:
    from results.store_files import FileStore

_MANIFEST: Final = re.compile(r"manifest-(\d{6})\.json")
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a day's compacted file holds. ``number`` counts the day's compactions from 1."""

    format: int
    number: int
    day: str
    file: str
    sha256: str
    num_bytes: int
    run_ids: tuple[str, ...]
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """A day's compacted records as text, by run id. ``texts`` is empty where they were not read,
    or ``file`` is damaged. ``number`` 0: the day is not compacted."""

    number: int = 0
    file: str = ""
    run_ids: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


NOTHING_COMPACTED: Final = Compacted()


class Action(StrEnum):
    WRITTEN = "written"
    UNCHANGED = "unchanged"  # the last manifest holds every record of the day already
    REFUSED = "refused"  # the compacted file is damaged, and it alone has some of its records


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactedDay:
    day: str
    action: Action
    num_records: int
    num_deleted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactReport:
    days: tuple[CompactedDay, ...]
    torn: tuple[Torn, ...]

    @property
    def num_records(self) -> int:
        return sum(day.num_records for day in self.days)


_ADAPTER: Final[TypeAdapter[Manifest]] = TypeAdapter(Manifest)


def read_manifest(objects: Objects, day: str, torn: list[Torn] | None = None) -> Manifest | None:
    """The manifest of the highest number that can be read; those above it that cannot go to
    ``torn``."""
    return next(_manifests(objects, day, [] if torn is None else torn), None)


def _manifests(objects: Objects, day: str, torn: list[Torn]) -> Iterator[Manifest]:
    """The day's manifests, the highest number first."""
    for name in sorted(objects.names(f"{COMPACTED}/{day}"), reverse=True):
        if not _MANIFEST.fullmatch(name):
            continue
        path = f"{COMPACTED}/{day}/{name}"
        try:
            manifest = _ADAPTER.validate_json(objects.read(path), strict=True)
        except (ValidationError, StoreError, FileNotFoundError) as error:
            torn.append(Torn(path=path, reason=f"not a manifest: {error}"))
            continue
        if manifest.format == _FORMAT:
            yield manifest
        else:
            torn.append(Torn(path=path, reason=f"a manifest of format {manifest.format}"))


def read_compacted(objects: Objects, day: str, torn: list[Torn], but_number: int = -1) -> Compacted:
    """The day's compacted records. A damaged file goes to ``torn`` and counts as none.

    Nothing is read when the day's manifest has the number ``but_number``.
    """
    manifest = read_manifest(objects, day, torn)
    while manifest is not None and manifest.number != but_number:
        path = f"{COMPACTED}/{day}/{manifest.file}"
        try:
            texts = _texts(objects.read(path), manifest)
        except FileNotFoundError:
            # A newer compaction may have cleared it away between our two reads.
            latest = read_manifest(objects, day)
            if latest is not None and latest.number != manifest.number:
                manifest = latest
                continue
            torn.append(Torn(path=path, reason="missing"))
        except StoreError as error:
            torn.append(Torn(path=path, reason=str(error)))
        else:
            return Compacted(
                number=manifest.number, file=manifest.file, run_ids=manifest.run_ids, texts=texts
            )
        return Compacted(number=manifest.number, run_ids=manifest.run_ids)
    return NOTHING_COMPACTED


def compact(store: FileStore, clock: Clock, *, delete: bool = False) -> CompactReport:
    """Compact every day before today (UTC) that has records its manifest does not hold.

    With ``delete``, the ``record.json`` of every run that a manifest holds is removed, and the
    files of earlier compactions, once the new file has been read back whole; tables always stay.
    Raises StoreUnwritable. Running it twice changes nothing the second time.
    """
    store.prepare()
    today = clock.now_utc().astimezone(UTC).date()
    torn: list[Torn] = []
    done = []
    for day in store.days():
        date = day_date(day)
        if date is not None and date < today:
            done.append(_compact_day(store.objects, day, clock.now_utc(), delete, torn))
    return CompactReport(
        days=tuple(day for day in done if day.num_records or day.action is Action.REFUSED),
        torn=tuple(torn),
    )


def adopt(store: FileStore, records: Sequence[RunRecord], clock: Clock) -> tuple[RunRecord, ...]:
    """Seal many records that have no tables, a file for each of their days instead of one for each
    record, and return those that were new: a run that is sealed already stays as it is.

    A day is acknowledged when its manifest is there. Raises StoreUnwritable, and RecordFormatError
    for what cannot be written; days before the one that failed are kept, and asking again goes on.
    """
    store.prepare()
    by_day: dict[str, dict[str, RunRecord]] = {}
    for record in records:
        if record.artifacts:
            raise RecordFormatError(f"{record.run_id} has tables; seal it by itself")
        by_day.setdefault(day_of(record.run_id), {})[record.run_id] = record
    new: list[RunRecord] = []
    for day, wanted in sorted(by_day.items()):
        new += _adopt_day(store.objects, day, wanted, clock.now_utc())
    return tuple(new)


_MOST_RACES: Final = 20


def _adopt_day(
    objects: Objects, day: str, wanted: Mapping[str, RunRecord], now: datetime
) -> list[RunRecord]:
    texts = {run_id: dumps_record(record, TOKEN) for run_id, record in wanted.items()}
    for _ in range(_MOST_RACES):
        number = _next_number(objects, day)
        torn: list[Torn] = []
        held = read_compacted(objects, day, torn)
        if any(run_id not in held.texts for run_id in held.run_ids):
            raise StoreError(
                f"{COMPACTED}/{day} is damaged ({'; '.join(t.reason for t in torn)}); see "
                "`windtunnel store check`"
            )
        sealed = {*held.texts, *(i for i in wanted if objects.exists(record_path(i)))}
        new = {i: text for i, text in texts.items() if i not in sealed}
        if not new:
            return []
        both = {**held.texts, **new}
        records = [loads_record(both[run_id]) for run_id in sorted(both)]
        if _write(objects, day, number, now, records, both) is not None:
            return [wanted[run_id] for run_id in sorted(new)]
    raise StoreError(f"{COMPACTED}/{day}: others compacted it {_MOST_RACES} times meanwhile")


# The write token of adopted records: the same run gives the same bytes.
TOKEN: Final = "adopted"


def _next_number(objects: Objects, day: str) -> int:
    """Taken before anything is read: whoever compacts meanwhile takes it, and we give way."""
    taken = map(_MANIFEST.fullmatch, objects.names(f"{COMPACTED}/{day}"))
    return 1 + max((int(match[1]) for match in taken if match), default=0)


def _compact_day(
    objects: Objects, day: str, now: datetime, delete: bool, torn: list[Torn]
) -> CompactedDay:
    number = _next_number(objects, day)
    manifest = read_manifest(objects, day)
    held = read_compacted(objects, day, torn)
    texts = dict(held.texts)
    try:
        records = {run_id: loads_record(text) for run_id, text in texts.items()}
    except RecordFormatError as error:  # a newer program compacted this day: leave it to that one
        torn.append(Torn(path=f"{COMPACTED}/{day}", reason=str(error)))
        return CompactedDay(day=day, action=Action.REFUSED, num_records=len(texts))
    for run_id in objects.names(f"{RUNS}/{day}"):
        if run_id in texts or not is_run_id(run_id) or day_of(run_id) != day:
            continue
        try:
            text = objects.read(record_path(run_id)).decode()
            record = loads_record(text)
        except FileNotFoundError:
            continue  # not sealed
        except (RecordFormatError, StoreError, UnicodeDecodeError) as error:
            torn.append(Torn(path=record_path(run_id), reason=str(error)))
            continue
        if record.run_id == run_id:
            texts[run_id], records[run_id] = text, record
    if any(run_id not in texts for run_id in held.run_ids):
        return CompactedDay(day=day, action=Action.REFUSED, num_records=len(texts))
    action = Action.UNCHANGED
    if texts and set(texts) != set(held.texts):
        manifest = _write(objects, day, number, now, [records[i] for i in sorted(records)], texts)
        action = Action.WRITTEN if manifest is not None else Action.UNCHANGED
    num_deleted = _delete(objects, manifest) if delete and manifest is not None else 0
    return CompactedDay(day=day, action=action, num_records=len(texts), num_deleted=num_deleted)


def _write(
    objects: Objects,
    day: str,
    number: int,
    now: datetime,
    records: list[RunRecord],
    texts: Mapping[str, str],
) -> Manifest | None:
    """The manifest as it now counts; None when another process compacted the day meanwhile."""
    data = _encode(records, texts)
    digest = hashlib.sha256(data).hexdigest()
    folder, file = f"{COMPACTED}/{day}", f"records-{digest[:16]}.parquet"
    try:
        objects.put_new(f"{folder}/{file}", data)
    except FileExistsError:  # the file that should hold these very bytes is damaged
        file = f"records-{digest[:16]}-{number:06d}.parquet"
        objects.put_new(f"{folder}/{file}", data)
    manifest = Manifest(
        format=_FORMAT,
        number=number,
        day=day,
        file=file,
        sha256=digest,
        num_bytes=len(data),
        run_ids=tuple(record.run_id for record in records),
        made_at=now,
    )
    try:
        objects.put_new(f"{folder}/manifest-{number:06d}.json", _ADAPTER.dump_json(manifest))
    except FileExistsError:
        return None
    return manifest


def _encode(records: list[RunRecord], texts: Mapping[str, str]) -> bytes:
    plain = ("run_id", "experiment_id", "name", "workload", "workload_hash", "environment_hash")
    when = pa.timestamp("us", tz="UTC")
    columns = {name: pa.array([getattr(r, name) for r in records], pa.string()) for name in plain}
    columns["evidence"] = pa.array([str(r.evidence) for r in records], pa.string())
    columns["outcome"] = pa.array([r.outcome.kind for r in records], pa.string())
    columns["started_at"] = pa.array([r.started_at for r in records], when)
    columns["ended_at"] = pa.array([r.ended_at for r in records], when)
    columns["duration_s"] = pa.array([r.duration_s for r in records], pa.float64())
    columns["record"] = pa.array([texts[r.run_id] for r in records], pa.string())
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _texts(data: bytes, manifest: Manifest) -> dict[str, str]:
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise StoreError(
            f"{manifest.file}: {len(data)} bytes whose SHA-256 is not the manifest's "
            f"({manifest.num_bytes} bytes were written)"
        )
    table = pq.read_table(io.BytesIO(data), columns=["run_id", "record"])
    return dict(zip(table["run_id"].to_pylist(), table["record"].to_pylist(), strict=True))


def _delete(objects: Objects, manifest: Manifest) -> int:
    """Remove what the manifest's file has taken over, after reading that file back."""
    folder = f"{COMPACTED}/{manifest.day}"
    _texts(objects.read(f"{folder}/{manifest.file}"), manifest)
    # Only files that an earlier manifest names: another may be on its way to a later one.
    for earlier in _manifests(objects, manifest.day, []):
        if earlier.number < manifest.number and earlier.file != manifest.file:
            objects.remove(f"{folder}/{earlier.file}")
    num_deleted = 0
    for run_id in manifest.run_ids:
        if objects.exists(record_path(run_id)):
            objects.remove(record_path(run_id))
            num_deleted += 1
    return num_deleted
