"""In which order a night makes its runs, and which of them may run at once. Pure.

Rounds go up and down in turn (ABBA) and each begins with the canaries, so that a machine that warms
up or a neighbour that wakes does not count for one series alone. Runs that could be given the same
chips are in one *lane* and follow each other; lanes are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.nightly.suite import Series, Suite
from results.nights import NightRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One run to make. ``name`` is unique within the night and the same whenever it is planned."""

    name: str
    role: NightRole
    series: Series
    round_index: int


def slots_of(suite: Suite) -> tuple[Slot, ...]:
    """Every run of the suite and its canaries, in the order to make them."""
    rounds = max(one.repeats for one in suite.series)
    found: list[Slot] = []
    for index in range(rounds):
        turn = [_slot(one, NightRole.RUN, index) for one in suite.series if index < one.repeats]
        found += [_slot(one, NightRole.CANARY, index) for one in suite.canaries]
        found += turn if index % 2 == 0 else turn[::-1]
    # Once more at the end: what moved during the last round would otherwise not be seen.
    return (*found, *(_slot(one, NightRole.CANARY, rounds) for one in suite.canaries))


def _slot(series: Series, role: NightRole, index: int) -> Slot:
    return Slot(name=f"{series.name}#{index + 1}", role=role, series=series, round_index=index)


def lanes_of(
    slots: Sequence[Slot], pools: Mapping[str, frozenset[str]]
) -> tuple[tuple[Slot, ...], ...]:
    """The slots in groups that share no pool, each in its order; the largest group first.

    ``pools``: for each series the pools on which it may be placed, down its whole ladder.
    """
    groups: list[tuple[set[str], set[str]]] = []  # series, pools
    for series in dict.fromkeys(slot.series.name for slot in slots):
        # A series that needs no pool (an endpoint) is a lane of its own: its name stands for it.
        wanted = set(pools.get(series, ())) or {f"({series})"}
        meeting = [group for group in groups if group[1] & wanted]
        for group in meeting:
            groups.remove(group)
        groups.append(
            (
                {series}.union(*(group[0] for group in meeting)),
                wanted.union(*(group[1] for group in meeting)),
            )
        )
    lanes = [tuple(s for s in slots if s.series.name in members) for members, _ in groups]
    return tuple(sorted(lanes, key=len, reverse=True))


def without_canary(suite: Suite, pools: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Series on whose pools no canary runs: what moves there cannot be told from the machine."""
    watched = {pool for one in suite.canaries for pool in pools.get(one.name, ())}
    return tuple(one.name for one in suite.series if not pools.get(one.name, frozenset()) & watched)
