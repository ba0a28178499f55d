"""Whether bundles have room on nodes, and how to say how much there is. Pure.

What Ray would decide, counted beforehand: a placement group that no node can ever hold is pending
for ever, and a slice is only worth asking for when all its hosts are idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.on_ray.inventory import LiveNode, PoolNodes
from harness.on_ray.virtual import SLICE_NAME
from harness.plan import Bundle, Rung

Resources = Mapping[str, float]
HAIR = 1e-6  # Ray counts in ten-thousandths, floats do not


def needs(bundle: Bundle, chip_resource: str) -> dict[str, float]:
    """A bundle in Ray's words, without what is zero."""
    asked = {"CPU": bundle.cpus, "memory": float(bundle.memory_bytes)}
    if bundle.chips:
        asked[chip_resource or "GPU"] = float(bundle.chips)
    return {name: amount for name, amount in asked.items() if amount > 0}


def needs_of(rung: Rung, found: PoolNodes) -> list[dict[str, float]]:
    resource = found.nodes[0].chip_resource if found.nodes else ""
    return [needs(bundle, resource) for bundle in rung.bundles]


def holds(room: Resources, need: Resources) -> bool:
    return all(room.get(name, 0.0) + HAIR >= amount for name, amount in need.items())


def fits(asked: Sequence[Resources], strategy: str, rooms: Sequence[Resources]) -> bool:
    """Whether bundles find room on these nodes under one of Ray's four strategies.

    Bundles go to the first node that holds them, largest first: exact where they are alike.
    """
    if strategy == "STRICT_PACK":
        names = {name for need in asked for name in need}
        total = {name: sum(need.get(name, 0.0) for need in asked) for name in names}
        return any(holds(room, total) for room in rooms)
    left = [dict(room) for room in rooms]
    for need in sorted(asked, key=lambda need: sorted(need.items()), reverse=True):
        taken = next((room for room in left if holds(room, need)), None)
        if taken is None:
            return False
        if strategy == "STRICT_SPREAD":
            left.remove(taken)
            continue
        for name, amount in need.items():
            taken[name] -= amount
    return True


def slices(nodes: Sequence[LiveNode]) -> dict[str, list[LiveNode]]:
    """Hosts by slice, in the order of the slices' names; a host with no slice is none's."""
    found: dict[str, list[LiveNode]] = {}
    for node in nodes:
        if node.labels.get(SLICE_NAME):
            found.setdefault(node.labels[SLICE_NAME], []).append(node)
    return dict(sorted(found.items()))


def slices_with_room(
    nodes: Sequence[LiveNode], need: Resources, rooms: Mapping[str, Resources]
) -> list[str]:
    """Names of the slices of which every host has room for one bundle; ``rooms`` by node id."""
    return [
        name
        for name, hosts in slices(nodes).items()
        if all(holds(rooms.get(host.node_id, {}), need) for host in hosts)
    ]


def num_slices(rung: Rung) -> int:
    return max(1, len(rung.bundles) // max(1, rung.pool.nodes_per_slice))


def can_ever_fit(rung: Rung, found: PoolNodes) -> bool:
    """By totals, as the pool's nodes are now."""
    asked = needs_of(rung, found)
    totals = {node.node_id: node.resources for node in found.nodes}
    if rung.strategy == "SLICE":
        return len(slices_with_room(found.nodes, asked[0], totals)) >= num_slices(rung)
    return fits(asked, rung.strategy, list(totals.values()))


def asked_in_words(rung: Rung) -> str:
    """``1 x H100``, ``16 x TPU-V6E (4x4)`` or ``2 CPUs``."""
    chips = sum(bundle.chips for bundle in rung.bundles)
    if not chips:
        return f"{sum(bundle.cpus for bundle in rung.bundles):g} CPUs"
    shape = f" ({rung.pool.topology})" if rung.pool.topology else ""
    return f"{chips} x {rung.pool.accelerator}{shape}"


def room_in_words(rung: Rung, found: PoolNodes | None, free: Mapping[str, Resources]) -> str:
    """``asked 1 x H100, 0 free of 1``, and the same of whatever else there is too little of."""
    if found is None or not found.nodes:
        return f"asked {asked_in_words(rung)}, the pool has no nodes left"
    asked = needs_of(rung, found)
    chips = found.nodes[0].chip_resource if any(b.chips for b in rung.bundles) else ""
    first = chips or "CPU"
    said = []
    for name in (first, *(n for n in ("CPU", "memory") if n != first)):
        wanted = sum(need.get(name, 0.0) for need in asked)
        have = sum(free.get(node.node_id, {}).get(name, 0.0) for node in found.nodes)
        of = sum(node.resources.get(name, 0.0) for node in found.nodes)
        if name == first:
            said.append(f"asked {asked_in_words(rung)}, {have:g} free of {of:g}")
        elif name == "CPU" and have + HAIR < wanted:
            said.append(f"{wanted:g} CPUs, {have:g} free of {of:g}")
        elif name == "memory" and have + HAIR < wanted:
            said.append(f"{wanted / 2**30:.1f} GiB, {have / 2**30:.1f} free of {of / 2**30:.1f}")
    return "; ".join(said)
