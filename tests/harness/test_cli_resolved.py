"""A winner beside the defaults that the baseline's worker resolved."""

from __future__ import annotations

from harness.cli.resolved import NOT_TOLD, baseline_value
from harness.spec import RunSpec
from results.testing import make_record
from workloads.params import TorchWorkload, VllmWorkload

RECORD = make_record(resolved={"dtype": "bfloat16", "observed": {"max_num_batched_tokens": 2048}})


def test_a_default_is_what_the_worker_resolved() -> None:
    base = RunSpec(name="base", workload=VllmWorkload(engine_args={"max-num-seqs": 16}))
    asked = "workload.engine_args."
    assert baseline_value(f"{asked}max-num-seqs", base, RECORD) == 16  # what the run itself says
    assert baseline_value(f"{asked}dtype", base, RECORD) == "bfloat16"
    assert baseline_value(f"{asked}max-num-batched-tokens", base, RECORD) == 2048
    assert baseline_value(f"{asked}block-size", base, RECORD) == NOT_TOLD
    assert baseline_value("workload.tensor_parallel_size", base, RECORD) == 1


def test_a_training_has_its_defaults_in_its_spec() -> None:
    base = RunSpec(name="base", workload=TorchWorkload())
    assert baseline_value("workload.strategy", base, RECORD) == "ddp"
    assert baseline_value("workload.compile", base, RECORD) is False
    assert baseline_value("hardware.0.accelerator", base, RECORD) == "cpu"
