"""The collectives of torch.distributed over gloo or NCCL. Imports torch.

An all-reduce is timed in place and on zeros: its own result is its next input, and would overflow.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from workloads.base import TrainRank
from workloads.collectives import DTYPE_BYTES, whole_elements
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
        largest = max(whole_elements(size, params) for size in params.sizes_bytes)
        count = largest // self._element_bytes
        dtype = _DTYPES[params.dtype]
        self._given = torch.zeros(count, dtype=dtype, device=device)
        self._taken = torch.zeros(count, dtype=dtype, device=device)

    def packages(self) -> Mapping[str, str]:
        return {"torch": str(torch.__version__), "python": platform.python_version()}

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
        share = count // self._num_ranks
        self._taken.fill_(_POISON)
        given = count if collective in _GIVES_ALL else share
        self._given[:given] = self._pattern(given, self._rank)
        self._calls()[collective](count)
        self._settle()
        result = self._given if collective in ("all_reduce", "broadcast") else self._taken
        expected = self._expected(collective, count, share)
        wrong = int((result[: len(expected)] != expected).sum().item())
        self._given.zero_()
        return wrong

    def close(self) -> None:
        dist.destroy_process_group()

    def _settle(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _calls(self) -> Mapping[str, Callable[[int], object]]:
        """By collective: one call whose whole array has ``count`` elements."""
        given, taken, n = self._given, self._taken, self._num_ranks
        return {
            "all_reduce": lambda count: dist.all_reduce(given[:count]),
            "all_gather": lambda count: dist.all_gather_into_tensor(
                taken[:count], given[: count // n]
            ),
            "reduce_scatter": lambda count: dist.reduce_scatter_tensor(
                taken[: count // n], given[:count]
            ),
            "all_to_all": lambda count: dist.all_to_all_single(taken[:count], given[:count]),
            "broadcast": lambda count: dist.broadcast(given[:count], src=0),
        }

    def _pattern(self, count: int, rank: int, start: int = 0) -> Tensor:
        """(count,) small whole numbers that tell position and rank: sums of them are exact, in
        bfloat16 for up to 128 ranks."""
        index = torch.arange(start, start + count, device=self._device)
        return ((index + rank) % 3).to(self._given.dtype)

    def _expected(self, collective: str, count: int, share: int) -> Tensor:
        ranks = range(self._num_ranks)
        mine = self._rank * share
        match collective:
            case "all_reduce":
                return self._sum(count, 0)
            case "reduce_scatter":
                return self._sum(share, mine)
            case "all_gather":
                return torch.cat([self._pattern(share, rank) for rank in ranks])
            case "all_to_all":
                return torch.cat([self._pattern(share, rank, mine) for rank in ranks])
            case _:
                return self._pattern(count, 0)

    def _sum(self, count: int, start: int) -> Tensor:
        """(count,) the sum of all ranks' patterns from ``start`` on: whole turns of 0 + 1 + 2, and
        the ranks that are left."""
        turns, rest = divmod(self._num_ranks, 3)
        total = torch.full((count,), 3.0 * turns, device=self._device)
        for rank in range(rest):
            total += self._pattern(count, rank, start).float()
        return total.to(self._given.dtype)


_GIVES_ALL = ("all_reduce", "reduce_scatter", "all_to_all", "broadcast")


def open_mover(params: CollectivesWorkload, rank: TrainRank) -> TorchMover:
    """Joins the process group; one thread computes, so that a rank is one process on few cores."""
    torch.set_num_threads(params.threads_per_worker)
    device = torch.device(rank.device())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join_group(rank)
    return TorchMover(params, rank.rank, rank.world_size, device)
