"""What a serving configuration amounts to, for arithmetic: the model, the chip, and what its flags
make of them. The analytic side of a tuner (what fits, what it would do) reads this and nothing
else.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads.model_shape import ITEM_BYTES, ModelShape
from workloads.simulated.accelerators import Accelerator

GIB = 2.0**30


def most_memory_bytes(chip: Accelerator) -> float:
    """The most that a driver may say a chip has. Makers print gigabytes, and mean 2^30 bytes less
    what the chip keeps for itself: an H100 of "80 GB" has 79.18 GiB. One in a hundred more, for
    what is rounded off: a TPU v5p of "95 GB" has 95.74 GiB. What must never refuse what would run
    counts with this; what forecasts a speed may count with the print.
    """
    return chip.memory_bytes / 1e9 * GIB * 1.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One replica. ``weight_bytes`` and ``kv_bytes``: of one weight of the layers and of one number
    in the cache; None: of the model's own type. Embedding and head stay in the model's own type, as
    8-bit checkpoints keep them.

    ``flops_factor``: the matrices' peak over that of bfloat16: 2 where the chip multiplies 8-bit
    numbers twice as fast and both sides are 8 bits wide.
    """

    model: ModelShape
    chip: Accelerator
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 4096
    gpu_memory_utilization: float = 0.92
    weight_bytes: float | None = None
    kv_bytes: int | None = None
    flops_factor: float = 1.0

    @property
    def num_chips(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def bytes_of_weights(self) -> float:
        """Of the whole model."""
        own = ITEM_BYTES[self.model.dtype]
        ends = 2 * self.model.vocab_size * self.model.hidden_size
        layers = self.model.num_parameters - ends
        return layers * (own if self.weight_bytes is None else self.weight_bytes) + ends * own


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The traffic in numbers: mean lengths, and how many requests are in flight at once."""

    input_tokens: float
    output_tokens: float
    concurrency: int
