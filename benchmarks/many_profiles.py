"""A table of very many generated profiles, in seconds: some models are made, the rest are copies.

Every copy of a model has its own name, configurations and profile ids, and its own bytes on disk:
what a question of it looks at is as much, and as far away, as if it had been made. Its numbers are
those of the model it is a copy of.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from results.lookup.snapshot import open_current, readable_id
from results.lookup.writing import ABOUT, CURRENT, TRAININGS, write_snapshot
from results.recommendation.testing import generated

LOADS, SETTINGS = 5, 1000  # of each model
MADE_MODELS = 10

_ID_DIGITS = 16
# What stands before an id in the facts and in the JSON of a profile.
_IDS = (b"\xb0", b'{"profile_id":"', b'","configuration_id":"')


def make_table(folder: Path, num_profiles: int, seed: int = 0) -> int:
    """Where there is none yet. Returns how many models it is of, each of ``LOADS × SETTINGS``
    profiles."""
    num_models = max(1, num_profiles // (LOADS * SETTINGS))
    if readable_id(folder) and open_current(folder).num_profiles:
        return num_models
    made = min(num_models, MADE_MODELS)
    if num_models % made:
        raise SystemExit(f"{num_models} models; a multiple of {made} is wanted")
    if made == num_models:
        write_snapshot(folder, generated(made, SETTINGS, LOADS, seed))
        return num_models
    with tempfile.TemporaryDirectory() as temporary:
        name = write_snapshot(Path(temporary), generated(made, SETTINGS, LOADS, seed))
        _copy(Path(temporary) / name, folder, num_models // made)
    return num_models


def _copy(template: Path, folder: Path, times: int) -> None:
    about = json.loads((template / ABOUT).read_bytes())
    names = about["names"]["model"]
    snapshot_id = hashlib.blake2b(f"{template.name} {times}".encode(), digest_size=8).hexdigest()
    draft = folder / snapshot_id
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    copied = [[_renamed(n, c * len(names) + i) for i, n in enumerate(names)] for c in range(times)]
    _copy_columns(template, draft, times)
    _copy_configurations(template, draft, names, copied)
    _copy_profiles(template, draft, times)
    shutil.copy(template / TRAININGS, draft)  # none are generated
    (draft / ABOUT).write_text(json.dumps(_about(about, copied, snapshot_id)))
    (folder / CURRENT).write_text(snapshot_id)


def _renamed(name: str, number: int) -> str:
    return f"{name.rpartition('-')[0]}-{number:03d}"


def _about(about: dict[str, Any], copied: list[list[str]], snapshot_id: str) -> dict[str, Any]:
    names, times = about["names"]["model"], len(copied)
    catalogue = about["catalogue"]
    new = [dict(zip(names, those, strict=True)) for those in copied]
    return {
        **about,
        "snapshot_id": snapshot_id,
        "num_profiles": about["num_profiles"] * times,
        "names": {**about["names"], "model": [name for those in copied for name in those]},
        "catalogue": {
            "models": [{**m, "model": c[m["model"]]} for c in new for m in catalogue["models"]],
            "accelerators": [
                {
                    **one,
                    "models": sorted(c[m] for c in new for m in one["models"]),
                    "num_profiles": one["num_profiles"] * times,
                }
                for one in catalogue["accelerators"]
            ],
        },
    }


def _copy_columns(template: Path, draft: Path, times: int) -> None:
    """Models and configurations are counted on; everything else is as it was."""
    apart = ("profiles", "configurations", "profile_ids", "profile_rows", "model_starts")
    for path in template.glob("*.npy"):
        if path.stem.partition(".")[0] in apart:
            continue
        column = np.load(path)
        whole = np.tile(column, times)
        if path.stem in ("model", "configuration"):
            more = np.arange(times, dtype=column.dtype) * (column.max() + 1)
            whole += np.repeat(more, len(column))
        np.save(draft / path.name, whole)
    starts = np.load(template / "model_starts.npy")
    parts = [starts[:-1] + c * starts[-1] for c in range(times)]
    np.save(draft / "model_starts.npy", np.concatenate([*parts, [times * starts[-1]]]))


def _copy_starts(template: Path, draft: Path, name: str, times: int) -> None:
    starts = np.load(template / f"{name}.starts.npy")
    parts = [starts[:-1] + c * starts[-1] for c in range(times)]
    np.save(draft / f"{name}.starts.npy", np.concatenate([*parts, [times * starts[-1]]]))


def _copy_configurations(
    template: Path, draft: Path, names: list[str], copied: list[list[str]]
) -> None:
    data = (template / "configurations.bin").read_bytes()
    with (draft / "configurations.bin").open("wb") as file:
        for those in copied:
            renamed = data
            for old, new in zip(names, those, strict=True):
                # By a name that none has, so that none is renamed twice.
                renamed = renamed.replace(old.encode(), new.replace("model", "MODEL").encode())
            file.write(renamed.replace(b"MODEL", b"model"))
    _copy_starts(template, draft, "configurations", len(copied))


def _copy_profiles(template: Path, draft: Path, times: int) -> None:
    data = np.fromfile(template / "profiles.bin", np.uint8)
    starts = np.load(template / "profiles.starts.npy")
    places = _places_of_ids(data, starts[0:-1:2], starts[1::2])
    found: list[npt.NDArray[np.uint64]] = []
    with (draft / "profiles.bin").open("wb") as file:
        for ids in _different_ids(data, places, times):
            found.append(ids[0])
            for place, those in zip(places, ids, strict=True):
                text = b"".join(b"%016x" % int(one) for one in those)
                digits = np.frombuffer(text, np.uint8).reshape(-1, _ID_DIGITS)
                data[place[:, None] + np.arange(_ID_DIGITS)] = digits
            data.tofile(file)
    _copy_starts(template, draft, "profiles", times)
    values = np.concatenate(found)
    order = np.argsort(values, kind="stable").astype(np.int32)
    np.save(draft / "profile_ids.npy", values[order])
    np.save(draft / "profile_rows.npy", order)


def _places_of_ids(
    data: npt.NDArray[np.uint8], facts: npt.NDArray[np.int64], texts: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.int64]]:
    """Where the ids of each profile lie: in its facts, and both in its JSON. Every profile begins
    as the first does."""
    places, at = [], [facts[0], texts[0], texts[0]]
    for begin, first, key in zip((facts, texts, texts), at, _IDS, strict=True):
        head = data[first : first + 4 * _ID_DIGITS * 2].tobytes()
        places.append(begin + head.index(key) + len(key))
    return places


def _different_ids(
    data: npt.NDArray[np.uint8], places: list[npt.NDArray[np.int64]], times: int
) -> Iterator[list[npt.NDArray[np.uint64]]]:
    """The ids at each of ``places``, turned into others for every copy but the first."""
    read = [
        np.array(
            [int(bytes(digits), 16) for digits in data[place[:, None] + np.arange(_ID_DIGITS)]],
            np.uint64,
        )
        for place in places
    ]
    for copy in range(times):
        key = hashlib.blake2b(str(copy).encode(), digest_size=8).digest()
        turn = np.uint64(int.from_bytes(key, "big") if copy else 0)
        yield [ids ^ turn for ids in read]
