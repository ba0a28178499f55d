"""Hands out the turns of trials whose drivers are actors, wherever they stand.

Each turn is two calls on the driver: one returns when its trial wants to load, the other says that
it may, and returns when it has. A driver that dies, by whatever, fails its call, and the next has
its turn; there is no lock that could outlive its holder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

from harness.turns import Turns
from results.clock import Clock

JOIN_S = 5.0


class TurnKeeper:
    """Begun with its first trial; close it by whatever way it is left. A thread of its own hands
    turns on, so that nobody waits while a search thinks."""

    def __init__(self, num_at_once: int, clock: Clock) -> None:
        self._turns = Turns(num_at_once=num_at_once, clock=clock)
        self._lock = threading.Lock()
        self._actors: dict[int, Any] = {}
        # Answers come in a thread of Ray's, from which Ray must not be called.
        self._heard: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._tend, name="turns", daemon=True)
        self._thread.start()

    def begin(self, number: int, actor: Any) -> None:
        """A trial: ``number`` is its own, and never used again."""
        with self._lock:
            self._actors[number] = actor
        self._when(actor.wants_turn.remote(number), partial(self._asked, number))

    def waited_s(self, number: int) -> float:
        with self._lock:
            return self._turns.waited_s(number)

    def close(self) -> None:
        self._heard.put(None)
        self._thread.join(JOIN_S)

    def _when(self, answer: Any, then: Callable[[Future[Any]], None]) -> None:
        answer.future().add_done_callback(lambda done: self._heard.put(partial(then, done)))

    def _tend(self) -> None:
        while (event := self._heard.get()) is not None:
            with self._lock:
                event()

    def _asked(self, number: int, done: Future[Any]) -> None:
        if done.exception() is None and done.result():
            self._give(self._turns.ask(number))
        else:
            del self._actors[number]

    def _over(self, number: int, _: Future[Any]) -> None:
        del self._actors[number]
        self._give(self._turns.over(number))

    def _give(self, numbers: list[int]) -> None:
        for number in numbers:
            answer = self._actors[number].has_turn.remote(number)
            self._when(answer, partial(self._over, number))
