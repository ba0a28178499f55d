"""What may be doubted about a run before it is made: from the plan, and the files it names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.fitting import is_cpu, num_parts
from harness.pools import Inventory
from harness.spec import RunSpec
from harness.spec_checks import context_length
from harness.traffic_doubts import traffic_doubts
from workloads.params import VllmWorkload
from workloads.registry import Role, role_of
from workloads.traffic.expect import expected_requests
from workloads.traffic.spec import Traffic

if TYPE_CHECKING:
    from harness.plan import Rung

PERCENTILES = (50, 90, 95, 99)


def plan_doubts(
    spec: RunSpec, rungs: tuple[Rung, ...], inventory: Inventory, host_cpus: float | None
) -> Iterator[str]:
    """One sentence per doubt."""
    role = role_of(spec.workload)
    for name in dict.fromkeys(rung.pool.name for rung in rungs if rung.pool.virtual):
        yield (
            f"pool {name} is virtual: its nodes are pretended on this machine, so its numbers "
            "say nothing about such hardware"
        )
    yield from _cpu_doubts(spec, rungs, inventory, host_cpus)
    yield from _chip_doubts(spec, rungs)
    if role is not Role.TRAINING and spec.traffic is not None:
        yield from _percentile_doubts(spec.traffic)
        yield from traffic_doubts(spec.traffic, context_length(spec.workload)[0])
    # Without a rung nothing is placed: a bench, which is one load whatever it is asked.
    if spec.num_repeats == 1 and rungs:
        yield "num_repeats is 1: how much runs differ from each other will not be known"


def _cpu_doubts(
    spec: RunSpec, rungs: tuple[Rung, ...], inventory: Inventory, host_cpus: float | None
) -> Iterator[str]:
    workload: Any = spec.workload
    threads = getattr(workload, "threads_per_worker", 0)
    if role_of(workload) is Role.TRAINING and threads > workload.cpus_per_worker:
        yield (
            f"each worker has {threads} threads and {workload.cpus_per_worker:g} CPUs: "
            "workers will wait for each other's CPUs"
        )
    only_node = sum(pool.num_nodes for pool in inventory.pools) == 1
    for rung in rungs:
        asked = sum(bundle.cpus for bundle in rung.bundles)
        if rung.pool.virtual and host_cpus is not None and asked > host_cpus:
            yield (
                f"pool {rung.pool.name}: {asked:g} CPUs are asked of virtual nodes, and the "
                f"machine under them has {host_cpus:g}"
            )
        if only_node and role_of(workload) is Role.SERVER and asked >= rung.pool.cpus_per_node:
            yield (
                f"the server may use all {rung.pool.cpus_per_node:g} CPUs of the only node, and "
                "the load client runs on them too"
            )
        if not rung.device.num_chips and not is_cpu(rung.pool.accelerator):
            yield (
                f"pool {rung.pool.name} has {rung.pool.accelerator}, of which only the CPUs are "
                "asked for"
            )


def _chip_doubts(spec: RunSpec, rungs: tuple[Rung, ...]) -> Iterator[str]:
    workload = spec.workload
    if not isinstance(workload, VllmWorkload):
        return
    arguments = {key.replace("_", "-"): value for key, value in workload.engine_args.items()}
    used = num_parts(workload)
    for rung in rungs:
        chips = rung.device.num_chips
        if chips and chips != used:
            yield (
                f"pool {rung.pool.name}: {chips} chips are placed and the engine's parallelism "
                f"uses {used}; throughput per chip counts all {chips}"
            )
        if rung.device.num_nodes > 1 and "distributed-executor-backend" not in arguments:
            yield (
                f"pool {rung.pool.name}: the slice spans {rung.device.num_nodes} hosts, and the "
                "engine must be told how (engine_args.distributed-executor-backend)"
            )


def _percentile_doubts(traffic: Traffic) -> Iterator[str]:
    """A percentile q needs 10/(1−q) requests: ten of them beyond it."""
    expected = expected_requests(traffic)
    if expected is None:
        return
    needs = {p: math.ceil(10 / (1 - p / 100) - 1e-9) for p in PERCENTILES}
    short = [p for p in PERCENTILES if expected < needs[p]]
    if short:
        listed = ", ".join(f"p{p} ({needs[p]})" for p in short)
        yield (
            f"about {expected:.0f} requests are too few for percentiles over requests: {listed} "
            "will be reported as missing"
        )
