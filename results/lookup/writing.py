"""Profiles in, a snapshot on disk out: new files beside the old, then one atomic swap.

::

    <folder>/CURRENT                 the name of the snapshot that counts, replaced atomically
    <folder>/<snapshot id>/about.json, *.npy, profiles.bin, trainings.bin

Trainings have no requests, and are few beside the load points of servings: they lie apart, whole,
and no column of the table is of them.

A reader that has an older snapshot open keeps reading it: its files are mapped, and stay until it
lets go of them, whether or not their names are gone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np

from results.lookup.columns import (
    FLOAT_COLUMNS,
    ID_COLUMNS,
    INT_COLUMNS,
    KINDS,
    TIME_COLUMN,
    bits_of,
    column_name,
    latency_columns,
    numbers_of,
    seconds_of,
)
from results.lookup.row import encoded_row
from results.recommendation.build import Fruitless, version_of
from results.recommendation.profile import EvidenceKind, Profile

# 4: a profile's JSON lies whole beside its facts; 3 had what a configuration's profiles share in a
# file of its own, 2 no trainings and estimates, and 1 each profile as one msgpack value.
FORMAT: Final = 4
CURRENT: Final = "CURRENT"
ABOUT: Final = "about.json"
TRAININGS: Final = "trainings.bin"


@dataclass(slots=True, kw_only=True)
class _Names:
    """Names in the order they were first met."""

    index: dict[Any, int]

    def of(self, name: Any) -> int:
        return self.index.setdefault(name, len(self.index))


class _Columns:
    """Columns that grow; those of floats only where any row has a number."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._ids = {name: array("i") for name in (*ID_COLUMNS, *INT_COLUMNS)}
        self._times = array("q")
        self._floats: dict[str, array[float]] = {}

    def add(self, ids: Mapping[str, int], time_s: int, numbers: Mapping[str, float]) -> None:
        for name, whole in self._ids.items():
            whole.append(ids[name])
        self._times.append(time_s)
        for name, value in numbers.items():
            if name not in self._floats:
                self._floats[name] = array("f")
            column = self._floats[name]
            self._fill(column)
            column.append(value)
        self.num_rows += 1

    def _fill(self, column: array[float]) -> None:
        missing = self.num_rows - len(column)
        if missing:
            column.frombytes(np.full(missing, np.nan, np.float32).tobytes())

    def arrays(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        for name, column in self._ids.items():
            yield name, np.frombuffer(column, np.int32) if column else np.zeros(0, np.int32)
        times = self._times
        yield TIME_COLUMN, np.frombuffer(times, np.int64) if times else np.zeros(0, np.int64)
        for name in (*FLOAT_COLUMNS, *(column_name(*c) for c in latency_columns())):
            if name in self._floats:
                self._fill(self._floats[name])
                yield name, np.frombuffer(self._floats[name], np.float32)


def write_snapshot(
    folder: Path,
    profiles: Iterable[Profile],
    fruitless: Sequence[Fruitless] = (),
    about: Mapping[str, Any] | None = None,
) -> str:
    """Write, swap, and return the new snapshot's id. ``profiles`` come in the order of ``build``:
    those of a model together, of a configuration together. ``about`` is kept with the snapshot.

    One process at a time writes; a crash leaves the snapshot that counted. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        draft = folder / f"draft-{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            snapshot_id = _fill(draft, profiles, fruitless, about or {})
            final = folder / snapshot_id
            if is_readable(final):  # the same profiles: nothing to write
                shutil.rmtree(draft)
            else:
                shutil.rmtree(final, ignore_errors=True)
                draft.rename(final)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _swap(folder, snapshot_id)
        _clear(folder, snapshot_id)
    return snapshot_id


class _Format(msgspec.Struct):
    format: int


def is_readable(snapshot: Path) -> bool:
    """Whether there is a snapshot, of the format of this program."""
    try:
        told = msgspec.json.decode((snapshot / ABOUT).read_bytes(), type=_Format)
    except (OSError, msgspec.MsgspecError):
        return False
    return told.format == FORMAT


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _swap(folder: Path, snapshot_id: str) -> None:
    new = folder / f"{CURRENT}-{os.getpid()}"
    with new.open("w") as file:
        file.write(snapshot_id)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / CURRENT)


def _clear(folder: Path, keep: str) -> None:
    """Snapshots that count no more, and drafts of processes that died."""
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != keep:
            shutil.rmtree(entry, ignore_errors=True)


def _fill(
    draft: Path,
    profiles: Iterable[Profile],
    fruitless: Sequence[Fruitless],
    about: Mapping[str, Any],
) -> str:
    names = {name: _Names(index={}) for name in ("model", "server", "version", "hardware")}
    columns, digest = _Columns(), hashlib.blake2b(digest_size=8)
    # A folder of another format never passes for this one's.
    digest.update(json.dumps([FORMAT, [asdict(f) for f in fruitless]]).encode())
    ids = array("Q")
    catalogue = _Catalogue()
    trainings: list[Profile] = []
    num_estimates = 0
    with _Blobs(draft, "profiles") as rows:
        last, number = "", -1
        for profile in profiles:
            if profile.training is not None:
                trainings.append(profile)
                continue
            num_estimates += profile.evidence.estimated is not None
            if profile.configuration_id != last:
                last, number = profile.configuration_id, number + 1
            digest.update(rows.add(*encoded_row(profile)))
            ids.append(int(profile.profile_id, 16))
            columns.add(_ids_of(profile, names, number), seconds_of(profile), numbers_of(profile))
            catalogue.add(profile)
    encoded = msgspec.msgpack.encode(trainings)
    digest.update(encoded)
    (draft / TRAININGS).write_bytes(encoded)
    for name, column in columns.arrays():
        np.save(draft / f"{name}.npy", column)
    _save_ids(draft, ids)
    _save_model_starts(draft, columns, len(names["model"].index))
    snapshot_id = digest.hexdigest()
    document = {
        "format": FORMAT,
        "snapshot_id": snapshot_id,
        "num_profiles": columns.num_rows,
        "num_estimates": num_estimates,
        "names": {k: list(v.index) for k, v in names.items() if k != "hardware"},
        "hardware": [asdict(machine) for machine in names["hardware"].index],
        "fruitless": [asdict(one) for one in fruitless],
        "catalogue": catalogue.document(),
        "about": dict(about),
    }
    (draft / ABOUT).write_bytes(msgspec.json.encode(document))
    return snapshot_id


def _ids_of(profile: Profile, names: Mapping[str, _Names], number: int) -> dict[str, int]:
    c = profile.configuration
    return {
        "model": names["model"].of(c.model),
        "server": names["server"].of(c.model_server),
        "version": names["version"].of(c.model_server_version),
        "configuration": number,
        # What is paid and filtered by; a zone is neither.
        "hardware": names["hardware"].of(replace(profile.machine, zone="")),
        "bits": bits_of(profile),
        "kind": KINDS.index(profile.evidence.kind),
        "repeats": profile.evidence.repeats,
    }


def _save_ids(draft: Path, ids: array[int]) -> None:
    """Profile ids in ascending order, and the row of each."""
    values = np.frombuffer(ids, np.uint64) if ids else np.zeros(0, np.uint64)
    order = np.argsort(values, kind="stable").astype(np.int32)
    np.save(draft / "profile_ids.npy", values[order])
    np.save(draft / "profile_rows.npy", order)


def _save_model_starts(draft: Path, columns: _Columns, num_models: int) -> None:
    """Row at which each model begins, and the end."""
    models = next(column for name, column in columns.arrays() if name == "model")
    if np.any(np.diff(models) < 0):
        raise ValueError("profiles of one model must stand together, in the order of build()")
    np.save(draft / "model_starts.npy", np.searchsorted(models, np.arange(num_models + 1)))


class _Blobs:
    """Encoded values one after the other, and where each of their pieces begins."""

    def __init__(self, draft: Path, name: str) -> None:
        self._draft, self._name = draft, name
        self._starts = array("q", [0])
        self._file: BinaryIO = (draft / f"{name}.bin").open("wb")

    def __enter__(self) -> _Blobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        np.save(self._draft / f"{self._name}.starts.npy", np.frombuffer(self._starts, np.int64))

    def add(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self._starts.append(self._starts[-1] + len(piece))
        data = b"".join(pieces)
        self._file.write(data)
        return data


class _Catalogue:
    """What there is, by model and by accelerator: counted while writing, so that nothing is counted
    while somebody waits."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, Any]] = {}
        self._accelerators: dict[str, dict[str, Any]] = {}

    def add(self, profile: Profile) -> None:
        if profile.superseded_by or profile.evidence.estimated is not None:
            return
        c, m = profile.configuration, profile.machine
        simulated = profile.evidence.kind is EvidenceKind.SIMULATED
        model = self._models.setdefault(
            c.model, {"servers": {}, "accelerators": {}, "n": 0, "simulated": 0}
        )
        server = model["servers"].setdefault(c.model_server, {"versions": {}, "n": 0})
        server["versions"][c.model_server_version] = None
        server["n"] += 1
        model["accelerators"][m.accelerator] = None
        model["n"] += 1
        model["simulated"] += simulated
        one = self._accelerators.setdefault(
            m.accelerator,
            {"machines": {}, "topologies": {}, "chips": {}, "models": {}, "n": 0, "simulated": 0},
        )
        one["machines"][m.machine_type] = one["topologies"][m.topology] = None
        one["chips"][m.num_chips] = one["models"][c.model] = None
        one["n"] += 1
        one["simulated"] += simulated

    def document(self) -> dict[str, Any]:
        models = [
            {
                "model": name,
                "servers": [
                    {
                        "model_server": s,
                        "versions": sorted(told["versions"], key=version_of, reverse=True),
                        "num_profiles": told["n"],
                    }
                    for s, told in sorted(model["servers"].items())
                ],
                "accelerators": sorted(filter(None, model["accelerators"])),
                "num_profiles": model["n"],
                "num_simulated": model["simulated"],
            }
            for name, model in sorted(self._models.items())
        ]
        accelerators = [
            {
                "accelerator": name,
                "machine_types": sorted(filter(None, one["machines"])),
                "topologies": sorted(filter(None, one["topologies"])),
                "num_chips": sorted(one["chips"]),
                "models": sorted(one["models"]),
                "num_profiles": one["n"],
                "num_simulated": one["simulated"],
            }
            for name, one in sorted(self._accelerators.items())
            if name
        ]
        return {"models": models, "accelerators": accelerators}
