"""The collectives of torch.distributed over gloo or NCCL. Imports torch.

An all-reduce is timed in place and on zeros: its own result is its next input, and would overflow.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from workloads.base import TrainRank
from workloads.collective_truth import Elements, expected, given
from workloads.collectives import DTYPE_BYTES, Place, whole_elements
from workloads.params import CollectivesWorkload
from workloads.torch_group import join_group

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_POISON = -1.0


class TorchMover:
    """Two buffers of the largest size, of which every visit takes the first part."""

    def __init__(
        self, params: CollectivesWorkload, rank: int, num_ranks: int, device: torch.device
    ) -> None:
        self._rank, self._num_ranks, self._device = rank, num_ranks, device
        self._element_bytes = DTYPE_BYTES[params.dtype]
        largest = max(whole_elements(size, params.dtype, num_ranks) for size in params.sizes_bytes)
        count = largest // self._element_bytes
        dtype = _DTYPES[params.dtype]
        self._given = torch.zeros(count, dtype=dtype, device=device)
        self._taken = torch.zeros(count, dtype=dtype, device=device)

    @property
    def num_ranks(self) -> int:
        return self._num_ranks

    def facts(self) -> Mapping[str, Any]:
        return {
            "backend": dist.get_backend(),
            "packages": {"torch": str(torch.__version__), "python": platform.python_version()},
        }

    def observed(self) -> Mapping[str, Any]:
        return {}

    def barrier(self) -> None:
        dist.barrier()
        self._settle()

    def call(self, collective: str, size_bytes: int, times: int) -> None:
        one = self._calls()[collective]
        count = size_bytes // self._element_bytes
        for _ in range(times):
            one(count)
        self._settle()

    def num_wrong(self, collective: str, size_bytes: int) -> int:
        count = size_bytes // self._element_bytes
        self._taken.fill_(_POISON)
        told = self._tensor(given(collective, count, self._num_ranks, self._rank))
        self._given[: len(told)] = told
        self._calls()[collective](count)
        self._settle()
        result = self._given if collective in ("all_reduce", "broadcast") else self._taken
        must = self._tensor(expected(collective, count, self._num_ranks, self._rank))
        wrong = int((result[: len(must)] != must).sum().item())
        self._given.zero_()
        return wrong

    def close(self) -> None:
        dist.destroy_process_group()

    def _settle(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _calls(self) -> Mapping[str, Callable[[int], object]]:
        """By collective: one call whose whole array has ``count`` elements."""
        mine, taken, n = self._given, self._taken, self._num_ranks
        return {
            "all_reduce": lambda count: dist.all_reduce(mine[:count]),
            "all_gather": lambda count: dist.all_gather_into_tensor(
                taken[:count], mine[: count // n]
            ),
            "reduce_scatter": lambda count: dist.reduce_scatter_tensor(
                taken[: count // n], mine[:count]
            ),
            "all_to_all": lambda count: dist.all_to_all_single(taken[:count], mine[:count]),
            "broadcast": lambda count: dist.broadcast(mine[:count], src=0),
        }

    def _tensor(self, elements: Elements) -> Tensor:
        return torch.from_numpy(elements).to(self._device, self._given.dtype)


def open_mover(params: CollectivesWorkload, rank: TrainRank, place: Place) -> TorchMover:
    """Joins the process group; one thread computes, so that a rank is one process on few cores."""
    torch.set_num_threads(params.threads_per_worker)
    device = torch.device(rank.device() if place.device == "gpu" else "cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join_group(rank)
    return TorchMover(params, rank.rank, rank.world_size, device)
