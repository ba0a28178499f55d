"""Prompts of a file: JSON lines and ShareGPT conversations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workloads.errors import TrafficFileUnusable
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FilePrompts,
    FixedLength,
    Sessions,
    Traffic,
)

LINES = [
    {"prompt": "What is a wind tunnel?", "output_tokens": 7},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]},
    {"prompt": "Name three gases.", "id": 5},
]
TALKS = [
    {
        "id": "a",
        "conversations": [
            {"from": "system", "value": "You are kind."},
            {"from": "human", "value": "one"},
            {"from": "gpt", "value": "uno"},
            {"from": "human", "value": "two"},
            {"from": "gpt", "value": "due"},
        ],
    },
    {"id": "nobody asks", "conversations": [{"from": "gpt", "value": "hello"}]},
    {"id": "b", "conversations": [{"from": "user", "value": "three"}]},
]


def lines(tmp_path: Path, rows: list[Any]) -> FilePrompts:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return FilePrompts(path=str(path), format="jsonl")


def talks(tmp_path: Path, value: Any = TALKS) -> FilePrompts:
    path = tmp_path / "talks.json"
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return FilePrompts(path=str(path), format="sharegpt")


def traffic(prompts: FilePrompts, **fields: Any) -> Traffic:
    base: dict[str, Any] = {
        "arrivals": ConstantArrivals(rate_rps=1.0),
        "num_requests": 7,
        "num_warmup_requests": 1,
        "api": "chat",
        "prompt_tokens": FixedLength(tokens=4),
        "output_tokens": FixedLength(tokens=30),
    }
    return Traffic(prompts=prompts, **(base | fields))


def test_lines_are_sent_in_order_over_and_over(tmp_path: Path) -> None:
    schedule = build_schedule(traffic(lines(tmp_path, LINES)))
    sent = [schedule.prompt(i) for i in range(8)]
    assert len(str(sent[0]).split(" ")) == 4  # warm-up is noise, so the file stays unseen
    assert sent[1] == sent[4] == sent[7] == "What is a wind tunnel?"
    assert sent[2] == sent[5] == tuple(LINES[1]["messages"])  # type: ignore[arg-type]
    assert sent[3] == "Name three gases."
    assert schedule.output_tokens.tolist() == [30, 7, 30, 30, 7, 30, 30, 7]
    # Nobody has counted a file's tokens.
    assert schedule.prompt_tokens.tolist() == [4, -1, -1, -1, -1, -1, -1, -1]


def test_a_shuffled_file_is_whole_and_the_seeds_own(tmp_path: Path) -> None:
    rows = [{"prompt": f"prompt {i}"} for i in range(30)]
    prompts = replace(lines(tmp_path, rows), shuffle=True)
    orders = []
    for seed in (0, 0, 1):
        schedule = build_schedule(traffic(prompts, num_requests=45, seed=seed))
        sent = [str(schedule.prompt(i)) for i in range(1, 46)]
        assert sorted(sent[:30]) == sorted(row["prompt"] for row in rows)
        assert sent[30:] == sent[:15]
        orders.append(sent)
    assert orders[0] == orders[1] != orders[2]


def test_a_loop_without_end_goes_round_the_file(tmp_path: Path) -> None:
    loop = traffic(
        lines(tmp_path, LINES), arrivals=ClosedLoop(num_users=1), num_requests=None, duration_s=1.0
    )
    schedule = build_schedule(loop)
    assert schedule.prompt(1 + 3 * 1000) == "What is a wind tunnel?"
    assert schedule.shape(1 + 3 * 1000) == (-1, 7)


def test_completions_take_prompts_alone(tmp_path: Path) -> None:
    plain = [row for row in LINES if "prompt" in row]
    schedule = build_schedule(traffic(lines(tmp_path, plain), api="completions"))
    assert schedule.prompt(2) == "Name three gases."
    with pytest.raises(TrafficFileUnusable, match=r"prompts\.jsonl:3: messages need api: chat"):
        build_schedule(traffic(lines(tmp_path, LINES), api="completions"))


def test_the_salt_goes_first(tmp_path: Path) -> None:
    schedule = build_schedule(traffic(lines(tmp_path, LINES), salt="k9"))
    assert schedule.prompt(1) == "k9 What is a wind tunnel?"
    assert schedule.prompt(2) == (
        {"role": "system", "content": "k9 Be brief."},
        {"role": "user", "content": "Why?"},
    )


def test_the_first_thing_a_human_says_is_the_prompt(tmp_path: Path) -> None:
    schedule = build_schedule(traffic(talks(tmp_path)))
    assert [schedule.prompt(i) for i in range(1, 4)] == ["one", "three", "one"]
    assert schedule.output_tokens.tolist() == [30] * 8


def test_a_conversation_is_a_session(tmp_path: Path) -> None:
    schedule = build_schedule(
        traffic(talks(tmp_path), sessions=Sessions(turns=9, think_time_s=2.0), salt="s")
    )
    assert [schedule.prompt(i) for i in range(1, 8)] == [
        *("s one", "two"),
        "s three",
        *("s one", "two"),
        "s three",
        "s one",  # the count of requests ends the last session
    ]
    assert schedule.session.tolist() == [-1, 0, 0, 1, 2, 2, 3, 4]
    assert schedule.after.tolist() == [-1, -1, 1, -1, -1, 4, -1, -1]
    short = build_schedule(traffic(talks(tmp_path), sessions=Sessions(turns=1)))
    assert [short.prompt(i) for i in range(1, 4)] == ["one", "three", "one"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({}, ":3: accepted: either prompt or messages"),
        ({"prompt": "x", "messages": []}, ":3: accepted: either prompt or messages"),
        ({"prompt": ""}, ":3: prompt: found no text; accepted: text"),
        ({"prompt": ["x"]}, ":3: prompt: found a list; accepted: text"),
        ({"prompt": "x", "output_tokens": 0}, ":3: output_tokens: found number 0; accepted: 1 or"),
        ({"prompt": "x", "output_tokens": -1}, ":3: output_tokens: found number -1"),
        ({"prompt": "x", "output_tokens": "9"}, ":3: output_tokens: found text"),
        ({"messages": []}, ":3: messages: accepted: a list with at least one"),
        ({"messages": [{"role": "user"}]}, ":3: messages.0.content: accepted: text"),
        ({"messages": [{"content": "x"}]}, ":3: messages.0.role: accepted: text"),
        ({"messages": ["x"]}, ":3: messages.0.role: accepted: text"),
        ("x", ":3: found text; each line is one JSON object"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, row: Any, complaint: str) -> None:
    with pytest.raises(TrafficFileUnusable) as error:
        build_schedule(traffic(lines(tmp_path, [LINES[0], row])))
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({}, "talks.json: found an object; accepted: a list of conversations"),
        ([TALKS[0], {"id": "x"}], "entry 1: accepted: an object with a list conversations"),
        ([{"conversations": [{"from": "human"}]}], "entry 0: conversations.0: accepted: the texts"),
        ([TALKS[1]], "talks.json: holds no prompt"),
    ],
)
def test_a_faulty_conversation_is_named(tmp_path: Path, value: Any, complaint: str) -> None:
    with pytest.raises(TrafficFileUnusable) as error:
        build_schedule(traffic(talks(tmp_path, value)))
    assert complaint in str(error.value)


def test_broken_json_is_named_by_line(tmp_path: Path) -> None:
    prompts = talks(tmp_path)
    Path(prompts.path).write_text("[\n{]", encoding="utf-8")
    with pytest.raises(TrafficFileUnusable, match=r"talks\.json:2: is not JSON"):
        build_schedule(traffic(prompts))
