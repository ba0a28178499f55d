"""Points and rates, judged: shares, dependence, queues, bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, stats

from harness.capacity.evidence import (
    error_share,
    judged_rates,
    leans_to_fail,
    least_n,
    share_bounds,
)
from harness.capacity.judge import (
    SETTLE_SHARE,
    backlog_growth,
    conditions_of,
    design_effect,
    judged,
)
from harness.capacity.measure import PointMeasured
from harness.capacity.points import at_rate, patience_s, point_of, salted, slowest_queue_s
from harness.capacity.slo import Limit, slo_of
from harness.errors import SpecError
from results.capacity import ConstraintSeen, Point, Verdict, falls_behind, growth_of
from results.record import Doubt
from results.samples import RequestSamples
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Traffic,
    UniformLength,
)

TTFT = Limit(metric="ttft_s", limit_s=0.5)


def samples_of(
    ttft_s: np.ndarray, duration_s: float, *, failed: tuple[int, ...] = (), tokens: int = 11
) -> RequestSamples:
    """Requests at even distances; 10 ms from token to token."""
    n = len(ttft_s)
    intended = np.arange(n) * duration_s / n
    error = np.array([""] * n, dtype=object)
    error[list(failed)] = "http_500: no"
    first = np.where(error == "", intended + ttft_s, np.nan)
    return RequestSamples(
        intended_s=intended,
        dispatched_s=intended,
        written_s=intended,
        first_byte_s=first,
        first_token_s=first,
        done_s=np.where(error == "", intended + ttft_s + 0.01 * (tokens - 1), intended + 0.001),
        prompt_tokens=np.full(n, 8),
        output_tokens=np.full(n, tokens),
        status=np.full(n, 200),
        error=error,
        is_warmup=np.zeros(n, dtype=np.bool_),
        worker=np.zeros(n, dtype=np.int64),
        event_offset=np.zeros(n + 1, dtype=np.int64),
        event_s=np.empty(0),
        event_tokens=np.empty(0, dtype=np.int64),
    )


def test_what_comes_before_the_queue_has_settled_is_not_judged() -> None:
    ttft = np.full(100, 0.1)
    ttft[:20] = 9.0
    (seen,) = judged(samples_of(ttft, 10.0), conditions_of([TTFT], 0.99), 10.0)
    assert (seen.num_good, seen.num_judged) == (80, 80)
    assert SETTLE_SHARE == 0.2
    ttft[20] = 9.0
    (seen,) = judged(samples_of(ttft, 10.0), conditions_of([TTFT], 0.99), 10.0)
    assert (seen.num_good, seen.num_judged) == (79, 80)


def test_a_failed_request_meets_no_limit() -> None:
    samples = samples_of(np.full(100, 0.1), 10.0, failed=(50, 60))
    (seen,) = judged(samples, conditions_of([TTFT], 0.99), 10.0)
    assert seen.num_good == 78
    assert seen.name == "TTFT ≤ 500 ms for 99 %"


def test_joint_limits_are_met_by_one_request_and_told_one_by_one() -> None:
    """10 ms per token: a TPOT limit of 5 ms is missed by all that have a second token."""
    limits = [TTFT, Limit(metric="tpot_s", limit_s=0.005)]
    ttft = np.where(np.arange(100) % 2 == 0, 0.1, 0.9)
    joint, first, second = judged(samples_of(ttft, 10.0), conditions_of(limits, 0.9), 10.0)
    assert (joint.wanted, joint.num_good) == (0.9, 0)
    assert (first.name, first.wanted, first.num_good) == ("TTFT ≤ 500 ms", 0.0, 40)
    assert (second.name, second.num_good) == ("TPOT ≤ 5.00 ms", 0)
    one = judged(samples_of(ttft, 10.0, tokens=1), conditions_of(limits, 0.9), 10.0)
    assert [c.num_good for c in one] == [40, 40, 80]  # no second token, nothing to miss


def test_a_limit_with_a_percentile_stands_alone() -> None:
    slo = slo_of("ttft_p99=500ms, tpot_p90<=5ms, e2e=1s")
    conditions = conditions_of(slo.limits, 0.95)
    assert [c.wanted for c in conditions] == [0.95, 0.99, 0.9]
    assert [len(c.limits) for c in conditions] == [1, 1, 1]
    assert conditions[0].name == "e2e latency ≤ 1.00 s for 95 %"


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_dependence_is_measured_as_large_as_it_is(phi: float) -> None:
    """The share above the median of an AR(1) process: its indicator's autocorrelation is
    (2/π) arcsin(φ^k), so the sum is known."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(40_000)
    x = signal.lfilter([1.0], [1.0, -phi], noise)
    k = np.arange(1, 400)
    truth = 1.0 + 2.0 * float(np.sum(2.0 / np.pi * np.arcsin(phi**k)))
    seen = design_effect(np.exp(x), 1.0, 0.5)
    assert seen == pytest.approx(truth, rel=0.15)


def test_dependence_shows_though_no_request_missed() -> None:
    rng = np.random.default_rng(4)
    x = signal.lfilter([1.0], [1.0, -0.95], rng.standard_normal(5_000))
    assert design_effect(np.exp(x - 50.0), 1.0, 0.99) > 5.0
    assert design_effect(np.full(100, 0.5), 1.0, 0.99) == 1.0
    assert design_effect(np.empty(0), 1.0, 0.99) == 1.0
    assert design_effect(np.full(10, np.inf), 1.0, 0.99) == 1.0


def test_a_queue_that_grows_is_seen_and_one_that_wanders_is_not() -> None:
    """Overload by a half for 60 s against a queue at half load."""
    rng = np.random.default_rng(5)

    def growth(load: float) -> float:
        n = 1200
        intended = np.arange(n) * 60.0 / n  # 20/s
        service = rng.exponential(load / 20.0, n)
        total = np.cumsum(service)
        done = total + np.maximum.accumulate(intended - (total - service))
        return backlog_growth(samples_of(done - intended, 60.0), 60.0)

    assert growth(1.5) > 3.29
    assert abs(growth(0.5)) < 1.0
    empty = samples_of(np.empty(0), 1.0)
    assert backlog_growth(empty, 1.0) == 0.0


def test_a_critical_queue_seldom_looks_saturated() -> None:
    """M/M/1 at ρ = 1: the share of false alarms is what the threshold says, or less."""
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(400):
        intended = np.sort(rng.uniform(0.0, 100.0, rng.poisson(1_000)))
        service = rng.exponential(0.1, len(intended))
        total = np.cumsum(service)
        done = total + np.maximum.accumulate(intended - (total - service))
        samples = replace(
            samples_of(done - intended, 100.0),
            intended_s=intended,
            first_token_s=done,
            done_s=done,
        )
        alarms += backlog_growth(samples, 100.0) > 3.29
    assert alarms <= 2


@given(st.integers(1, 400), st.floats(0.0, 1.0), st.sampled_from([0.05, 0.01, 0.3]))
def test_bounds_are_clopper_pearsons(n: int, share: float, error: float) -> None:
    good = round(share * n)
    low, high = share_bounds(good, n, error)
    interval = stats.binomtest(good, n).proportion_ci(1.0 - 2.0 * error, "exact")
    assert float(low) == pytest.approx(interval.low, abs=1e-9)
    assert float(high) == pytest.approx(interval.high, abs=1e-9)


def test_bounds_of_nothing_and_of_parts() -> None:
    assert share_bounds(0.0, 0.0, 0.01) == (0.0, 1.0)
    low, high = share_bounds(np.array([9.5, 10.0]), np.array([10.5, 10.0]), 0.05)
    assert low[0] < 9.5 / 10.5 < high[0]
    assert high[1] == 1.0


@pytest.mark.parametrize("wanted", [0.9, 0.99])
def test_as_few_requests_as_can_pass(wanted: float) -> None:
    n = least_n(wanted, 0.01)
    assert stats.binom.pmf(n, n, wanted) <= 0.01 < stats.binom.pmf(n - 1, n - 1, wanted)
    assert error_share(0.95) == pytest.approx(0.01)


def seen_at(rate: float, good: int, n: int, effect: float = 1.0, growth: float = 0.0) -> Point:
    constraint = ConstraintSeen(
        name="x", wanted=0.9, num_good=good, num_judged=n, design_effect=effect
    )
    return Point(
        rate_rps=rate,
        duration_s=10.0,
        took_s=11.0,
        seed=0,
        num_requests=n,
        num_failed=0,
        constraints=(constraint,),
        backlog_growth=growth,
    )


def test_dependent_requests_decide_less() -> None:
    (alone,) = judged_rates([seen_at(1.0, 100, 100)], 0.01)
    (bound,) = judged_rates([seen_at(1.0, 100, 100, effect=10.0)], 0.01)
    assert alone.verdict is Verdict.PASS
    assert bound.verdict is Verdict.UNDECIDED
    assert bound.constraints[0].effective_n == pytest.approx(10.0)
    assert bound.constraints[0].low < alone.constraints[0].low


def test_points_of_one_rate_are_pooled() -> None:
    (rate,) = judged_rates([seen_at(2.0, 30, 30), seen_at(2.0, 24, 30)], 0.01)
    assert rate.num_points == 2
    assert rate.measured_s == 20.0
    c = rate.constraints[0]
    assert (c.num_judged, c.attainment) == (60, pytest.approx(0.9))


def test_a_higher_rate_speaks_for_a_lower_one_and_never_the_other_way() -> None:
    low, high = judged_rates([seen_at(1.0, 10, 10), seen_at(2.0, 100, 100)], 0.01)
    assert low.verdict is Verdict.PASS
    assert high.verdict is Verdict.PASS
    low, high = judged_rates([seen_at(1.0, 100, 100), seen_at(2.0, 10, 10)], 0.01)
    assert low.verdict is Verdict.PASS
    assert high.verdict is Verdict.UNDECIDED
    low, high = judged_rates([seen_at(1.0, 10, 100), seen_at(2.0, 2, 10)], 0.01)
    assert low.verdict is Verdict.FAIL
    assert high.verdict is Verdict.FAIL
    # What others say never overrules what was seen at the rate itself.
    low, high = judged_rates([seen_at(1.0, 8, 10), seen_at(2.0, 1000, 1000)], 0.01)
    assert low.verdict is Verdict.UNDECIDED


def test_growth_fails_a_rate_or_keeps_it_from_passing() -> None:
    verdicts = [
        judged_rates([seen_at(1.0, 100, 100, growth=g)], 0.01)[0].verdict for g in (0.0, 2.0, 4.0)
    ]
    assert verdicts == [Verdict.PASS, Verdict.UNDECIDED, Verdict.FAIL]
    two = [seen_at(1.0, 100, 100, growth=2.5), seen_at(1.0, 100, 100, growth=2.5)]
    assert growth_of(two) == pytest.approx(5.0 / math.sqrt(2.0))
    assert judged_rates(two, 0.01)[0].verdict is Verdict.FAIL


def test_points_that_the_client_spoiled_say_nothing() -> None:
    spoiled = replace(seen_at(1.0, 0, 100), client_faults=("late",))
    assert judged_rates([spoiled], 0.01) == ()
    (rate,) = judged_rates([spoiled, seen_at(1.0, 100, 100)], 0.01)
    assert rate.verdict is Verdict.PASS


def test_an_undecided_rate_leans() -> None:
    leans = {
        good: leans_to_fail(judged_rates([seen_at(1.0, good, 20)], 0.01)[0])
        for good in (20, 18, 15)
    }
    assert leans == {20: False, 18: False, 15: True}


def test_a_server_falls_behind_when_its_queue_grows_or_most_requests_fail() -> None:
    assert not falls_behind([seen_at(1.0, 1, 1)])
    assert falls_behind([seen_at(1.0, 1, 1, growth=4.0)])
    assert falls_behind([replace(seen_at(1.0, 1, 10), num_failed=6)])
    assert not falls_behind([])


# -- traffic


def test_every_point_has_prompts_and_arrivals_of_its_own() -> None:
    traffic = Traffic(arrivals=PoissonArrivals(rate_rps=1.0), seed=7)
    loads = [salted(at_rate(traffic, 50.0, 4.0), 7, number) for number in range(20)]
    assert len({load.seed for load in loads}) == 20
    assert loads[3] == salted(at_rate(traffic, 50.0, 4.0), 7, 3)
    assert salted(traffic, 8, 3).seed != loads[3].seed
    a, b = (build_schedule(load, 1000) for load in loads[:2])
    assert a.prompt_ids(5).tolist() != b.prompt_ids(5).tolist()
    assert a.intended_s[5] != b.intended_s[5]
    assert loads[0].arrivals == PoissonArrivals(rate_rps=50.0)
    assert loads[0].duration_s == 4.0
    assert len({load.salt for load in loads}) == 20


def test_requests_are_waited_for_well_past_their_limits() -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=1.0),
        output_tokens=UniformLength(low=1, high=100),
        request_timeout_s=60.0,
    )
    ttft, tpot = Limit(metric="ttft_s", limit_s=1.0), Limit(metric="tpot_s", limit_s=0.05)
    e2e = Limit(metric="e2e_s", limit_s=4.0)
    assert patience_s([ttft, tpot], traffic) == pytest.approx(4.0 * (1.0 + 5.0))
    assert patience_s([e2e], traffic) == pytest.approx(16.0)
    assert patience_s([ttft], traffic) == 60.0  # nothing bounds the rest of its answer
    assert patience_s([replace(e2e, limit_s=0.1)], traffic) == 10.0
    assert patience_s([replace(e2e, limit_s=500.0)], traffic) == 60.0
    assert slowest_queue_s([ttft, tpot]) == 20.0
    assert slowest_queue_s([e2e]) == 20.0
    assert slowest_queue_s([tpot]) == 0.0


def test_a_point_tells_the_client_from_the_server() -> None:
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=10.0), duration_s=10.0, seed=3)
    samples = samples_of(np.full(100, 0.1), 10.0, failed=(50, 51))
    server = Doubt(code="failed_requests", message="2 of 100", invalidates=True)
    client = Doubt(code="client_late", message="late by 9 ms", invalidates=True)
    measured = PointMeasured(
        samples=samples, doubts=(server,), took_s=12.0, run_id="r1", simulated=True
    )
    seen = point_of(measured, traffic, conditions_of([TTFT], 0.99))
    assert seen.is_usable
    assert (seen.rate_rps, seen.num_users) == (10.0, None)
    assert (seen.num_requests, seen.num_failed, seen.seed, seen.run_id) == (100, 2, 3, "r1")
    assert seen.doubts == (server,)
    spoiled = point_of(replace(measured, doubts=(server, client)), traffic, ())
    assert spoiled.client_faults == ("late by 9 ms",)
    assert (spoiled.is_usable, spoiled.load_faults, spoiled.simulated) == (False, (), True)
    cached = Doubt(code="unexpected_cache_hits", message="90 % hits", invalidates=True)
    helped = point_of(replace(measured, doubts=(cached,)), traffic, ())
    assert (helped.is_usable, helped.load_faults) == (False, ("90 % hits",))
    slow = Doubt(code="client_too_slow", message="ceiling", invalidates=True)
    unsent = PointMeasured(samples=None, doubts=(slow,), took_s=1.0)
    none = point_of(unsent, traffic, conditions_of([TTFT], 0.99))
    assert (none.num_requests, none.constraints, none.client_faults) == (0, (), ("ceiling",))
    assert point_of(unsent, replace(traffic, duration_s=None, num_requests=5), ()).duration_s == 0
    users = replace(traffic, arrivals=ClosedLoop(num_users=4), duration_s=None, num_requests=100)
    seen = point_of(measured, users, ())
    assert (seen.rate_rps, seen.num_users) == (None, 4)
    assert seen.duration_s == pytest.approx(9.9)


# -- the SLO's words


def test_limits_are_read() -> None:
    assert slo_of("ttft_p99=500ms,tpot=0.05s").limits == (
        Limit(metric="ttft_s", limit_s=0.5, share=0.99),
        Limit(metric="tpot_s", limit_s=0.05),
    )
    assert slo_of("e2e_p99.9 < 2 s").limits[0].share == pytest.approx(0.999)


def test_presets_are_known() -> None:
    chat = slo_of("chat")
    assert chat.attainment == 0.9
    assert chat.text == "chat"
    assert {limit.metric for limit in chat.limits} == {"ttft_s", "tpot_s"}
    # loadgen/mlperf.conf, in milliseconds
    server = slo_of("mlperf-llama2-70b-server")
    assert [limit.limit_s for limit in server.limits] == [2.0, 0.2]
    assert all(limit.share == 0.99 for limit in server.limits)
    assert slo_of("ttft=1s,attainment=95%").attainment == 0.95
    assert slo_of("ttft_p99=1s,ttft=2s").per_request == {"ttft_s": 1.0}


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft=5", "ttft=0ms", "itl_p99=5ms", "e2e_mean=1s", "chatty", "ttft_p0=1s"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--slo"):
        slo_of(text)


def test_lengths_have_no_upper_end_only_where_they_say_so() -> None:
    traffic = Traffic(arrivals=ConstantArrivals(rate_rps=1.0), output_tokens=FixedLength(tokens=10))
    limits = [Limit(metric="ntpot_s", limit_s=0.5)]
    assert patience_s(limits, traffic) == pytest.approx(20.0)
