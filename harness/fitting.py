"""Whether a pool can ever hold what a spec asks, counted by totals. Pure.

"Ever" leaves out what is busy now: that is found out by asking Ray and waiting. Chips, CPUs and
memory of one bundle come from one node; a TPU slice is taken whole or not at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from harness.pools import CPU, Capacity, NodePool
from harness.spec import Hardware, RunSpec
from harness.spec_checks import topology_chips
from workloads.registry import Role, role_of, trains_on_tpus

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """``num_bundles`` alike bundles; ``num_nodes`` is the fewest nodes that hold them."""

    num_bundles: int
    cpus: float
    chips: int
    memory_bytes: int
    strategy: str
    num_nodes: int


def is_cpu(accelerator: str) -> bool:
    return same_accelerator(accelerator, CPU)


def is_tpu(accelerator: str) -> bool:
    return accelerator.upper().startswith("TPU")


def same_accelerator(one: str, other: str) -> bool:
    """``tpu_v6e`` is ``TPU-V6E``."""
    return one.casefold().replace("_", "-") == other.casefold().replace("_", "-")


def num_chips(spec: RunSpec, ask: Hardware) -> int:
    """Chips of the whole deployment. Where an accelerator is asked by name alone: those of the
    topology, or one for each part of a model (tensor × pipeline × data parallelism) or each
    training worker."""
    if ask.num_chips or is_cpu(ask.accelerator):
        return ask.num_chips
    if ask.topology:
        return topology_chips(ask.topology)
    workload: Any = spec.workload
    if role_of(workload) is Role.TRAINING:
        return int(workload.num_workers)
    return num_parts(workload)


def num_parts(workload: Any) -> int:
    """Over how many chips the engine spreads itself: tensor × pipeline × data parallelism."""
    parts = int(getattr(workload, "tensor_parallel_size", 1))
    arguments: dict[str, Any] = {
        key.lstrip("-").replace("_", "-"): value
        for key, value in getattr(workload, "engine_args", {}).items()
    }
    for key in ("pipeline-parallel-size", "data-parallel-size"):
        value = arguments.get(key, 1)
        parts *= value if isinstance(value, int) and value > 0 else 1
    return parts


def passed_over(ask: Hardware, pool: NodePool, *, any_cpus: bool = False) -> str:
    """Why ``pool`` is not of the kind that is asked; "" where it is. ``any_cpus``: CPUs may be
    those of a pool that has accelerators."""
    if ask.pools and pool.name not in ask.pools:
        return f"is not among the pools asked for ({', '.join(ask.pools)})"
    if is_cpu(ask.accelerator):
        if not (is_cpu(pool.accelerator) or ask.pools or any_cpus):
            return f"has {pool.accelerator}; name it in hardware.pools to use its CPUs alone"
    elif not same_accelerator(ask.accelerator, pool.accelerator):
        return f"has {pool.accelerator}, not {ask.accelerator}"
    if ask.topology and ask.topology != pool.topology:
        return f"has the topology {pool.topology or '(none)'}, not {ask.topology}"
    if ask.capacity and pool.capacity not in ask.capacity:
        return f"is {pool.capacity}, not {' or '.join(ask.capacity)}"
    return ""


def capacities(ask: Hardware) -> tuple[Capacity, ...]:
    """The order in which pools of an ask are tried."""
    return ask.capacity or tuple(Capacity)


def fit(spec: RunSpec, ask: Hardware, pool: NodePool) -> Fit | str:
    """How ``pool`` holds the ask, or the reason why it never can, with both numbers."""
    chips = num_chips(spec, ask)
    if chips and (ask.topology or pool.nodes_per_slice > 1):
        return _fit_slice(spec, ask, pool, chips)
    if role_of(spec.workload) is Role.TRAINING:
        return _fit_training(spec, ask, pool, chips)
    too_small = _too_small(pool, ask.cpus, chips, _bytes(ask), "the server needs")
    if too_small:
        return too_small
    if pool.num_nodes < 1:
        return "has no nodes"
    return Fit(
        num_bundles=1,
        cpus=ask.cpus,
        chips=chips,
        memory_bytes=_bytes(ask),
        strategy="STRICT_PACK",
        num_nodes=1,
    )


def _fit_training(spec: RunSpec, ask: Hardware, pool: NodePool, chips: int) -> Fit | str:
    workload: Any = spec.workload
    if chips and (refused := _no_tpus(spec, pool)):
        return refused
    workers, cpus, each = (
        workload.num_workers,
        workload.cpus_per_worker,
        chips // max(workload.num_workers, 1),
    )
    memory = _bytes(ask)
    too_small = _too_small(pool, cpus, each, memory, "each worker needs")
    if too_small:
        return too_small
    per_node = _bundles_per_node(pool, cpus, each, memory)
    room = per_node * pool.num_nodes
    if room < workers:
        return (
            f"has room for {room} workers ({pool.num_nodes} nodes × {per_node}); "
            f"num_workers is {workers}"
        )
    return Fit(
        num_bundles=workers,
        cpus=cpus,
        chips=each,
        memory_bytes=memory,
        strategy="PACK",
        num_nodes=math.ceil(workers / per_node),
    )


def _no_tpus(spec: RunSpec, pool: NodePool) -> str:
    workload: Any = spec.workload
    if pool.virtual or not is_tpu(pool.accelerator) or trains_on_tpus(workload):
        return ""
    return f"has TPUs, and a {workload.kind} workload trains on GPUs or CPUs"


def _fit_slice(spec: RunSpec, ask: Hardware, pool: NodePool, chips: int) -> Fit | str:
    """Whole slices: one bundle per host, each with all of the host's chips. Several slices only
    for training, which knows how to use the slower network between them."""
    workload: Any = spec.workload
    training = role_of(workload) is Role.TRAINING
    held = pool.nodes_per_slice * pool.chips_per_node
    slices, rest = divmod(chips, held)
    hosts = slices * pool.nodes_per_slice
    if rest or (slices > 1 and not training):
        return f"has slices of {held} chips ({pool.topology}), taken whole; {chips} are asked for"
    if pool.num_nodes < hosts:
        of = "a slice" if slices == 1 else f"{slices} slices"
        return f"has {pool.num_nodes} of the {hosts} hosts of {of}"
    if training and (refused := _no_tpus(spec, pool)):
        return refused
    if training and workload.num_workers != hosts:
        of = "a slice" if slices == 1 else f"{slices} slices"
        return f"has {hosts} hosts in {of}, one worker each; num_workers is {workload.num_workers}"
    cpus = workload.cpus_per_worker if training else ask.cpus
    who = "each worker needs" if training else "each host's part needs"
    too_small = _too_small(pool, cpus, pool.chips_per_node, _bytes(ask), who)
    if too_small:
        return too_small
    return Fit(
        num_bundles=hosts,
        cpus=cpus,
        chips=pool.chips_per_node,
        memory_bytes=_bytes(ask),
        strategy="SLICE",
        num_nodes=hosts,
    )


def _bytes(ask: Hardware) -> int:
    return int(ask.memory_gib * GIB)


def _too_small(pool: NodePool, cpus: float, chips: int, memory: int, who: str) -> str:
    if chips > pool.chips_per_node:
        return f"has {pool.chips_per_node} chips per node; {who} {chips} on one node"
    if cpus > pool.cpus_per_node:
        return f"has {pool.cpus_per_node:g} CPUs per node; {who} {cpus:g}"
    if memory > pool.memory_bytes_per_node:
        have = pool.memory_bytes_per_node / GIB
        return f"has {have:.1f} GiB of memory per node; {who} {memory / GIB:.1f} GiB"
    return ""


def _bundles_per_node(pool: NodePool, cpus: float, chips: int, memory: int) -> int:
    # A hair is added because 0.1 × 10 CPUs are asked of a node that has 1.
    by_cpus = math.floor(pool.cpus_per_node / cpus + 1e-9)
    by_chips = pool.chips_per_node // chips if chips else by_cpus
    by_memory = pool.memory_bytes_per_node // memory if memory else by_cpus
    return min(by_cpus, by_chips, by_memory)
