"""A spot pool that is taken back and comes back: real raylets, and a placement that is held.

Alone: nodes come and go, and how long Ray takes to notice it is part of what is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
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

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.alone, pytest.mark.timeout(400)]

CLOCK = SystemClock()
SPOT = {"ray.io/node-group": "spot"}
NUM_STEPS = 500
PREEMPTED_AT = 400
SAVED_EVERY = 5
Told = list[dict[str, Any]]

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
        # Slow until it has grown again, then through the rest of it.
        time.sleep(0.0 if Path(config["folder"], "hurry").exists() else 0.3)
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
    """Puts nodes back when the job is where they are to come; called while it runs."""

    def __init__(self, cluster: Cluster, run: Any, folder: Path) -> None:
        self._cluster, self._run = cluster, run
        self._acts: list[tuple[Callable[[Told], bool], Callable[[], None]]] = [
            (lambda told: _stepped(told, 1), self._put_back),  # it goes on with one worker
            (lambda told: _stepped(told, 2), (folder / "hurry").touch),  # it has grown again
            (lambda told: _ended(told, 2), self._put_both_back),  # the whole pool is gone
        ]

    def look(self, done: int, total: int, elapsed_s: float) -> None:
        assert elapsed_s < 330.0, f"in vain: {self._run.attempts()}"
        if self._acts and self._acts[0][0](self._run.attempts()):
            self._acts.pop(0)[1]()

    def _put_both_back(self) -> None:
        self._put_back()
        self._put_back()

    def _put_back(self) -> None:
        self._cluster.add_node(num_cpus=1, labels=SPOT, object_store_memory=100 * 2**20)


def _ended(told: Told, attempt: int) -> bool:
    return len(told) > attempt and told[attempt]["ended_at_s"] is not None


def _stepped(told: Told, attempt: int) -> bool:
    return len(told) > attempt and told[attempt]["first_step"] is not None


def test_a_pool_that_shrinks_grows_and_is_taken_back(
    cluster: Cluster, held: Held, tmp_path: Path
) -> None:
    """A node is lost: on with one worker. It comes back: two. Both are lost: a wait for two."""
    launch = TrainLaunch(
        train_loop="elastic_loop:adds_up",
        config={"num_steps": NUM_STEPS, "folder": str(tmp_path)},
        num_workers=2,
        cpus_per_worker=1.0,
        backend="gloo",
    )
    care = Care(
        restarts=Restarts(max_restarts=2, min_workers=1, resize_check_s=0.5),
        faults=(
            Fault(kind="kill_node", at_step=8, rank=1),
            Fault(kind="preempt_pool", at_step=PREEMPTED_AT),
        ),
    )
    at_first = set(held.bundle_node_ids)
    assert len(at_first) == 2
    with start_training(
        launch, held, clock=CLOCK, deadline_s=150.0, announce=lambda *_: None, care=care
    ) as run:
        samples = run.wait(Pool(cluster, run, tmp_path).look)
        at_last = {node for node, _ in run.processes.values()}
        goodput, told = run.goodput(), run.attempts()

    assert [a["num_workers"] for a in told] == [2, 1, 2, 2], told
    assert [a["cause"] for a in told] == ["node_lost", "resized", "node_lost", ""]
    struck = [a["struck_by"] for a in told]
    assert struck == [["kill_node@step=8,rank=1"], [], [f"preempt_pool@step={PREEMPTED_AT}"], []]
    other = {n["NodeID"] for n in ray.nodes() if n["Labels"].get("ray.io/node-group") == "other"}
    assert len(other) == 1
    assert not at_last & (at_first | other)  # on new nodes, and of the same pool

    lost = []
    for before, after in pairwise(told):  # each goes on from the last checkpoint
        assert after["first_step"] % SAVED_EVERY == 0
        lost.append(before["last_step"] + 1 - after["first_step"])
    # A checkpoint may be whole and its step unheard of; beyond that no more is lost than lies
    # between two, and the steps that were made before it was noticed.
    assert all(-1 <= steps < 60 for steps in lost)
    # The sum of all step numbers is right only if none was left out, and none counted twice.
    sums = samples.loss[samples.step == NUM_STEPS - 1].tolist()
    assert sums == [NUM_STEPS * (NUM_STEPS - 1) / 2] * 2

    assert goodput is not None
    assert sum(goodput.seconds.values()) == pytest.approx(goodput.wall_s)
    assert goodput.num_restarts == 3
    assert goodput.num_steps_lost == sum(max(0, steps) for steps in lost)
    waited_s = [a["hardware_wait_s"] for a in told]
    assert waited_s[0] == waited_s[1] == waited_s[2] == 0.0  # one worker always had a place
    assert waited_s[3] > 0.0  # nothing of the pool was left
    assert goodput.seconds[Part.HARDWARE_WAIT] == pytest.approx(waited_s[3])
    assert goodput.seconds[Part.CHECKPOINT_RESTORE] >= 3 * 0.05
    assert goodput.seconds[Part.RECOVERY] > 0.0
    assert len(goodput.recoveries_s) == 3
    assert goodput.recoveries_s[-1] > waited_s[3]
