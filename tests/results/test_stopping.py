"""Rules as text, and what stopping by them achieves on series whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal

from results.errors import InvalidStopRule
from results.intervals import Interval
from results.measurement import Measurement
from results.samples import RequestSamples
from results.stopping import (
    FIRST_LOOK,
    MIN_RUNS,
    Continue,
    Stop,
    StopRule,
    check_within,
    decide_across,
    decide_within,
    look_size,
    next_look,
    parse_until,
)

Rng = np.random.Generator


def samples_of(ttft_s: np.ndarray) -> RequestSamples:
    n = len(ttft_s)
    at = np.arange(n) * 0.01
    whole = np.ones(n, dtype=int)
    return RequestSamples(
        intended_s=at,
        dispatched_s=at,
        written_s=at,
        first_byte_s=at + ttft_s,
        first_token_s=at + ttft_s,
        done_s=at + ttft_s + 0.1,
        prompt_tokens=whole,
        output_tokens=whole,
        status=200 * whole,
        error=np.array([""] * n, dtype=object),
        is_warmup=np.zeros(n, dtype=bool),
        worker=0 * whole,
        event_offset=np.arange(n + 1),
        event_s=at + ttft_s,
        event_tokens=whole,
    )


@pytest.mark.parametrize("sign", ["±", " +- ", "+/-", "<=", " ≤ "])
@pytest.mark.parametrize("name", ["ttft_p99", "ttft_s_p99"])
def test_a_rule_has_many_spellings(name: str, sign: str) -> None:
    rule = StopRule(metric="ttft_s", statistic="p99", half_width=0.05, relative=True)
    assert parse_until(f"{name}{sign}5%") == (rule,)


def test_several_rules_and_absolute_widths() -> None:
    rules = parse_until("itl_mean ±0.2ms, output_throughput ± 2%,slo_attainment<=0.01")
    assert [str(rule) for rule in rules] == [
        "itl mean ±200 µs",
        "output_throughput ±2%",
        "slo_attainment ±1.00 %",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no stop rule"),
        ("ttft_p99", "no stop rule"),
        ("ttft_p99 ± much", "no stop rule"),
        ("ttft ±5%", "which ttft"),
        ("tfft_p99 ±5%", "ttft_s"),
        ("ttft_p99 ±5", "a time"),
        ("output_throughput ±5ms", "a plain number"),
        ("ttft_p99 ±0%", "above zero"),
    ],
)
def test_what_is_no_rule_says_why(text: str, says: str) -> None:
    with pytest.raises(InvalidStopRule, match=says):
        parse_until(text)


def test_rules_that_no_single_run_can_meet_are_refused_before_it() -> None:
    check_within(parse_until("ttft_p99 ±5%,itl_p50 ±1ms,error_share<=1%"), {})
    with pytest.raises(InvalidStopRule, match="across runs only"):
        check_within(parse_until("output_throughput ±2%"), {})
    with pytest.raises(InvalidStopRule, match="no slo"):
        check_within(parse_until("slo_attainment<=0.01"), {})
    check_within(parse_until("slo_attainment<=0.01"), {"ttft_s": 1.0})


def test_looks_are_spaced_geometrically() -> None:
    assert [look_size(k) for k in (1, 2, 3, 4)] == [FIRST_LOOK, 300, 450, 675]
    assert (next_look(0), next_look(200), next_look(299), next_look(300)) == (1, 2, 2, 3)


def mm1(n: int, load: float, rng: Rng) -> np.ndarray:
    """Waiting times in the steady state; their mean is load/(1 − load)."""
    first = 0.0 if rng.random() < 1 - load else rng.exponential(1 / (1 - load))
    steps = rng.exponential(1, n) - rng.exponential(1 / load, n)
    path = np.concatenate([[first], first + np.cumsum(steps[:-1])])
    return path - np.minimum(np.minimum.accumulate(path), 0.0)


def ar1(n: int, rng: Rng) -> np.ndarray:
    """Mean 10, standard deviation 5, φ = 0.95."""
    noise = rng.standard_normal(n) * 5 * np.sqrt(1 - 0.95**2)
    noise[0] = 5 * rng.standard_normal()
    return np.asarray(10 + signal.lfilter([1.0], [1.0, -0.95], noise))


@pytest.mark.parametrize(
    ("make", "truth", "until"),
    [
        (lambda n, rng: rng.lognormal(0, 1, n), np.exp(0.5), "ttft_mean ±10%"),
        (lambda n, rng: rng.exponential(1, n), np.log(100), "ttft_p99 ±15%"),
        (lambda n, rng: mm1(n, 0.5, rng), 1.0, "ttft_mean ±20%"),
        (ar1, 10.0, "ttft_mean ±10%"),
    ],
    ids=["lognormal mean", "exponential p99", "mm1 mean", "ar1 mean"],
)
def test_looking_again_and_again_keeps_coverage_and_width(
    make: Callable[[int, Rng], np.ndarray], truth: float, until: str
) -> None:
    rng, runs, hits = np.random.default_rng(21), 80, 0
    rules = parse_until(until)
    for _ in range(runs):
        series = make(look_size(14), rng)
        for look in range(1, 15):
            decision = decide_within(rules, samples_of(series[: look_size(look)]))
            if isinstance(decision, Stop):
                break
        assert isinstance(decision, Stop), decision
        (progress,) = decision.progress
        assert progress.interval is not None and progress.value is not None
        half = rules[0].half_width * progress.value
        assert progress.interval.high - progress.value <= half * (1 + 1e-9)
        assert progress.value - progress.interval.low <= half * (1 + 1e-9)
        hits += progress.interval.low <= truth <= progress.interval.high
    assert hits / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


def test_a_run_goes_on_until_every_rule_is_met_and_says_what_is_missing() -> None:
    rng = np.random.default_rng(3)
    samples = samples_of(rng.exponential(1, 300))
    decision = decide_within(parse_until("ttft_mean ±50%,ttft_p99 ±50%"), samples)
    assert isinstance(decision, Continue)
    met, waiting = decision.progress
    assert met.is_met and met.interval is not None
    assert not waiting.is_met and "300 samples" in waiting.why
    few = decide_within(parse_until("ttft_mean ±50%"), samples_of(np.ones(5)))
    assert isinstance(few, Continue)


def test_gaps_and_shares_are_judged_too() -> None:
    rng = np.random.default_rng(4)
    samples = samples_of(rng.exponential(1, 2000))
    # One token a request: there is no gap to judge.
    gaps = decide_within(parse_until("itl_p50 ±5%"), samples)
    assert isinstance(gaps, Continue) and gaps.progress[0].value is None
    share = decide_within(parse_until("slo_attainment<=0.05"), samples, {"ttft_s": 1.0})
    assert isinstance(share, Stop)
    value = share.progress[0].value
    assert value is not None and value == pytest.approx(1 - np.exp(-1), abs=0.04)


def runs_of(values: list[float]) -> list[list[Measurement]]:
    return [
        [
            Measurement(metric="ttft_s", statistic="p99", value=v, n=1000),
            # Of an adapter by itself: no value of the run.
            Measurement(metric="ttft_s", statistic="p99", value=99.0, n=1000, group="a"),
        ]
        for v in values
    ]


def test_across_runs_at_least_three_count_by_their_t_interval() -> None:
    rules = parse_until("ttft_p99 ±5%")
    two = decide_across(rules, runs_of([1.0, 1.0]))
    assert isinstance(two, Continue) and f"at least {MIN_RUNS}" in two.progress[0].why
    three = decide_across(rules, runs_of([1.00, 1.01, 0.99]))
    assert isinstance(three, Stop) and "met" in three.reason
    interval = three.progress[0].interval
    # t(2 degrees of freedom, 0.9875) = 6.2053; s = 0.01; n = 3.
    assert interval == Interval(
        low=pytest.approx(1 - 6.2053 * 0.01 / np.sqrt(3), abs=1e-5),
        high=pytest.approx(1 + 6.2053 * 0.01 / np.sqrt(3), abs=1e-5),
    )
    assert isinstance(decide_across(rules, runs_of([1.0, 1.1, 0.9])), Continue)
    assert isinstance(decide_across((), runs_of([1.0] * 5)), Continue)


@pytest.mark.parametrize("spread", [0.01, 0.03, 0.05])
def test_looking_after_every_run_keeps_coverage(spread: float) -> None:
    rng, series, hits = np.random.default_rng(5), 400, 0
    rules = parse_until("ttft_p99 ±5%")
    for _ in range(series):
        values = 1 + spread * rng.standard_normal(60)
        for n in range(MIN_RUNS, 61):
            decision = decide_across(rules, runs_of(list(values[:n])))
            if isinstance(decision, Stop):
                break
        assert isinstance(decision, Stop)
        interval = decision.progress[0].interval
        assert interval is not None
        hits += interval.low <= 1.0 <= interval.high
    assert hits / series >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / series)
