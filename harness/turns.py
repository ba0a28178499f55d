"""Turns to be loaded: engines of several trials start beside each other, and are loaded in turns.

A start is no measurement that its neighbours may spoil; a load is. So a trial asks for its turn
once its engine has given the first token, keeps it until what it measured is sealed, and gives it
back before the engine is taken down. ``Turns`` decides whose turn it is, in the process that has
asked for the trials; a ``Turn`` is one trial's own, in its driver; ``LoadedInTurn`` is the deployer
that waits for it. What carries the word from one to the other is somebody else's
(``harness.on_ray.turn_keeper``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from harness.deployment import Announce, Deployer, Deployment
from harness.plan import RunPlan
from harness.pools import Inventory
from harness.runner import ALIVE_S
from results.clock import Clock
from workloads.base import Launch

POLL_S = 0.02  # at most so late does a trial notice that its turn has come
LOOK_S = 1.0  # between two looks at whether the engine that waits still lives


@dataclass(slots=True, kw_only=True)
class Turns:
    """Whose turn it is: first come first served, ``num_at_once`` at the same time. What each method
    returns are those whose turn has come by it. Not for several threads."""

    num_at_once: int
    clock: Clock
    _asked_s: dict[int, float] = field(default_factory=dict, init=False)  # waiting, in order
    _loading: set[int] = field(default_factory=set, init=False)
    _waited_s: dict[int, float] = field(default_factory=dict, init=False)

    def ask(self, number: int) -> list[int]:
        self._asked_s[number] = self.clock.monotonic_s()
        return self._next()

    def over(self, number: int) -> list[int]:
        """It has given its turn back, does not want it any more, or is dead."""
        self._given(number)
        self._loading.discard(number)
        return self._next()

    def waited_s(self, number: int) -> float:
        """Until now, or until its turn came; 0 for one that never asked."""
        asked_s = self._asked_s.get(number)
        if asked_s is not None:
            return self.clock.monotonic_s() - asked_s
        return self._waited_s.get(number, 0.0)

    def _next(self) -> list[int]:
        given = []
        while self._asked_s and len(self._loading) < self.num_at_once:
            number = next(iter(self._asked_s))
            self._given(number)
            self._loading.add(number)
            given.append(number)
        return given

    def _given(self, number: int) -> None:
        if number in self._asked_s:
            self._waited_s[number] = self.waited_s(number)
            del self._asked_s[number]


class Turn:
    """One trial's turn: wanted, given, over. ``taken`` is for the thread that drives the trial,
    once; ``wanted`` and ``given`` for whoever hands turns out, each of which keeps its thread until
    there is something to say."""

    def __init__(self) -> None:
        self._asked, self._came, self._over = (threading.Event() for _ in range(3))

    def wanted(self) -> bool:
        """Returns when the trial asks for its turn: True; or ends without: False."""
        self._asked.wait()
        return not self._over.is_set()

    def given(self) -> None:
        """It is this trial's turn. Returns when it is over: at once, where nobody waits."""
        self._came.set()
        self._over.wait()

    def end(self) -> None:
        """Whatever became of it."""
        self._over.set()
        self._asked.set()

    @contextmanager
    def taken(self, clock: Clock, look: Callable[[], None]) -> Iterator[float]:
        """Seconds waited. ``look`` is called while it waits, and may raise to wait no longer."""
        begun_s = looked_s = clock.monotonic_s()
        self._asked.set()
        try:
            while not self._came.is_set():
                clock.sleep(POLL_S)
                if clock.monotonic_s() - looked_s >= LOOK_S:
                    look()
                    looked_s = clock.monotonic_s()
            yield clock.monotonic_s() - begun_s
        finally:
            self.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedInTurn:
    """A ``Deployer`` whose deployments are handed over when it is their turn to be loaded. The
    records say under ``resolved.observed.turn`` how long each waited, ready, and when it came: the
    wait is no part of the startup, which ends with the first token, nor of the load."""

    deployer: Deployer
    turn: Turn
    clock: Clock

    def inventory(self) -> Inventory:
        return self.deployer.inventory()

    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> AbstractContextManager[Deployment]:
        return self._deploy(plan, launch_for, announce)

    @contextmanager
    def _deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> Iterator[Deployment]:
        with self.deployer.deploy(plan, launch_for, announce) as deployment:
            announce("turn", f"{plan.spec.name} is ready, and waits for its turn to be loaded")
            with self.turn.taken(self.clock, deployment.check) as waited_s:
                came_at = self.clock.now_utc()
                deployment.check()
                deployment.answers(ALIVE_S)  # what died or hangs while it waits records no zeros
                told = {"waited_s": waited_s, "came_at": came_at.isoformat()}
                observed = deployment.observed
                yield replace(deployment, observed=lambda: {**observed(), "turn": told})
