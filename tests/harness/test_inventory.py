"""Nodes as real clusters show them, grouped into pools. No Ray runs here."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.on_ray.inventory import LiveNode, group, live_node
from harness.pools import CPU, Capacity, NodePool

GIB = float(1 << 30)


def node(name: str, resources: Mapping[str, float] | None = None, **labels: str) -> LiveNode:
    """``group="a"`` becomes the label ``ray.io/node-group``."""
    full = {
        "group": "ray.io/node-group",
        "market": "ray.io/market-type",
        "accelerator": "ray.io/accelerator-type",
        "zone": "ray.io/availability-zone",
        "machine": "node.kubernetes.io/instance-type",
        "slice": "ray.io/tpu-slice-name",
        "topology": "ray.io/tpu-topology",
        "virtual": "windtunnel.dev/virtual",
    }
    return LiveNode(
        node_id=f"id-{name}",
        name=name,
        resources={"CPU": 8.0, "memory": 16 * GIB} | dict(resources or {}),
        labels={full[key]: value for key, value in labels.items()},
    )


def pools(*nodes: LiveNode) -> list[NodePool]:
    return [found.pool for found in group(nodes)]


def slice_of(name: str, hosts: int, **labels: str) -> list[LiveNode]:
    return [
        node(
            f"{name}-{i}", {"TPU": 4.0}, slice=name, topology="4x4", accelerator="TPU-V6E", **labels
        )
        for i in range(hosts)
    ]


def test_node_groups_are_pools_by_name() -> None:
    h100 = {"GPU": 8.0, "accelerator_type:H100": 1.0}
    found = pools(
        node("g1", h100, group="gpu", market="on-demand", zone="a"),
        node("g0", h100 | {"CPU": 7.0}, group="gpu", market="on-demand", zone="b"),
        node("head", group="headgroup"),
    )
    gpu, head = found
    assert (gpu.name, gpu.accelerator, gpu.num_nodes, gpu.num_chips) == ("gpu", "H100", 2, 16)
    assert gpu.cpus_per_node == 7.0  # the least of its nodes
    assert gpu.zone == ""  # in two of them
    assert (head.name, head.accelerator, head.num_chips) == ("headgroup", CPU, 0)


def test_one_group_in_two_capacity_types_is_two_pools_of_one_name() -> None:
    on_demand, spot = (
        node(name, {"GPU": 1.0}, group="g", market=name) for name in ("on-demand", "spot")
    )
    found = group((spot, on_demand))
    assert [(p.pool.name, p.pool.capacity) for p in found] == [
        ("g", Capacity.ON_DEMAND),
        ("g", Capacity.SPOT),
    ]
    assert found[1].selector == {"ray.io/node-group": "g", "ray.io/market-type": "spot"}


def test_unlabelled_nodes_are_pools_by_what_they_are() -> None:
    found = group(
        (
            node("a", {"GPU": 8.0}, accelerator="H100", market="spot", zone="z"),
            node("b", {"GPU": 8.0}, accelerator="H100", market="spot", zone="z"),
            node("c", {"GPU": 4.0}, accelerator="H100", market="spot", zone="z"),
            node("d", {"GPU": 1.0}),
            node("e"),
            node("f", {"CPU": 8.5}),
        )
    )
    assert {p.pool.name: p.pool.num_nodes for p in found} == {
        "h100x8-spot-z": 2,
        "h100x4-spot-z": 1,
        "gpux1-on-demand": 1,
        "cpux8-on-demand": 1,
        "cpux8-on-demand-2": 1,
    }
    eight = next(p for p in found if p.pool.name == "h100x8-spot-z")
    assert eight.selector == {"ray.io/node-id": "in(id-a,id-b)"}


def test_slices_count_whole() -> None:
    found = group((*slice_of("s0", 4, group="tpu"), *slice_of("s1", 3, group="tpu")))
    (tpu,) = (p.pool for p in found)
    assert (tpu.accelerator, tpu.topology, tpu.num_nodes) == ("TPU-V6E", "4x4", 4)
    assert (tpu.nodes_per_slice, tpu.num_chips) == (4, 16)
    assert {n.name for n in found[0].nodes} == {"s0-0", "s0-1", "s0-2", "s0-3"}
    assert found[0].selector == {"ray.io/node-group": "tpu"}


@pytest.mark.parametrize(
    ("word", "capacity"),
    [
        ("spot", Capacity.SPOT),
        ("Preemptible", Capacity.SPOT),
        ("on-demand", Capacity.ON_DEMAND),
        ("reserved", Capacity.RESERVATION),
        ("RESERVATION", Capacity.RESERVATION),
        ("flex_start", Capacity.FLEX_START),
        ("unknown", Capacity.ON_DEMAND),
    ],
)
def test_market_types(word: str, capacity: Capacity) -> None:
    assert pools(node("n", market=word))[0].capacity is capacity


def test_a_machine_type_is_the_pools_where_its_nodes_agree() -> None:
    h100 = {"GPU": 8.0}
    alike = [
        node(n, h100, group="a", accelerator="H100", machine="a3-highgpu-8g") for n in ("x", "y")
    ]
    mixed = [
        node("p", h100, group="b", accelerator="H100", machine="a3-highgpu-8g"),
        node("q", h100, group="b", accelerator="H100", machine="a3-megagpu-8g"),
    ]
    assert [p.machine_type for p in pools(*alike, *mixed)] == ["a3-highgpu-8g", ""]
    # Without a name of their own they are two pools.
    unnamed = [
        node(n.name, h100, accelerator="H100", machine=m)
        for n, m in zip(mixed, ("a3-highgpu-8g", "a3-megagpu-8g"), strict=True)
    ]
    assert sorted(p.machine_type for p in pools(*unnamed)) == ["a3-highgpu-8g", "a3-megagpu-8g"]


def test_prices_are_of_real_chips_only() -> None:
    prices = {"H100/spot": 2.0, "H100": 5.0}
    gpu = {"GPU": 1.0, "accelerator_type:H100": 1.0}
    found = group(
        (
            node("a", gpu, group="a", market="spot"),
            node("b", gpu, group="b"),
            node("c", {"GPU": 1.0, "accelerator_type:L4": 1.0}, group="c"),
            node("v", gpu, group="v", virtual="true"),
        ),
        prices,
    )
    assert {p.pool.name: p.pool.usd_per_chip_hour for p in found} == {
        "a": 2.0,
        "b": 5.0,
        "c": None,
        "v": None,
    }
    assert [p.pool.name for p in found if p.pool.virtual] == ["v"]


def test_a_node_with_nothing_to_place_on_is_no_pool() -> None:
    assert pools(node("head", {"CPU": 0.0, "node:__internal_head__": 1.0})) == []


def test_names_are_those_that_people_gave() -> None:
    entry = {
        "NodeID": "ab12",
        "NodeName": "10.0.0.3",
        "NodeManagerAddress": "10.0.0.3",
        "NodeManagerHostname": "worker-3",
        "Labels": {},
        "Resources": {"CPU": 1.0},
        "Alive": True,
    }
    assert live_node(entry).name == "worker-3"
    assert live_node(entry | {"NodeName": "given"}).name == "given"


def test_many_nodes_sort_as_people_count() -> None:
    (found,) = group([node(f"n-{i}", group="g") for i in (10, 9, 1)])
    assert [n.name for n in found.nodes] == ["n-1", "n-9", "n-10"]
