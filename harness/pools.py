"""Node pools as values: what the cluster has, what a spec may ask, and pools that are pretended.

An inventory is read from a live Ray cluster by ``harness.on_ray.inventory``; this module only says
what one is. A pool is a set of like nodes. A *virtual* pool is made of raylets on one machine, so
that placement is exercised on Ray's real scheduler; it is never priced or recommended as hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Capacity(StrEnum):
    """Capacity types, in the order that an unranked spec prefers them."""

    RESERVATION = "reservation"
    ON_DEMAND = "on-demand"
    SPOT = "spot"
    FLEX_START = "flex-start"


CPU = "cpu"  # the accelerator name of a pool that has none


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """``accelerator`` is Ray's accelerator type (``H100``, ``TPU-V6E``) or ``cpu``.

    Counts are totals, not what is free: what is free is found out by asking Ray for it.
    """

    name: str
    accelerator: str
    num_nodes: int
    chips_per_node: int
    cpus_per_node: float
    memory_bytes_per_node: int
    capacity: Capacity = Capacity.ON_DEMAND
    topology: str = ""  # of one TPU slice, e.g. "4x4"
    nodes_per_slice: int = 1
    zone: str = ""
    machine_type: str = ""  # the cloud's: a3-highgpu-8g; "" not known
    usd_per_chip_hour: float | None = None
    virtual: bool = False

    @property
    def num_chips(self) -> int:
        return self.num_nodes * self.chips_per_node

    def describe(self) -> str:
        """``2 x TPU-V6E (4x4)``-like: what a refusal and the plan's table print."""
        what = (
            f"{self.num_chips} x {self.accelerator}"
            if self.num_chips
            else f"{self.cpus_per_node * self.num_nodes:g} CPUs"
        )
        shape = f" ({self.topology})" if self.topology else ""
        return f"{what}{shape} in pool {self.name} [{self.capacity}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    pools: tuple[NodePool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualPool:
    """One pool of a ``--pools`` file: ``num_nodes`` raylets (for a TPU, ``num_slices`` slices of
    the topology's own number of hosts) with these labels and resources, on this machine."""

    name: str
    accelerator: str = CPU
    num_nodes: int = 1
    chips_per_node: int = 0
    cpus_per_node: float = 1.0
    memory_gib_per_node: float = 1.0
    capacity: Capacity = Capacity.ON_DEMAND
    topology: str = ""
    num_slices: int = 1
    zone: str = ""
    machine_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualCluster:
    """What a ``--pools`` file holds."""

    pools: tuple[VirtualPool, ...] = field(default_factory=tuple)
