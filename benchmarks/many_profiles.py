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
# What stands before an id in the facts and in the JSON of a profile, and before a model's number.
_IDS = (b"\xb0", b'{"profile_id":"', b'","configuration_id":"')
_MODEL = b'"model":"generated/model-'
_MOST_MODELS = 1000  # a number has three digits
_HEAD = 256  # bytes in which all of these are


def make_table(folder: Path, num_profiles: int, seed: int = 0) -> int:
    """Where there is none yet. Returns how many models it is of, each of ``LOADS × SETTINGS``
    profiles."""
    num_models = max(1, num_profiles // (LOADS * SETTINGS))
    if readable_id(folder) and open_current(folder).num_profiles:
        return num_models
    made = min(num_models, MADE_MODELS)
    if num_models % made or num_models > _MOST_MODELS:
        raise SystemExit(
            f"{num_models} models; a multiple of {made} up to {_MOST_MODELS} is wanted"
        )
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
    apart = ("profiles", "profile_ids", "profile_rows", "model_starts")
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


def _copy_profiles(template: Path, draft: Path, times: int) -> None:
    data = np.fromfile(template / "profiles.bin", np.uint8)
    starts, models = np.load(template / "profiles.starts.npy"), np.load(template / "model.npy")
    facts, texts = starts[0:-1:2], starts[1::2]
    ids = [
        _places(data, begin, key) for begin, key in zip((facts, texts, texts), _IDS, strict=True)
    ]
    names = _places(data, texts, _MODEL)
    found: list[npt.NDArray[np.uint64]] = []
    with (draft / "profiles.bin").open("wb") as file:
        for copy, those in enumerate(_different_ids(data, ids, times)):
            found.append(those[0])
            for place, values in zip(ids, those, strict=True):
                _write(data, place, b"%016x", values)
            _write(data, names, b"%03d", models + copy * (models.max() + 1))
            data.tofile(file)
    parts = [starts[:-1] + c * starts[-1] for c in range(times)]
    np.save(draft / "profiles.starts.npy", np.concatenate([*parts, [times * starts[-1]]]))
    values = np.concatenate(found)
    order = np.argsort(values, kind="stable").astype(np.int32)
    np.save(draft / "profile_ids.npy", values[order])
    np.save(draft / "profile_rows.npy", order)


def _places(
    data: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], key: bytes
) -> npt.NDArray[np.int64]:
    """What comes after ``key`` in each profile. Every profile begins as the first does."""
    head = data[begins[0] : begins[0] + _HEAD].tobytes()
    return begins + head.index(key) + len(key)


def _write(
    data: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    form: bytes,
    values: npt.NDArray[Any],
) -> None:
    text = b"".join([form % value for value in values.tolist()])
    digits = np.frombuffer(text, np.uint8).reshape(len(values), -1)
    data[places[:, None] + np.arange(digits.shape[1])] = digits


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
