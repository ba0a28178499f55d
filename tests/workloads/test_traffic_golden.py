"""Schedules that were measured once are made the same for ever."""

from __future__ import annotations

import hashlib

import pytest

from workloads.traffic.schedule import Schedule, build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    PoissonArrivals,
    Traffic,
    UniformLength,
)

OLD = {
    "poisson": Traffic(
        arrivals=PoissonArrivals(rate_rps=50.0),
        prompt_tokens=UniformLength(low=1, high=64),
        output_tokens=UniformLength(low=1, high=8),
        duration_s=20.0,
        seed=11,
    ),
    "constant": Traffic(
        arrivals=ConstantArrivals(rate_rps=7.0), num_requests=100, num_warmup_requests=3
    ),
    "poisson-both": Traffic(
        arrivals=PoissonArrivals(rate_rps=3.5),
        prompt_tokens=FixedLength(tokens=17),
        duration_s=30.0,
        num_requests=60,
        num_warmup_requests=0,
        seed=2**40,
    ),
    "closed": Traffic(
        arrivals=ClosedLoop(num_users=4, think_time_s=0.25),
        prompt_tokens=UniformLength(low=5, high=9),
        num_requests=40,
        seed=3,
        api="chat",
    ),
    "closed-open-ended": Traffic(
        arrivals=ClosedLoop(num_users=2), duration_s=5.0, seed=5, api="chat"
    ),
}


def digest(schedule: Schedule) -> str:
    """Of the columns there were at first, and of the prompts, as bytes."""
    hashed = hashlib.sha256()
    for column in (
        schedule.intended_s,
        schedule.prompt_tokens,
        schedule.output_tokens,
        schedule.is_warmup,
    ):
        hashed.update(column.tobytes())
    last = 100_000 if schedule.is_open_ended else schedule.num_requests - 1
    for i in [*range(min(schedule.num_requests, 50)), last]:
        hashed.update(repr(schedule.shape(i)).encode())
        prompt = schedule.prompt(i)
        assert not isinstance(prompt, tuple)
        hashed.update(prompt.encode() if isinstance(prompt, str) else prompt.tobytes())
    return hashed.hexdigest()[:32]


@pytest.mark.parametrize(
    ("name", "vocab_size", "num_requests", "expected"),
    [
        # Written down with the program as it was when it knew these five kinds alone.
        ("poisson", None, 1035, "af689b93944a67ea5df6a57d45bdf5cb"),
        ("poisson", 32_000, 1035, "72f231c23400c14487b6e4aea78be97b"),
        ("constant", None, 103, "e94859adbfd6844b4b49a57cefe32553"),
        ("constant", 32_000, 103, "257aa5efdd5082e3cf4da1ccb2570d5a"),
        ("poisson-both", None, 60, "c289e4eb80543c413a31a62b5ca28389"),
        ("poisson-both", 32_000, 60, "7c19386cbdef4e4da5b220af2fbf2bba"),
        ("closed", None, 42, "2e00991398b9e503497160b04a42a2bf"),
        ("closed-open-ended", None, 2, "9e529a630be00e6bcc3bff48c4dfe054"),
    ],
)
def test_an_old_spec_sends_the_same_bytes_at_the_same_instants(
    name: str, vocab_size: int | None, num_requests: int, expected: str
) -> None:
    schedule = build_schedule(OLD[name], vocab_size)
    assert schedule.num_requests == num_requests
    assert digest(schedule) == expected
