"""From the store to the table: runs that are new are looked at, and every profile is made again.

What was taken of each run is kept beside the table, one line of JSON each; new ones come from the
store's index, which is the one that reads records. Where nothing is new, nothing is read at all.
All of it is a cache: it is made anew whenever it is missing or damaged.
"""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from results.environment import stable_hash
from results.lookup.snapshot import open_current, readable_id
from results.lookup.writing import write_snapshot
from results.recommendation.build import Built, build
from results.recommendation.estimate import as_of, identity, read_estimates
from results.recommendation.flags import in_force, read_flags
from results.recommendation.observation import LeftOut, Observation
from results.recommendation.observe import NameFailure, error_of, observe
from results.store import Torn
from results.store_index import RunIndex

SEEN: Final = "seen.jsonl"
_BUILT: Final = "built.json"
# Of ``Observation`` and of what ``observe`` takes of a record: another number starts anew.
LAYOUT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A run that was seen, and the digest of its record; one of the two is None."""

    layout: int
    digest: str
    observation: Observation | None = None
    left_out: LeftOut | None = None

    @property
    def seen(self) -> Observation | LeftOut | None:
        return self.observation or self.left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """What the table was built of: the index's ``mark``, and what was ``said`` beside the runs, by
    flags in force and by estimates."""

    mark: str
    said: str
    num_runs: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """``num_read`` of the ``num_runs`` were looked at anew. ``left_out``: why how many are no
    evidence. ``changed``: the snapshot is another one than before."""

    snapshot_id: str
    num_profiles: int
    num_runs: int
    num_read: int
    left_out: Mapping[str, int]
    changed: bool
    torn: tuple[Torn, ...]


def refresh(
    index: RunIndex,
    folder: Path,
    *,
    name_failure: NameFailure = error_of,
    anew: bool = False,
) -> Refreshed:
    """Take up what was sealed or flagged since, and swap in the new table if anything was.

    ``anew``: forget what was taken before. Raises what the index's refresh raises, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        report = index.reindex() if anew else index.refresh()
        torn = list(report.torn)
        flags = in_force(read_flags(index.store.objects, torn))
        estimates = read_estimates(index.store.objects, torn)
        told = stable_hash(
            [[[f.kind, f.run_ids, f.message, str(f.at)] for f in flags], identity(estimates)]
        )
        mark, before = index.mark(), readable_id(folder)
        built = None if anew or not before else _read_built(folder / _BUILT)
        if built is not None and (built.mark, built.said) == (mark, told):
            return _report(folder, before, built, 0, torn)
        taken = _taken(index, folder / SEEN, name_failure, anew)
        if built is None or built.said != told or taken.new or taken.num_gone:
            # Gone until all that follows is done: a crash between makes everything again.
            (folder / _BUILT).unlink(missing_ok=True)
            _keep(folder / SEEN, taken)
            runs = (s for s in taken.seen if isinstance(s, Observation))
            made = build(runs, flags, as_of(estimates))
            write_snapshot(folder, made.profiles, made.fruitless)
        left_out = Counter(s.reason for s in taken.seen if isinstance(s, LeftOut))
        now = _Built(mark=mark, said=told, num_runs=len(taken.seen), left_out=dict(left_out))
        _write_built(folder / _BUILT, now)
        return _report(folder, before, now, len(taken.new), torn)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """``num_gone`` lines of the file speak of what is no longer there."""

    kept: Mapping[str, _Line]
    new: Mapping[str, _Line]
    num_gone: int

    @property
    def lines(self) -> tuple[_Line, ...]:
        return (*self.kept.values(), *self.new.values())

    @property
    def seen(self) -> list[Observation | LeftOut]:
        return [line.seen for line in self.lines if line.seen is not None]


def _taken(index: RunIndex, path: Path, name_failure: NameFailure, anew: bool) -> _Taken:
    there = index.digests()
    known = {} if anew else _read_seen(path)
    kept = {i: line for i, line in known.items() if there.get(i) == line.digest}
    briefs = index.briefs(sorted(there.keys() - kept.keys()))
    new = {b.run_id: _line(there[b.run_id], observe(b, name_failure)) for b in briefs}
    return _Taken(kept=kept, new=new, num_gone=len(known) - len(kept))


def _keep(path: Path, taken: _Taken) -> None:
    if taken.num_gone or not taken.kept:
        _write_seen(path, taken.lines)
    elif taken.new:
        _append_seen(path, taken.new.values())


def built_as_of(index: RunIndex, when: datetime, *, name_failure: NameFailure = error_of) -> Built:
    """What the database would have said at ``when``: it is a function of the runs sealed until
    then, so its history is theirs."""
    index.refresh()
    seen = (observe(brief, name_failure) for brief in index.briefs(sorted(index.digests())))
    runs = (s for s in seen if isinstance(s, Observation) and s.ended_at <= when)
    flags = [f for f in read_flags(index.store.objects) if f.at <= when]
    return build(runs, in_force(flags), as_of(read_estimates(index.store.objects), when))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "refresh.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _report(folder: Path, before: str, built: _Built, num_read: int, torn: list[Torn]) -> Refreshed:
    snapshot = open_current(folder)
    return Refreshed(
        snapshot_id=snapshot.snapshot_id,
        num_profiles=snapshot.num_profiles,
        num_runs=built.num_runs,
        num_read=num_read,
        left_out=built.left_out,
        changed=snapshot.snapshot_id != before,
        torn=tuple(torn),
    )


def _read_built(path: Path) -> _Built | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Built)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_built(path: Path, built: _Built) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(built))
    draft.replace(path)


def _read_seen(path: Path) -> dict[str, _Line]:
    """What was taken before, or nothing where it cannot be read: then all is taken again."""
    decode = msgspec.json.Decoder(_Line).decode
    found: dict[str, _Line] = {}
    try:
        with path.open("rb") as file:
            for text in file:
                line = decode(text)
                if line.layout != LAYOUT or line.seen is None:
                    return {}
                found[line.seen.run_id] = line
    except (OSError, msgspec.MsgspecError):
        return {}
    return found


def _line(digest: str, one: Observation | LeftOut) -> _Line:
    if isinstance(one, Observation):
        return _Line(layout=LAYOUT, digest=digest, observation=one)
    return _Line(layout=LAYOUT, digest=digest, left_out=one)


def _lines(seen: Iterable[_Line]) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for one in seen:
        yield encode(one) + b"\n"


def _write_seen(path: Path, seen: Iterable[_Line]) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.writelines(_lines(seen))
    draft.replace(path)


def _append_seen(path: Path, seen: Iterable[_Line]) -> None:
    """A line that a crash cut short makes the whole file unreadable, and all is taken again."""
    with path.open("ab") as file:
        file.writelines(_lines(seen))
