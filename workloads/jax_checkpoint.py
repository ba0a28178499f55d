"""Saving a sharded state and reading it back: one file per process. Imports JAX.

    FOLDER/LATEST                             the name of the job's folder below
    FOLDER/job-…/step-20/rank-0-of-2.npz      rank 0's part of the state after 20 steps

A job that begins anew has a folder of its own, so that what another left behind is never taken for
a checkpoint of this one.

Each part of an array is written once, by the first device that holds it. A file is written beside
its place and renamed into it, so there is never half a file; a checkpoint is whole when the file of
every rank is there. What is read back may be cut otherwise and by another number of ranks: a part
that was not saved as such is put together from those that hold pieces of it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import jax
import numpy as np
import numpy.typing as npt

from workloads.errors import CheckpointUnusable

KEPT = 2  # the newest; with one alone a failure while saving would leave none
_FILE = re.compile(r"rank-\d+-of-(\d+)\.npz")

Part = tuple[slice, ...]  # of an array; None is the array's own end
Numbers = npt.NDArray[Any]


class Saved(NamedTuple):
    """Where a part of an array is: under ``key`` in an open file."""

    part: Part
    key: str
    file: Any


class Checkpoints:
    """Those of one training, in a folder that every rank can reach."""

    def __init__(self, folder: Path, rank: int, world_size: int) -> None:
        """``folder`` is the job's own; see ``job_folder``."""
        self._folder, self._rank, self._world_size = folder, rank, world_size

    def save(self, num_steps: int, state: Any) -> Path:
        """The state after ``num_steps`` steps; on the disk when it returns. Raises
        CheckpointUnusable."""
        parts: dict[str, Numbers] = {
            _key(name, shard.index): np.asarray(shard.data)
            for name, array in _named(state)
            for shard in array.addressable_shards
            if shard.replica_id == 0
        }
        path = self._file(num_steps, self._rank)
        unfinished = path.with_suffix(".writing")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, allow_pickle=False, **parts)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            if self._rank == 0:
                for old in self.steps()[:-KEPT]:
                    shutil.rmtree(self._of(old), ignore_errors=True)
        except OSError as error:
            raise CheckpointUnusable(f"the checkpoint cannot be written: {error}") from error
        return path

    def steps(self) -> list[int]:
        """Of the whole checkpoints, ascending; whatever number of ranks had saved them."""
        found = [int(folder.name.removeprefix("step-")) for folder in self._folder.glob("step-*")]
        return sorted(step for step in found if self._num_savers(step))

    def restore(self, num_steps: int, like: Any) -> Any:
        """The saved state, laid out as ``like``. Raises CheckpointUnusable: a file is missing or is
        of another model."""
        try:
            with ExitStack() as stack:
                parts = self._parts(num_steps, stack)
                restored = [_assembled(array, parts.get(name, [])) for name, array in _named(like)]
        except _OtherModel as error:
            raise CheckpointUnusable(
                f"{self._of(num_steps)} was saved by another model: {error}; go on with the same "
                "workload.preset, or do not resume"
            ) from error
        except (OSError, ValueError) as error:
            raise CheckpointUnusable(f"the checkpoint cannot be read: {error}") from error
        return jax.block_until_ready(jax.tree.unflatten(jax.tree.structure(like), restored))

    def _parts(self, num_steps: int, stack: ExitStack) -> dict[str, list[Saved]]:
        """By name of an array: its parts, in the files that ``stack`` closes."""
        found: dict[str, list[Saved]] = {}
        world_size = self._num_savers(num_steps)
        for rank in range(world_size):
            path = self._of(num_steps) / _file_name(rank, world_size)
            file = stack.enter_context(np.load(path, allow_pickle=False))
            for key in file.files:
                name, part = _of_key(key)
                found.setdefault(name, []).append(Saved(part, key, file))
        return found

    def _num_savers(self, num_steps: int) -> int:
        """How many ranks had saved a checkpoint that is whole; 0: it is not."""
        names = (_FILE.fullmatch(path.name) for path in self._of(num_steps).glob("rank-*.npz"))
        have = Counter(int(name.group(1)) for name in names if name)
        return max((of for of, num in have.items() if num == of), default=0)

    def _of(self, num_steps: int) -> Path:
        return self._folder / f"step-{num_steps}"

    def _file(self, num_steps: int, rank: int) -> Path:
        return self._of(num_steps) / _file_name(rank, self._world_size)


def _file_name(rank: int, world_size: int) -> str:
    return f"rank-{rank}-of-{world_size}.npz"


class _OtherModel(ValueError):
    """What is saved does not fit what is to be restored."""


def job_folder(folder: Path, *, goes_on: bool) -> str:
    """The name of the folder of the last job where ``goes_on``, else of a new one; called by one
    rank alone. Raises CheckpointUnusable."""
    latest = folder / "LATEST"
    try:
        if goes_on and latest.exists():
            return latest.read_text(encoding="ascii").strip()
        name = f"job-{uuid4().hex[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = latest.with_suffix(".writing")
        unfinished.write_text(name, encoding="ascii")
        unfinished.replace(latest)
    except OSError as error:
        raise CheckpointUnusable(f"checkpoints cannot be kept in {folder}: {error}") from error
    return name


def _assembled(like: jax.Array, saved: Sequence[Saved]) -> jax.Array:
    """An array laid out as ``like``. A saved part is read once, however many devices want it."""
    read: dict[str, Numbers] = {}

    def numbers(piece: Saved) -> Numbers:
        if piece.key not in read:
            read[piece.key] = piece.file[piece.key]
            if read[piece.key].shape != _shape(piece.part, like.shape):
                raise _OtherModel(f"{piece.key} is {read[piece.key].shape}, of {like.shape}")
        return read[piece.key]

    def part(index: Any) -> Numbers:
        return _cut_out(index, like, saved, numbers)

    return jax.make_array_from_callback(like.shape, like.sharding, part)


def _cut_out(index: Part, like: jax.Array, saved: Sequence[Saved], numbers: Any) -> Numbers:
    """``like[index]``, from the saved parts that overlap with it. Each element was saved once."""
    wanted = [part.indices(size)[:2] for part, size in zip(index, like.shape, strict=True)]
    made = np.empty(_shape(index, like.shape), like.dtype)
    num_left = made.size
    for piece in saved:
        ends = [part.stop or 0 for part in piece.part]
        if len(ends) != like.ndim or any(
            e > size for e, size in zip(ends, like.shape, strict=True)
        ):
            raise _OtherModel(f"{piece.key} is no part of an array of {like.shape}")
        have = [part.indices(size)[:2] for part, size in zip(piece.part, like.shape, strict=True)]
        both = [
            (max(first, start), min(last, stop))
            for (first, last), (start, stop) in zip(wanted, have, strict=True)
        ]
        if any(first >= last for first, last in both):
            continue
        to = tuple(slice(f - w, t - w) for (f, t), (w, _) in zip(both, wanted, strict=True))
        out = tuple(slice(f - h, t - h) for (f, t), (h, _) in zip(both, have, strict=True))
        made[to] = numbers(piece)[out]
        num_left -= made[to].size
    if num_left:
        raise _OtherModel(f"it has not all of an array of {like.shape}")
    return made


def _shape(part: Part, whole: tuple[int, ...]) -> tuple[int, ...]:
    ends = [one.indices(size)[:2] for one, size in zip(part, whole, strict=True)]
    return tuple(stop - start for start, stop in ends)


def _named(state: Any) -> list[tuple[str, jax.Array]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [(jax.tree_util.keystr(path), array) for path, array in leaves]


def _key(name: str, index: tuple[slice, ...]) -> str:
    """``.params['head']@0:,4:8``: the array and the part of it, as its own indices."""
    return f"{name}@" + ",".join(
        f"{part.start or 0}:{'' if part.stop is None else part.stop}" for part in index
    )


def _of_key(key: str) -> tuple[str, Part]:
    """The inverse of ``_key``."""
    name, _, parts = key.rpartition("@")
    ends = [part.split(":") for part in parts.split(",") if part]
    return name, tuple(slice(int(first), int(last) if last else None) for first, last in ends)
