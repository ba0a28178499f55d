"""The ascent in worlds with a known knee: what is measured, what is spared, what it is worth."""

from __future__ import annotations

import pytest

from harness.capacity.ascent import Ascent, Seen, Target, Window, next_window
from harness.capacity.curve import Load
from harness.capacity.judge import conditions_of
from harness.capacity.slo import slo_of
from results.capacity import ConstraintSeen, Point
from results.measurement import Measurement

LOW = ("probe 1", "full 1", "probe 2", "full 2")
RATES = (1.0, 2.0, 4.0, 8.0, 16.0)
SLO = slo_of("ttft_p90=500ms")
CONDITIONS = conditions_of(SLO.limits, SLO.attainment)


def ascent(probe_s: float = 0.0, target: float | None = None, users: bool = False) -> Ascent:
    loads = tuple(Load(num_users=int(rate)) if users else Load(rate_rps=rate) for rate in RATES)
    return Ascent(
        loads=loads,
        duration_s=60.0,
        probe_s=probe_s,
        conditions=CONDITIONS,
        target=None
        if target is None
        else Target(metric="output_throughput", statistic="value", maximize=True, value=target),
    )


class World:
    """Keeps the limits up to ``knee`` requests/s; the short look sees what the long one sees, with
    a tenth of the requests, unless it is ``blind``. From ``spoiled`` on the client is late, so
    often."""

    def __init__(
        self,
        knee: float,
        *,
        blind: bool = False,
        spoiled: float | None = None,
        num_spoiled: int = 99,
    ) -> None:
        self.knee, self.blind, self.spoiled = knee, blind, spoiled
        self.num_spoiled = num_spoiled

    def point(self, asked: Ascent, window: Window) -> Point:
        load = asked.loads[window.number]
        rate = load.rate_rps or float(load.num_users or 0)
        num = 60 if window.is_probe else 600
        share = 0.97 if rate <= self.knee or (self.blind and window.is_probe) else 0.4
        constraint = ConstraintSeen(
            name="TTFT", wanted=0.9, num_good=round(share * num), num_judged=num
        )
        goal = Measurement(metric="output_throughput", statistic="value", value=100.0 * rate, n=num)
        spoiled = self.spoiled is not None and rate >= self.spoiled and self.num_spoiled > 0
        self.num_spoiled -= spoiled
        return Point(
            rate_rps=load.rate_rps,
            num_users=load.num_users,
            duration_s=60.0,
            took_s=60.0,
            seed=0,
            num_requests=num,
            num_failed=0,
            constraints=(constraint,),
            measurements=(goal,),
            client_faults=("the client was late",) if spoiled else (),
        )


def climb(asked: Ascent, world: World) -> tuple[list[str], str]:
    """The windows, as ``probe 4`` or ``full 4``, and why it ended."""
    seen: list[Seen] = []
    while not isinstance(window := next_window(asked, seen), str):
        assert len(seen) < 30
        seen.append(Seen(window=window, point=world.point(asked, window)))
    kinds = ["probe" if s.window.is_probe else "full" for s in seen]
    kinds = ["again" if s.window.again else kind for s, kind in zip(seen, kinds, strict=True)]
    return [f"{k} {RATES[s.window.number]:g}" for k, s in zip(kinds, seen, strict=True)], window


@pytest.mark.parametrize("users", [False, True])
def test_it_stops_at_the_knee(users: bool) -> None:
    windows, why = climb(ascent(users=users), World(4.0))
    assert windows == ["full 1", "full 2", "full 4", "full 8"]
    assert "limits are broken" in why


def test_without_a_knee_it_goes_to_the_last_load() -> None:
    windows, why = climb(ascent(), World(99.0))
    assert windows == [f"full {rate:g}" for rate in RATES]
    assert "highest load asked for" in why


def test_without_conditions_nothing_else_ends_it() -> None:
    asked = Ascent(loads=ascent().loads, duration_s=60.0)
    assert len(climb(asked, World(1.0))[0]) == len(RATES)


def test_a_probe_that_proves_the_knee_spares_the_window() -> None:
    windows, _ = climb(ascent(probe_s=6.0), World(2.0))
    assert windows == ["probe 1", "full 1", "probe 2", "full 2", "probe 4"]


def test_what_cannot_beat_the_best_gets_a_short_look_only() -> None:
    """A probe without an interval may be off by a quarter: 4/s could reach 500, 2/s could not."""
    windows, _ = climb(ascent(probe_s=6.0, target=450.0), World(4.0))
    assert windows == ["probe 1", "probe 2", "probe 4", "full 4", "probe 8"]


def test_a_trial_without_a_chance_is_read_at_its_best_load_all_the_same() -> None:
    windows, _ = climb(ascent(probe_s=6.0, target=9000.0), World(4.0))
    assert windows == ["probe 1", "probe 2", "probe 4", "probe 8", "full 4"]


def test_a_window_that_breaks_what_its_probe_kept_is_followed_downward() -> None:
    windows, _ = climb(ascent(probe_s=6.0, target=9000.0), World(2.0, blind=True))
    assert windows == [*[f"probe {r:g}" for r in RATES], "full 16", "full 8", "full 4", "full 2"]


def test_where_every_load_breaks_the_limits_the_lowest_says_by_how_much() -> None:
    assert climb(ascent(probe_s=6.0), World(0.5))[0] == ["probe 1", "full 1"]
    assert climb(ascent(), World(0.5))[0] == ["full 1"]


def test_a_client_that_is_the_limit_twice_ends_it() -> None:
    windows, why = climb(ascent(probe_s=6.0), World(99.0, spoiled=4.0))
    assert windows == [*LOW, "probe 4", "full 4", "again 4"]
    assert "the client was late" in why


def test_a_passing_disturbance_is_no_limit() -> None:
    world = World(4.0, spoiled=2.0, num_spoiled=2)
    windows, _ = climb(ascent(probe_s=6.0), world)
    assert windows == [*LOW, "again 2", "probe 4", "full 4", "probe 8"]


def test_what_is_left_when_the_client_failed_is_what_was_measured() -> None:
    assert climb(ascent(), World(99.0, spoiled=1.0))[0] == ["full 1", "again 1"]
