"""Every kind of traffic that cannot be meant is refused by path; every kind that can is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.traffic.checks import check_traffic, traffic_faults
from workloads.traffic.expect import expected_requests, longest_request
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    EmpiricalLength,
    ExponentialTime,
    FilePrompts,
    FixedLength,
    GammaArrivals,
    LognormalLength,
    LognormalTime,
    NormalLength,
    PiecewiseArrivals,
    PoissonArrivals,
    RateSegment,
    Sessions,
    SharedPrefixPrompts,
    SpikeArrivals,
    TraceReplay,
    Traffic,
    UniformLength,
    UniformTime,
)

GOOD = Traffic(arrivals=PoissonArrivals(rate_rps=5.0), duration_s=10.0)
TALK = replace(GOOD, api="chat", sessions=Sessions(turns=2))
SPIKES = SpikeArrivals(rate_rps=1.0, spike_rate_rps=9.0, period_s=10.0, spike_s=2.0)
GROUPS = SharedPrefixPrompts(
    num_groups=2,
    prompts_per_group=2,
    prefix_tokens=FixedLength(tokens=9),
    question_tokens=FixedLength(tokens=9),
)
TRACE = TraceReplay(path="t.csv", format="azure")
LINES = FilePrompts(path="p.jsonl", format="jsonl")


def steps(**fields: Any) -> PiecewiseArrivals:
    first = RateSegment(duration_s=5.0, rate_rps=1.0)
    return PiecewiseArrivals(segments=(first, replace(first, **fields)))


def groups(**fields: Any) -> dict[str, Any]:
    return {"prompts": replace(GROUPS, **fields)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"arrivals": GammaArrivals(rate_rps=0.0, burstiness=1.0)}, "arrivals.rate_rps = 0.0"),
        (
            {"arrivals": GammaArrivals(rate_rps=1.0, burstiness=0.0)},
            "arrivals.burstiness = 0.0; must be more than 0",
        ),
        (
            {"arrivals": PiecewiseArrivals(segments=())},
            "arrivals.segments = []; must be at least one segment",
        ),
        ({"arrivals": steps(duration_s=0.0)}, "arrivals.segments.1.duration_s = 0.0; must be more"),
        ({"arrivals": steps(rate_rps=-1.0)}, "arrivals.segments.1.rate_rps = -1.0; must be at lea"),
        ({"arrivals": steps(end_rate_rps=float("nan"))}, "arrivals.segments.1.end_rate_rps = nan"),
        (
            {"arrivals": PiecewiseArrivals(segments=(RateSegment(duration_s=99.0, rate_rps=0.0),))},
            "arrivals.segments has no arrivals; accepted: a rate above 0 in one at least",
        ),
        (
            {"arrivals": steps(), "duration_s": 10.5},
            "duration_s = 10.5; must be at most 10, where the segments end; or leave it out",
        ),
        ({"arrivals": replace(SPIKES, period_s=0.0)}, "arrivals.period_s = 0.0; must be more"),
        (
            {"arrivals": replace(SPIKES, spike_s=10.0)},
            "arrivals.spike_s = 10.0; must be less than period_s, which is 10",
        ),
        (
            {"arrivals": replace(SPIKES, spike_rate_rps=1.0)},
            "arrivals.spike_rate_rps = 1.0; must be more than rate_rps, which is 1",
        ),
        ({"arrivals": replace(TRACE, path=" ")}, "arrivals.path = ' '; must be the path of a trac"),
        ({"arrivals": replace(TRACE, speed=0.0)}, "arrivals.speed = 0.0; must be more than 0"),
        ({"arrivals": replace(TRACE, offset=-1)}, "arrivals.offset = -1; must be at least 0"),
        ({"arrivals": replace(TRACE, limit=0)}, "arrivals.limit = 0; must be at least 1"),
        (
            {"arrivals": PoissonArrivals(rate_rps=1e7)},
            "arrivals asks for about 100000000 requests; accepted: at most 10000000: lower the",
        ),
        (
            {"output_tokens": NormalLength(mean=-1.0, std=0.0, low=0, high=9)},
            "output_tokens.low = 0; must be at least 1; output_tokens.mean = -1.0; must be more "
            "than 0; output_tokens.std = 0.0; must be more than 0",
        ),
        (
            {"prompt_tokens": LognormalLength(mean=9.0, std=1.0, low=9, high=8)},
            "prompt_tokens.high = 8; must be at least low, which is 9",
        ),
        (
            {"prompt_tokens": NormalLength(mean=9.0, std=1.0, low=99, high=100)},
            "prompt_tokens has next to nothing between low = 99 and high = 100, with mean = 9 and",
        ),
        ({"prompt_tokens": EmpiricalLength(values=())}, "prompt_tokens.values = []; must be at le"),
        ({"prompt_tokens": EmpiricalLength(values=(3, 0))}, "prompt_tokens.values.1 = 0; must be"),
        (
            {"prompt_tokens": EmpiricalLength(values=(3,), weights=(-1.0,))},
            "prompt_tokens.weights.0 = -1.0; must be at least 0",
        ),
        (
            {"prompt_tokens": EmpiricalLength(values=(3,), weights=(0.0,))},
            "prompt_tokens.weights are all 0; accepted: one above 0 at least",
        ),
        (
            {"prompt_tokens": EmpiricalLength(values=(3,), weights=(1.0, 2.0))},
            "prompt_tokens.weights has 2 numbers for 1 values; accepted: one for each, or none",
        ),
        (groups(num_groups=0), "prompts.num_groups = 0; must be at least 1"),
        (groups(prompts_per_group=0), "prompts.prompts_per_group = 0; must be at least 1"),
        (groups(num_groups=10**4, prompts_per_group=10**4), "prompts are 100000000 in all; accep"),
        (groups(prefix_tokens=FixedLength(tokens=0)), "prompts.prefix_tokens.tokens = 0"),
        (groups(question_tokens=FixedLength(tokens=0)), "prompts.question_tokens.tokens = 0"),
        (
            groups() | {"prompt_tokens": FixedLength(tokens=9)},
            "prompt_tokens is decided by prompts.prefix_tokens and question_tokens; leave it out",
        ),
        ({"prompts": replace(LINES, path="")}, "prompts.path = ''; must be the path of a file"),
        ({"prompts": LINES, "arrivals": TRACE}, "prompts come from the trace where arrivals do"),
        ({"prompts": LINES, "prompt_form": "ids"}, "prompt_form = 'ids'; must be text for the pro"),
        ({"api": "chat", "prompt_form": "ids"}, "prompt_form = 'ids'; must be text with api: chat"),
        ({"models": {"a": 0.0, " ": 1.0}}, "models.a = 0.0; must be more than 0; models = ' '"),
    ],
)
def test_nonsense_is_refused_by_path(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match="traffic cannot be made") as error:
        check_traffic(replace(GOOD, **change))
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sessions": Sessions(turns=0)}, "sessions.turns = 0; must be at least 1"),
        ({"sessions": Sessions(turns=FixedLength(tokens=0))}, "sessions.turns.tokens = 0"),
        ({"sessions": Sessions(turns=1, think_time_s=-1.0)}, "sessions.think_time_s = -1.0"),
        (
            {"sessions": Sessions(turns=1, think_time_s=UniformTime(low_s=3.0, high_s=2.0))},
            "sessions.think_time_s.high_s = 2.0; must be at least 3",
        ),
        (
            {"sessions": Sessions(turns=1, think_time_s=ExponentialTime(mean_s=0.0))},
            "sessions.think_time_s.mean_s = 0.0",
        ),
        (
            {"sessions": Sessions(turns=1, think_time_s=LognormalTime(mean_s=1.0, std_s=0.0))},
            "sessions.think_time_s.std_s = 0.0",
        ),
        ({"arrivals": ClosedLoop(num_users=1)}, "num_requests is missing: sessions of a closed"),
        (
            {"arrivals": replace(TRACE, format="azure")},
            "sessions cannot be told apart: a trace of format azure names none",
        ),
    ],
)
def test_conversations_that_cannot_be(change: dict[str, Any], complaint: str) -> None:
    assert not list(traffic_faults(TALK))
    for change_to_good in (
        {"api": "completions", "prompt_form": "text"},
        {"api": "completions"},
        {"arrivals": ClosedLoop(num_users=1), "num_requests": 9},
        {"arrivals": replace(TRACE, format="mooncake")},
        {"prompts": LINES},
    ):
        assert not list(traffic_faults(replace(TALK, **change_to_good)))
    with pytest.raises(ValueError, match="traffic cannot be made") as error:
        check_traffic(replace(TALK, **change))
    assert complaint in str(error.value)


def test_what_ends_by_itself_needs_no_stop_rule() -> None:
    for arrivals in (steps(), TRACE):
        assert not list(traffic_faults(Traffic(arrivals=arrivals)))
    for endless in (ConstantArrivals(rate_rps=1.0), SPIKES, ClosedLoop(num_users=1)):
        (fault,) = traffic_faults(Traffic(arrivals=endless))
        assert str(fault) == "never ends; accepted: duration_s, num_requests, or both"
        assert fault.path == ()


# ---- what traffic amounts to ----


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        (GOOD, 50.0),
        (replace(GOOD, num_requests=20), 20.0),
        (replace(GOOD, arrivals=GammaArrivals(rate_rps=5.0, burstiness=0.1)), 50.0),
        (Traffic(arrivals=steps(end_rate_rps=3.0)), 15.0),
        (Traffic(arrivals=steps(end_rate_rps=3.0), duration_s=7.0), 5 + 2 + 0.4 * 2),
        (replace(GOOD, arrivals=SPIKES, duration_s=29.0), 2 * 26 + 8 + 9),
        (replace(GOOD, arrivals=ClosedLoop(num_users=1)), None),
        (replace(TALK, sessions=Sessions(turns=UniformLength(low=1, high=4))), 125.0),
        (replace(TALK, sessions=Sessions(turns=4), num_requests=60), 60.0),
    ],
)
def test_expected_requests(traffic: Traffic, expected: float | None) -> None:
    assert expected_requests(traffic) == (None if expected is None else pytest.approx(expected))


def test_the_longest_request() -> None:
    def most(traffic: Traffic) -> tuple[int, int, int] | None:
        found = longest_request(traffic)
        return found and (found.prompt, found.output, found.total)

    assert most(GOOD) == (64, 32, 96)
    assert most(replace(GOOD, prompts=GROUPS)) == (18, 32, 50)
    assert most(replace(TALK, sessions=Sessions(turns=3))) == (192, 96, 288)
    assert most(replace(TALK, sessions=Sessions(turns=3), prompts=GROUPS)) == (36, 96, 132)
    heavy = LognormalLength(mean=9.0, std=50.0, high=4000)
    assert most(replace(GOOD, prompt_tokens=heavy)) == (4000, 32, 4032)
    assert most(replace(GOOD, prompt_tokens=EmpiricalLength(values=(7, 300)))) == (300, 32, 332)
    assert most(Traffic(arrivals=TRACE)) == (64, 32, 96)  # warm-up
    assert most(Traffic(arrivals=TRACE, num_warmup_requests=0)) is None


# ---- schedules of any traffic ----

_rate = st.floats(1.0, 300.0)
_arrivals = st.one_of(
    st.builds(ConstantArrivals, rate_rps=_rate),
    st.builds(PoissonArrivals, rate_rps=_rate),
    st.builds(GammaArrivals, rate_rps=_rate, burstiness=st.floats(0.1, 10.0)),
    st.builds(
        SpikeArrivals,
        rate_rps=st.floats(0.0, 50.0),
        spike_rate_rps=st.floats(60.0, 300.0),
        period_s=st.floats(0.5, 2.0),
        spike_s=st.floats(0.1, 0.4),
        spacing=st.sampled_from(["poisson", "constant"]),
    ),
    st.builds(
        PiecewiseArrivals,
        segments=st.lists(
            st.builds(
                RateSegment,
                duration_s=st.floats(1.0, 2.0),
                rate_rps=_rate,
                end_rate_rps=st.none() | _rate,
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
        spacing=st.sampled_from(["poisson", "constant"]),
    ),
    st.builds(ClosedLoop, num_users=st.integers(1, 9)),
)
_lengths = st.one_of(
    st.builds(FixedLength, tokens=st.integers(1, 50)),
    st.builds(UniformLength, low=st.integers(1, 20), high=st.integers(20, 50)),
    st.builds(NormalLength, mean=st.floats(1, 50), std=st.floats(15, 50), high=st.integers(20, 90)),
    st.builds(
        LognormalLength, mean=st.floats(1, 50), std=st.floats(15, 50), high=st.integers(20, 90)
    ),
    st.builds(EmpiricalLength, values=st.lists(st.integers(1, 90), min_size=1).map(tuple)),
)
_groups = st.builds(
    SharedPrefixPrompts,
    num_groups=st.integers(1, 4),
    prompts_per_group=st.integers(1, 5),
    prefix_tokens=_lengths,
    question_tokens=_lengths,
)
_traffic = st.builds(
    Traffic,
    arrivals=_arrivals,
    output_tokens=_lengths,
    duration_s=st.floats(0.2, 1.0),
    num_requests=st.integers(1, 80),
    num_warmup_requests=st.integers(0, 3),
    seed=st.integers(0, 2**63),
    prompts=st.none() | _groups,
    salt=st.sampled_from(["", "a"]),
    models=st.just({}) | st.just({"x": 1.0, "y": 2.0}),
)


@given(traffic=_traffic, num_workers=st.integers(1, 5), vocab_size=st.none() | st.just(500))
@settings(max_examples=60, deadline=None)
def test_any_traffic_is_the_same_for_any_number_of_workers(
    traffic: Traffic, num_workers: int, vocab_size: int | None
) -> None:
    whole = build_schedule(traffic, vocab_size)
    n = whole.num_requests
    assert traffic.num_warmup_requests <= n <= traffic.num_warmup_requests + 80
    seen: list[int] = []
    for worker in range(num_workers):
        mine = build_schedule(traffic, vocab_size)
        for i in mine.rows_of(worker, num_workers).tolist():
            seen.append(i)
            np.testing.assert_equal(mine.intended_s[i], whole.intended_s[i])
            assert mine.shape(i) == whole.shape(i)
            assert mine.model_of(i) == whole.model_of(i)
            prompt = np.asarray(mine.prompt(i))
            np.testing.assert_array_equal(prompt, np.asarray(whole.prompt(i)))
            assert len(prompt) == whole.prompt_tokens[i] >= 1
    assert sorted(seen) == list(range(n))
    assert np.all(whole.output_tokens >= 1)
    times = whole.intended_s[~whole.is_warmup]
    if isinstance(traffic.arrivals, ClosedLoop):
        assert np.all(np.isnan(times)) and whole.peak_rate_rps() is None
    else:
        assert traffic.duration_s is not None
        assert np.all(np.diff(times) >= 0)
        assert np.all((times >= 0) & (times < traffic.duration_s))
        assert whole.peak_rate_rps() == len(times)  # all of it is in one second


@given(traffic=_traffic, more=st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_a_request_does_not_depend_on_how_many_follow(traffic: Traffic, more: int) -> None:
    assert traffic.num_requests is not None
    short = build_schedule(replace(traffic, duration_s=None))
    long = build_schedule(
        replace(traffic, duration_s=None, num_requests=traffic.num_requests + more)
    )
    n = short.num_requests
    np.testing.assert_array_equal(short.intended_s, long.intended_s[:n])
    for i in range(n):
        assert short.shape(i) == long.shape(i)
        assert short.model_of(i) == long.model_of(i)
        np.testing.assert_array_equal(np.asarray(short.prompt(i)), np.asarray(long.prompt(i)))
