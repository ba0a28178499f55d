"""Conversations that users hold, that files name, and that are told in token ids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import TrafficFileUnusable
from workloads.traffic.expect import expected_requests
from workloads.traffic.schedule import Schedule, build_schedule
from workloads.traffic.sessions import by_conversation
from workloads.traffic.spec import (
    Arrivals,
    ClosedLoop,
    FilePrompts,
    PoissonArrivals,
    Sessions,
    TraceReplay,
    Traffic,
    UniformLength,
)

USERS = ClosedLoop(num_users=5, think_time_s=0.1)
IDS = Traffic(
    arrivals=PoissonArrivals(rate_rps=5.0),
    sessions=Sessions(turns=UniformLength(low=1, high=5), think_time_s=0.5),
    prompt_tokens=UniformLength(low=3, high=40),
    output_tokens=UniformLength(low=2, high=20),
    num_requests=30,
    seed=4,
)


def sent(schedule: Schedule, row: int) -> list[int]:
    return list(schedule.conversation_ids(row).tolist())


@given(
    seed=st.integers(0, 2**63),
    arrivals=st.sampled_from([USERS, PoissonArrivals(rate_rps=20.0)]),
    num_warmup=st.integers(0, 2),
    salt=st.sampled_from(["", "b"]),
)
@settings(max_examples=25, deadline=None)
def test_every_worker_makes_the_same_conversations(
    seed: int, arrivals: Arrivals, num_warmup: int, salt: str
) -> None:
    traffic = replace(IDS, seed=seed, arrivals=arrivals, num_warmup_requests=num_warmup, salt=salt)
    whole = build_schedule(traffic)
    told = {row: sent(whole, row) for row in range(whole.num_requests)}
    for num_workers in (1, 4, 16):
        seen: dict[int, list[int]] = {}
        for worker in range(num_workers):
            mine = build_schedule(traffic)
            rows = mine.rows_of(worker, num_workers).tolist()
            # Backwards: what a row holds depends on no row made before it.
            seen |= {row: sent(mine, row) for row in reversed(rows)}
            for row in rows:
                assert set(mine.earlier_turns(row)) <= set(rows)
        assert seen == told


def test_a_conversation_in_ids_grows_by_what_was_asked_and_as_long_an_answer() -> None:
    schedule = build_schedule(IDS)
    later = np.flatnonzero(schedule.turn > 0)
    assert len(later) > 5
    assert not schedule.sends_answers
    for row in later.tolist():
        before, now = sent(schedule, row - 1), sent(schedule, row)
        answer = int(schedule.output_tokens[row - 1])
        own = int(schedule.prompt_tokens[row])
        assert now[: len(before)] == before
        assert len(now) == len(before) + answer + own == schedule.num_sent_tokens(row)
        assert now[-own:] == schedule.prompt_ids(row).tolist()
        # The answer is nobody's prompt.
        assert now[len(before) : len(before) + answer] != before[:answer]
    # Text says what the server really answered: how long that is only the server can tell.
    text = build_schedule(replace(IDS, prompt_form="text"))
    assert text.sends_answers and text.num_sent_tokens(int(later[0])) == -1


@pytest.mark.parametrize("num_requests", [1, 7, 30])
def test_sessions_of_users_have_no_times_in_advance(num_requests: int) -> None:
    schedule = build_schedule(
        replace(IDS, arrivals=USERS, num_requests=num_requests, num_warmup_requests=2)
    )
    assert np.isnan(schedule.intended_s).all()
    assert schedule.num_requests == 2 + num_requests
    assert not schedule.is_open_ended
    assert schedule.peak_rate_rps() is None
    # The conversations themselves are those that would arrive.
    arriving = build_schedule(replace(IDS, num_requests=num_requests))
    for name in ("session", "turn", "after", "think_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(schedule, name), getattr(arriving, name))


@given(st.lists(st.integers(-1, 4), max_size=30))
def test_rows_of_a_trace_by_conversation(names: list[int]) -> None:
    order, sizes = by_conversation(np.array(names, dtype=np.int64))
    assert sorted(order.tolist()) == list(range(len(names)))
    assert sizes.sum() == len(names)
    groups = [g.tolist() for g in np.split(order, np.cumsum(sizes)[:-1])] if names else []
    expected: dict[object, list[int]] = {}
    for row, name in enumerate(names):
        expected.setdefault(name if name >= 0 else ("alone", row), []).append(row)
    assert groups == list(expected.values())


def mooncake(path: Path, *rows: tuple[int, int, list[int], str | None]) -> TraceReplay:
    """(milliseconds, prompt tokens, block hashes, session)"""
    lines = []
    for at, tokens, hashes, session in rows:
        row = {"timestamp": at, "input_length": tokens, "output_length": 7, "hash_ids": hashes}
        lines.append(json.dumps(row if session is None else {**row, "session_id": session}))
    path.write_text("\n".join(lines))
    return TraceReplay(path=str(path), format="mooncake")


def replay(arrivals: TraceReplay, turns: int = 9, **changes: object) -> Schedule:
    traffic = Traffic(
        arrivals=arrivals,
        sessions=Sessions(turns=turns, think_time_s=0.25),
        num_warmup_requests=0,
    )
    return build_schedule(replace(traffic, **changes))  # type: ignore[arg-type]


def test_a_trace_that_names_its_conversations_is_followed(tmp_path: Path) -> None:
    trace = mooncake(
        tmp_path / "t.jsonl",
        (1000, 600, [1, 2], "a"),
        (1200, 100, [], "b"),
        (1500, 40, [], None),
        (2000, 1200, [1, 3, 4], "a"),
        (2600, 300, [], "b"),
        (3000, 1300, [1, 3, 5], "a"),
    )
    schedule = replay(trace)
    assert schedule.prompt_tokens.tolist() == [600, 1200, 1300, 100, 300, 40]
    assert schedule.session.tolist() == [0, 0, 0, 1, 1, 2]
    assert schedule.turn.tolist() == [0, 1, 2, 0, 1, 0]
    assert schedule.after.tolist() == [-1, 0, 1, -1, 3, -1]
    first = schedule.turn == 0
    assert schedule.intended_s[first] == pytest.approx([0.0, 0.2, 0.5], abs=1e-12)
    assert np.isnan(schedule.intended_s[~first]).all()
    assert schedule.think_s[~first].tolist() == [0.25] * 3
    # The recorded prompts hold the conversation: nothing goes before them, no answer is awaited for
    # its words. Hashes say what is alike; without them a prompt begins as the one before it does.
    assert not schedule.sends_answers
    prompts = [sent(schedule, row) for row in range(6)]
    assert [len(p) for p in prompts] == schedule.prompt_tokens.tolist()
    assert prompts[0][:512] == prompts[1][:512] and prompts[1][:1024] == prompts[2][:1024]
    assert prompts[0][512:] != prompts[1][512:600]
    assert prompts[4][:100] == prompts[3]
    assert prompts[5] != prompts[3][:40]
    assert expected_requests(schedule.traffic) == 6.0
    short = replay(trace, turns=2)
    assert short.prompt_tokens.tolist() == [600, 1200, 100, 300, 40]
    assert expected_requests(short.traffic) == 5.0
    assert replay(trace, duration_s=0.3).prompt_tokens.tolist() == [600, 1200, 1300, 100, 300]
    assert replay(trace, num_requests=4).prompt_tokens.tolist() == [600, 1200, 1300, 100]
    # Without sessions every row comes at its own time, as it always did.
    alone = replay(trace, sessions=None)
    assert alone.intended_s == pytest.approx([0.0, 0.2, 0.5, 1.0, 1.6, 2.0], abs=1e-12)


def test_burstgpt_names_conversations_in_a_column(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text(
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
        "Log Type\n"
        "5,7,2,ChatGPT,10,3,13,Conversation log\n"
        "6,,2,GPT-4,20,4,24,API log\n"
        "9,7,2,ChatGPT,30,5,35,Conversation log\n"
    )
    schedule = replay(TraceReplay(path=str(path), format="burstgpt", speed=2.0))
    assert schedule.prompt_tokens.tolist() == [10, 30, 20]
    assert schedule.turn.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(schedule.intended_s, [0.0, np.nan, 0.5])
    path.write_text("Timestamp,Request tokens,Response tokens\n5,10,3\n")
    with pytest.raises(TrafficFileUnusable, match="no row has a Session ID"):
        replay(TraceReplay(path=str(path), format="burstgpt"))


def test_a_trace_without_names_has_no_conversations(tmp_path: Path) -> None:
    trace = mooncake(tmp_path / "t.jsonl", (0, 600, [1, 2], None), (9, 900, [1, 3], None))
    with pytest.raises(TrafficFileUnusable, match="no row has a session_id"):
        replay(trace)


def test_lines_of_one_session_are_its_turns(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    lines = [
        {"prompt": "one", "session_id": "a", "output_tokens": 3},
        {"prompt": "solo"},
        {"prompt": "two", "session_id": "a"},
        {"prompt": "uno", "session_id": 5},
        {"prompt": "three", "session_id": "a", "output_tokens": 9},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    prompts = FilePrompts(path=str(path), format="jsonl")
    traffic = Traffic(
        arrivals=ClosedLoop(num_users=2),
        sessions=Sessions(turns=2),
        prompts=prompts,
        num_requests=8,
        num_warmup_requests=0,
        prompt_form="text",
    )
    schedule = build_schedule(traffic)
    asked = [schedule.prompt(row) for row in range(8)]
    assert asked == ["one", "two", "solo", "uno", "one", "two", "solo", "uno"]
    assert schedule.output_tokens[[0, 1]].tolist() == [3, 32]
    assert schedule.sends_answers
    whole = build_schedule(replace(traffic, sessions=Sessions(turns=9)))
    assert [whole.prompt(row) for row in range(3)] == ["one", "two", "three"]
    # Without sessions each line is a prompt of its own.
    alone = build_schedule(replace(traffic, sessions=None))
    assert [alone.prompt(row) for row in range(5)] == ["one", "solo", "two", "uno", "three"]
    path.write_text('{"prompt": "one"}\n')
    with pytest.raises(TrafficFileUnusable, match="no line has a session_id"):
        build_schedule(traffic)
    path.write_text('{"messages": [{"role": "user", "content": "hi"}], "session_id": "a"}\n')
    with pytest.raises(TrafficFileUnusable, match=r"p\.jsonl:1: messages hold a conversation"):
        build_schedule(replace(traffic, api="chat", prompt_form=None))
