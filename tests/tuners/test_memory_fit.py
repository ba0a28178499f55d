"""Against vLLM 0.11 on an H100 of 79.18 GiB, as llm-d-incubation/llm-d-planner measured it
(docs/empirical-vllm-memory-results.md at e50305a): GiB of weights and of KV cache on a chip."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tuners.memory_fit import memory_fit
from tuners.serving import GIB, Serving
from workloads.simulated.accelerators import accelerator_named, model_named

H100_BYTES = 79.18 * GIB


def serving(model: str, tp: int, weight_bytes: float | None = None) -> Serving:
    return Serving(
        model=model_named(model),
        chip=accelerator_named("H100"),
        tensor_parallel_size=tp,
        max_model_len=16_000,
        gpu_memory_utilization=0.9,
        weight_bytes=weight_bytes,
    )


MEASURED = [
    (serving("llama-3.1-8b", 1), 14.99, 51.38),
    (serving("llama-3.1-70b", 2, 1.0), 33.88, 32.00),
    (serving("qwen3-32b", 1), 61.03, 4.45),
    (serving("qwen3-32b", 2), 30.59, 34.49),
]


@pytest.mark.parametrize(("made", "weights_gib", "cache_gib"), MEASURED)
def test_weights_and_cache_are_those_measured(
    made: Serving, weights_gib: float, cache_gib: float
) -> None:
    fit = memory_fit(made, memory_bytes=H100_BYTES)
    assert fit.weight_bytes / GIB == pytest.approx(weights_gib, rel=0.005)
    # Activations differ by model (4.76 … 5.64 GiB) and the least is assumed: never too strict.
    assert cache_gib - 0.1 <= fit.kv_room_bytes / GIB <= cache_gib + 1.1
    assert fit.fits


@pytest.mark.parametrize(
    "made",
    [
        serving("llama-3.1-70b", 1, 1.0),
        replace(serving("qwen3-32b", 1), max_model_len=32_000),
        serving("llama-3.1-405b", 1, 1.0),
    ],
)
def test_what_died_is_refused_with_the_numbers(made: Serving) -> None:
    """The first two died so in that table; the third has 378 GiB of weights for one chip."""
    fit = memory_fit(made, memory_bytes=H100_BYTES)
    assert not fit.fits
    assert fit.severity > 0
    assert f"{fit.weight_bytes / GIB:.1f} GiB" in fit.describe()


def test_a_position_of_the_cache_has_the_bytes_that_vllm_counts() -> None:
    # 28.20 GiB / 184,832 tokens for 40 layers, 8 heads of 128: 163,840 bytes. Llama-3.1-8B has 32
    # of the same layers.
    fit = memory_fit(serving("llama-3.1-8b", 1))
    assert fit.kv_bytes_per_token == 163_840 * 32 / 40
    eight_bit = memory_fit(replace(serving("llama-3.1-8b", 1), kv_bytes=1))
    assert eight_bit.kv_bytes_per_token == fit.kv_bytes_per_token / 2
