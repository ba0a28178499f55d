"""What prompts share with each other, and what they do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from workloads.traffic.schedule import Schedule, build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    RandomPrompts,
    SharedPrefixPrompts,
    Traffic,
    UniformLength,
)

PLAIN = Traffic(
    arrivals=ConstantArrivals(rate_rps=10.0),
    prompt_tokens=UniformLength(low=20, high=90),
    num_requests=200,
    seed=4,
)
GROUPS = SharedPrefixPrompts(
    num_groups=3,
    prompts_per_group=5,
    prefix_tokens=UniformLength(low=100, high=200),
    question_tokens=UniformLength(low=16, high=40),
)
SHARED = Traffic(arrivals=ConstantArrivals(rate_rps=10.0), prompts=GROUPS, num_requests=35, seed=4)


def ids(schedule: Schedule, index: int) -> tuple[int, ...]:
    prompt = schedule.prompt(index)
    assert isinstance(prompt, np.ndarray)
    return tuple(prompt.tolist())


def text(schedule: Schedule, index: int) -> str:
    prompt = schedule.prompt(index)
    assert isinstance(prompt, str)
    return prompt


def common(a: tuple[object, ...], b: tuple[object, ...]) -> int:
    """Length of the prefix that two prompts share."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def test_prompts_left_out_are_random_prompts() -> None:
    said, unsaid = build_schedule(replace(PLAIN, prompts=RandomPrompts())), build_schedule(PLAIN)
    assert [ids(said, i) for i in range(50)] == [ids(unsaid, i) for i in range(50)]


def test_the_form_of_prompts() -> None:
    assert isinstance(build_schedule(PLAIN).prompt(5), np.ndarray)
    assert isinstance(build_schedule(replace(PLAIN, prompt_form="ids")).prompt(5), np.ndarray)
    chat = build_schedule(replace(PLAIN, api="chat"))
    as_text = build_schedule(replace(PLAIN, prompt_form="text"))
    assert text(chat, 5) == text(as_text, 5)
    assert len(text(chat, 5).split(" ")) == chat.prompt_tokens[5]


# ---- shared prefixes ----


def test_groups_share_their_prefix_and_nothing_else() -> None:
    schedule = build_schedule(SHARED, 32_000)
    first_lap = [ids(schedule, i) for i in range(2, 17)]  # 3 × 5 prompts, after two of warm-up
    assert len(set(first_lap)) == 15
    shared = [[common(a, b) for b in first_lap if b != a] for a in first_lap]
    sizes = Counter(max(row) for row in shared)
    # Each prompt shares one length with its four siblings, and next to nothing with the others.
    assert sorted(sizes.values()) == [5, 5, 5]
    assert all(100 <= size <= 202 for size in sizes)
    for row in shared:
        near = [n for n in row if n >= 100]
        assert len(near) == 4
        assert max(near) - min(near) <= 2  # a token or two alike by chance
        assert all(n < 4 for n in row if n < 100)


def test_the_pool_is_sent_over_and_over_in_one_order() -> None:
    schedule = build_schedule(SHARED)
    laps = [[ids(schedule, 2 + 15 * lap + i) for i in range(15)] for lap in range(2)]
    assert laps[0] == laps[1]
    assert ids(schedule, 32) == laps[0][0]
    in_groups = [common(a, b) >= 100 for a, b in zip(laps[0], laps[0][1:], strict=False)]
    assert not all(in_groups[:4])  # shuffled, not group after group
    other = build_schedule(replace(SHARED, seed=5))
    assert ids(other, 2) not in laps[0]


def test_lengths_are_those_of_prefix_and_question() -> None:
    fixed = replace(
        GROUPS, prefix_tokens=FixedLength(tokens=64), question_tokens=FixedLength(tokens=9)
    )
    schedule = build_schedule(replace(SHARED, prompts=fixed))
    assert set(schedule.prompt_tokens.tolist()) == {73}
    drawn = build_schedule(SHARED)
    assert [len(ids(drawn, i)) for i in range(37)] == drawn.prompt_tokens.tolist()
    # The answer belongs to the request, not to the prompt: as without shared prefixes.
    assert drawn.output_tokens.tolist() == [32] * 37


def test_warm_up_fills_no_cache_that_is_measured() -> None:
    schedule = build_schedule(SHARED, 32_000)
    for warm in (0, 1):
        assert all(common(ids(schedule, warm), ids(schedule, i)) < 4 for i in range(2, 37))


def test_a_loop_without_end_knows_its_pool() -> None:
    counted = replace(SHARED, arrivals=ClosedLoop(num_users=3), num_requests=400)
    endless = build_schedule(replace(counted, num_requests=None, duration_s=9.0))
    schedule = build_schedule(counted)
    assert endless.is_open_ended
    for i in (0, 1, 2, 17, 399):
        assert endless.shape(i) == schedule.shape(i)
        assert ids(endless, i) == ids(schedule, i)


def test_words_share_as_ids_do() -> None:
    chat = build_schedule(replace(SHARED, api="chat"))
    numbers = build_schedule(SHARED, 32_000)
    for a, b in ((2, 3), (2, 9), (4, 11)):
        by_word = common(tuple(text(chat, a).split(" ")), tuple(text(chat, b).split(" ")))
        assert abs(by_word - common(ids(numbers, a), ids(numbers, b))) <= 2


# ---- salt ----


@pytest.mark.parametrize("traffic", [PLAIN, SHARED], ids=["random", "shared"])
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_another_salt_shares_nothing(traffic: Traffic, api: str) -> None:
    runs = [
        build_schedule(replace(traffic, salt=salt, api=api), 32_000)  # type: ignore[arg-type]
        for salt in ("", "point-1", "point-2")
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        # Not even the first block of 16 tokens of any two requests.
        blocks = [
            {str(runs[k].prompt(i)).split()[:4].__repr__() for i in range(35)} for k in (one, other)
        ]
        assert not blocks[0] & blocks[1]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.intended_s, runs[0].intended_s)
        np.testing.assert_array_equal(run.prompt_tokens, runs[0].prompt_tokens)
        np.testing.assert_array_equal(run.output_tokens, runs[0].output_tokens)
    again = build_schedule(replace(traffic, salt="point-1", api=api), 32_000)  # type: ignore[arg-type]
    assert str(again.prompt(9)) == str(runs[1].prompt(9))


# ---- models ----


def test_models_come_by_weight_and_belong_to_the_request() -> None:
    mix = {"sql": 1.0, "base": 6.0, "chat": 3.0}
    schedule = build_schedule(replace(PLAIN, num_requests=4_000, models=mix))
    names = [schedule.model_of(i) for i in range(schedule.num_requests)]
    seen = Counter(names)
    expected = [len(names) * mix[name] / 10 for name in sorted(mix)]
    assert stats.chisquare([seen[name] for name in sorted(mix)], expected).pvalue > 0.01
    other_order = dict(reversed(mix.items()))
    again = build_schedule(replace(PLAIN, num_requests=50, models=other_order))
    assert [again.model_of(i) for i in range(50)] == names[:50]
    loop = replace(PLAIN, arrivals=ClosedLoop(num_users=1), num_requests=None, duration_s=1.0)
    endless = build_schedule(replace(loop, models=mix))
    assert [endless.model_of(i) for i in range(50)] == names[:50]


def test_without_a_mix_the_server_has_one_model() -> None:
    schedule = build_schedule(PLAIN)
    assert {schedule.model_of(i) for i in range(10)} == {""}
