"""Pretended pools as the raylets that stand for them: labels, resources and environment. Pure.

A virtual node looks to Ray's scheduler exactly like a machine of its kind, a host of a multi-host
TPU slice included, so that placement is decided by Ray itself and not by a model of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# Ray's tables of TPU generations and topologies. They are private to Ray, and the same ones its
# own ``slice_placement_group`` goes by.
from ray._private.accelerators.tpu import (
    TPUAcceleratorManager,
    get_chips_per_host,
    get_num_chips_from_topology,
    infer_tpu_pod_type_from_topology,
)

from harness.pools import CPU, VirtualCluster, VirtualPool

NODE_GROUP = "ray.io/node-group"
MARKET_TYPE = "ray.io/market-type"
ACCELERATOR = "ray.io/accelerator-type"
ZONE = "ray.io/availability-zone"
# Kubernetes' own label; Ray has none for it.
MACHINE_TYPE = "node.kubernetes.io/instance-type"
SLICE_NAME = "ray.io/tpu-slice-name"
WORKER_ID = "ray.io/tpu-worker-id"
TOPOLOGY = "ray.io/tpu-topology"
POD_TYPE = "ray.io/tpu-pod-type"
VIRTUAL = "windtunnel.dev/virtual"

GIB = 1 << 30
LABEL_VALUE = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?")  # Kubernetes' own rule
MAX_NODES = 64  # each costs two Python processes and some 150 MB on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNode:
    """One raylet to start."""

    name: str
    cpus: float
    gpus: int
    memory_bytes: int
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def is_tpu(accelerator: str) -> bool:
    return accelerator.upper().startswith("TPU-")


def tpu_version(accelerator: str) -> str:
    """``TPU-V6E`` → ``v6e``, as Ray's TPU functions want it."""
    return accelerator.upper().removeprefix("TPU-").lower()


def tpu_chips_per_host(pool: VirtualPool) -> int:
    """As asked, or what Ray takes for a host of that topology."""
    if pool.chips_per_node:
        return pool.chips_per_node
    return int(get_chips_per_host(pool.topology, tpu_version(pool.accelerator)))


def hosts_per_slice(pool: VirtualPool) -> int:
    return max(1, int(get_num_chips_from_topology(pool.topology)) // tpu_chips_per_host(pool))


def num_nodes(pool: VirtualPool) -> int:
    return hosts_per_slice(pool) * pool.num_slices if is_tpu(pool.accelerator) else pool.num_nodes


def wrong_with(cluster: VirtualCluster) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What types cannot tell: the path of each wrong value, what was found and what is accepted."""
    if not cluster.pools:
        yield ("pools",), "found no pool; accepted: at least one"
    seen: dict[str, int] = {}
    nodes = 0
    for index, pool in enumerate(cluster.pools):
        wrong = tuple(_wrong_with_pool(pool))
        yield from ((("pools", index, name), message) for name, message in wrong)
        if pool.name in seen:
            first = seen[pool.name]
            yield (
                ("pools", index, "name"),
                f'found "{pool.name}", which pools.{first} has; accepted: a name of its own',
            )
        seen.setdefault(pool.name, index)
        nodes += 0 if wrong else num_nodes(pool)
    if nodes > MAX_NODES:
        yield ("pools",), f"found {nodes} nodes; accepted: up to {MAX_NODES} on one machine"


def _wrong_with_pool(pool: VirtualPool) -> Iterator[tuple[str, str]]:
    for name in ("name", "accelerator", "zone", "machine_type"):
        value = getattr(pool, name)
        if (value or name in ("name", "accelerator")) and not LABEL_VALUE.fullmatch(value):
            yield (
                name,
                f'found "{value}"; accepted: 1 to 63 letters, digits and . _ - between (a label)',
            )
    if pool.memory_gib_per_node <= 0:
        yield "memory_gib_per_node", f"found {pool.memory_gib_per_node:g}; accepted: above 0"
    if pool.cpus_per_node < 0:
        yield "cpus_per_node", f"found {pool.cpus_per_node:g}; accepted: 0 or more"
    if pool.num_nodes < 1:
        yield "num_nodes", f"found {pool.num_nodes}; accepted: 1 or more"
    if pool.num_slices < 1:
        yield "num_slices", f"found {pool.num_slices}; accepted: 1 or more"
    if pool.chips_per_node < 0:
        yield "chips_per_node", f"found {pool.chips_per_node}; accepted: 0 or more"
        return
    yield from _wrong_with_tpu(pool) if is_tpu(pool.accelerator) else _wrong_with_other(pool)


def _wrong_with_other(pool: VirtualPool) -> Iterator[tuple[str, str]]:
    if pool.accelerator == CPU:
        if pool.chips_per_node:
            yield (
                "chips_per_node",
                f"found {pool.chips_per_node}; accepted: 0, as the accelerator is cpu",
            )
        if pool.cpus_per_node == 0:
            yield "cpus_per_node", "found 0; accepted: above 0, as the pool has nothing else"
    elif pool.chips_per_node == 0:
        yield "chips_per_node", f"found 0; accepted: 1 or more, as it has {pool.accelerator}"
    if pool.topology:
        yield "topology", f'found "{pool.topology}"; accepted: nothing, as only TPUs have one'
    if pool.num_slices != 1:
        yield "num_slices", f"found {pool.num_slices}; accepted: 1, as only TPUs have slices"


def _wrong_with_tpu(pool: VirtualPool) -> Iterator[tuple[str, str]]:
    version = tpu_version(pool.accelerator)
    if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*){1,2}", pool.topology):
        found = f'"{pool.topology}"' if pool.topology else "nothing"
        yield "topology", f"found {found}; accepted: the slice's own, such as 4x4 or 2x2x2"
        return
    if not TPUAcceleratorManager.is_valid_tpu_accelerator_topology(
        tpu_accelerator_version=version, tpu_topology=pool.topology
    ):
        yield "topology", f'found "{pool.topology}", which Ray knows of no {pool.accelerator}'
        return
    chips, per_host = int(get_num_chips_from_topology(pool.topology)), tpu_chips_per_host(pool)
    if chips % per_host:
        yield (
            "chips_per_node",
            f"found {per_host}; accepted: a divisor of the {chips} chips of {pool.topology}",
        )
        return
    if pool.num_nodes not in (1, num_nodes(pool)):
        yield (
            "num_nodes",
            f"found {pool.num_nodes}; {pool.num_slices} slices of {pool.topology} have "
            f"{num_nodes(pool)} hosts of {per_host} chips: leave it out",
        )


def virtual_nodes(cluster: VirtualCluster) -> tuple[VirtualNode, ...]:
    """The raylets of a cluster in which ``wrong_with`` finds nothing wrong."""
    return tuple(node for pool in cluster.pools for node in _nodes_of(pool))


def _nodes_of(pool: VirtualPool) -> Iterator[VirtualNode]:
    for index in range(num_nodes(pool)):
        labels = {
            NODE_GROUP: pool.name,
            MARKET_TYPE: str(pool.capacity),
            VIRTUAL: "true",
        }
        if pool.zone:
            labels[ZONE] = pool.zone
        if pool.machine_type:
            labels[MACHINE_TYPE] = pool.machine_type
        node = VirtualNode(
            name=f"{pool.name}-{index}",
            cpus=pool.cpus_per_node,
            gpus=0,
            memory_bytes=int(pool.memory_gib_per_node * GIB),
            labels=labels,
            # Ray would show a worker the ids of GPUs that this machine has not.
            env={"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"},
        )
        if is_tpu(pool.accelerator):
            yield _with_tpu(node, pool, index)
        elif pool.accelerator == CPU:
            yield node
        else:
            yield _with_gpu(node, pool)


def _with_gpu(node: VirtualNode, pool: VirtualPool) -> VirtualNode:
    return VirtualNode(
        name=node.name,
        cpus=node.cpus,
        gpus=pool.chips_per_node,
        memory_bytes=node.memory_bytes,
        resources={f"accelerator_type:{pool.accelerator}": 1.0},
        labels={**node.labels, ACCELERATOR: pool.accelerator},
        env=node.env,
    )


def _with_tpu(node: VirtualNode, pool: VirtualPool, index: int) -> VirtualNode:
    accelerator = pool.accelerator.upper()
    slice_index, worker = divmod(index, hosts_per_slice(pool))
    slice_name = f"{pool.name}-slice-{slice_index}"
    pod_type = str(infer_tpu_pod_type_from_topology(pool.topology, accelerator))
    resources = {
        "TPU": float(tpu_chips_per_host(pool)),
        f"accelerator_type:{accelerator}": 1.0,
        slice_name: 1.0,
    }
    if worker == 0:
        resources[f"TPU-{pod_type}-head"] = 1.0
    return VirtualNode(
        name=node.name,
        cpus=node.cpus,
        gpus=0,
        memory_bytes=node.memory_bytes,
        resources=resources,
        labels={
            **node.labels,
            ACCELERATOR: accelerator,
            SLICE_NAME: slice_name,
            WORKER_ID: str(worker),
            TOPOLOGY: pool.topology,
            POD_TYPE: pod_type,
        },
        # What GKE sets in the pods of a slice; Ray's own TPU functions read it in the workers.
        env={
            **node.env,
            "TPU_NAME": slice_name,
            "TPU_WORKER_ID": str(worker),
            "TPU_ACCELERATOR_TYPE": pod_type,
            "TPU_TOPOLOGY": pool.topology,
        },
    )
