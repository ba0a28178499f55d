"""The sweep's loads, their order, and where its curve bends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.capacity.curve import (
    Load,
    auto_rates,
    in_order,
    knee_of,
    next_scout,
    rates_of,
    users_of,
)
from harness.errors import SpecError
from results.capacity import Point
from results.measurement import Measurement


def point(
    rate: float | None = None, users: int | None = None, growth: float = 0.0, answered: float = 1.0
) -> Point:
    return Point(
        rate_rps=rate,
        num_users=users,
        duration_s=10.0,
        took_s=11.0,
        seed=0,
        num_requests=10,
        num_failed=0,
        backlog_growth=growth,
        measurements=(
            Measurement(metric="achieved_rate", statistic="value", value=answered, n=10),
        ),
    )


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1,2,4", (1.0, 2.0, 4.0)),
        ("4, 0.5", (0.5, 4.0)),
        ("1:64:7", (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)),
        ("8", (8.0,)),
    ],
)
def test_rates_are_read(text: str, rates: tuple[float, ...]) -> None:
    assert rates_of(text) == rates


def test_eight_rates_where_no_count_is_given() -> None:
    assert len(rates_of("1:64")) == 8


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("1:256", (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        ("1:100", (1, 2, 4, 8, 16, 32, 64, 100)),
        ("1:64:3", (1, 8, 64)),
        ("5,3", (3, 5)),
    ],
)
def test_users_are_read(text: str, users: tuple[int, ...]) -> None:
    assert users_of(text) == users


@pytest.mark.parametrize("text", ["", "a", "0", "1:2:3:4", "-1", "1:b", "1,,2"])
def test_what_is_no_load_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--rates"):
        rates_of(text)
    with pytest.raises(SpecError, match="--concurrency"):
        users_of(text)


def test_half_a_user_is_refused() -> None:
    with pytest.raises(SpecError, match="whole"):
        users_of("1.5")
    with pytest.raises(SpecError, match="a range goes up; write 2:8"):
        users_of("8:2")
    with pytest.raises(SpecError, match="--rates '64:1:8': a range goes up; write 1:64:COUNT"):
        rates_of("64:1:8")


def test_each_repeat_has_every_load_in_an_order_of_its_own() -> None:
    loads = [Load(rate_rps=float(r)) for r in range(1, 21)]
    order = in_order(loads, 3, seed=1)
    assert order == in_order(loads, 3, seed=1)
    assert order != in_order(loads, 3, seed=2)
    parts = [order[i : i + 20] for i in (0, 20, 40)]
    for repeat, part in enumerate(parts):
        assert {load.repeat for load in part} == {repeat}
        assert sorted(load.rate_rps or 0.0 for load in part) == [float(r) for r in range(1, 21)]
    assert len({tuple(load.rate_rps for load in part) for part in parts}) == 3
    assert [load.rate_rps for load in parts[0]] != [float(r) for r in range(1, 21)]


def test_scouting_doubles_until_the_server_or_the_client_falls_behind() -> None:
    assert next_scout([]) == 1.0
    assert next_scout([point(1.0), point(2.0)]) == 4.0
    assert next_scout([point(1.0), point(2.0, growth=5.0)]) is None
    late = replace(point(2.0), client_faults=("late",))
    assert next_scout([point(1.0), late]) is None
    rates = auto_rates([point(1.0), point(16.0), replace(point(32.0), client_faults=("late",))])
    assert (rates[0], rates[-1], len(rates)) == (1.0, 16.0, 8)
    assert auto_rates([late]) == ()


def test_the_knee_is_the_last_rate_before_the_server_falls_behind() -> None:
    knee = knee_of([point(8.0, growth=6.0), point(1.0), point(4.0), point(2.0)])
    assert knee.load == 4.0
    # One that is kept up with by chance above it does not count.
    assert knee_of([point(1.0), point(2.0, growth=6.0), point(4.0)]).load == 1.0


def test_there_is_no_knee_where_nothing_bends() -> None:
    up = knee_of([point(1.0), point(2.0)])
    assert (up.load, up.why) == (None, "at no rate measured, up to 2/s, it fell behind")
    assert knee_of([point(1.0, growth=6.0)]).why == "it fell behind at every rate measured"
    spoiled = replace(point(1.0), client_faults=("late",))
    assert knee_of([spoiled]).why == "no point says anything about the server"


def test_a_growing_queue_counts_when_less_came_back_than_was_sent() -> None:
    assert knee_of([point(1.0), point(4.0, growth=2.0, answered=3.0)]).load == 1.0
    assert knee_of([point(1.0), point(4.0, growth=2.0, answered=3.9)]).load is None


def test_users_have_a_knee_where_throughput_stops_growing() -> None:
    answered = {1: 5.0, 2: 10.0, 4: 19.5, 8: 20.0, 16: 19.0}
    knee = knee_of([point(users=n, answered=rate) for n, rate in answered.items()])
    assert knee.load == 4.0
    growing = knee_of([point(users=n, answered=float(n)) for n in (1, 2, 4)])
    assert growing.load is None
    assert "still grew at 4 users" in growing.why
