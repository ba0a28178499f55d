"""Failures are told apart by what engines really say."""

from __future__ import annotations

import pytest

from results.record import Failed
from tuners.outcome import SEVERITY, Crashed, FailureKind, Transient, _failure, failure_kind


def failed(stage: str, error: str, message: str, *tail: str) -> Failed:
    return Failed(stage=stage, error=error, message=message, log_tail=tail)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (
            failed(
                "startup",
                "engine_died",
                "the server ended with exit status 1",
                "ValueError: To serve at least one request with the models's max seq len (4096), "
                "(0.5 GiB KV cache is needed, which is larger than the available KV cache memory",
            ),
            FailureKind.DOES_NOT_FIT,
        ),
        (
            failed(
                "startup",
                "engine_died",
                "ended",
                "ValueError: No available memory for the cache blocks. Try increasing "
                "`gpu_memory_utilization` when initializing the engine.",
            ),
            FailureKind.DOES_NOT_FIT,
        ),
        (
            failed(
                "startup",
                "engine_died",
                "ended",
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.",
            ),
            FailureKind.OOM_AT_LOAD,
        ),
        (
            failed("load", "engine_died", "ended", "torch.OutOfMemoryError: CUDA out of memory."),
            FailureKind.OOM_UNDER_LOAD,
        ),
        (
            failed("load", "engine_died", "the server was ended by signal 9"),
            FailureKind.OOM_UNDER_LOAD,
        ),
        (failed("load", "out_of_memory", "rank 1: 3 GiB"), FailureKind.OOM_UNDER_LOAD),
        (
            failed(
                "startup",
                "engine_died",
                "ended",
                "api_server.py: error: argument --max-num-seqs: invalid int value: 'x'",
            ),
            FailureKind.CONFIG_INVALID,
        ),
        (
            failed(
                "startup",
                "engine_died",
                "ended",
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
            ),
            FailureKind.CONFIG_INVALID,
        ),
        (failed("plan", "plan_refused", "asks 8 x H100"), FailureKind.CONFIG_INVALID),
        (
            failed(
                "startup", "engine_died", "ended", "torch._inductor.exc.InductorError: CppCompile"
            ),
            FailureKind.COMPILE_FAILURE,
        ),
        (failed("startup", "compile_failure", "no C++ compiler"), FailureKind.COMPILE_FAILURE),
        (
            failed(
                "startup",
                "engine_died",
                "ended",
                "jax.errors.JaxRuntimeError: INTERNAL: Mosaic failed to compile TPU kernel",
            ),
            FailureKind.COMPILE_FAILURE,
        ),
        (failed("startup", "deadline_exceeded", "no first token"), FailureKind.HANG),
        (failed("startup", "engine_died", "ended", "Segmentation fault"), FailureKind.ENGINE_DIED),
    ],
)
def test_a_permanent_failure_has_its_kind(record: Failed, kind: FailureKind) -> None:
    assert failure_kind(record) is kind
    outcome = _failure(record)
    assert isinstance(outcome, Crashed)
    assert outcome.severity == SEVERITY[kind] > 0


@pytest.mark.parametrize(
    "record",
    [
        failed("load", "node_lost", "node 1 went away"),
        failed("placement", "placement_timed_out", "no spot capacity"),
        failed("store", "store_unwritable", "disk full"),
        failed("lost", "lost", "its driver died"),
        failed("load", "load_worker_died", "a sender died"),
    ],
)
def test_infrastructure_is_never_told(record: Failed) -> None:
    assert isinstance(_failure(record), Transient)


def test_every_permanent_kind_is_graded() -> None:
    assert {*SEVERITY, FailureKind.INFRASTRUCTURE} == set(FailureKind)
