"""Whether a serving configuration fits its chips, before one of them is paid for. Pure.

On each chip, vLLM fills ``gpu_memory_utilization`` of the memory with, in this order: the weights,
the peak of a forward pass, what lies outside torch, and the KV cache takes the rest. What the
second and third take is not in the model's shape; the figures here were measured on an H100 of
79.18 GiB by llm-d-incubation/llm-d-planner (docs/empirical-vllm-memory-results.md at e50305a, April
2026): 4.76 … 5.64 GiB of activations for dense text models, whatever their length or batch, and
0.13 GiB outside torch alone, 0.55 GiB under tensor parallelism. The smallest figures are used: a
filter may let through what then dies, which is measured, but must not refuse what would run.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuners.serving import GIB, Serving
from workloads.simulated.roofline import kv_bytes_per_token

ACTIVATION_BYTES = 4.7 * GIB
NON_TORCH_BYTES = 0.13 * GIB
NON_TORCH_PARALLEL_BYTES = 0.54 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFit:
    """Of the fullest chip. ``kv_tokens``: positions that its cache holds, at most; ≤ 0: none."""

    weight_bytes: float
    overhead_bytes: float
    usable_bytes: float
    kv_bytes_per_token: float
    kv_tokens: int
    needed_tokens: int

    @property
    def kv_room_bytes(self) -> float:
        return self.usable_bytes - self.weight_bytes - self.overhead_bytes

    @property
    def fits(self) -> bool:
        """Whether one request of the longest length can be served: an engine asks no more."""
        return self.kv_tokens >= self.needed_tokens

    @property
    def severity(self) -> float:
        """By which share of the usable memory it is too much; ≤ 0: it fits."""
        least = self.weight_bytes + self.overhead_bytes
        least += self.needed_tokens * self.kv_bytes_per_token
        return least / self.usable_bytes - 1.0

    def describe(self) -> str:
        """Every number in the sentence, in GiB."""
        room, usable = self.kv_room_bytes / GIB, self.usable_bytes / GIB
        return (
            f"weights {self.weight_bytes / GIB:.1f} GiB and {self.overhead_bytes / GIB:.1f} GiB "
            f"beside them leave {room:.1f} of {usable:.1f} GiB a chip for the KV cache: "
            f"{max(self.kv_tokens, 0)} tokens, where {self.needed_tokens} are needed"
        )


def memory_fit(
    serving: Serving, *, memory_bytes: float | None = None, needed_tokens: int | None = None
) -> MemoryFit:
    """``memory_bytes``: of one chip as its driver says; None: the data sheet's. ``needed_tokens``:
    what the cache must hold; None: one request of the longest length, which is all vLLM asks."""
    tp, pp = serving.tensor_parallel_size, serving.pipeline_parallel_size
    capacity = serving.chip.memory_bytes if memory_bytes is None else memory_bytes
    usable = capacity * serving.gpu_memory_utilization
    weights = serving.bytes_of_weights / (tp * pp)
    overhead = ACTIVATION_BYTES + (NON_TORCH_PARALLEL_BYTES if tp > 1 else NON_TORCH_BYTES)
    per_token = kv_bytes_per_token(serving.model, tp, serving.kv_bytes) / pp
    return MemoryFit(
        weight_bytes=weights,
        overhead_bytes=overhead,
        usable_bytes=usable,
        kv_bytes_per_token=per_token,
        kv_tokens=int((usable - weights - overhead) // per_token),
        needed_tokens=serving.max_model_len if needed_tokens is None else needed_tokens,
    )
