"""Spec and inventory in, plan out; or a refusal with both numbers. Pure.

The plan holds every decision: which rungs, in which order, for how long each is waited for, what is
placed on them. Nothing after it decides anything that could change a number.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.pools import Capacity, NodePool
from harness.spec import RunSpec
from workloads.base import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What one process group of the deployment takes from one node."""

    cpus: float
    chips: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One way to place the deployment, complete: the pool, its bundles, and how long to wait."""

    pool: NodePool
    capacity: Capacity
    bundles: tuple[Bundle, ...]
    strategy: str  # Ray's: PACK, STRICT_PACK, SPREAD, STRICT_SPREAD; "SLICE" gangs a TPU slice
    max_wait_s: float
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """``measuring_s`` is the asked measuring time, or None where a request or step count rules."""

    spec: RunSpec
    rungs: tuple[Rung, ...]
    workload_hash: str
    measuring_s: float | None
    doubts: tuple[str, ...] = ()
