"""Deployments beside each other: whether pools hold several at once, and whether they would measure
each other. Pure; counted by totals, as a plan is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.errors import SpecError
from harness.plan import Bundle, Rung, RunPlan

SHARED_CORES = (
    "several trials were measured at once on CPUs that they share: each may have slowed the others"
)
SHARED_STARTS = (
    "other trials' engines started on CPUs that it shares while this one was measured: they "
    "may have slowed it"
)
_HAIR = 1e-9  # 0.1 × 10 CPUs are asked of a node that has 1


@dataclass(slots=True)
class _Node:
    cpus: float
    chips: int
    memory_bytes: int

    def holds(self, bundle: Bundle) -> bool:
        return (
            self.cpus + _HAIR >= bundle.cpus
            and self.chips >= bundle.chips
            and self.memory_bytes >= bundle.memory_bytes
        )

    def take(self, bundle: Bundle) -> None:
        self.cpus -= bundle.cpus
        self.chips -= bundle.chips
        self.memory_bytes -= bundle.memory_bytes


def fit_together(rungs: Sequence[Rung]) -> bool:
    """Whether all of these hold their places at the same time. Every bundle goes to the first node
    with room, those of STRICT_PACK to one node, each of a SLICE or STRICT_SPREAD to another: exact
    where the deployments are alike."""
    nodes: dict[tuple[str, str], list[_Node]] = {}
    for rung in rungs:
        pool = rung.pool
        key = (pool.name, str(pool.capacity))
        if key not in nodes:
            nodes[key] = [
                _Node(pool.cpus_per_node, pool.chips_per_node, pool.memory_bytes_per_node)
                for _ in range(pool.num_nodes)
            ]
        if not _taken(rung, nodes[key]):
            return False
    return True


def _taken(rung: Rung, nodes: list[_Node]) -> bool:
    if rung.strategy == "STRICT_PACK":
        whole = Bundle(
            cpus=sum(b.cpus for b in rung.bundles),
            chips=sum(b.chips for b in rung.bundles),
            memory_bytes=sum(b.memory_bytes for b in rung.bundles),
        )
        return _placed([whole], nodes, apart=False)
    return _placed(rung.bundles, nodes, apart=rung.strategy in ("SLICE", "STRICT_SPREAD"))


def _placed(bundles: Sequence[Bundle], nodes: Sequence[_Node], *, apart: bool) -> bool:
    left = list(nodes)
    for bundle in bundles:
        node = next((n for n in left if n.holds(bundle)), None)
        if node is None:
            return False
        node.take(bundle)
        if apart:
            left.remove(node)
    return True


def num_at_once(plan: RunPlan, asked: int) -> int:
    """How many deployments of this plan its first rung's pool holds at once, up to ``asked``; all
    of them where nothing is placed."""
    if not plan.rungs:
        return asked
    return next(
        (n for n in range(asked, 1, -1) if fit_together([plan.rungs[0]] * n)),
        1,
    )


def check_beside(
    plan: RunPlan, num_trials: int, share_cores: bool, num_loads: int = 0
) -> Iterator[str]:
    """What to doubt of trials that run ``num_trials`` at once, ``num_loads`` of them under load at
    once (0: all). Raises SpecError where they would
    measure each other and nobody said that they may."""
    if num_trials == 1:
        return
    if not plan.rungs:
        raise SpecError(
            f"parallel: {num_trials} trials at once would load the same endpoint, and measure each "
            "other; an endpoint's trials are made one by one"
        )
    rung = plan.rungs[0]
    if not shares_cores(rung):
        return
    if not share_cores:
        raise SpecError(
            f"parallel: {num_trials} trials at once on the CPUs of pool {rung.pool.name} would "
            "share cores, caches and memory, and measure each other. Leave parallel at 1, or say "
            "share_cores: true in the study (--share-cores): every record then says so"
        )
    yield SHARED_STARTS if num_loads == 1 else SHARED_CORES


def shares_cores(rung: Rung) -> bool:
    """Whether two of it may stand on one machine and compute on its CPUs. Not where each takes more
    than half of a real node."""
    if rung.device.kind != "cpu":
        return False
    per_node = max(b.cpus for b in rung.bundles)
    return rung.pool.virtual or per_node * 2 <= rung.pool.cpus_per_node + _HAIR
