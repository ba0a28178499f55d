from __future__ import annotations

import asyncio

import pytest

from results.api.turns import Steps, in_turns
from results.testing import FakeClock


def work(clock: FakeClock, steps: int, told: list[str]) -> Steps[str]:
    for number in range(steps):
        clock.advance(0.4)
        told.append(f"step {number}")
        yield
    return "done"


async def beside(told: list[str]) -> None:
    told.append("another")


def test_others_are_answered_between_steps() -> None:
    clock, told = FakeClock(), []  # type: FakeClock, list[str]

    async def both() -> str:
        other = asyncio.create_task(beside(told))
        found = await in_turns(work(clock, 5, told), clock, turn_s=1.0)
        await other
        return found

    assert asyncio.run(both()) == "done"
    # After the third step 1.2 s have gone by.
    assert told == ["step 0", "step 1", "step 2", "another", "step 3", "step 4"]


def test_what_a_step_raises_is_raised() -> None:
    def broken() -> Steps[None]:
        yield
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(in_turns(broken(), FakeClock()))
