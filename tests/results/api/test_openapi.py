"""Whatever the OpenAPI document allows, and what it does not, is answered as it says: never a 5xx.

``WINDTUNNEL_SCHEMATHESIS=2000`` asks so many questions of each route instead of a few.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what schemathesis imports warns about itself
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
NUM_QUESTIONS = int(os.environ.get("WINDTUNNEL_SCHEMATHESIS", "12"))


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{url}/openapi.json", timeout=10).json()
    return found


def test_every_route_is_described_with_an_example(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.")
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) >= 15
    for path, method, operation in operations:
        assert operation["summary"], path
        assert operation["description"], path
        assert "422" not in operation["responses"], path  # FastAPI's own; our problems are 4XX
        if method == "post":
            body = operation["requestBody"]["content"]["application/json"]
            assert body["examples"], path


def test_the_examples_of_the_document_are_answered(url: str, document: dict[str, Any]) -> None:
    asked = 0
    for path, methods in document["paths"].items():
        if "post" not in methods:
            continue
        body = methods["post"]["requestBody"]["content"]["application/json"]
        for example in body["examples"].values():
            reply = requests.post(f"{url}{path}", json=example["value"], timeout=10)
            assert reply.status_code == 200, (path, reply.text)
            asked += 1
    assert asked >= 5


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_question_is_a_server_error(
    url: str, document: dict[str, Any], mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_dict(document)
    seen = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        try:
            strategy = operation.as_strategy(generation_mode=mode)
        except schemathesis.errors.SchemathesisError:  # nothing can be wrong with it
            continue

        @settings(
            max_examples=NUM_QUESTIONS,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: Any) -> None:
            nonlocal seen
            reply = case.call(base_url=url)
            case.validate_response(reply, checks=CHECKS)
            seen += 1

        try:
            ask()
        except Exception as error:
            if "Unsatisfiable" in type(error).__name__:
                continue
            raise
    assert seen > NUM_QUESTIONS * 5
