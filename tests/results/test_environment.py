"""What breaks history and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from results.environment import Environment, Hardware, HostNoise, Software, environment_hash

NODE = Hardware(
    node="a", cpu_model="Example", num_cpus=8, memory_bytes=1 << 34, kernel="6.1", driver="570"
)
BASE = Environment(
    software=Software(python="3.11", windtunnel="0.1.0", packages={"vllm": "0.32.0"}),
    hardware=(NODE,),
)
FLAGS = {"dtype": "bfloat16", "observed": {"kv_cache_tokens": 100}}


def changed(**software: object) -> Environment:
    return replace(BASE, software=replace(BASE.software, **software))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "same",
    [
        changed(git_sha="abc", git_dirty=True, windtunnel="9"),
        replace(BASE, hardware=(replace(NODE, node="b"),)),
        replace(BASE, noise=HostNoise(load_1m_before=9.0, load_1m_after=9.0)),
    ],
)
def test_what_is_not_under_test_breaks_no_history(same: Environment) -> None:
    assert environment_hash(same, FLAGS) == environment_hash(BASE, FLAGS)


@pytest.mark.parametrize(
    "other",
    [
        changed(packages={"vllm": "0.33.0"}),
        changed(image_digest="sha256:1"),
        replace(BASE, hardware=(NODE, NODE)),
        replace(BASE, hardware=(replace(NODE, driver="580"),)),
        replace(BASE, hardware=(replace(NODE, kernel="6.2"),)),
    ],
)
def test_what_answers_breaks_history(other: Environment) -> None:
    assert environment_hash(other, FLAGS) != environment_hash(BASE, FLAGS)


def test_flags_count_and_what_was_merely_observed_does_not() -> None:
    assert environment_hash(BASE, {**FLAGS, "observed": {"kv_cache_tokens": 7}}) == (
        environment_hash(BASE, FLAGS)
    )
    assert environment_hash(BASE, {**FLAGS, "dtype": "float16"}) != environment_hash(BASE, FLAGS)


def test_the_order_of_nodes_does_not_count() -> None:
    other = replace(NODE, num_cpus=4)
    assert environment_hash(replace(BASE, hardware=(NODE, other)), FLAGS) == environment_hash(
        replace(BASE, hardware=(other, NODE)), FLAGS
    )
