"""Long work in the event loop, a little at a time, so that others are answered in between.

A thread would not do: while it works, it holds the interpreter for as long as it likes to a switch
interval, and the loop waits for it at every turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Final, TypeVar

from results.clock import Clock

T = TypeVar("T")

# Work that yields after each of its steps, and returns what came of it.
Steps = Generator[None, None, T]

TURN_S: Final = 0.001


async def in_turns(steps: Steps[T], clock: Clock, turn_s: float = TURN_S) -> T:
    """What ``steps`` return. The loop goes round whenever they have taken ``turn_s`` seconds, and
    the step that was begun. Raises what they raise."""
    until_s = clock.monotonic_s() + turn_s
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            result: T = ended.value
            return result
        if clock.monotonic_s() >= until_s:
            await asyncio.sleep(0)
            until_s = clock.monotonic_s() + turn_s
