"""From the store to the table: runs that are new are read, and every profile is made again.

What was taken of each run is kept beside the table, one line of JSON each, so that no record is
read twice. All of it is a cache: it is rebuilt from the store whenever it is missing or damaged.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from results.environment import stable_hash
from results.lookup.snapshot import current_id, open_current
from results.lookup.writing import write_snapshot
from results.recommendation.build import Built, build
from results.recommendation.flags import in_force, read_flags
from results.recommendation.observation import LeftOut, Observation
from results.recommendation.observe import NameFailure, error_of, observe
from results.store import Torn
from results.store_files import FileStore

SEEN: Final = "seen.jsonl"
# Of ``Observation`` and of what ``observe`` takes of a record: another number starts anew.
LAYOUT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A run that was seen; one of the two is None."""

    layout: int
    observation: Observation | None = None
    left_out: LeftOut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """``num_read`` of the ``num_runs`` were read anew. ``left_out``: why how many are no evidence.
    ``changed``: the snapshot is another one than before."""

    snapshot_id: str
    num_profiles: int
    num_runs: int
    num_read: int
    left_out: Mapping[str, int]
    changed: bool
    torn: tuple[Torn, ...]


def refresh(
    store: FileStore,
    folder: Path,
    *,
    name_failure: NameFailure = error_of,
    anew: bool = False,
) -> Refreshed:
    """Take up what was sealed or flagged since, and swap in the new table if anything was.

    ``anew``: forget what was taken before. Raises what the store's scan raises, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        before = current_id(folder)
        known = {} if anew else _read_seen(folder / SEEN)
        torn: list[Torn] = []
        scan = store.scan(skip=known)
        new = {r.run_id: observe(r, name_failure) for r in scan.records}
        torn += scan.torn
        there = set(scan.skipped)
        gone = known.keys() - there
        seen = {run_id: known[run_id] for run_id in known.keys() & there} | new
        if anew or gone or not (folder / SEEN).exists():
            _write_seen(folder / SEEN, seen.values())
        elif new:
            _append_seen(folder / SEEN, new.values())
        flags = in_force(read_flags(store.objects, torn))
        told = stable_hash([[f.kind, f.run_ids, f.message, str(f.at)] for f in flags])
        mark = folder / "built"
        if anew or new or gone or not before or _text(mark) != told:
            mark.unlink(missing_ok=True)
            built = build((s for s in seen.values() if isinstance(s, Observation)), flags)
            write_snapshot(folder, built.profiles, built.fruitless)
            mark.write_text(told)
        return _report(folder, before, seen, len(new), torn)


def built_as_of(store: FileStore, when: datetime, *, name_failure: NameFailure = error_of) -> Built:
    """What the database would have said at ``when``: it is a function of the runs sealed until
    then, so its history is theirs."""
    seen = (observe(record, name_failure) for record in store.scan().records)
    runs = (s for s in seen if isinstance(s, Observation) and s.ended_at <= when)
    flags = [f for f in read_flags(store.objects) if f.at <= when]
    return build(runs, in_force(flags))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "refresh.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _report(
    folder: Path,
    before: str,
    seen: Mapping[str, Observation | LeftOut],
    num_read: int,
    torn: list[Torn],
) -> Refreshed:
    left_out: dict[str, int] = {}
    for one in seen.values():
        if isinstance(one, LeftOut):
            left_out[one.reason] = left_out.get(one.reason, 0) + 1
    snapshot = open_current(folder)
    return Refreshed(
        snapshot_id=snapshot.snapshot_id,
        num_profiles=snapshot.num_profiles,
        num_runs=len(seen),
        num_read=num_read,
        left_out=left_out,
        changed=snapshot.snapshot_id != before,
        torn=tuple(torn),
    )


def _read_seen(path: Path) -> dict[str, Observation | LeftOut]:
    """What was taken before, or nothing where it cannot be read: then all is read again."""
    decode = msgspec.json.Decoder(_Line).decode
    found: dict[str, Observation | LeftOut] = {}
    try:
        with path.open("rb") as file:
            for text in file:
                line = decode(text)
                one = line.observation or line.left_out
                if line.layout != LAYOUT or one is None:
                    return {}
                found[one.run_id] = one
    except (OSError, msgspec.MsgspecError):
        return {}
    return found


def _lines(seen: Iterable[Observation | LeftOut]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for one in seen:
        if isinstance(one, Observation):
            yield encode(_Line(layout=LAYOUT, observation=one)) + b"\n"
        else:
            yield encode(_Line(layout=LAYOUT, left_out=one)) + b"\n"


def _write_seen(path: Path, seen: Iterable[Observation | LeftOut]) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.writelines(_lines(seen))
    draft.replace(path)


def _append_seen(path: Path, seen: Iterable[Observation | LeftOut]) -> None:
    """A line that a crash cut short makes the whole file unreadable, and all is read again."""
    with path.open("ab") as file:
        file.writelines(_lines(seen))
