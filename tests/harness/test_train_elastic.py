"""A spot pool that is taken back and comes back: real raylets, and a placement that is held.

Alone: nodes come and go, and how long Ray takes to notice it is part of what is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from harness.faults import Fault, Restarts
from harness.on_ray.train_actor import start_training
from harness.on_ray.train_coach import Care
from results.clock import SystemClock
from results.goodput import Part
from workloads.base import TrainLaunch

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.alone, pytest.mark.timeout(300)]

CLOCK = SystemClock()
SPOT = {"ray.io/node-group": "spot"}
NUM_STEPS = 400
SAVED_EVERY = 5

LOOP = '''
"""Adds up step numbers, and saves the sum every five steps; ends when it is told to."""
import json
import time
from pathlib import Path

from workloads.base import TrainFacts, TrainStep


def adds_up(config, rank):
    rank.report(TrainFacts({"num_steps": config["num_steps"], "packages": {}}))
    saved = Path(config["folder"], "saved")
    first, total = 0, 0
    if rank.attempt > 0 and saved.exists():
        asked = rank.now_s()
        first, total = json.loads(saved.read_text())
        time.sleep(0.05)
        rank.report(TrainFacts({"checkpoint_restore_s": (rank.now_s() - asked,)}))
    for step in range(first, config["num_steps"]):
        started = rank.now_s()
        rank.from_rank_zero("all are here")  # as a collective: without its peer no rank goes on
        # Slow until all is as it should be again, then through the rest of it.
        time.sleep(0.0 if Path(config["folder"], "hurry").exists() else 0.1)
        total += step
        ended = rank.now_s()
        saves = (step + 1) % 5 == 0
        if rank.rank == 0 and saves:
            draft = saved.with_suffix(".draft")
            draft.write_text(json.dumps([step + 1, total]))
            draft.replace(saved)
        took = rank.now_s() - ended
        rank.report(
            TrainStep(step, started, ended - started, 0.0, 1, float(total), -1, False,
                      checkpoint_s=took if saves else 0.0)
        )
'''


@dataclass(frozen=True)
class Held:
    placement_group: PlacementGroup
    bundle_node_ids: tuple[str, ...]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A head that runs nothing, a pool of two spot nodes, and a node of another pool."""
    (tmp_path / "elastic_loop.py").write_text(LOOP, encoding="utf-8")
    root = Path(__file__).parents[2]
    store = {"object_store_memory": 100 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{root}")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, **store},
        )
        try:
            for labels in (SPOT, SPOT, {"ray.io/node-group": "other"}):
                cluster.add_node(num_cpus=1, labels=labels, **store)
            ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture
def held(cluster: Cluster) -> Iterator[Held]:
    """A bundle on each node of the spot pool, as the deployer asks for them."""
    group = placement_group([{"CPU": 1}] * 2, strategy="PACK", bundle_label_selector=[SPOT] * 2)
    try:
        ray.get(group.ready(), timeout=60)
        nodes = placement_group_table(group)["bundles_to_node_id"]
        yield Held(group, tuple(nodes[index] for index in range(2)))
    finally:
        remove_placement_group(group)


class Pool:
    """Puts a node back whenever the job is where the next one is to come; called while it runs."""

    def __init__(self, cluster: Cluster, run: Any, folder: Path) -> None:
        self._cluster, self._run, self._folder = cluster, run, folder
        self._left = [self._put_back, self._put_back, (folder / "hurry").touch]
        self._at = [
            lambda told: told[0]["ended_at_s"] is not None,  # all of it is gone
            lambda told: _stepped(told, 1),  # it goes on with one
            lambda told: _stepped(told, 2),  # it has grown again
        ]

    def look(self, done: int, total: int, elapsed_s: float) -> None:
        assert elapsed_s < 200.0, f"in vain: {self._run.attempts()}"
        if self._at and self._at[0](self._run.attempts()):
            del self._at[0]
            self._left.pop(0)()

    def _put_back(self) -> None:
        self._cluster.add_node(num_cpus=1, labels=SPOT, object_store_memory=100 * 2**20)


def _stepped(told: list[dict[str, Any]], attempt: int) -> bool:
    return len(told) > attempt and told[attempt]["first_step"] is not None


def test_a_preempted_pool_is_gone_on_without_and_grown_into_again(
    cluster: Cluster, held: Held, tmp_path: Path
) -> None:
    launch = TrainLaunch(
        train_loop="elastic_loop:adds_up",
        config={"num_steps": NUM_STEPS, "folder": str(tmp_path)},
        num_workers=2,
        cpus_per_worker=1.0,
        backend="gloo",
    )
    care = Care(
        restarts=Restarts(max_restarts=1, min_workers=1, resize_check_s=0.5),
        faults=(Fault(kind="preempt_pool", at_step=8),),
    )
    before = set(held.bundle_node_ids)
    assert len(before) == 2
    with start_training(
        launch, held, clock=CLOCK, deadline_s=150.0, announce=lambda *_: None, care=care
    ) as run:
        samples = run.wait(Pool(cluster, run, tmp_path).look)
        after = {node for node, _ in run.processes.values()}
        goodput = run.goodput()

    whole, one, again = run.attempts()
    assert [a["num_workers"] for a in (whole, one, again)] == [2, 1, 2]
    assert [a["cause"] for a in (whole, one, again)] == ["node_lost", "resized", ""]
    assert whole["struck_by"] == ["preempt_pool@step=8"]
    assert all(node in whole["message"] for node in before)
    other = {n["NodeID"] for n in ray.nodes() if n["Labels"]["ray.io/node-group"] == "other"}
    assert not after & (before | other)  # on new nodes, and of the same pool

    for attempt in (one, again):  # each from a checkpoint
        assert attempt["first_step"] % SAVED_EVERY == 0
    assert SAVED_EVERY <= one["first_step"] <= whole["last_step"] + 1
    assert one["first_step"] < again["first_step"] <= one["last_step"] + 1
    # The sum of all step numbers is right only if none was left out, and none counted twice.
    told = samples.loss[samples.step == NUM_STEPS - 1].tolist()
    assert told == [NUM_STEPS * (NUM_STEPS - 1) / 2] * 2

    assert goodput is not None
    assert sum(goodput.seconds.values()) == pytest.approx(goodput.wall_s)
    assert (goodput.num_restarts, goodput.num_steps_kept) == (2, NUM_STEPS)
    lost = [whole["last_step"] + 1 - one["first_step"], one["last_step"] + 1 - again["first_step"]]
    assert goodput.num_steps_lost == sum(lost)
    waited_s = one["hardware_wait_s"]
    assert waited_s > 0.0  # nothing of the pool was left
    assert goodput.seconds[Part.HARDWARE_WAIT] == pytest.approx(waited_s, rel=0.01)
    assert goodput.seconds[Part.CHECKPOINT_RESTORE] >= 2 * 0.05
    assert goodput.seconds[Part.RECOVERY] > 0.0
    assert len(goodput.recoveries_s) == 2
    assert goodput.recoveries_s[0] > waited_s
