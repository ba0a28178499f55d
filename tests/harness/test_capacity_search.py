"""The search against queues whose capacity is known, and against servers that misbehave."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.capacity.evidence import judged_rates
from harness.capacity.judge import SETTLE_SHARE, design_effect
from harness.capacity.search import Measure, Question, next_action, result_now
from results.capacity import Capacity, CapacityKind, ConstraintSeen, Point, Verdict

Server = Callable[[Measure], Point]
DRAIN_S = 1.0
LOOKED_TWICE = (0, 1, 4, 9)


def fifo(arrivals: np.ndarray, services: np.ndarray, num_servers: int) -> np.ndarray:
    """Departures of a first-come-first-served queue, by its definition."""
    free = [0.0] * num_servers
    departures = np.empty(len(arrivals))
    for i, (at, service) in enumerate(zip(arrivals, services, strict=True)):
        begins = max(at, heapq.heappop(free))
        departures[i] = begins + service
        heapq.heappush(free, departures[i])
    return departures


def mm1(arrivals: np.ndarray, services: np.ndarray) -> np.ndarray:
    """The same for one server: D(i) = S(i) + max over j ≤ i of (A(j) − S(j − 1))."""
    total = np.cumsum(services)
    return total + np.maximum.accumulate(arrivals - (total - services))


def point(
    measure: Measure,
    arrivals: np.ndarray,
    departures: np.ndarray,
    limit_s: float,
    wanted: float,
) -> Point:
    """What a perfect client would have seen of the sojourn times."""
    duration_s = measure.duration_s
    judged = arrivals >= SETTLE_SHARE * duration_s
    severity = (departures - arrivals)[judged] / limit_s
    num = int((arrivals > duration_s / 3).sum())

    def waiting(at_s: float) -> int:
        return int(((arrivals <= at_s) & (departures > at_s)).sum())

    growth = (waiting(duration_s) - waiting(duration_s / 3)) / math.sqrt(2.0 * max(num, 1))
    return Point(
        rate_rps=measure.rate_rps,
        duration_s=duration_s,
        took_s=duration_s + DRAIN_S,
        seed=measure.number,
        num_requests=len(arrivals),
        num_failed=0,
        constraints=(
            ConstraintSeen(
                name="e2e",
                wanted=wanted,
                num_good=int((severity <= 1.0).sum()),
                num_judged=len(severity),
                design_effect=design_effect(severity, 1.0, wanted),
            ),
        ),
        backlog_growth=growth,
    )


def poisson(rate: float, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.uniform(0.0, duration_s, rng.poisson(rate * duration_s)))


def mm1_server(mu: float, limit_s: float, wanted: float, seed: int) -> Server:
    def measure(asked: Measure) -> Point:
        rng = np.random.default_rng([seed, asked.number])
        arrivals = poisson(asked.rate_rps, asked.duration_s, rng)
        departures = mm1(arrivals, rng.exponential(1.0 / mu, len(arrivals)))
        return point(asked, arrivals, departures, limit_s, wanted)

    return measure


def step_server(capacity: float, *, above: float = 0.0, below: float = 1.0) -> Server:
    """Every request is good below the capacity, and none above: decided as soon as it can be."""

    def measure(asked: Measure) -> Point:
        share = below if asked.rate_rps <= capacity else above
        num = round(asked.rate_rps * asked.duration_s * (1.0 - SETTLE_SHARE))
        seen = ConstraintSeen(name="ttft", wanted=0.99, num_good=round(share * num), num_judged=num)
        return Point(
            rate_rps=asked.rate_rps,
            duration_s=asked.duration_s,
            took_s=asked.duration_s + DRAIN_S,
            seed=asked.number,
            num_requests=num,
            num_failed=0,
            constraints=(seen,),
        )

    return measure


def search(question: Question, server: Server) -> tuple[Capacity, list[Point]]:
    points: list[Point] = []
    while True:
        action = next_action(question, points)
        if len(points) in LOOKED_TWICE:
            assert action == next_action(question, points)  # no memory
        if isinstance(action, Capacity):
            return action, points
        assert action.number == len(points)
        points.append(server(action))
        assert len(points) < 200


@pytest.mark.parametrize(
    ("mu", "load", "wanted", "least_claims"),
    [(100.0, 0.885, 0.99, 47), (10.0, 0.54, 0.9, 42)],
)
def test_the_interval_holds_the_capacity_of_an_mm1_queue(
    mu: float, load: float, wanted: float, least_claims: int
) -> None:
    """P(sojourn > t) = exp(−(μ − λ) t): the rate at which the share crosses is known exactly."""
    capacity = load * mu
    limit_s = math.log(1.0 / (1.0 - wanted)) / (mu - capacity)
    question = Question(shares=(wanted,), budget_s=600.0, shortest_pass_s=20.0 * limit_s)
    claims, held, counts, estimates = 0, 0, [], []
    for seed in range(50):
        found, points = search(question, mm1_server(mu, limit_s, wanted, seed))
        counts.append(len(points))
        assert found.spent_s <= question.budget_s + DRAIN_S
        if found.estimate_rps is not None:
            estimates.append(found.estimate_rps / capacity)
        if found.capacity_rps is None or found.failed_rps is None:
            continue
        claims += 1
        held += found.capacity_rps <= capacity <= found.failed_rps
    assert claims >= least_claims
    assert held >= 0.95 * claims
    assert np.mean(counts) <= 22.0
    assert 0.8 < np.median(estimates) < 1.25


def test_a_server_of_many_slots_is_bracketed() -> None:
    """M/D/4: no closed form, so its crossing comes from one long simulation of the definition."""
    service_s, slots = 0.1, 4
    limit_s = 3.0 * service_s

    def measured(rate: float, duration_s: float, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
        arrivals = poisson(rate, duration_s, np.random.default_rng(seed))
        return arrivals, fifo(arrivals, np.full(len(arrivals), service_s), slots)

    def share(rate: float) -> float:
        arrivals, departures = measured(rate, 30_000.0 / rate, [0])
        return float(np.mean((departures - arrivals)[3_000:] <= limit_s))

    low, high = 20.0, 40.0
    for _ in range(8):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if share(middle) >= 0.99 else (low, middle)
    question = Question(shares=(0.99,), budget_s=600.0, shortest_pass_s=20.0 * limit_s)
    for seed in range(4):

        def server(asked: Measure, seed: int = seed) -> Point:
            arrivals, departures = measured(
                asked.rate_rps, asked.duration_s, [seed + 1, asked.number]
            )
            return point(asked, arrivals, departures, limit_s, 0.99)

        found, _ = search(question, server)
        assert found.kind in (CapacityKind.BRACKETED, CapacityKind.FOUND)
        assert found.capacity_rps is not None
        assert found.failed_rps is not None
        assert found.capacity_rps <= high * 1.02
        assert low * 0.98 <= found.failed_rps


@pytest.mark.parametrize("capacity", [3.3, 77.0, 1500.0])
def test_a_sharp_edge_is_found_within_the_tolerance(capacity: float) -> None:
    question = Question(shares=(0.99,), budget_s=3600.0)
    found, points = search(question, step_server(capacity))
    assert found.kind is CapacityKind.FOUND
    assert found.capacity_rps is not None
    assert found.failed_rps is not None
    assert found.capacity_rps <= capacity < found.failed_rps
    assert found.failed_rps / found.capacity_rps <= 1.05
    assert found.is_conclusive
    assert len(points) <= 30


def test_a_wider_tolerance_takes_fewer_points() -> None:
    counts = []
    for tolerance in (0.02, 0.5):
        question = Question(shares=(0.99,), budget_s=3600.0, tolerance=tolerance)
        found, points = search(question, step_server(77.0))
        assert found.kind is CapacityKind.FOUND
        counts.append(len(points))
    assert counts[1] < counts[0]


def test_nothing_passes() -> None:
    question = Question(shares=(0.99,), budget_s=600.0)
    found, points = search(question, step_server(0.0))
    # It is the budget that goes no lower, and a budget is no answer.
    assert found.kind is CapacityKind.UNDECIDED
    assert not found.is_conclusive
    assert found.capacity_rps is None
    assert found.failed_rps == pytest.approx(573 / 600, rel=0.02)
    assert "do not fit into 600 s" in found.why
    assert found.binding == "ttft"
    assert found.binding_attainment == 0.0
    assert len(points) <= 6


def test_nothing_passes_down_to_the_lowest_rate_allowed() -> None:
    question = Question(shares=(0.99,), budget_s=600.0, min_rps=4.0)
    found, _ = search(question, step_server(0.0))
    assert found.kind is CapacityKind.BELOW
    assert found.is_conclusive
    assert found.capacity_rps is None
    assert found.failed_rps == 4.0


def test_everything_passes_up_to_the_highest_rate_allowed() -> None:
    question = Question(shares=(0.99,), min_rps=2.0, max_rps=50.0)
    found, points = search(question, step_server(math.inf))
    assert found.kind is CapacityKind.AT_LEAST
    assert found.capacity_rps == 50.0
    assert found.failed_rps is None
    assert found.binding == ""
    assert min(p.rate_rps or 0.0 for p in points) == 2.0
    assert max(p.rate_rps or 0.0 for p in points) == 50.0


def test_the_lowest_rate_allowed_fails() -> None:
    question = Question(shares=(0.99,), min_rps=4.0, max_rps=50.0)
    found, points = search(question, step_server(1.0))
    assert found.kind is CapacityKind.BELOW
    assert found.failed_rps == 4.0
    assert {p.rate_rps for p in points} == {4.0}


def test_the_budget_is_kept_and_what_is_known_is_told() -> None:
    question = Question(shares=(0.99,), budget_s=30.0)
    found, points = search(question, step_server(20.0))
    assert found.kind is CapacityKind.UNDECIDED
    assert not found.is_conclusive
    assert sum(p.took_s for p in points) <= 30.0
    assert found.failed_rps is not None
    assert "30 s is spent" in found.why or "s left" in found.why


def test_the_number_of_points_is_kept() -> None:
    found, points = search(Question(shares=(0.99,), max_points=5), step_server(20.0))
    assert len(points) == 5
    assert found.why == "the search's 5 points are used up"


def spoiled_above(rate: float, server: Server) -> Server:
    def measure(asked: Measure) -> Point:
        seen = server(asked)
        if asked.rate_rps <= rate:
            return seen
        return replace(seen, client_faults=("the client itself was late",))

    return measure


def test_the_clients_limit_is_no_failure_of_the_server() -> None:
    question = Question(shares=(0.99,), budget_s=600.0)
    found, points = search(question, spoiled_above(20.0, step_server(1000.0)))
    assert found.kind is CapacityKind.CLIENT_LIMITED
    assert found.spoiled_rps == 32.0
    assert found.failed_rps is None
    assert not any(r.verdict is Verdict.FAIL for r in found.rates)
    assert [p.rate_rps for p in points[-2:]] == [32.0, 32.0]
    assert not found.is_conclusive


def test_a_load_that_was_not_the_one_asked_for_ends_the_search() -> None:
    def measure(asked: Measure) -> Point:
        return replace(step_server(77.0)(asked), load_faults=("the prefix cache helped",))

    found, points = search(Question(shares=(0.99,), budget_s=600.0), measure)
    assert found.kind is CapacityKind.INVALID
    assert len(points) == 2
    assert found.faults == ("the prefix cache helped",)
    assert "the prefix cache helped" in found.why


def test_a_client_disturbed_once_is_measured_again() -> None:
    disturbed = []

    def measure(asked: Measure) -> Point:
        seen = step_server(77.0)(asked)
        if asked.rate_rps == 16.0 and not disturbed:
            disturbed.append(asked)
            return replace(seen, client_faults=("late",))
        return seen

    found, _ = search(Question(shares=(0.99,), budget_s=3600.0), measure)
    assert disturbed
    assert found.kind is CapacityKind.FOUND


def test_a_client_limit_above_a_rate_that_failed_does_not_matter() -> None:
    def measure(asked: Measure) -> Point:
        seen = step_server(10.0)(asked)
        return replace(seen, client_faults=("late",)) if asked.rate_rps > 30.0 else seen

    found, _ = search(Question(shares=(0.99,), budget_s=3600.0), measure)
    assert found.kind is CapacityKind.FOUND
    assert found.spoiled_rps is None


def test_a_higher_rate_that_passes_makes_the_lower_one_be_measured_again() -> None:
    def seen(rate: float, share: float, number: int) -> Point:
        asked = Measure(rate_rps=rate, duration_s=100.0, number=number, why="")
        return step_server(math.inf, below=share)(asked)

    points = [seen(8.0, 0.5, 0), seen(16.0, 1.0, 1)]
    question = Question(shares=(0.99,), budget_s=3600.0)
    action = next_action(question, points)
    assert isinstance(action, Measure)
    assert (action.rate_rps, action.duration_s) == (8.0, 100.0)
    points.append(seen(8.0, 0.5, 2))
    told = result_now(question, points, "stopped")
    assert told.failed_rps == 8.0
    assert told.capacity_rps is None
    assert len(told.violations) == 1
    assert "16/s passed although the lower rate 8/s failed" in told.violations[0]


def test_a_queue_that_grows_fails_the_rate_though_no_limit_was_missed_yet() -> None:
    def measure(asked: Measure) -> Point:
        seen = step_server(math.inf)(asked)
        return replace(seen, backlog_growth=9.0 if asked.rate_rps > 40.0 else 0.0)

    found, _ = search(Question(shares=(0.99,), budget_s=3600.0), measure)
    assert found.kind is CapacityKind.FOUND
    assert found.capacity_rps is not None
    assert found.capacity_rps <= 40.0
    assert found.binding == "the queue grows for as long as the load lasts"


def test_no_rate_passes_on_points_too_short_to_show_a_queue() -> None:
    asked = Measure(rate_rps=100.0, duration_s=30.0, number=0, why="")
    points = [step_server(math.inf)(asked)]
    assert judged_rates(points, 0.01)[0].verdict is Verdict.PASS
    assert judged_rates(points, 0.01, shortest_s=60.0)[0].verdict is Verdict.UNDECIDED


def test_nothing_measured_is_no_answer() -> None:
    told = result_now(Question(shares=(0.99,)), [], "stopped by the user")
    assert told.kind is CapacityKind.UNDECIDED
    assert told.why == "stopped by the user"
    assert (told.capacity_rps, told.failed_rps, told.estimate_rps) == (None, None, None)
