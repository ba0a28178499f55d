"""Requests become questions, or problems that name everything wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from results.api.door import question_of_body, question_of_query
from results.api.problems import Refused
from results.recommendation.question import Objective


def errors_of(body: Any = None, query: str = "") -> dict[str, str]:
    with pytest.raises(Refused) as caught:
        if query:
            question_of_query(query.encode())
        else:
            question_of_body(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.problem.status == 400
    return {e.field: e.message for e in caught.value.problem.errors}


def test_a_body_and_a_query_of_the_same_words_are_one_question() -> None:
    body = question_of_body(
        json.dumps(
            {
                "model": "m",
                "rate_rps": 4,
                "accelerators": ["H100", "L4"],
                "targets": [
                    {"metric": "ttft_s", "limit_s": 0.5, "percentile": 99},
                    {"metric": "itl_s", "limit_s": 0.05, "percentile": 99},
                ],
                "objective": "pareto",
                "fresh_only": True,
            }
        ).encode()
    )
    query = question_of_query(
        b"fresh_only=true&accelerators=H100&accelerators=L4&model=m&rate_rps=4.0&percentile=99"
        b"&target_itl_milliseconds=50&target_ttft_milliseconds=500&objective=pareto"
    )
    assert body == query
    assert hash(body) == hash(query)
    assert query.objective is Objective.PARETO
    assert query.targets[0].name == "ttft_s_p99"


def test_plus_and_percent_are_read_as_forms_write_them() -> None:
    assert question_of_query(b"model=a%2Fb+c").model == "a/b c"


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"modle": "x"}, "modle", "did you mean model"),
        ({"targets": [{"metric": "ttft_s", "limit": 1}]}, "targets.0.limit", "limit_s"),
        ({"targets": [{"metric": "ttft_s"}]}, "targets.0.limit_s", "required"),
        ({"rate_rps": "4"}, "rate_rps", "found '4'"),
        ({"objective": "best"}, "objective", "cheapest"),
        ({"rate_rps": -1}, "", "rate_rps = -1"),
        ({"rate_rps": 1, "concurrency": 1}, "", "one of them"),
        ({"use_case": "chatt"}, "", "chat"),
        ({"targets": [{"metric": "mfu", "limit_s": 1}]}, "", "targets on ttft_s"),
        ({"max_accelerators": 10**30}, "max_accelerators", ""),
        ({"input_tokens": 1e300}, "input_tokens", "more than there can be"),
        ([], "", "object"),
        (b"{", "", "no JSON"),
        (b"", "", "empty"),
        (b'"\xff"', "", "no JSON"),
    ],
)
def test_what_a_body_must_not_say(body: Any, field: str, said: str) -> None:
    errors = errors_of(body)
    assert field in errors
    assert said in errors[field]


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("modle=x", "modle", "did you mean model"),
        ("model=a&model=b", "model", "twice"),
        ("&".join(f"a{i}=1" for i in range(500)), "", "more than 200"),
        ("rate_rps=four", "rate_rps", "found 'four'"),
        ("target_ttft_milliseconds=soon", "target_ttft_milliseconds", "milliseconds"),
        ("target_ttft_milliseconds=nan", "", "above 0"),
        ("percentile=99", "percentile", "of no target"),
        ("target_ttft_milliseconds=5&percentile=20", "", "from 50"),
        ("rate_rps=inf", "", "above 0"),
        ("limit=0", "", "limit"),
    ],
)
def test_what_a_query_must_not_say(query: str, field: str, said: str) -> None:
    errors = errors_of(query=query)
    assert field in errors
    assert said in errors[field]


def test_everything_wrong_is_said_at_once() -> None:
    assert set(errors_of({"modle": 1, "rate_rps": "x", "limit": 2.5})) == {
        "modle",
        "rate_rps",
        "limit",
    }
