"""The agenda: everything once, in order, never early, and close to its time on an idle loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import numpy as np
import pytest
import uvloop

from harness.load.pacing import Agenda
from harness.load.timerfd import Timer
from results.clock import read_monotonic_s

pytestmark = pytest.mark.alone

Fired = list[tuple[int, float, float]]  # index, intended, when


def run(coroutine: object) -> Fired:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)  # type: ignore[arg-type]


async def play(times: Sequence[float], more: Sequence[tuple[float, float]] = ()) -> Fired:
    """``more``: (when it becomes known, when it is due), both from the start."""
    fired: Fired = []
    over = asyncio.Event()
    num = len(times) + len(more)

    def fire(index: int, intended_s: float) -> None:
        fired.append((index, intended_s - zero_s, read_monotonic_s() - zero_s))
        if len(fired) == num:
            over.set()

    loop = asyncio.get_running_loop()
    agenda = Agenda(loop, fire)
    zero_s = read_monotonic_s() + 0.01
    agenda.plan([zero_s + t for t in times], range(len(times)))
    for number, (known_s, due_s) in enumerate(more):
        loop.call_later(known_s, agenda.add, zero_s + due_s, 1000 + number)
    await asyncio.wait_for(over.wait(), 20)
    agenda.close()
    return fired


def test_everything_fires_once_in_order_and_never_early() -> None:
    times = np.sort(np.random.default_rng(3).uniform(0.0, 0.3, 300))
    fired = run(play(times.tolist()))
    assert [i for i, _, _ in fired] == list(range(300))
    np.testing.assert_allclose([t for _, t, _ in fired], times, atol=1e-9)
    late_s = np.array([when - t for _, t, when in fired])
    assert late_s.min() >= 0.0
    # The loop's own timers would be 0.5 ms late in the median, for they count milliseconds.
    assert np.quantile(late_s, 0.25) < 0.0005


def test_what_becomes_known_later_takes_its_place() -> None:
    fired = run(play([0.05, 0.15], [(0.0, 0.1), (0.0, 0.02), (0.08, 0.0)]))
    assert [i for i, _, _ in fired] == [1001, 0, 1002, 1000, 1]  # 1002 was over when it was known
    assert all(when >= due for _, due, when in fired)


def test_a_backlog_lets_the_loop_look_at_its_sockets() -> None:
    async def scene() -> Fired:
        turns: list[int] = []
        fired: Fired = []
        over = asyncio.Event()

        def fire(index: int, intended_s: float) -> None:
            fired.append((index, intended_s, 0.0))
            if len(fired) == 500:
                over.set()

        reader, writer = os.pipe()
        os.write(writer, b"x")
        loop = asyncio.get_running_loop()
        loop.add_reader(reader, lambda: turns.append(len(fired)))
        agenda = Agenda(loop, fire)
        agenda.plan([0.0] * 500, range(500))
        await over.wait()
        loop.remove_reader(reader)
        agenda.close()
        os.close(reader)
        os.close(writer)
        assert len([t for t in turns if 0 < t < 500]) >= 500 // 16 - 2
        return fired

    assert [i for i, _, _ in run(scene())] == list(range(500))


def test_clear_gives_back_what_was_left() -> None:
    async def scene() -> Fired:
        agenda = Agenda(asyncio.get_running_loop(), lambda *_: pytest.fail("nothing is due"))
        far_s = read_monotonic_s() + 60.0
        agenda.plan([far_s, far_s + 1.0], [4, 5])
        agenda.add(far_s + 0.5, 9)
        assert sorted(agenda.clear()) == [(far_s, 4), (far_s + 0.5, 9), (far_s + 1.0, 5)]
        assert agenda.clear() == []
        agenda.close()
        return []

    run(scene())


@pytest.mark.parametrize("fraction", [0.0, 1e-12, 0.25, 1.0 - 1e-12])
def test_a_timer_is_not_early_at_the_edge_of_a_second(fraction: float) -> None:
    async def scene() -> Fired:
        fired = asyncio.Event()
        timer = Timer(asyncio.get_running_loop(), fired.set)
        at_s = float(int(read_monotonic_s())) + fraction
        while at_s < read_monotonic_s() + 0.01:
            at_s += 1.0
        timer.set(at_s)
        await fired.wait()
        assert read_monotonic_s() >= at_s
        timer.close()
        timer.close()
        return []

    run(scene())
