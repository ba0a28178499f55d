"""A process's devices and its peers: what has to be settled before the first array. Imports JAX."""

from __future__ import annotations

import socket
from pathlib import Path

import jax

from workloads.base import TrainRank

_PLATFORM = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
LEAVE_S = 60.0


def choose_devices(device: str, num_local_devices: int) -> None:
    """``device``: cpu, gpu or tpu. Nothing else is looked for, so that a missing driver is an error
    and not a silent run on the CPU."""
    jax.config.update("jax_platforms", _PLATFORM[device])
    if device == "cpu":
        jax.config.update("jax_num_cpu_devices", num_local_devices)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")


def join(rank: TrainRank, device: str) -> None:
    """Every process knows every device afterwards. Rank 0 is where they meet."""
    if rank.world_size > 1:
        where, held = _meeting_place(rank)
        jax.distributed.initialize(
            where,
            rank.world_size,
            rank.rank,
            local_device_ids=rank.own_gpus or None if device == "gpu" else None,
        )
        if held is not None:
            held.close()
    elif device == "gpu" and rank.own_gpus:
        jax.config.update("jax_cuda_visible_devices", ",".join(map(str, rank.own_gpus)))
    jax.devices()  # the devices are opened here, so that the time is counted here


def _meeting_place(rank: TrainRank) -> tuple[str, socket.socket | None]:
    """Rank 0's address and a port that its kernel chose.

    JAX cannot be asked for just any port. The port is therefore held by a socket that does not
    listen, until JAX's own listens beside it: both have SO_REUSEPORT, as gRPC's always do.
    """
    if rank.rank != 0:
        return rank.from_rank_zero(""), None
    held = socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("", 0))
    host = f"[{rank.address}]" if ":" in rank.address else rank.address
    return rank.from_rank_zero(f"{host}:{held.getsockname()[1]}"), held


def leave(rank: TrainRank) -> None:
    """After the last step of all: waits for the peers."""
    if rank.world_size > 1:
        jax.distributed.shutdown()


def peak_memory_bytes() -> int:
    """The most one device of this process has held so far; of CPUs, the process's resident memory.

    −1: not known.
    """
    told = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in told if "peak_bytes_in_use" in stats]
    if peaks:
        return int(max(peaks))
    if jax.local_devices()[0].platform != "cpu":
        return -1
    # The kernel's high-water mark, and not getrusage, which counts what a parent held at the fork.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").split("\n"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return -1
