"""The ladder, climbed: each rung's bundles are asked of Ray, waited for, and kept or given back.

A rung is pinned to its pool by label selectors, so Ray's own scheduler decides who gets what; this
module only asks, waits and tidies. A TPU slice is taken whole: its head is reserved first, as Ray's
own slice users do, then every host at once with ``ray.util.tpu.slice_placement_group``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ray._raylet import PlacementGroupID
from ray.exceptions import RayError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.tpu import slice_placement_group

from harness.deployment import Announce
from harness.errors import DeploymentError, PlacementTimedOut
from harness.on_ray.gcs import ask_gcs
from harness.on_ray.inventory import PoolNodes, free_by_node, group, live_nodes
from harness.on_ray.room import (
    asked_in_words,
    can_ever_fit,
    holds,
    needs_of,
    num_slices,
    room_in_words,
    slices,
    slices_with_room,
)
from harness.on_ray.virtual import SLICE_NAME, WORKER_ID, tpu_version
from harness.plan import Rung, RunPlan
from results.clock import Clock
from results.lost import ProcessIdentity, this_process
from results.record import Placement, RungTried

TAKEN = "taken"
TIMED_OUT = "timed_out"
CANNOT_FIT = "cannot_fit"  # the pool has not what it had when the plan was made
NODES_LOST = "nodes_lost"  # while it was waited for
FIRST_POLL_S = 0.02
POLL_S = 0.25
SLICE_TRY_S = 5.0  # for a slice that looked idle; somebody else may have been quicker
HEARTBEAT_S = 10.0
REMOVAL_DEADLINE_S = 15.0
FREE_DEADLINE_S = 3.0
REMOVAL_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What was taken. ``bundle_node_ids`` are Ray's node ids, one per bundle, in the order of the
    bundles; of a slice, bundle i is worker i. ``label_selector`` pins more to the same pool."""

    rung: Rung
    placement: Placement
    placement_group: PlacementGroup
    bundle_node_ids: tuple[str, ...]
    label_selector: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class _Ask:
    """One rung being asked for. ``groups`` is everything asked of Ray and not yet given back."""

    rung: Rung
    clock: Clock
    deadline_s: float  # on the clock
    groups: list[PlacementGroup] = field(default_factory=list)
    selector: Mapping[str, str] = field(default_factory=dict)

    def left_s(self) -> float:
        return max(0.0, self.deadline_s - self.clock.monotonic_s())


@contextmanager
def place(plan: RunPlan, *, clock: Clock, announce: Announce) -> Iterator[Placed]:
    """The first rung of ``plan.rungs`` whose bundles can be had within its ``max_wait_s``.

    A rung whose pool cannot hold it any more is passed over at once. On leaving, by whatever way,
    the placement group is removed and its resources are back. Raises PlacementTimedOut when no
    rung can be had, and DeploymentError (stage teardown) when Ray does not give it back.
    """
    tried: list[RungTried] = []
    told: list[str] = []
    for number, rung in enumerate(plan.rungs, start=1):
        which = f"rung {number} of {len(plan.rungs)}: pool {rung.pool.name} [{rung.capacity}]"
        started_s = clock.monotonic_s()
        ask = _Ask(rung=rung, clock=clock, deadline_s=started_s + rung.max_wait_s)
        try:
            outcome = _climb(ask, which, announce)
            waited_s = clock.monotonic_s() - started_s
            tried.append(_tried(rung, waited_s, outcome))
            if outcome == TAKEN:
                placed = _placed(ask, tuple(tried))
                announce("placement", f"{which}: placed on {', '.join(placed.placement.nodes)}")
                yield placed
        except BaseException:
            _give_back(ask, announce)
            raise
        if outcome == TAKEN:
            stuck = _give_back(ask, announce)
            if stuck:
                raise DeploymentError("teardown", stuck)
            return
        told.append(
            f"rung {number}: pool {rung.pool.name} [{rung.capacity}]: "
            f"{room_in_words(rung, _find(rung), free_by_node())}, waited {waited_s:.1f} s"
            + ("" if outcome == TIMED_OUT else f" ({outcome})")
        )
        announce("placement", f"{told[-1]}; going on")
        _give_back(ask, announce)
    raise PlacementTimedOut(
        "placement",
        "\n".join(("no rung could be had; wait longer (max_wait_s) or add a rung:", *told)),
        tuple(tried),
    )


def _tried(rung: Rung, waited_s: float, outcome: str) -> RungTried:
    return RungTried(
        pool=rung.pool.name, capacity=str(rung.capacity), waited_s=waited_s, outcome=outcome
    )


def _find(rung: Rung) -> PoolNodes | None:
    """The rung's pool as it is now."""
    pool = rung.pool
    for found in group(live_nodes()):
        now = found.pool
        if (now.name, now.capacity, now.accelerator, now.chips_per_node, now.topology) == (
            pool.name,
            rung.capacity,
            pool.accelerator,
            pool.chips_per_node,
            pool.topology,
        ):
            return found
    return None


def _climb(ask: _Ask, which: str, announce: Announce) -> str:
    """The outcome of one rung; ``ask.groups`` then has what is to be used or given back."""
    found = _find(ask.rung)
    if found is None or not can_ever_fit(ask.rung, found):
        return CANNOT_FIT
    announce(
        "placement",
        f"{which}: asking for {asked_in_words(ask.rung)}, waiting up to {ask.rung.max_wait_s:g} s",
    )
    beat = _Heartbeat(ask, which, announce)
    if ask.rung.strategy == "SLICE":
        return _climb_slice(ask, beat)
    ask.selector = found.selector
    asked = needs_of(ask.rung, found)
    ask.groups.append(
        placement_group(
            asked,
            strategy=ask.rung.strategy,
            bundle_label_selector=[dict(found.selector)] * len(asked),
            name=_name(this_process()),
        )
    )
    return _wait_for(ask, beat, ask.deadline_s)


class _Heartbeat:
    """Says every now and then that a rung is still being waited for, and what is free."""

    def __init__(self, ask: _Ask, which: str, announce: Announce) -> None:
        self._ask, self._which, self.announce = ask, which, announce
        self._next_s = ask.clock.monotonic_s() + HEARTBEAT_S

    def __call__(self, found: PoolNodes) -> None:
        if self._ask.clock.monotonic_s() < self._next_s:
            return
        self._next_s += HEARTBEAT_S
        room = room_in_words(self._ask.rung, found, free_by_node())
        self.announce(
            "placement", f"{self._which}: waiting, {self._ask.left_s():.0f} s left; {room}"
        )


def _wait_for(ask: _Ask, beat: _Heartbeat, until_s: float) -> str:
    """Until all groups are ready, the time is over, or the pool cannot hold them any more.

    Ray is asked again and again, so that an interrupt and a node's death are noticed in between;
    its own ``wait`` takes whole seconds and makes none of a fraction. A group that can be had is
    had within tenths of a second, so the first looks follow quickly.
    """
    pause_s = FIRST_POLL_S
    while True:
        if all(group_.wait(0) for group_ in ask.groups):
            return TAKEN
        found = _find(ask.rung)
        if found is None or not can_ever_fit(ask.rung, found):
            return NODES_LOST
        left_s = until_s - ask.clock.monotonic_s()
        if left_s <= 0:
            return TIMED_OUT
        beat(found)
        ask.clock.sleep(min(pause_s, left_s))
        pause_s = min(2.0 * pause_s, POLL_S)


def _climb_slice(ask: _Ask, beat: _Heartbeat) -> str:
    """Waits for slices of which every host is idle and takes them by name.

    Ray's own reservation takes any slice of the shape, whichever pool it is in: it is given the
    names, and reserves none itself.
    """
    while True:
        found = _find(ask.rung)
        if found is None or not can_ever_fit(ask.rung, found):
            return NODES_LOST
        need = needs_of(ask.rung, found)[0]
        names = slices_with_room(found.nodes, need, free_by_node())[: num_slices(ask.rung)]
        if len(names) == num_slices(ask.rung):
            _take_slices(ask, found, names, need)
            until_s = min(ask.deadline_s, ask.clock.monotonic_s() + SLICE_TRY_S)
            outcome = _wait_for(ask, beat, until_s)
            if outcome == TAKEN:
                for head in ask.groups[1:]:  # the hosts are ours now, the reservation has served
                    remove_placement_group(head)
                return TAKEN
            if outcome == NODES_LOST:
                return outcome
            _give_back(ask, beat.announce)
        if ask.left_s() <= 0:
            return TIMED_OUT
        beat(found)
        ask.clock.sleep(min(POLL_S, ask.left_s()))


def _take_slices(
    ask: _Ask, found: PoolNodes, names: Sequence[str], need: Mapping[str, float]
) -> None:
    """Asks for the heads and the hosts of these slices. ``ask.groups`` starts with the hosts'."""
    heads = []
    selectors: list[dict[str, str]] = []
    for name in names:
        hosts = slices(found.nodes)[name]
        by_worker = sorted(hosts, key=lambda host: int(host.labels.get(WORKER_ID, 0)))
        for host in by_worker:
            here = {SLICE_NAME: name}
            if WORKER_ID in host.labels:
                here[WORKER_ID] = host.labels[WORKER_ID]  # bundle i is worker i
            selectors.append({**found.selector, **here})
            head = [r for r in host.resources if r.startswith("TPU-") and r.endswith("-head")]
            if head and len(hosts) > 1:
                heads.append(
                    placement_group(
                        [{head[0]: 1}],
                        bundle_label_selector=[here],
                        name=_name(this_process()),
                    )
                )
    ask.groups.extend(heads)
    taken = slice_placement_group(
        topology=ask.rung.pool.topology,
        accelerator_version=tpu_version(ask.rung.pool.accelerator),
        resources_per_bundle=dict(need),
        num_slices=len(names),
        chips_per_vm=ask.rung.pool.chips_per_node,
        bundle_label_selector=selectors,
        name=_name(this_process()),
    )
    ask.groups.insert(0, taken.placement_group)
    ask.selector = {
        **found.selector,
        SLICE_NAME: names[0] if len(names) == 1 else f"in({','.join(names)})",
    }


def _placed(ask: _Ask, tried: tuple[RungTried, ...]) -> Placed:
    rung, pool = ask.rung, ask.rung.pool
    table: dict[str, Any] = placement_group_table(ask.groups[0])
    where = table["bundles_to_node_id"]
    node_ids = tuple(str(where[index]) for index in sorted(where))
    names = {node.node_id: node.name for node in live_nodes()}
    return Placed(
        rung=rung,
        placement=Placement(
            pool=pool.name,
            accelerator=pool.accelerator,
            num_chips=sum(bundle.chips for bundle in rung.bundles),
            capacity=str(rung.capacity),
            nodes=tuple(names.get(node_id, node_id) for node_id in dict.fromkeys(node_ids)),
            topology=pool.topology,
            zone=pool.zone,
            machine_type=pool.machine_type,
            virtual=pool.virtual,
            rungs=tried,
        ),
        placement_group=ask.groups[0],
        bundle_node_ids=node_ids,
        label_selector=dict(ask.selector),
    )


def _give_back(ask: _Ask, announce: Announce) -> str:
    """Removes everything asked for and waits until Ray has its resources back. Returns "" or what
    is still held, which it has announced."""
    groups, ask.groups = ask.groups, []
    if not groups:
        return ""
    try:
        held = ask_gcs(lambda: _removed(groups, ask.clock))
    except (RayError, ConnectionError, RuntimeError) as error:
        held = f"the cluster does not answer: {error}"
    if not held:
        return ""
    stuck = f"pool {ask.rung.pool.name}: the placement group was not given back: {held}"
    announce("placement", stuck)
    return stuck


def _removed(groups: Sequence[PlacementGroup], clock: Clock) -> str:
    """Returns "" or what is still held when the deadline has passed."""
    owed = _free_afterwards(groups)
    for group_ in groups:
        remove_placement_group(group_)
    start_s = clock.monotonic_s()
    while held := _still_held(groups) or _not_yet_free(owed):
        waited_s = clock.monotonic_s() - start_s
        if waited_s >= REMOVAL_DEADLINE_S:
            return held
        if waited_s >= FREE_DEADLINE_S and not _still_held(groups):
            return ""  # it was given back, and somebody else was quick to take it
        clock.sleep(REMOVAL_POLL_S)
    return ""


def remove_groups_of(process: ProcessIdentity) -> None:
    """Gives back what a process that is gone had taken: Ray takes an actor's groups away when its
    job ends, not when the actor dies."""
    for group_id, group_ in placement_group_table().items():
        theirs = str(group_.get("name", "")).startswith(_names_of(process))
        if theirs and group_["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group_id))))


def _name(process: ProcessIdentity) -> str:
    return _names_of(process) + secrets.token_hex(8)


def _names_of(process: ProcessIdentity) -> str:
    return f"windtunnel/{process.host}/{process.pid}/{process.process_started_s:.2f}/"


def _still_held(groups: Sequence[PlacementGroup]) -> str:
    for group_ in groups:
        state = placement_group_table(group_).get("state", "REMOVED")
        if state != "REMOVED":
            return f"it is {state}"
    ids = tuple(group_.id.hex() for group_ in groups)
    for node_id, resources in free_by_node().items():
        # A bundle shows on its node as resources named after it: CPU_group_0_<id of the group>.
        if any(name.endswith(ids) for name in resources):
            return f"node {node_id[:8]} still has its bundles"
    return ""


def _free_afterwards(groups: Sequence[PlacementGroup]) -> dict[str, dict[str, float]]:
    """What the groups' nodes will have left without them, by node id."""
    afterwards: dict[str, dict[str, float]] = {}
    free = free_by_node()
    totals = {node.node_id: node.resources for node in live_nodes()}
    for group_ in groups:
        table = placement_group_table(group_)
        for index, node_id in table.get("bundles_to_node_id", {}).items():
            if node_id not in totals:
                continue  # pending, or its node is gone
            left = afterwards.setdefault(node_id, {})
            for name, amount in table["bundles"][index].items():
                now = left.get(name, free.get(node_id, {}).get(name, 0.0))
                left[name] = min(now + amount, totals[node_id].get(name, 0.0))
    return afterwards


def _not_yet_free(owed: Mapping[str, Mapping[str, float]]) -> str:
    """Ray's view of a node lags behind the node by a fraction of a second."""
    free = free_by_node()
    for node_id, resources in owed.items():
        if node_id in free and not holds(free[node_id], resources):
            return f"node {node_id[:8]} has not its resources back"
    return ""
