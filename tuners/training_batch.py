"""Trainings that are compared have the same optimizer step: the same sequences in it. Pure.

A micro batch and a layout say how a step is computed, not what it is. Where a study varies them and
not the gradient accumulation, the accumulation follows, so that a step has the sequences that the
study's run has. A configuration for which no whole number does that is not one.
"""

from __future__ import annotations

from dataclasses import replace

from harness.errors import SpecError
from harness.spec import RunSpec
from tuners.space import Config
from workloads.params import JaxWorkload, TorchWorkload
from workloads.training_checks import num_data_ranks

_ACCUMULATION = "workload.gradient_accumulation_steps"
_DECIDES = frozenset(
    f"workload.{name}" for name in ("micro_batch_size", "tensor_parallel_size", "num_workers")
)


def sequences_per_step(workload: TorchWorkload | JaxWorkload) -> int:
    """Over all workers. Of JAX: as if no tensor-parallel group spans workers."""
    feeds = (
        num_data_ranks(workload) if isinstance(workload, TorchWorkload) else workload.num_workers
    )
    return feeds * workload.micro_batch_size * workload.gradient_accumulation_steps


def same_step(base: RunSpec, varied: RunSpec, config: Config) -> RunSpec:
    """``varied`` with the accumulation that keeps ``base``'s sequences in a step, where ``config``
    moves what decides it and not the accumulation itself. Raises SpecError where none does."""
    before, after = base.workload, varied.workload
    if not isinstance(before, TorchWorkload | JaxWorkload):
        return varied
    if not isinstance(after, TorchWorkload | JaxWorkload):
        return varied
    if _ACCUMULATION in config or not _DECIDES & config.keys():
        return varied
    wanted = before.global_batch_size or sequences_per_step(before)
    once = sequences_per_step(replace(after, gradient_accumulation_steps=1))
    if not once or wanted % once:
        raise SpecError(
            f"a step of {wanted} sequences does not divide into micro batches of {once} over all "
            "ranks"
        )
    return replace(varied, workload=replace(after, gradient_accumulation_steps=wanted // once))
