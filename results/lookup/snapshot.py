"""A snapshot, opened: columns and encoded profiles as mapped files, names as lists.

Opening reads a few kilobytes; a page of a column is read when a question first looks at it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import psutil

from results.errors import LookupUnreadable
from results.lookup.columns import Floats, Ints
from results.lookup.part import Part
from results.lookup.recent import Recent
from results.lookup.row import Facts, Row, decoded_facts, decoded_profile
from results.lookup.writing import ABOUT, CURRENT, FORMAT, TRAININGS, is_readable
from results.recommendation.build import Fruitless
from results.recommendation.lookup import AcceleratorSummary, ModelSummary
from results.recommendation.profile import Machine, Profile

MAX_KEPT_BYTES: Final = 96 * 2**20
_MOST_PARTS = 1024  # models; together they are no more rows than there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    models: tuple[ModelSummary, ...]
    accelerators: tuple[AcceleratorSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    model: tuple[str, ...]
    server: tuple[str, ...]
    version: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """``about.json``. ``about``: what the writer noted beside it."""

    format: int
    snapshot_id: str
    num_profiles: int
    num_estimates: int
    names: Names
    hardware: tuple[Machine, ...]
    fruitless: tuple[Fruitless, ...]
    catalogue: Catalogue
    about: dict[str, Any]


class Labels(NamedTuple):
    """What a row is of. ``machine`` without its zone; ``configuration`` is its number here."""

    model: str
    model_server: str
    model_server_version: str
    machine: Machine
    configuration: int


def _mapped(path: Path) -> npt.NDArray[Any]:
    """A plain array over the mapped file: numpy's own type for it is slow to slice."""
    return np.asarray(np.load(path, mmap_mode="r").view(np.ndarray))


class _Profiles:
    """Facts and JSON of each row, read one at a time.

    Read, not mapped: they lie far from each other, a first look at a page of a mapped file costs
    several times what reading three kilobytes does, and the page would count as ours.
    """

    def __init__(self, folder: Path) -> None:
        self._starts = _mapped(folder / "profiles.starts.npy")
        self._file = (folder / "profiles.bin").open("rb", buffering=0)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def __getitem__(self, row: int) -> tuple[bytes, bytes]:
        first, middle, end = self._starts[2 * row : 2 * row + 3].tolist()
        data = os.pread(self._file.fileno(), end - first, first)
        return data[: middle - first], data[middle - first :]

    def expect_all(self) -> None:
        """Asks the kernel to read ahead what fits well into memory, and does not wait for it. A
        read that has to wait for a disk costs six times the CPU of one that does not."""
        size = os.fstat(self._file.fileno()).st_size
        if hasattr(os, "posix_fadvise") and size < psutil.virtual_memory().available // 2:
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


class Snapshot:
    """Columns by name; one that no profile has is None. Raises LookupUnreadable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: Recent[Any] = Recent(MAX_KEPT_BYTES)  # what ``filters`` has found before
        try:
            self.about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=About)
            if self.about.format != FORMAT:
                raise LookupUnreadable(
                    f"{folder}: a lookup table of format {self.about.format}; this program reads "
                    f"{FORMAT}: rebuild it with `windtunnel store reindex`"
                )
            self._columns: Mapping[str, npt.NDArray[Any]] = {
                path.stem: _mapped(path)
                for path in folder.glob("*.npy")
                if path.stem != "profiles.starts"
            }
            self._number = {name: at for at, name in enumerate(self.about.names.model)}
            machines = self.about.hardware or (Machine(accelerator="", num_chips=0),)
            # By hardware: how many chips, and whether a deployment on it can be named at all.
            self.num_chips = np.array([m.num_chips for m in machines], dtype=np.int64)
            self.is_known = np.array([_is_known(m) for m in machines], dtype=bool)
            self.all_known = bool(self.is_known.all())
            self.trainings: tuple[Profile, ...] = _trainings(folder)
            self._profiles = _Profiles(folder)
            self.expect_all = self._profiles.expect_all
            self.part = lru_cache(_MOST_PARTS)(self._part)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise LookupUnreadable(
                f"{folder}: no lookup table that can be read ({error}); rebuild it with "
                "`windtunnel store reindex`"
            ) from error

    @property
    def snapshot_id(self) -> str:
        return self.about.snapshot_id

    @property
    def num_profiles(self) -> int:
        return self.about.num_profiles

    def ints(self, name: str) -> Ints:
        return self._columns[name]

    def floats(self, name: str) -> Floats | None:
        return self._columns.get(name)

    def rows_of_model(self, model: str) -> tuple[int, int]:
        """[first, behind the last) of a model that is known; all rows for ""."""
        if not model:
            return 0, self.num_profiles
        number = self._number[model]
        starts = self._columns["model_starts"]
        return int(starts[number]), int(starts[number + 1])

    def has_model(self, model: str) -> bool:
        """Whether there is any row of it; of any at all for ""."""
        return bool(self.num_profiles) and (not model or model in self._number)

    def _part(self, model: str) -> Part:
        return Part(self._columns, *self.rows_of_model(model))

    def row_of(self, profile_id: str) -> int | None:
        try:
            wanted = np.uint64(int(profile_id, 16))
        except (ValueError, OverflowError):
            return None
        ids = self._columns["profile_ids"]
        at = int(np.searchsorted(ids, wanted))
        if at == len(ids) or ids[at] != wanted:
            return None
        return int(self._columns["profile_rows"][at])

    def labels(self, row: int) -> Labels:
        names, columns = self.about.names, self._columns
        return Labels(
            names.model[columns["model"][row]],
            names.server[columns["server"][row]],
            names.version[columns["version"][row]],
            self.about.hardware[columns["hardware"][row]],
            int(columns["configuration"][row]),
        )

    def facts(self, row: int) -> Facts:
        return decoded_facts(self._profiles[row][0])

    def row(self, row: int) -> Row:
        """What an answer needs of it."""
        facts, text = self._profiles[row]
        about, columns = self.about, self._columns
        return Row(
            decoded_facts(facts),
            about.names.model[columns["model"][row]],
            about.hardware[columns["hardware"][row]],
            text,
        )

    def profile(self, row: int) -> Profile:
        return decoded_profile(self.row(row).text)


def _trainings(folder: Path) -> tuple[Profile, ...]:
    """In the order of ``build``."""
    return msgspec.msgpack.decode((folder / TRAININGS).read_bytes(), type=tuple[Profile, ...])


def _is_known(machine: Machine) -> bool:
    """A deployment on hardware that is not known cannot be recommended, nor one on a pool that is
    pretended."""
    known = bool(machine.num_chips) or machine.accelerator == "cpu"
    return known and bool(machine.accelerator) and not machine.virtual


def open_current(folder: Path) -> Snapshot:
    """The snapshot that counts now. Raises LookupUnreadable where there is none."""
    for _ in range(_MOST_SWAPS):
        try:
            name = (folder / CURRENT).read_text().strip()
        except OSError as error:
            raise LookupUnreadable(
                f"{folder}: no lookup table yet; make it with `windtunnel store reindex`"
            ) from error
        try:
            return Snapshot(folder / name)
        except LookupUnreadable:
            # Swapped and cleared away between our two reads: the next one is there.
            if current_id(folder) == name:
                raise
    raise LookupUnreadable(f"{folder}: replaced {_MOST_SWAPS} times while it was being opened")


_MOST_SWAPS: Final = 10


def current_id(folder: Path) -> str:
    """ "" where there is no snapshot yet."""
    try:
        return (folder / CURRENT).read_text().strip()
    except OSError:
        return ""


def readable_id(folder: Path) -> str:
    """ "" also where the snapshot that counts is of another format: it is to be made anew."""
    name = current_id(folder)
    return name if name and is_readable(folder / name) else ""
