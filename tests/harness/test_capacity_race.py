"""What ends a trial after its probe: proven broken limits, a goal proven worse, nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.capacity.ascent import Ascent, Seen, Target, Window, given_up, next_window
from harness.capacity.curve import Load
from harness.capacity.judge import conditions_of
from harness.capacity.paired import Compared, Probe
from harness.capacity.race import Race, Raced, raced
from harness.capacity.slo import slo_of
from results.capacity import Point
from results.measurement import Measurement
from results.testing import make_requests

SLO = slo_of("ttft_p90=500ms")
RACE = Race(
    metric="ttft_s",
    statistic="p50",
    conditions=conditions_of(SLO.limits, SLO.attainment),
    margin=0.05,
    error=0.05,
    rival="the best",
)


def probe(ttft_s: float, *, spread: float = 0.05, n: int = 100, seed: int = 0) -> Probe:
    made = make_requests(n)
    intended = np.arange(n) * 0.5
    drawn = np.random.default_rng(5).lognormal(0.0, spread, n)
    first = intended + ttft_s * drawn * np.random.default_rng([seed, 9]).lognormal(0.0, 0.02, n)
    times = {"first_token_s": first, "first_answer_s": first, "done_s": first + 0.1}
    sent = {"intended_s": intended, "dispatched_s": intended, "written_s": intended}
    warm = np.zeros(n, dtype=np.bool_)
    return Probe(samples=replace(made, **times, **sent, is_warmup=warm), duration_s=50.0)


def test_a_trial_as_good_as_the_best_gets_its_window() -> None:
    found = raced(RACE, probe(0.2, seed=1), probe(0.2, seed=2))
    assert found.stop == ""
    assert found.compared.at_most is not None
    assert found.compared.at_most > 0.95


def test_a_goal_that_is_proven_worse_by_more_than_the_margin_ends_it() -> None:
    found = raced(RACE, probe(0.25, seed=1), probe(0.2, seed=2))
    assert found.stop == "goal"
    assert found.compared.at_most is not None
    assert 0.78 < found.compared.at_most < 0.95
    assert "same requests" in found.why
    assert raced(replace(RACE, margin=0.3), probe(0.25, seed=1), probe(0.2, seed=2)).stop == ""


def test_broken_limits_end_it_with_a_bound_on_how_broken() -> None:
    found = raced(RACE, probe(0.8), None)
    assert found.stop == "limits"
    (slowest,) = found.slowest.values()
    true_p90_in_limits = 0.8 * float(np.exp(1.2816 * np.hypot(0.05, 0.02))) / 0.5
    assert 1.05 < slowest <= true_p90_in_limits * 1.02
    assert next(iter(found.attained.values())) < 0.1


@pytest.mark.parametrize("ttft_s", [0.5, 0.51])
def test_limits_broken_by_less_than_the_margin_do_not(ttft_s: float) -> None:
    assert raced(RACE, probe(ttft_s, spread=0.001), None).stop == ""


def test_what_the_best_does_not_keep_in_its_own_probe_ends_nobody() -> None:
    """A start that is still cold says nothing about a limit."""
    assert raced(RACE, probe(0.8, seed=1), probe(0.8, seed=2)).stop == ""


def test_a_request_that_never_came_back_is_beyond_every_limit() -> None:
    lost = probe(0.2)
    error = np.array(["timeout"] * 100, dtype=object)
    found = raced(RACE, replace(lost, samples=replace(lost.samples, error=error)), None)
    assert found.stop == "limits"
    assert np.isfinite(list(found.slowest.values())).all()


def test_several_goals_are_not_compared_and_limits_are() -> None:
    race = replace(RACE, metric="")
    assert raced(race, probe(0.3, seed=1), probe(0.2, seed=2)).stop == ""
    assert raced(race, probe(0.8, seed=1), probe(0.2, seed=2)).stop == "limits"


# ---- what becomes of it in an ascent ----

NONE = Compared(ratio=None, at_most=None, num_pairs=0, why_none="too few")
GOAL = Raced(
    stop="goal", why="it is worse", compared=Compared(ratio=0.7, at_most=0.8, num_pairs=12)
)
FINE = Raced(stop="", why="it may win", compared=Compared(ratio=1.0, at_most=1.1, num_pairs=12))
LIMITS = Raced(stop="limits", why="limits are broken", compared=NONE)
OWN = Ascent(loads=(Load(),), duration_s=60.0, probe_s=12.0, race=RACE)


def seen(raced_: Raced | None, *, number: int = 0, full: bool = False, value: float = 1.0) -> Seen:
    point = Point(
        rate_rps=float(number + 1),
        duration_s=12.0,
        took_s=12.0,
        seed=0,
        num_requests=50,
        num_failed=0,
        measurements=(
            Measurement(metric="output_throughput", statistic="value", value=value, n=9),
        ),
    )
    return Seen(window=Window(number=number, is_probe=not full), point=point, raced=raced_)


def test_a_single_load_is_probed_then_measured_in_full_or_given_up() -> None:
    assert next_window(OWN, []) == Window(number=0, is_probe=True)
    assert next_window(OWN, [seen(FINE)]) == Window(number=0)
    assert isinstance(next_window(OWN, [seen(FINE), seen(None, full=True)]), str)
    for stopped in (GOAL, LIMITS):
        assert next_window(OWN, [seen(stopped)]) == stopped.why
        assert given_up(OWN, [seen(stopped)]) == stopped.why
    assert given_up(OWN, [seen(FINE)]) == ""
    assert given_up(OWN, [seen(FINE), seen(None, full=True)]) == ""


def test_the_baseline_is_measured_in_full_whatever_its_probe_shows() -> None:
    alone = replace(OWN, race=None)
    assert next_window(alone, [seen(None)]) == Window(number=0)
    assert given_up(alone, [seen(None)]) == ""


def test_a_probe_that_its_client_spoiled_stops_nothing() -> None:
    one = seen(None)
    spoiled = replace(one, point=replace(one.point, client_faults=("late",)))
    assert next_window(OWN, [spoiled]) == Window(number=0)


def test_of_several_loads_all_have_to_be_without_a_chance() -> None:
    target = Target(metric="output_throughput", statistic="value", maximize=True, value=10.0)
    climb = replace(OWN, loads=(Load(rate_rps=1.0), Load(rate_rps=2.0)), target=target)
    low, high = seen(None, value=2.0), seen(GOAL, number=1, value=9.0)
    assert next_window(climb, [low]) == Window(number=1, is_probe=True)
    assert next_window(climb, [low, high]) == GOAL.why
    # Without a race one full window is measured all the same.
    assert next_window(replace(climb, race=None), [low, high]) == Window(number=1)
    # Pairs that do not rule it out win over two figures of different windows.
    fine = seen(FINE, number=1, value=5.0)
    assert next_window(climb, [low, fine]) == Window(number=1)
