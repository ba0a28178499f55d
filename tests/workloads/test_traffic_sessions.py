"""Conversations: whose turn comes after whose, when, and who sends them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ConstantArrivals,
    EmpiricalLength,
    ExponentialTime,
    FixedLength,
    Length,
    PoissonArrivals,
    Sessions,
    SharedPrefixPrompts,
    Traffic,
    UniformLength,
)

TALK = Traffic(
    arrivals=PoissonArrivals(rate_rps=20.0),
    sessions=Sessions(turns=UniformLength(low=1, high=6), think_time_s=ExponentialTime(mean_s=3.0)),
    prompt_tokens=UniformLength(low=5, high=50),
    duration_s=30.0,
    api="chat",
    seed=8,
)


@given(
    seed=st.integers(0, 2**63),
    turns=st.one_of(
        st.integers(1, 5),
        st.builds(UniformLength, low=st.integers(1, 3), high=st.integers(3, 9)),
        st.builds(EmpiricalLength, values=st.just((1, 4, 2))),
    ),
    num_warmup=st.integers(0, 3),
    duration_s=st.none() | st.floats(0.1, 5.0),
    num_requests=st.none() | st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_rows_of_sessions(
    seed: int,
    turns: int | Length,
    num_warmup: int,
    duration_s: float | None,
    num_requests: int | None,
) -> None:
    if duration_s is None and num_requests is None:
        num_requests = 17
    schedule = build_schedule(
        replace(
            TALK,
            seed=seed,
            sessions=Sessions(turns=turns, think_time_s=0.5),
            num_warmup_requests=num_warmup,
            duration_s=duration_s,
            num_requests=num_requests,
        )
    )
    n = schedule.num_requests
    assert num_requests is None or n - num_warmup <= num_requests
    if duration_s is None:
        assert n - num_warmup == num_requests
    sessions: dict[int, list[int]] = {}
    for i in range(num_warmup, n):
        sessions.setdefault(int(schedule.session[i]), []).append(i)
    assert sorted(sessions) == list(range(len(sessions)))
    for rows in sessions.values():
        assert rows == list(range(rows[0], rows[0] + len(rows)))
        for k, i in enumerate(rows):
            assert schedule.earlier_turns(i) == tuple(rows[:k])
            assert schedule.after[i] == (rows[k - 1] if k else -1)
            assert np.isnan(schedule.intended_s[i]) == (k > 0)
            assert np.isnan(schedule.think_s[i]) == (k == 0)
    starts = schedule.intended_s[num_warmup:][schedule.turn[num_warmup:] == 0]
    assert np.all(np.diff(starts) >= 0)
    # Sessions arrive as single requests would.
    alone = replace(TALK, seed=seed, sessions=None, num_warmup_requests=num_warmup)
    by_themselves = build_schedule(replace(alone, duration_s=None, num_requests=len(starts) or 1))
    np.testing.assert_array_equal(starts, by_themselves.intended_s[num_warmup:][: len(starts)])
    for column in (schedule.session, schedule.after):
        assert np.all(column[:num_warmup] == -1)


@pytest.mark.parametrize("num_workers", [1, 4, 16])
def test_a_session_stays_with_one_worker(num_workers: int) -> None:
    whole = build_schedule(TALK)
    owners = [build_schedule(TALK).rows_of(w, num_workers) for w in range(num_workers)]
    assert sorted(np.concatenate(owners).tolist()) == list(range(whole.num_requests))
    for rows in owners:
        assert np.all(np.diff(rows) > 0)
        for i in rows.tolist():
            assert set(whole.earlier_turns(i)) <= set(rows.tolist())
    sizes = [len(rows) for rows in owners]
    assert max(sizes) < 1.6 * min(sizes)
    # The turns of the sessions that are split up are still those of the distribution.
    counts = np.bincount(np.bincount(whole.session[2:]), minlength=7)[1:]
    assert stats.chisquare(counts).pvalue > 0.01


def test_think_times_are_those_asked_for() -> None:
    schedule = build_schedule(replace(TALK, duration_s=300.0))
    thought = schedule.think_s[~np.isnan(schedule.think_s)]
    assert len(thought) > 5_000
    assert stats.kstest(thought, "expon", args=(0, 3.0)).pvalue > 0.01


def test_each_turn_asks_its_own_words() -> None:
    schedule = build_schedule(TALK)
    texts = [schedule.prompt(i) for i in range(schedule.num_requests)]
    assert [len(str(t).split(" ")) for t in texts] == schedule.prompt_tokens.tolist()
    assert len(set(texts)) == len(texts)


def test_the_prefix_is_said_once() -> None:
    groups = SharedPrefixPrompts(
        num_groups=2,
        prompts_per_group=3,
        prefix_tokens=FixedLength(tokens=100),
        question_tokens=UniformLength(low=5, high=9),
    )
    schedule = build_schedule(
        Traffic(
            arrivals=ConstantArrivals(rate_rps=1.0),
            sessions=Sessions(turns=3),
            prompts=groups,
            num_requests=18,
            num_warmup_requests=5,
            api="chat",
        )
    )
    first = schedule.turn[5:] == 0
    asked = schedule.prompt_tokens[5:]
    assert first.tolist() == [True, False, False] * 6
    assert np.all((asked[first] >= 105) & (asked[first] <= 109))
    assert np.all((asked[~first] >= 5) & (asked[~first] <= 9))
    texts = [str(schedule.prompt(i)) for i in range(5, 23)]
    assert len(set(texts)) == 18
    prefixes = {" ".join(text.split(" ")[:100]) for text in texts[::3]}
    assert len(prefixes) == 2


def test_a_session_speaks_to_one_model() -> None:
    schedule = build_schedule(replace(TALK, models={"a": 1.0, "b": 1.0}))
    by_session: dict[int, set[str]] = {}
    for i in range(2, schedule.num_requests):
        by_session.setdefault(int(schedule.session[i]), set()).add(schedule.model_of(i))
    assert all(len(names) == 1 for names in by_session.values())
    assert set().union(*by_session.values()) == {"a", "b"}


def test_the_busiest_second_counts_later_turns() -> None:
    talk = Traffic(
        arrivals=ConstantArrivals(rate_rps=1.0),
        sessions=Sessions(turns=5, think_time_s=0.25),
        num_requests=50,
        api="chat",
    )
    # Turns at 0, ¼, ½, ¾ and 1 s of each session; two sessions meet at whole seconds.
    assert build_schedule(talk).peak_rate_rps() == 5.0
    assert build_schedule(replace(talk, num_requests=5)).peak_rate_rps() == 4.0


def test_too_many_turns_are_refused() -> None:
    many = replace(
        TALK,
        arrivals=ConstantArrivals(rate_rps=1e6),
        sessions=Sessions(turns=1000),
        duration_s=0.02,
    )
    with pytest.raises(ValueError, match="sessions have 20000000 turns in all; at most 10000000"):
        build_schedule(many)
