"""What a live Ray cluster has, read from its nodes' labels and resources and grouped into pools.

Nodes with a ``ray.io/node-group`` label (KubeRay and the autoscaler set it) are pools by that name;
others are grouped by what they are. One name can stand for several pools that differ in capacity
type, as a ladder over capacity types wants it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from harness.on_ray.virtual import (
    ACCELERATOR,
    MACHINE_TYPE,
    MARKET_TYPE,
    NODE_GROUP,
    SLICE_NAME,
    TOPOLOGY,
    VIRTUAL,
    ZONE,
)
from harness.pools import CPU, Capacity, Inventory, NodePool

NODE_ID = "ray.io/node-id"
HEAD_RESOURCE = "node:__internal_head__"
ACCELERATOR_RESOURCE = "accelerator_type:"
CHIP_RESOURCES = ("GPU", "TPU")
STATE_DEADLINE_S = 30.0

# How clouds and their tools spell capacity types. Anything else, and nothing, is on-demand.
CAPACITIES = {
    "reservation": Capacity.RESERVATION,
    "reserved": Capacity.RESERVATION,
    "specific-reservation": Capacity.RESERVATION,
    "capacity-block": Capacity.RESERVATION,
    "spot": Capacity.SPOT,
    "preemptible": Capacity.SPOT,
    "flex-start": Capacity.FLEX_START,
    "flexstart": Capacity.FLEX_START,
    "dws": Capacity.FLEX_START,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNode:
    """A node that is alive. ``resources`` are totals. ``name`` is for people."""

    node_id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def chip_resource(self) -> str:
        """``GPU``, ``TPU`` or "" ."""
        return next((name for name in CHIP_RESOURCES if self.resources.get(name, 0) >= 1), "")

    @property
    def chips(self) -> int:
        return int(self.resources.get(self.chip_resource, 0))

    @property
    def accelerator(self) -> str:
        """Ray's accelerator type; the bare resource's name where a node does not say it."""
        if not self.chip_resource:
            return CPU
        named = (
            name.removeprefix(ACCELERATOR_RESOURCE)
            for name in sorted(self.resources)
            if name.startswith(ACCELERATOR_RESOURCE)
        )
        return self.labels.get(ACCELERATOR) or next(named, self.chip_resource)

    @property
    def capacity(self) -> Capacity:
        word = self.labels.get(MARKET_TYPE, "").lower().replace("_", "-")
        return CAPACITIES.get(word, Capacity.ON_DEMAND)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNodes:
    """A pool, its nodes, and the label selector that no other live node answers to."""

    pool: NodePool
    nodes: tuple[LiveNode, ...]
    selector: Mapping[str, str]


def read_inventory(prices: Mapping[str, float] | None = None) -> Inventory:
    """The pools of the cluster that this process is connected to.

    ``prices``: USD per chip-hour by ``accelerator/capacity`` or by ``accelerator``, such as
    ``{"H100/spot": 2.1, "L4": 0.6}``. A virtual pool has no price.
    """
    return Inventory(pools=tuple(found.pool for found in group(live_nodes(), prices)))


def live_nodes() -> tuple[LiveNode, ...]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return tuple(live_node(node) for node in nodes if node["Alive"])


def live_node(node: Mapping[str, Any]) -> LiveNode:
    """One entry of ``ray.nodes()``. A node has its address for a name unless it was given one."""
    name, address = str(node["NodeName"]), str(node["NodeManagerAddress"])
    return LiveNode(
        node_id=str(node["NodeID"]),
        name=str(node["NodeManagerHostname"]) if name == address else name,
        labels=dict(node["Labels"]),
        resources=dict(node["Resources"]),
    )


def free_by_node() -> dict[str, dict[str, float]]:
    """What each live node has left, by node id. A client of a cluster has it asked over there."""
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        task: Any = ray.remote(num_cpus=0)(_free_by_node)
        return dict(ray.get(task.remote(), timeout=STATE_DEADLINE_S))
    return _free_by_node()


def _free_by_node() -> dict[str, dict[str, float]]:
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return dict(free)


def group(
    nodes: Sequence[LiveNode], prices: Mapping[str, float] | None = None
) -> tuple[PoolNodes, ...]:
    """Like nodes as pools, by name. Nodes with neither CPUs nor chips, as the head of many a
    cluster, are none; nor are hosts of a slice that has lost another one."""
    alike: dict[tuple[Any, ...], list[LiveNode]] = defaultdict(list)
    for node in _whole_slices(nodes):
        if node.chips or node.resources.get("CPU", 0) > 0:
            alike[_key(node)].append(node)
    named: set[str] = set()
    pools = []
    for members in sorted(alike.values(), key=lambda m: _name(m[0])):
        name = members[0].labels.get(NODE_GROUP) or _unused(_name(members[0]), named)
        named.add(name)
        pools.append(
            PoolNodes(
                pool=_pool(name, members, prices or {}),
                nodes=tuple(sorted(members, key=lambda node: _natural(node.name))),
                selector=_selector(members, nodes),
            )
        )
    return tuple(sorted(pools, key=lambda p: (p.pool.name, list(Capacity).index(p.pool.capacity))))


def _key(node: LiveNode) -> tuple[Any, ...]:
    same = (node.accelerator, node.chips, node.labels.get(TOPOLOGY, ""), node.capacity)
    if node.labels.get(NODE_GROUP):
        return (node.labels[NODE_GROUP], *same)
    where = (node.labels.get(ZONE, ""), node.labels.get(MACHINE_TYPE, ""))
    return ("", *same, *where, node.resources.get("CPU", 0))


def _whole_slices(nodes: Sequence[LiveNode]) -> list[LiveNode]:
    """Without the hosts of slices that have fewer hosts than their topology has room for."""
    hosts = Counter(node.labels.get(SLICE_NAME, "") for node in nodes)
    whole = []
    for node in nodes:
        topology = node.labels.get(TOPOLOGY, "")
        if topology and node.chips and node.labels.get(SLICE_NAME):
            chips = 1
            for side in topology.split("x"):
                chips *= int(side)
            if hosts[node.labels[SLICE_NAME]] * node.chips < chips:
                continue
        whole.append(node)
    return whole


def _pool(name: str, members: Sequence[LiveNode], prices: Mapping[str, float]) -> NodePool:
    """Nodes of one group may differ a little in what Ray counts on them: the least holds."""
    first = members[0]
    slices = Counter(node.labels[SLICE_NAME] for node in members if SLICE_NAME in node.labels)
    virtual = any(node.labels.get(VIRTUAL) == "true" for node in members)
    price = prices.get(f"{first.accelerator}/{first.capacity}", prices.get(first.accelerator))
    return NodePool(
        name=name,
        accelerator=first.accelerator,
        num_nodes=len(members),
        chips_per_node=first.chips,
        cpus_per_node=min(node.resources.get("CPU", 0.0) for node in members),
        memory_bytes_per_node=min(int(node.resources.get("memory", 0)) for node in members),
        capacity=first.capacity,
        topology=first.labels.get(TOPOLOGY, ""),
        nodes_per_slice=max(slices.values(), default=1),
        zone=_only(members, ZONE),
        machine_type=_only(members, MACHINE_TYPE),
        usd_per_chip_hour=None if virtual else price,
        virtual=virtual,
    )


def _only(members: Sequence[LiveNode], label: str) -> str:
    """What all of them say; "" where they do not agree."""
    found = {node.labels.get(label, "") for node in members}
    return found.pop() if len(found) == 1 else ""


def _selector(members: Sequence[LiveNode], everybody: Sequence[LiveNode]) -> Mapping[str, str]:
    """By labels where they tell the pool from all others, so that nodes which join it later count
    too; by node ids otherwise."""
    ours = {node.node_id for node in members}
    by_label = {
        key: members[0].labels[key]
        for key in (NODE_GROUP, MARKET_TYPE)
        if members[0].labels.get(key)
    }
    answering = {
        node.node_id
        for node in everybody
        if all(node.labels.get(key) == value for key, value in by_label.items())
    }
    broken = {n.node_id for n in everybody} - {n.node_id for n in _whole_slices(everybody)}
    if NODE_GROUP in by_label and answering - broken == ours:
        return by_label
    return {NODE_ID: f"in({','.join(sorted(ours))})"}


def _name(node: LiveNode) -> str:
    """Of a pool whose nodes do not say theirs: ``h100x8-spot-us-central1-a``."""
    if node.labels.get(NODE_GROUP):
        return node.labels[NODE_GROUP]
    topology = node.labels.get(TOPOLOGY, "")
    size = f"-{topology}" if topology else f"x{node.chips or int(node.resources['CPU'])}"
    what = f"{node.accelerator.lower()}{size}"
    return "-".join(filter(None, (what, str(node.capacity), node.labels.get(ZONE, ""))))


def _unused(name: str, taken: set[str]) -> str:
    number = 1
    unused = name
    while unused in taken:
        number += 1
        unused = f"{name}-{number}"
    return unused


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``a-9`` before ``a-10``."""
    parts = re.split(r"(\d+)", name)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]
