"""A study of a training compares steps of the same sequences."""

from __future__ import annotations

import pytest

from harness.errors import SpecError
from harness.spec import RunSpec
from tuners.training_batch import same_step, sequences_per_step
from tuners.varied import varied
from workloads.params import JaxWorkload, TorchWorkload

BASE = RunSpec(name="base", workload=TorchWorkload(num_workers=4, micro_batch_size=8))


def turned(**config: object) -> RunSpec:
    def strict(spec: RunSpec, _: object) -> RunSpec:
        raise AssertionError("every path here leads into the workload")

    return varied(BASE, {f"workload.{k}": v for k, v in config.items()}, strict)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("config", "accumulation"),
    [
        ({"micro_batch_size": 2}, 4),
        ({"micro_batch_size": 8}, 1),
        ({"micro_batch_size": 8, "tensor_parallel_size": 2, "strategy": "fsdp2"}, 2),
        ({"strategy": "fsdp2"}, 1),
    ],
)
def test_the_accumulation_follows(config: dict[str, object], accumulation: int) -> None:
    workload = turned(**config).workload
    assert isinstance(workload, TorchWorkload)
    assert workload.gradient_accumulation_steps == accumulation
    assert sequences_per_step(workload) == 4 * 8


def test_what_does_not_divide_is_no_configuration() -> None:
    with pytest.raises(SpecError, match="32 sequences does not divide into micro batches of 64"):
        turned(micro_batch_size=16)
    with pytest.raises(SpecError, match="tensor_parallel_size"):
        turned(tensor_parallel_size=3)


def test_an_accumulation_that_is_a_knob_itself_is_left_alone() -> None:
    workload = turned(micro_batch_size=2, gradient_accumulation_steps=3).workload
    assert isinstance(workload, TorchWorkload)
    assert workload.gradient_accumulation_steps == 3


def test_a_step_of_jax_has_one_batch_a_worker() -> None:
    base = RunSpec(name="base", workload=JaxWorkload(num_workers=2, micro_batch_size=8))
    made = RunSpec(name="base", workload=JaxWorkload(num_workers=2, micro_batch_size=4))
    workload = same_step(base, made, {"workload.micro_batch_size": 4}).workload
    assert isinstance(workload, JaxWorkload)
    assert workload.gradient_accumulation_steps == 2
