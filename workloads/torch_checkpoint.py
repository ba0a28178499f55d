"""Saving a training and reading it back, with torch.distributed.checkpoint.

    FOLDER/LATEST             the name of the job's folder below
    FOLDER/job-…/step-000020  the state after 20 steps, each rank's part in a file of its own

A checkpoint is written beside its place and renamed into it when every rank is done, so a folder
that is called ``step-…`` is whole. A job that begins anew has a folder of its own: what another
left behind is never taken for a checkpoint of this one. One folder serves one job at a time.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim import Optimizer

from workloads.errors import CheckpointUnusable

KEPT = 2  # the newest; with one alone a failure while saving would leave none
_STEP = re.compile(r"step-(\d{6,})")


class Checkpoints:
    """Those of one job. All ranks call the same methods in the same order.

    ``from_rank_zero`` is a ``TrainRank``'s: one rank decides, all do the same.
    """

    def __init__(
        self, folder: Path, rank: int, from_rank_zero: Callable[[str], str], *, goes_on: bool
    ) -> None:
        self._rank = rank
        self._folder = folder / from_rank_zero(_job(folder, goes_on) if rank == 0 else "")
        newest = self._newest() if rank == 0 else ""
        self.num_steps = int(from_rank_zero(str(newest)))  # that the last whole one holds; 0: none

    def save(self, num_steps: int, model: nn.Module, optimizer: Optimizer) -> None:
        """The state after ``num_steps`` steps: on the disk, on every rank, when it returns.

        Raises CheckpointUnusable.
        """
        path = self._path(num_steps)
        unfinished = path.with_suffix(".writing")
        try:
            save(_state(model, optimizer), checkpoint_id=unfinished)  # waits for all ranks
            if self._rank == 0:
                unfinished.replace(path)
                for old in self._whole()[:-KEPT]:
                    shutil.rmtree(self._path(old), ignore_errors=True)
            if dist.get_world_size() > 1:
                dist.barrier()
        except (OSError, CheckpointException) as error:
            raise CheckpointUnusable(f"the checkpoint {path} cannot be written: {error}") from error

    def restore(self, model: nn.Module, optimizer: Optimizer) -> None:
        """The state of the last whole checkpoint, whatever number of ranks had saved it.

        Raises CheckpointUnusable.
        """
        path = self._path(self.num_steps)
        state = _state(model, optimizer)
        try:
            load(state, checkpoint_id=path)
        except (OSError, CheckpointException) as error:
            raise CheckpointUnusable(f"the checkpoint {path} cannot be read: {error}") from error
        set_state_dict(
            model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )

    def _newest(self) -> int:
        whole = self._whole()
        return whole[-1] if whole else 0

    def _whole(self) -> list[int]:
        """Of the whole checkpoints, the numbers of their steps, ascending."""
        names = (_STEP.fullmatch(path.name) for path in self._folder.glob("step-*"))
        return sorted(int(name.group(1)) for name in names if name)

    def _path(self, num_steps: int) -> Path:
        return self._folder / f"step-{num_steps:06d}"


def _job(folder: Path, goes_on: bool) -> str:
    """The name of the job's own folder: the last job's to go on with it, else a new one's."""
    latest = folder / "LATEST"
    try:
        if goes_on and latest.is_file():
            return latest.read_text(encoding="utf-8").strip()
        name = f"job-{uuid.uuid4().hex[:12]}"
        (folder / name).mkdir(parents=True)
        written = latest.with_suffix(".writing")
        written.write_text(name, encoding="utf-8")
        written.replace(latest)
    except OSError as error:
        raise CheckpointUnusable(f"workload.checkpoint_dir {folder}: {error}") from error
    return name


def _state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    in_model, in_optimizer = get_state_dict(model, optimizer)
    return {"model": in_model, "optimizer": in_optimizer}
