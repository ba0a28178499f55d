"""Saving a sharded state and reading it back: one file per process. Imports JAX.

    FOLDER/LATEST                             the name of the job's folder below
    FOLDER/job-…/step-20/rank-0-of-2.npz      rank 0's part of the state after 20 steps

A job that begins anew has a folder of its own, so that what another left behind is never taken for
a checkpoint of this one.

Each part of an array is written once, by the first device that holds it. A file is written beside
its place and renamed into it, so there is never half a file; a checkpoint is whole when the file of
every rank is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import jax
import numpy as np
import numpy.typing as npt

from workloads.errors import CheckpointUnusable

KEPT = 2  # the newest; with one alone a failure while saving would leave none


class Checkpoints:
    """Those of one training, in a folder that every rank can reach."""

    def __init__(self, folder: Path, rank: int, world_size: int) -> None:
        """``folder`` is the job's own; see ``job_folder``."""
        self._folder, self._rank, self._world_size = folder, rank, world_size

    def save(self, num_steps: int, state: Any) -> Path:
        """The state after ``num_steps`` steps; on the disk when it returns. Raises
        CheckpointUnusable."""
        parts: dict[str, npt.NDArray[Any]] = {
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
        """Of the whole checkpoints, ascending."""
        found = [int(folder.name.removeprefix("step-")) for folder in self._folder.glob("step-*")]
        return sorted(
            step
            for step in found
            if all(self._file(step, rank).exists() for rank in range(self._world_size))
        )

    def restore(self, num_steps: int, like: Any) -> Any:
        """The saved state, laid out as ``like``. Raises CheckpointUnusable: a file is missing or is
        of another model, or of another mesh, whose parts are cut elsewhere."""
        try:
            with ExitStack() as stack:
                where: dict[str, Any] = {}
                for rank in range(self._world_size):
                    saved = stack.enter_context(
                        np.load(self._file(num_steps, rank), allow_pickle=False)
                    )
                    where.update(dict.fromkeys(saved.files, saved))
                restored = [_assembled(name, array, where) for name, array in _named(like)]
        except (OSError, ValueError) as error:
            raise CheckpointUnusable(f"the checkpoint cannot be read: {error}") from error
        except KeyError as error:
            raise CheckpointUnusable(
                f"{self._of(num_steps)} has no part {error}: it was saved by another model or on "
                "another mesh; go on with the same workload on as many devices"
            ) from error
        return jax.block_until_ready(jax.tree.unflatten(jax.tree.structure(like), restored))

    def _of(self, num_steps: int) -> Path:
        return self._folder / f"step-{num_steps}"

    def _file(self, num_steps: int, rank: int) -> Path:
        return self._of(num_steps) / f"rank-{rank}-of-{self._world_size}.npz"


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


def _assembled(name: str, like: jax.Array, where: Mapping[str, Any]) -> jax.Array:
    """``where`` has the file that holds each part."""

    def part(index: Any) -> npt.NDArray[Any]:
        key = _key(name, index)
        found: npt.NDArray[Any] = where[key][key]
        return found

    return jax.make_array_from_callback(like.shape, like.sharding, part)


def _named(state: Any) -> list[tuple[str, jax.Array]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [(jax.tree_util.keystr(path), array) for path, array in leaves]


def _key(name: str, index: tuple[slice, ...]) -> str:
    """``.params['head']@0:,4:8``: the array and the part of it, as its own indices."""
    return f"{name}@" + ",".join(
        f"{part.start or 0}:{'' if part.stop is None else part.stop}" for part in index
    )
