"""Which deployments stand beside each other, and when they would measure each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import SpecError
from harness.plan import Bundle, Rung, RunPlan
from harness.pools import Capacity, NodePool
from harness.side_by_side import (
    SHARED_CORES,
    SHARED_STARTS,
    check_beside,
    fit_together,
    num_at_once,
)
from harness.spec import RunSpec
from workloads.base import Device
from workloads.params import SimulatedWorkload

GPUS = NodePool(
    name="gpus",
    accelerator="H100",
    num_nodes=2,
    chips_per_node=8,
    cpus_per_node=64.0,
    memory_bytes_per_node=1 << 40,
)
CPUS = replace(GPUS, name="cpus", accelerator="cpu", chips_per_node=0)


def rung(pool: NodePool, chips: int, bundles: int = 1, strategy: str = "STRICT_PACK") -> Rung:
    bundle = Bundle(cpus=1.0, chips=chips)
    kind = "gpu" if chips else "cpu"
    return Rung(
        pool=pool,
        capacity=Capacity.ON_DEMAND,
        bundles=(bundle,) * bundles,
        strategy=strategy,
        max_wait_s=1.0,
        device=Device(kind=kind, accelerator=pool.accelerator, num_chips=chips * bundles),
    )


def plan(*rungs: Rung) -> RunPlan:
    return RunPlan(
        spec=RunSpec(name="one", workload=SimulatedWorkload()),
        rungs=rungs,
        workload_hash="",
        measuring_s=None,
    )


@pytest.mark.parametrize(
    ("rungs", "fits"),
    [
        ([rung(GPUS, 8)] * 2, True),
        ([rung(GPUS, 8)] * 3, False),
        ([rung(GPUS, 4)] * 4, True),
        ([rung(GPUS, 4)] * 5, False),
        ([rung(GPUS, 5)] * 2, True),
        ([rung(GPUS, 5)] * 3, False),  # 6 chips are left, 3 on each node
        ([rung(GPUS, 4, bundles=2)] * 2, True),
        ([rung(GPUS, 1, bundles=9, strategy="PACK"), rung(GPUS, 7)], True),
        ([rung(GPUS, 1, bundles=9, strategy="PACK"), rung(GPUS, 8)], False),
        ([rung(GPUS, 8, bundles=2, strategy="SLICE")], True),
        ([rung(GPUS, 8, bundles=2, strategy="SLICE"), rung(GPUS, 1)], False),
        ([rung(GPUS, 8), rung(GPUS, 8), rung(CPUS, 0)], True),  # pools do not share nodes
    ],
)
def test_what_fits_together(rungs: list[Rung], fits: bool) -> None:
    assert fit_together(rungs) is fits


def test_how_many_at_once() -> None:
    assert num_at_once(plan(rung(GPUS, 4)), 8) == 4
    assert num_at_once(plan(rung(GPUS, 4)), 3) == 3
    assert num_at_once(plan(rung(GPUS, 8)), 1) == 1
    assert num_at_once(plan(), 5) == 5


def test_chips_of_their_own_raise_no_doubt() -> None:
    assert list(check_beside(plan(rung(GPUS, 4)), 4, share_cores=False)) == []


def test_shared_cores_are_refused_unless_somebody_says_so() -> None:
    shared = plan(rung(CPUS, 0))
    with pytest.raises(SpecError, match="share_cores: true"):
        list(check_beside(shared, 2, share_cores=False))
    assert list(check_beside(shared, 2, share_cores=True)) == [SHARED_CORES]
    assert list(check_beside(shared, 1, share_cores=False)) == []
    # In turns, what shares the CPUs of a load are starts; of two loads together it is each other.
    assert list(check_beside(shared, 3, True, 1)) == [SHARED_STARTS]
    assert list(check_beside(shared, 3, True, 2)) == [SHARED_CORES]


def test_a_trial_that_fills_its_node_shares_no_core() -> None:
    whole = replace(rung(CPUS, 0), bundles=(Bundle(cpus=40.0),))
    assert list(check_beside(plan(whole), 2, share_cores=False)) == []
    pretended = replace(whole, pool=replace(CPUS, virtual=True))
    with pytest.raises(SpecError):
        list(check_beside(plan(pretended), 2, share_cores=False))


def test_an_endpoint_is_loaded_by_one_trial_at_a_time() -> None:
    with pytest.raises(SpecError, match="same endpoint"):
        list(check_beside(plan(), 2, share_cores=True))
