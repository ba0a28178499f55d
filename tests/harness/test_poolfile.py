"""``--pools`` files: what is read, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.on_ray.virtual import virtual_nodes
from harness.poolfile import read_pools
from harness.pools import Capacity, VirtualCluster, VirtualPool

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_two_pools() -> None:
    read = read_pools(EXAMPLES / "pools-two.yaml")
    assert [(p.name, p.capacity) for p in read.pools] == [
        ("reserved", Capacity.RESERVATION),
        ("spot", Capacity.SPOT),
    ]
    reserved, spot = virtual_nodes(read)
    assert reserved.gpus == 1
    assert reserved.labels["ray.io/accelerator-type"] == "H100"
    assert reserved.labels["windtunnel.dev/virtual"] == "true"
    assert spot.labels["ray.io/market-type"] == "spot"


def test_a_slice_has_its_topologys_hosts() -> None:
    nodes = virtual_nodes(read_pools(EXAMPLES / "pools-tpu.yaml"))
    hosts = [node for node in nodes if "TPU" in node.resources]
    assert [node.env["TPU_WORKER_ID"] for node in hosts] == ["0", "1", "2", "3"]
    assert {node.env["TPU_NAME"] for node in hosts} == {"v6e-slice-slice-0"}
    assert {node.resources["TPU"] for node in hosts} == {4.0}
    assert [node.resources.get("TPU-v6e-16-head") for node in hosts] == [1.0, None, None, None]
    assert hosts[1].labels["ray.io/tpu-pod-type"] == "v6e-16"
    assert hosts[1].labels["ray.io/accelerator-type"] == "TPU-V6E"


def test_pod_types_count_cores_where_google_does() -> None:
    """v5p has two cores per chip, v6e one: v5p-32 is 16 chips."""
    pool = VirtualPool(name="t", accelerator="TPU-V5P", topology="2x2x4", num_slices=2)
    nodes = virtual_nodes(VirtualCluster(pools=(pool,)))
    assert len(nodes) == 8
    assert nodes[0].labels["ray.io/tpu-pod-type"] == "v5p-32"
    assert [n.labels["ray.io/tpu-slice-name"] for n in nodes[3:5]] == ["t-slice-0", "t-slice-1"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pools: []", ["pools: found no pool; accepted: at least one"]),
        ("pools:\n  - nam: a", ["pools.0.nam: unknown key; did you mean name?"]),
        (
            "pools:\n  - name: a\n    num_nodes: two",
            ['p.yaml:3: pools.0.num_nodes: found text "two"'],
        ),
        ("pools:\n  - name: a\n    capacity: cheap", ["pools.0.capacity", "spot"]),
        ("pools:\n  - name: a b", ['p.yaml:2: pools.0.name: found "a b"; accepted: 1 to 63']),
        (
            "pools:\n  - name: a\n  - name: a",
            ['p.yaml:3: pools.1.name: found "a", which pools.0 has'],
        ),
        ("pools:\n  - name: a\n    accelerator: H100", ["pools.0.chips_per_node: found 0"]),
        ("pools:\n  - name: a\n    chips_per_node: 2", ["accepted: 0, as the accelerator is cpu"]),
        ("pools:\n  - name: a\n    topology: 4x4", ["only TPUs have one"]),
        ("pools:\n  - name: a\n    accelerator: TPU-V6E", ["topology: found nothing; accepted"]),
        (
            "pools:\n  - name: a\n    accelerator: TPU-V6E\n    topology: 3x5",
            ['topology: found "3x5", which Ray knows of no TPU-V6E'],
        ),
        (
            "pools:\n  - name: a\n    accelerator: TPU-V6E\n    topology: 4x4\n"
            "    chips_per_node: 3",
            ["chips_per_node: found 3; accepted: a divisor of the 16 chips of 4x4"],
        ),
        (
            "pools:\n  - name: a\n    accelerator: TPU-V6E\n    topology: 4x4\n    num_nodes: 3",
            ["num_nodes: found 3; 1 slices of 4x4 have 4 hosts of 4 chips"],
        ),
        ("pools:\n  - name: a\n    num_nodes: 65", ["found 65 nodes; accepted: up to 64"]),
        (
            "pools:\n  - name: a\n    cpus_per_node: 0\n  - name: b\n    num_nodes: 0",
            ["pools.0.cpus_per_node: found 0", "pools.1.num_nodes: found 0"],
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, wrong: list[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_pools(file)
    for part in wrong:
        assert part in str(caught.value)
    assert "p.yaml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml"):
        read_pools(tmp_path / "nowhere.yaml")
