"""Which nodes send the load. Pure: the nodes and what is free on them in, a node's id out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What one more load worker takes: an event loop fills a core.
WORKER_CPUS = 1.0


def choose_node(nodes: Sequence[Mapping[str, Any]], server_node_id: str) -> str:
    """The id of the node that should send the load, or "" where any will do.

    On one machine it is the server's own node. Otherwise a node without accelerators, another than
    the server's if there is one; where all have accelerators, the server's.
    """
    alive = [node for node in nodes if node["Alive"]]
    if len({node["NodeManagerAddress"] for node in alive}) <= 1:
        return server_node_id
    plain = [node["NodeID"] for node in alive if not has_chips(node)]
    return next((n for n in plain if n != server_node_id), plain[0] if plain else server_node_id)


def next_node(
    nodes: Sequence[Mapping[str, Any]],
    free: Mapping[str, Mapping[str, float]],
    taken: Sequence[str],
    server_node_id: str,
) -> str | None:
    """The id of the node for one more load worker; None: no room.

    ``nodes`` is ``ray.nodes()``, ``free`` what each node id has left, ``taken`` the node of every
    worker so far. ``server_node_id`` is "" where the server is none of ours.

    A node without accelerators if the cluster has any, even where none of them has room: the CPUs
    of an accelerator node feed its engine, and a client that takes them slows down what it
    measures. Of those the nodes of another machine than the server's come first, for the same
    reason. Then the one with the fewest workers: each node brings its own network card and its own
    share of the interrupts, and that its clock is another one is measured. Last, the order in which
    the nodes were taken, then Ray's.
    """
    alive = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0.0) > 0]
    plain = [node for node in alive if not has_chips(node)]
    roomy = [
        node
        for node in plain or alive
        if free.get(node["NodeID"], {}).get("CPU", 0.0) >= WORKER_CPUS
    ]
    if not roomy:
        return None
    address = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes}
    server = address.get(server_node_id, "")

    def cost(node: Mapping[str, Any]) -> tuple[bool, int, int]:
        node_id = node["NodeID"]
        since = taken.index(node_id) if node_id in taken else len(taken)
        return node["NodeManagerAddress"] == server, taken.count(node_id), since

    return str(min(roomy, key=cost)["NodeID"])


def has_chips(node: Mapping[str, Any]) -> bool:
    return any(name == "GPU" or name.startswith("TPU") for name in node["Resources"])
