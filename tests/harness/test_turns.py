"""Whose turn it is to be loaded, by a clock that is moved by hand; no thread, no Ray."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.errors import EngineDied
from harness.turns import LOOK_S, POLL_S, Turn, Turns
from results.clock import SystemClock
from results.testing import FakeClock

WITHIN_S = 30.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def turns(clock: FakeClock) -> Turns:
    return Turns(num_at_once=1, clock=clock)


def test_turns_come_in_the_order_in_which_they_were_asked_for(
    turns: Turns, clock: FakeClock
) -> None:
    assert turns.ask(7) == [7]
    clock.advance(2.0)
    assert turns.ask(3) == []
    clock.advance(5.0)
    assert turns.ask(5) == []
    clock.advance(1.0)
    assert turns.over(7) == [3]
    clock.advance(4.0)
    assert turns.over(3) == [5]
    assert turns.over(5) == []
    assert [turns.waited_s(n) for n in (7, 3, 5)] == [0.0, 6.0, 5.0]


def test_a_wait_is_told_while_it_lasts(turns: Turns, clock: FakeClock) -> None:
    turns.ask(1)
    turns.ask(2)
    clock.advance(9.0)
    assert turns.waited_s(2) == 9.0
    assert turns.waited_s(1) == 0.0
    assert turns.waited_s(3) == 0.0  # it still starts


def test_who_dies_while_it_waits_is_passed_over(turns: Turns) -> None:
    for number in (1, 2, 3):
        turns.ask(number)
    assert turns.over(2) == []
    assert turns.over(1) == [3]


def test_who_dies_under_load_gives_its_turn_on_once(turns: Turns) -> None:
    for number in (1, 2, 3):
        turns.ask(number)
    assert turns.over(1) == [2]
    assert turns.over(1) == []  # said again, it takes nobody else's


def test_several_are_loaded_at_once_where_that_is_asked(clock: FakeClock) -> None:
    turns = Turns(num_at_once=2, clock=clock)
    assert [turns.ask(number) for number in (1, 2, 3, 4)] == [[1], [2], [], []]
    assert turns.over(2) == [3]
    assert turns.over(1) == [4]


class Ticking(FakeClock):
    """Calls ``at[n]`` in its nth sleep."""

    def __init__(self, at: dict[int, Callable[[], object]]) -> None:
        super().__init__()
        self._at = at

    def sleep(self, duration_s: float) -> None:
        super().sleep(duration_s)
        self._at.get(len(self.slept_s), lambda: None)()


def came(turn: Turn) -> Callable[[], object]:
    return turn._came.set  # what ``given`` does before it waits for the end


def test_a_turn_is_waited_for_and_over_with_its_body() -> None:
    turn = Turn()
    clock = Ticking({175: came(turn)})
    looks: list[float] = []
    with turn.taken(clock, lambda: looks.append(clock.monotonic_s())) as waited_s:
        assert turn.wanted()
        assert waited_s == pytest.approx(175 * POLL_S)
    assert not turn.wanted()
    turn.given()  # comes back at once: it is over
    assert len(looks) == int(175 * POLL_S / LOOK_S)


def test_an_engine_that_dies_while_it_waits_waits_no_longer() -> None:
    def look() -> None:
        raise EngineDied("load", "it ended")

    turn, clock = Turn(), FakeClock()
    with pytest.raises(EngineDied), turn.taken(clock, look):
        pytest.fail("its turn never came")
    assert sum(clock.slept_s) == pytest.approx(LOOK_S, abs=2 * POLL_S)
    turn.given()


def test_a_stop_while_it_waits_gives_the_turn_up() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    turn = Turn()
    with pytest.raises(KeyboardInterrupt), turn.taken(Ticking({3: stop}), lambda: None):
        pytest.fail("its turn never came")
    assert not turn.wanted()


def test_a_load_that_fails_gives_the_turn_back() -> None:
    turn = Turn()
    with pytest.raises(ZeroDivisionError), turn.taken(Ticking({1: came(turn)}), lambda: None):
        raise ZeroDivisionError
    turn.given()


def test_a_trial_that_ends_before_it_is_ready_never_wanted_its_turn() -> None:
    turn = Turn()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(turn.wanted)
        turn.end()
        assert asked.result(WITHIN_S) is False


def test_whoever_hands_turns_out_is_held_until_the_load_is_over() -> None:
    turn = Turn()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(turn.given)
        with turn.taken(SystemClock(), lambda: None):
            assert not held.done()
        assert held.result(WITHIN_S) is None
