"""How a rank joins its torch process group. Imports torch."""

from __future__ import annotations

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined] # exported at run time only

from workloads.base import TrainRank


def join_group(rank: TrainRank) -> None:
    """Rank 0 opens the rendezvous on a port that its kernel chose, and says which one it is."""
    if rank.rank == 0:
        store = TCPStore(rank.address, 0, is_master=True, wait_for_workers=False)
        rank.from_rank_zero(str(store.port) + " " + rank.address)
    else:
        port, _, host = rank.from_rank_zero("").partition(" ")
        store = TCPStore(host, int(port), is_master=False)
    dist.init_process_group(rank.backend, store=store, rank=rank.rank, world_size=rank.world_size)
