"""The simulated training against closed forms, against another simulation, and by hand."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest

from results.checkpointing import daly_interval_s, goodput_share
from results.collective_time import Link, two_level_all_reduce_s
from results.goodput import Part
from results.intervals import mean_interval
from results.stragglers import expected_max_lognormal
from workloads.errors import SimulationRefused
from workloads.simulated.training.calibrate import Costs, SizeSeen, draw_costs, with_costs
from workloads.simulated.training.campaign import run_campaign
from workloads.simulated.training.checkpoints import search_interval
from workloads.simulated.training.collectives import all_reduce_done_s
from workloads.simulated.training.failures import FailureTrace, draw_failures
from workloads.simulated.training.model import (
    FailureModel,
    Recovery,
    StepModel,
    num_domains_of,
)
from workloads.simulated.training.step import exposed_bytes, simulate_steps

RNG = np.random.default_rng
OUTER = Link(alpha_s=1e-3, beta_s_per_byte=1e-9)
DAY_S = 86_400.0


def holds(values: np.ndarray, truth: float, confidence: float = 0.999) -> bool:
    """Whether the mean's interval over independent values covers the closed form."""
    _, interval = mean_interval(values, confidence)
    assert interval is not None
    return interval.low <= truth <= interval.high


# --- one step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ring", "tree"])
@pytest.mark.parametrize(("domains", "chips"), [(1, 8), (6, 4), (199, 256)])
def test_without_noise_a_step_is_the_closed_form(algorithm: str, domains: int, chips: int) -> None:
    inner = Link(alpha_s=1e-6, beta_s_per_byte=1e-11)
    model = StepModel(
        compute_s=0.5,
        gradient_bytes=1e9,
        inner=inner,
        outer=OUTER,
        algorithm=algorithm,  # type: ignore[arg-type]
    )
    got = simulate_steps(model, domains, chips, 2, RNG(0))
    want = two_level_all_reduce_s(algorithm, domains, chips, 1e9, inner, OUTER)  # type: ignore[arg-type]
    assert got.step_s == pytest.approx(0.5 + want)
    assert got.communication_s == pytest.approx(want)
    assert got.wait_s == pytest.approx(0.0)


def test_overlap_hides_bytes_as_far_as_there_is_time() -> None:
    model = StepModel(
        compute_s=3.0, gradient_bytes=1e9, outer=Link(alpha_s=0.0, beta_s_per_byte=1e-9),
        overlap_share=0.9, overlap_room_share=0.5,
    )  # fmt: skip
    # Two members: each byte is paid once. 0.9 s of 1 s are to be hidden, with room for 1.5 s.
    assert exposed_bytes(model, 2, 1e9) == pytest.approx(0.1e9)
    # With 4 s of bytes only 1.5 s find room.
    assert exposed_bytes(model, 2, 4e9) == pytest.approx(2.5e9)


@pytest.mark.parametrize(("domains", "chips"), [(1, 1000), (20, 50)])
def test_waiting_for_the_slowest_chip_is_the_expected_maximum(domains: int, chips: int) -> None:
    model = StepModel(compute_s=1.0, gradient_bytes=0.0, chip_cv=0.1)
    got = simulate_steps(model, domains, chips, 400, RNG(1))
    assert holds(got.step_s, expected_max_lognormal(1000, 0.1))


def test_slow_silicon_stays_slow() -> None:
    model = StepModel(compute_s=1.0, gradient_bytes=0.0, chip_spread_cv=0.1)
    steps = np.array([simulate_steps(model, 4, 250, 3, RNG(s)).step_s for s in range(200)])
    assert np.ptp(steps, axis=1).max() == 0.0  # within one machine every step is alike
    assert holds(steps[:, 0], expected_max_lognormal(1000, 0.1))


def ring_by_messages(ready: list[float], message_s: float) -> float:
    """The same ring as a queue of arrivals: another program for the same rules."""
    n, hops = len(ready), 2 * (len(ready) - 1)
    free = list(ready)  # when each member may send its next message
    inbox: list[list[float]] = [[] for _ in range(n)]
    sent = [0] * n
    queue = [(t, member) for member, t in enumerate(ready)]
    heapq.heapify(queue)
    while queue:
        now, member = heapq.heappop(queue)
        if sent[member] == hops:
            continue
        needed = sent[member]  # the k-th message waits for k received
        if len(inbox[member]) < needed or free[member] > now:
            continue
        start = max([now, free[member], *inbox[member][:needed]])
        free[member] = start + message_s
        sent[member] += 1
        peer = (member + 1) % n
        inbox[peer].append(free[member])
        heapq.heappush(queue, (free[member], member))
        heapq.heappush(queue, (free[member], peer))
    return max(max(box) for box in inbox)


def test_late_members_delay_a_ring_as_a_queue_of_messages_says() -> None:
    rng = RNG(3)
    for members in (2, 3, 8):
        ready = rng.exponential(size=members)
        want = ring_by_messages(ready.tolist(), 0.01)
        link = Link(alpha_s=0.01, beta_s_per_byte=0.0)
        got = all_reduce_done_s(ready[None, :], 1.0, link, "ring", 0.0, rng)
        assert got[0] == pytest.approx(want)


def test_unequal_messages_cost_more_than_their_mean() -> None:
    """Each wait is for the slower of two; without noise the walk is the closed form again."""
    ready, link = np.zeros((40, 16)), Link(alpha_s=0.01, beta_s_per_byte=0.0)
    for algorithm, hops in (("ring", 30), ("tree", 8)):
        tiny = all_reduce_done_s(ready, 1.0, link, algorithm, 1e-9, RNG(0))  # type: ignore[arg-type]
        assert tiny == pytest.approx(0.01 * hops)
        noisy = all_reduce_done_s(ready, 1.0, link, algorithm, 0.5, RNG(0))  # type: ignore[arg-type]
        assert noisy.mean() > 0.01 * hops * 1.2


def test_two_members_with_noise_have_a_closed_form() -> None:
    """A tree of two: up the slower of two messages, down the slower of two again."""
    link = Link(alpha_s=1.0, beta_s_per_byte=0.0)
    got = all_reduce_done_s(np.zeros((4000, 2)), 0.0, link, "tree", 0.3, RNG(4))
    assert holds(got, 2.0 * expected_max_lognormal(2, 0.3))


def test_too_many_messages_are_refused_with_their_number() -> None:
    with pytest.raises(SimulationRefused, match="messages to draw"):
        all_reduce_done_s(np.zeros((64, 6368)), 1.0, OUTER, "ring", 0.1, RNG(0))


@pytest.mark.parametrize(
    ("chips", "per_domain", "said"),
    [(50_000, 256, "49920 or 50176"), (7, 8, "ask for 8"), (0, 8, "≥ 1")],
)
def test_chips_that_are_no_whole_domains(chips: int, per_domain: int, said: str) -> None:
    with pytest.raises(SimulationRefused, match=said):
        num_domains_of(chips, per_domain)


# --- failures ------------------------------------------------------------------------------------


def test_failures_come_as_often_as_the_rates_say() -> None:
    model = FailureModel(mtbf_chip_hours=50_000.0, link_mtbf_hours=10_000.0)
    counts = np.array(
        [draw_failures(model, 50_944, 199, 10 * DAY_S, RNG(s)).num_failures for s in range(200)]
    )
    want = 240.0 * (50_944 / 50_000.0 + 199 / 10_000.0)
    assert holds(counts, want)
    assert counts.var(ddof=1) == pytest.approx(want, rel=0.35)  # Poisson
    assert 10 * DAY_S / model.mtbf_s(50_944, 199) == pytest.approx(want)


def test_early_deaths_come_early_and_the_first_failure_is_weibulls() -> None:
    model = FailureModel(mtbf_chip_hours=1000.0, weibull_shape=0.7)
    firsts = np.array(
        [draw_failures(model, 50, 1, 400 * 3600.0, RNG(s)).at_s[0] / 3600.0 for s in range(400)]
    )
    # The smallest of 50 Weibull lives is Weibull again, its scale shorter by 50^(1/shape).
    scale = model.weibull_scale_hours / 50 ** (1 / 0.7)
    assert holds(firsts, scale * math.gamma(1 + 1 / 0.7))
    many = draw_failures(model, 20_000, 1, 2000 * 3600.0, RNG(0)).at_s / 3600.0
    assert np.mean(many < 200) > np.mean(many > 1800)
    # In the long run a renewal process fails once per mean life, however its lives are spread.
    assert np.sum(many > 1000) / 20_000 == pytest.approx(1.0, rel=0.1)


# --- campaigns -----------------------------------------------------------------------------------

RECOVERY = Recovery(save_s=30.0, detect_s=20.0, restart_s=100.0, restore_s=30.0)


def goodputs(
    model: FailureModel, interval_s: float, seeds: int = 60, days: float = 20.0
) -> np.ndarray:
    return np.array(
        [
            run_campaign(
                draw_failures(model, 10_000, 1, days * DAY_S, RNG(s)),
                model, RECOVERY, step_s=1.0, interval_s=interval_s, horizon_s=days * DAY_S,
            ).share
            for s in range(seeds)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("interval_s", [100.0, 464.0, 2000.0])
@pytest.mark.parametrize("mtbf_s", [600.0, 3600.0])
def test_goodput_is_dalys_closed_form(interval_s: float, mtbf_s: float) -> None:
    model = FailureModel(mtbf_chip_hours=10_000 * mtbf_s / 3600.0, replace_share=0.0)
    want = goodput_share(interval_s, RECOVERY.save_s, mtbf_s, RECOVERY.down_s)
    got = goodputs(model, interval_s)
    _, found = mean_interval(got, 0.999)
    assert found is not None
    # The last stretch, which no checkpoint holds, counts as kept: at most one interval in 20 days.
    assert found.low - interval_s / (20 * DAY_S) <= want <= found.high


def test_the_best_interval_is_dalys() -> None:
    model = FailureModel(mtbf_chip_hours=10_000.0, replace_share=0.0)
    traces = [draw_failures(model, 10_000, 1, 25 * DAY_S, RNG(s)) for s in range(20)]
    got = search_interval(
        traces, model, RECOVERY,
        step_s=np.ones(20), mtbf_s=3600.0, horizon_s=25 * DAY_S, rng=RNG(0),
    )  # fmt: skip
    assert got.daly_s == daly_interval_s(30.0, 3600.0)
    assert got.best_s == pytest.approx(got.daly_s, rel=0.05)
    assert got.high_s - got.low_s < 0.1 * got.daly_s


def trace(*strikes: tuple[float, bool]) -> FailureTrace:
    return FailureTrace(
        at_s=np.array([t for t, _ in strikes]), takes_unit=np.array([u for _, u in strikes])
    )


def campaign(
    strikes: FailureTrace, spares: int = 0, repair_s: float = 1000.0, horizon_s: float = 2000.0
) -> dict[Part, float]:
    """Steps of 10 s, a save of 30 s after each 100 s of work; down for 150 s."""
    got = run_campaign(
        strikes, FailureModel(mtbf_chip_hours=1.0, num_spares=spares, repair_s=repair_s), RECOVERY,
        step_s=10.0, interval_s=100.0, horizon_s=horizon_s,
    )  # fmt: skip
    assert sum(got.seconds.values()) == pytest.approx(horizon_s)
    assert min(got.seconds.values()) >= 0.0
    return dict(got.seconds)


def test_one_failure_by_hand() -> None:
    got = campaign(trace((300.0, False)))
    # Two cycles of 130 s, 40 s lost, down until 450 s, then 1550 s: 11 cycles and 120 s.
    assert got[Part.WASTED_PROGRESS] == pytest.approx(40.0)
    assert got[Part.RECOVERY] == pytest.approx(120.0)
    assert got[Part.CHECKPOINT_RESTORE] == pytest.approx(30.0)
    assert got[Part.PRODUCTIVE] == pytest.approx(200.0 + 1100.0 + 100.0)
    assert got[Part.CHECKPOINT_SAVE] == pytest.approx(60.0 + 330.0 + 20.0)


def test_a_failure_on_the_way_back_begins_it_anew() -> None:
    got = campaign(trace((300.0, False), (400.0, False)))
    assert got[Part.RECOVERY] == pytest.approx(100.0 + 120.0)
    assert got[Part.CHECKPOINT_RESTORE] == pytest.approx(30.0)
    assert got[Part.WASTED_PROGRESS] == pytest.approx(40.0)


def test_without_a_spare_the_job_waits_for_the_repair() -> None:
    got = campaign(trace((300.0, True)))
    assert got[Part.HARDWARE_WAIT] == pytest.approx(1000.0 - 20.0)
    assert campaign(trace((300.0, True)), spares=1)[Part.HARDWARE_WAIT] == 0.0


def test_a_spare_that_is_away_helps_nobody() -> None:
    twice = trace((300.0, True), (700.0, True))
    got = campaign(twice, spares=1, horizon_s=3000.0)
    assert got[Part.HARDWARE_WAIT] == pytest.approx(1300.0 - 720.0)  # the first one is back at 1300
    assert campaign(twice, spares=2, horizon_s=3000.0)[Part.HARDWARE_WAIT] == 0.0
    later = trace((300.0, True), (1400.0, True))
    assert campaign(later, spares=1, horizon_s=3000.0)[Part.HARDWARE_WAIT] == 0.0


# --- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ring", "tree"])
def test_costs_that_made_the_rates_are_found_again(algorithm: str) -> None:
    leaving = 0.02 if algorithm == "ring" else 0.0  # in a tree it is like the bytes
    true = Costs(
        algorithm=algorithm,  # type: ignore[arg-type]
        bytes_share=0.03,
        hop_share=0.004,
        domain_cv=0.0,
        leaving_share=leaving,
    )
    model = with_costs(StepModel(compute_s=8.0, gradient_bytes=3.2e10), 256, true)
    seen = [
        SizeSeen(num_domains=m, rate=1.0 / simulate_steps(model, m, 256, 1, RNG(0)).step_s[0])
        for m in (1, 2, 4, 8, 16, 32)
    ]
    got = [draw_costs(seen, RNG(s), noise_cv=1e-6) for s in range(5)]
    assert {costs.algorithm for costs in got} == {algorithm}
    assert np.mean([c.bytes_share for c in got]) == pytest.approx(0.03, rel=0.05)
    assert np.mean([c.hop_share for c in got]) == pytest.approx(0.004, rel=0.05)
    assert np.mean([c.leaving_share for c in got]) == pytest.approx(leaving, rel=0.05)


def test_a_table_that_says_too_little_is_refused() -> None:
    with pytest.raises(SimulationRefused, match="one domain and of at least two"):
        draw_costs([SizeSeen(num_domains=1, rate=1.0), SizeSeen(num_domains=2, rate=0.9)], RNG(0))
