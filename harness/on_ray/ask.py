"""One call of ``deploy``, and what every kind of launch needs to know of it and of its nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.deployment import Announce
from harness.errors import DeploymentError
from harness.on_ray.node_facts import NodeFacts, node_facts
from harness.on_ray.placement import Placed
from harness.plan import RunPlan
from results.clock import Clock
from workloads.base import Launch

FACTS_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call of ``deploy``; ``asked_s`` is the clock's reading then."""

    plan: RunPlan
    launch_for: Callable[[Any], Launch]
    announce: Announce
    asked_s: float
    clock: Clock
    telemetry_interval_s: float = 0.0  # of a training's ranks

    def since_s(self) -> float:
        return self.clock.monotonic_s() - self.asked_s


def api_of(plan: RunPlan) -> str:
    return plan.spec.traffic.api if plan.spec.traffic else "completions"


def describe(placed: Placed) -> str:
    return f"{placed.placement.pool} [{placed.placement.capacity}]"


def ask_nodes(node_ids: tuple[str, ...]) -> Callable[[], tuple[NodeFacts, ...]]:
    """Asks each node once what it is; the answers, in the order of the nodes, when they are wanted.

    Nodes of this machine are not asked but looked at: a task would start a process beside the job
    whose startup is being measured. The answers raise DeploymentError when a node gives none.
    """
    nodes = tuple(dict.fromkeys(node_ids))
    here = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    at = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
    tasks = {
        node: ray.remote(node_facts)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote()
        for node in nodes
        if at.get(node) != here
    }

    def answers() -> tuple[NodeFacts, ...]:
        try:
            told = ray.get(list(tasks.values()), timeout=FACTS_DEADLINE_S)
        except RayError as error:
            raise DeploymentError(
                "startup", f"a node of the deployment did not say what it is: {error}"
            ) from error
        facts = dict(zip(tasks, told, strict=True))
        if len(facts) < len(nodes):
            facts |= dict.fromkeys((node for node in nodes if node not in tasks), node_facts())
        return tuple(facts[node] for node in nodes)

    return answers
