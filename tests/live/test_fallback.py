"""Two pretended pools on real Ray, the first of them full: the run takes the second and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from harness.on_ray.cluster import ClusterHandle, ray_cluster
from harness.poolfile import read_pools

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def full_reservation() -> Iterator[ClusterHandle]:
    """The cluster of examples/pools-two.yaml with its reserved pool's only chip taken."""
    with ray_cluster("local", read_pools(ROOT / "examples/pools-two.yaml")) as cluster:
        held = ray.util.placement_group(
            [{"GPU": 1}], bundle_label_selector=[{"ray.io/node-group": "reserved"}]
        )
        assert held.wait(60)
        yield cluster


def test_the_second_pool_is_taken_when_the_first_is_full(
    program: Any, full_reservation: ClusterHandle, stand_in: Callable[..., Path]
) -> None:
    done = program.run(
        "run",
        "examples/virtual-fallback.yaml",
        "--ray",
        full_reservation.address,
        "--set",
        f"workload.python={stand_in()}",
        "--set",
        "hardware.max_wait_s=2",
        "--json",
    )
    assert done.returncode in (0, 4), done.stderr
    (record,) = done.json()["records"]
    placement = record["placement"]
    assert (placement["pool"], placement["capacity"]) == ("spot", "spot")
    assert placement["virtual"] is True
    first, second = placement["rungs"]
    assert (first["pool"], first["outcome"]) == ("reserved", "timed_out")
    assert first["waited_s"] >= 2.0
    assert (second["pool"], second["outcome"]) == ("spot", "taken")
    # The stand-in engine says what it is, and the record keeps it apart from what was measured.
    assert record["evidence"] == "simulated"
    # Pretended hardware is never priced, and its numbers are doubted aloud.
    assert "virtual_pool" in {d["code"] for d in record["doubts"]}
    assert not any(m["metric"] == "cost_usd" for m in record["measurements"])
    assert not any(m["metric"] == "chip_hours" for m in record["measurements"])
