"""What lies in a store that was not known before: the one way by which records are read.

The listing tells what is there, and a stamp of every object whether it is what it was; only what is
new or other than before is opened. Nothing that is known makes a record true: one that was taken
away, cut short or replaced since is no longer told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from results.ahead import ahead
from results.codec import loads_record
from results.errors import RecordFormatError, StoreError
from results.record import RunRecord
from results.store import Torn
from results.store_compact import NOTHING_COMPACTED, Compacted, read_compacted
from results.store_layout import (
    COMPACTED,
    RECORD,
    RUNS,
    TEMPORARY,
    day_date,
    day_of,
    is_run_id,
    record_path,
)
from results.store_objects import NO_OBJECT, NOT_TOLD, Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedDay:
    """A day's compacted file, as it was read whole. ``listed``: every object of the day's folder
    with its stamp; another listing is read anew."""

    listed: str
    file: str
    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """``runs``: by run id, the stamp of the object that held it and the digest of its text.
    ``days`` is brought up to date by whoever asks for changes."""

    runs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    days: dict[str, PackedDay] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A record as it lies. ``record`` None: another object, the text that is known."""

    run_id: str
    stamp: str
    digest: str
    record: RunRecord | None


@dataclass(slots=True, kw_only=True)
class Changes:
    """Iterate ``new`` to its end, in order of run id; then ``kept`` has the runs that are as they
    were, ``torn`` what should be a record and is none, every time anew. A known run that is in
    neither ``new`` nor ``kept`` is not in the store."""

    new: Iterator[Sealed]
    kept: set[str] = field(default_factory=set)
    torn: list[Torn] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    run_id: str
    stamp: str
    compacted: Compacted


def changes(objects: Objects, known: Known | None = None) -> Changes:
    """Everything, where nothing is known."""
    known = known or Known()
    found = Changes(new=iter(()))
    found.new = _new(objects, known, found)
    return found


def days_of(objects: Objects) -> tuple[str, ...]:
    """``dt=YYYY-MM-DD`` of every day that has a run, in order."""
    names = {*objects.names(RUNS), *objects.names(COMPACTED)}
    return tuple(sorted(day for day in names if day_date(day)))


def read_record(
    objects: Objects, run_id: str, compacted: Compacted = NOTHING_COMPACTED
) -> RunRecord:
    """FileNotFoundError when it is neither in its folder nor in its day's compacted file;
    RecordFormatError or StoreError when it is there and torn."""
    return _loaded(run_id, _text(objects, run_id, compacted))


def _new(objects: Objects, known: Known, found: Changes) -> Iterator[Sealed]:
    read = partial(_read, objects, known)
    for one in ahead(read, _wanted(objects, known, found), objects.num_at_once):
        if isinstance(one, Torn):
            found.torn.append(one)
        elif one is not None:
            yield one


def _wanted(objects: Objects, known: Known, found: Changes) -> Iterator[_Wanted]:
    for foreign in objects.names(RUNS):
        if not day_date(foreign) and not foreign.startswith(TEMPORARY):
            found.torn.append(Torn(path=f"{RUNS}/{foreign}", reason="not a day's name"))
    days = days_of(objects)
    listings = ahead(partial(_listed, objects), days, objects.num_at_once)
    for day, (stamps, packed) in zip(days, listings, strict=True):
        compacted, stamp_of = _compacted(objects, day, packed, known, found)
        for run_id in sorted({*stamps, *compacted.run_ids}):
            if run_id.startswith(TEMPORARY):
                continue
            if not is_run_id(run_id) or day_of(run_id) != day:
                path = f"{RUNS}/{day}/{run_id}"
                found.torn.append(Torn(path=path, reason="not a run of that day"))
                continue
            stamp = stamp_of.get(run_id) or stamps.get(run_id, NO_OBJECT)
            if stamp == NO_OBJECT:
                continue  # not sealed, or not yet
            if stamp != NOT_TOLD and known.runs.get(run_id, ("", ""))[0] == stamp:
                found.kept.add(run_id)
            else:
                yield _Wanted(run_id=run_id, stamp=stamp, compacted=compacted)


def _listed(objects: Objects, day: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    # In this order: a compaction that took records away since has left its manifest before it did.
    stamps = objects.stamps(f"{RUNS}/{day}", RECORD)
    return stamps, objects.stamps(f"{COMPACTED}/{day}")


def _compacted(
    objects: Objects, day: str, packed: Mapping[str, str], known: Known, found: Changes
) -> tuple[Compacted, Mapping[str, str]]:
    """The day's compacted records and the stamp of each; their texts only where any is new."""
    if not packed:
        known.days.pop(day, None)
        return NOTHING_COMPACTED, {}
    listed = "|".join(f"{n}={s}" for n, s in sorted(packed.items()) if not n.startswith(TEMPORARY))
    before = known.days.get(day)
    if before is not None and before.listed == listed and NOT_TOLD not in packed.values():
        stamp = _packed_stamp(before.file, packed)
        if all(known.runs.get(run_id, ("", ""))[0] == stamp for run_id in before.run_ids):
            return Compacted(run_ids=before.run_ids), dict.fromkeys(before.run_ids, stamp)
    num_torn = len(found.torn)
    made = read_compacted(objects, day, found.torn)
    if made.texts and len(found.torn) == num_torn:
        known.days[day] = PackedDay(listed=listed, file=made.file, run_ids=made.run_ids)
    else:
        known.days.pop(day, None)
    return made, dict.fromkeys(made.texts, _packed_stamp(made.file, packed))


def _packed_stamp(file: str, packed: Mapping[str, str]) -> str:
    stamp = packed.get(file, NOT_TOLD)  # not listed: it came between the listing and the reading
    return NOT_TOLD if stamp == NOT_TOLD else f"{file}:{stamp}"


def _read(objects: Objects, known: Known, wanted: _Wanted) -> Sealed | Torn | None:
    run_id = wanted.run_id
    try:
        text = _text(objects, run_id, wanted.compacted)
        digest = hashlib.blake2b(text, digest_size=16).hexdigest()
        same = known.runs.get(run_id, ("", ""))[1] == digest
        record = None if same else _loaded(run_id, text)
    except FileNotFoundError:
        return None  # gone since it was listed
    except (RecordFormatError, StoreError) as error:
        return Torn(path=record_path(run_id), reason=str(error))
    return Sealed(run_id=run_id, stamp=wanted.stamp, digest=digest, record=record)


def _text(objects: Objects, run_id: str, compacted: Compacted) -> bytes:
    if run_id in compacted.texts:
        return compacted.texts[run_id].encode()
    try:
        return objects.read(record_path(run_id))
    except FileNotFoundError:
        # A compaction may have taken it over since its day was listed.
        now = read_compacted(objects, day_of(run_id), [], but_number=compacted.number)
        if run_id not in now.texts:
            raise
        return now.texts[run_id].encode()


def _loaded(run_id: str, text: bytes) -> RunRecord:
    record = loads_record(text)
    if record.run_id != run_id:
        raise RecordFormatError(f"holds the record of {record.run_id}")
    return record
