from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workloads.traffic.schedule import build_schedule, check_traffic
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Traffic,
    UniformLength,
)

POISSON = Traffic(
    arrivals=PoissonArrivals(rate_rps=50.0),
    prompt_tokens=UniformLength(low=1, high=64),
    output_tokens=UniformLength(low=1, high=8),
    duration_s=20.0,
    seed=11,
)


@pytest.mark.parametrize("num_workers", [1, 4, 16])
def test_any_split_among_workers_is_the_same_traffic(num_workers: int) -> None:
    whole = build_schedule(POISSON)
    rows: dict[int, tuple[float, int, int, tuple[int, ...]]] = {}
    for worker in range(num_workers):
        mine = build_schedule(POISSON)  # each worker makes its own, knowing no other
        for i in mine.rows_of(worker, num_workers).tolist():
            assert i not in rows
            rows[i] = (mine.intended_s[i], *mine.shape(i), tuple(mine.prompt_ids(i).tolist()))
    assert sorted(rows) == list(range(whole.num_requests))
    for i, (intended_s, prompt, output, ids) in rows.items():
        np.testing.assert_equal(intended_s, whole.intended_s[i])  # NaN is NaN
        assert (prompt, output) == (whole.prompt_tokens[i], whole.output_tokens[i])
        assert ids == tuple(whole.prompt_ids(i).tolist())
        assert len(ids) == prompt


@pytest.mark.parametrize("num_workers", [1, 4, 16])
def test_the_merged_load_of_workers_is_poisson(num_workers: int) -> None:
    traffic = replace(POISSON, num_warmup_requests=0)
    parts = [
        build_schedule(traffic).intended_s[build_schedule(traffic).rows_of(w, num_workers)]
        for w in range(num_workers)
    ]
    merged = np.sort(np.concatenate(parts))
    gaps = np.diff(merged, prepend=0.0)
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50.0)).pvalue > 0.01  # seed 11, forever
    counts = np.histogram(merged, bins=20, range=(0.0, 20.0))[0]
    assert 0.4 < counts.var(ddof=1) / counts.mean() < 1.9


@given(num_warmup=st.integers(0, 5), num_requests=st.integers(1, 50), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_warmup_rows_come_first_and_have_no_time(
    num_warmup: int, num_requests: int, seed: int
) -> None:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=10.0),
        num_requests=num_requests,
        num_warmup_requests=num_warmup,
        seed=seed,
    )
    schedule = build_schedule(traffic)
    assert schedule.num_requests == num_warmup + num_requests
    assert schedule.is_warmup.tolist() == [True] * num_warmup + [False] * num_requests
    assert np.all(np.isnan(schedule.intended_s[:num_warmup]))
    np.testing.assert_allclose(schedule.intended_s[num_warmup:], np.arange(num_requests) / 10.0)


def test_warmup_does_not_shift_what_is_measured_in_time() -> None:
    with_warmup = build_schedule(replace(POISSON, num_warmup_requests=3))
    assert with_warmup.intended_s[3] > 0
    assert np.nanmax(with_warmup.intended_s) < 20.0


def test_closed_loop_knows_no_times_in_advance() -> None:
    traffic = replace(POISSON, arrivals=ClosedLoop(num_users=3), duration_s=None, num_requests=9)
    schedule = build_schedule(traffic)
    assert schedule.num_requests == 11
    assert np.all(np.isnan(schedule.intended_s))
    assert not schedule.is_open_ended


def test_an_open_ended_loop_names_any_request() -> None:
    by_clock = replace(POISSON, arrivals=ClosedLoop(num_users=3))
    schedule = build_schedule(by_clock)
    assert schedule.is_open_ended
    assert schedule.num_requests == by_clock.num_warmup_requests
    counted = build_schedule(replace(by_clock, duration_s=None, num_requests=500))
    for i in (0, 1, 2, 77, 501):
        assert schedule.shape(i) == counted.shape(i)
        assert np.array_equal(schedule.prompt_ids(i), counted.prompt_ids(i))
        assert schedule.prompt_text(i) == counted.prompt_text(i)


def test_prompts_stay_within_the_servers_vocabulary() -> None:
    schedule = build_schedule(POISSON, vocab_size=64)
    assert max(int(schedule.prompt_ids(i).max()) for i in range(200)) < 64


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"arrivals": ConstantArrivals(rate_rps=0.0)}, "rate_rps = 0.0; must be more than 0"),
        ({"arrivals": PoissonArrivals(rate_rps=float("inf"))}, "rate_rps = inf"),
        ({"arrivals": ClosedLoop(num_users=0)}, "num_users = 0"),
        ({"arrivals": ClosedLoop(num_users=1, think_time_s=-1.0)}, "think_time_s = -1.0"),
        ({"duration_s": None}, "never ends; accepted: duration_s, num_requests, or both"),
        ({"duration_s": float("nan")}, "duration_s = nan"),
        ({"num_requests": 0}, "num_requests = 0"),
        ({"num_warmup_requests": -1}, "num_warmup_requests = -1"),
        ({"prompt_tokens": FixedLength(tokens=0)}, "prompt_tokens.tokens = 0"),
        (
            {"output_tokens": UniformLength(low=5, high=4)},
            "output_tokens.high = 4; must be at least low, which is 5",
        ),
        ({"seed": -3}, "seed = -3"),
        ({"request_timeout_s": 0.0}, "request_timeout_s = 0.0"),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match="traffic cannot be made") as error:
        check_traffic(replace(POISSON, **change))
    assert complaint in str(error.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"seed = -1.*request_timeout_s = -2.0.*never ends"):
        build_schedule(replace(POISSON, seed=-1, request_timeout_s=-2.0, duration_s=None))
