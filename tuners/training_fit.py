"""Whether a training fits its chips, and whether its layout can be built at all, before one is paid
for. Pure.

Every count is a lower bound: only what must be in memory at once, however clever an allocator or a
compiler is, so that nothing that would run is refused. What is left out: the driver's own memory,
fragmentation, buffers of the communication, and one layer's work while it is computed again.

States: weights and AdamW's two moments in float32, 12 bytes a parameter, and 4 of its gradient (the
16 bytes a parameter of Rajbhandari et al., ZeRO, 2020, section 3.1, in another split: nothing here
keeps a second copy of the weights). Activations: the tensors that the backward pass of this model
reads, counted operation by operation; the tests hold them against what autograd really saves.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuners.serving import GIB
from workloads.jax_layout import MeshLayout
from workloads.params import JaxWorkload, TorchWorkload
from workloads.torch_shape import PRESETS, ModelShape
from workloads.training_checks import num_data_ranks

FLOAT32 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFit:
    """Bytes of the fullest rank. ``gradients_stay``: they are there while activations are."""

    weight_bytes: float
    optimizer_bytes: float
    gradient_bytes: float
    activation_bytes: float
    logits_bytes: float
    gathered_bytes: float
    gradients_stay: bool
    usable_bytes: float

    @property
    def least_bytes(self) -> float:
        """Of the fuller of two moments: the backward pass begins, or the optimizer does."""
        states = self.weight_bytes + self.optimizer_bytes
        begins = self.activation_bytes + self.logits_bytes + self.gathered_bytes
        if self.gradients_stay:
            return states + self.gradient_bytes + begins
        return states + max(begins, self.gradient_bytes)

    @property
    def fits(self) -> bool:
        return self.least_bytes <= self.usable_bytes

    @property
    def severity(self) -> float:
        """By which share of the usable memory it is too much; ≤ 0: it may fit."""
        return self.least_bytes / self.usable_bytes - 1.0

    def describe(self) -> str:
        """Every number in the sentence, in GiB."""
        parts = (
            ("weights", self.weight_bytes),
            ("optimizer", self.optimizer_bytes),
            ("gradients", self.gradient_bytes),
            ("activations", self.activation_bytes + self.logits_bytes + self.gathered_bytes),
        )
        said = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts)
        return (
            f"a rank needs at least {self.least_bytes / GIB:.1f} of {self.usable_bytes / GIB:.1f} "
            f"GiB ({said})"
        )


def torch_fit(params: TorchWorkload, memory_bytes: float) -> TrainingFit:
    """Of one rank with ``memory_bytes`` of its own. The preset is a known one."""
    shape, parts = PRESETS[params.preset], params.tensor_parallel_size
    ranks = num_data_ranks(params)
    alone = params.communication == "none"
    shards = ranks if params.strategy == "fsdp2" and not alone else 1
    weights = FLOAT32 * _parameters(shape, parts) / shards
    item = 2 if params.precision == "bfloat16" else FLOAT32
    tokens = params.micro_batch_size * params.sequence_length
    bucketed = params.strategy == "ddp" and ranks > 1 and not alone
    ends = shape.vocab_size * shape.dim * (1 + 1 / parts)
    return TrainingFit(
        weight_bytes=weights,
        optimizer_bytes=2 * weights,
        gradient_bytes=weights,
        activation_bytes=tokens * item * _kept(shape, parts, _recompute(params)),
        # The logits, their log-softmax in float32, and the gradient of that.
        logits_bytes=tokens * shape.vocab_size * (item + 2 * FLOAT32),
        # FSDP2 keeps embedding and head whole from the forward pass to the end of the backward.
        gathered_bytes=item * ends if shards > 1 else 0.0,
        gradients_stay=bucketed or params.gradient_accumulation_steps > 1,
        usable_bytes=memory_bytes,
    )


def jax_fit(params: JaxWorkload, layout: MeshLayout, memory_bytes: float) -> TrainingFit:
    """Of one device. XLA may fuse, reorder and compute again what it likes, so that only the inputs
    of the layers and the logits are counted, and gradients only where they are summed."""
    shape = PRESETS[params.preset]
    weights = FLOAT32 * shape.num_parameters / (layout.fsdp * layout.tensor)
    item = 2 if params.precision == "bfloat16" else FLOAT32
    sequences = params.micro_batch_size / layout.shards_per_feed
    tokens = sequences * params.sequence_length
    summed = params.gradient_accumulation_steps > 1
    return TrainingFit(
        weight_bytes=weights,
        optimizer_bytes=2 * weights,
        gradient_bytes=weights if summed else 0.0,
        activation_bytes=tokens * item * shape.num_layers * shape.dim,
        logits_bytes=tokens * shape.vocab_size * item / layout.tensor,
        gathered_bytes=0.0,
        gradients_stay=summed,
        usable_bytes=memory_bytes,
    )


def _recompute(params: TorchWorkload) -> str:
    """torch.compile decides by itself what it computes again: at most what ``selective`` does."""
    if params.compile and params.activation_checkpointing == "none":
        return "selective"
    return params.activation_checkpointing


def _kept(shape: ModelShape, parts: int, recompute: str) -> float:
    """Numbers that are kept for the backward pass, for each token."""
    kv_dim = shape.num_kv_heads * shape.head_dim
    if recompute == "full":  # a layer's input
        per_layer = float(shape.dim)
    elif recompute == "selective":  # and what its matrix products and its attention made
        per_layer = shape.dim + (2 * shape.dim + 2 * kv_dim + 2 * shape.hidden_dim) / parts
    else:
        # The inputs of both norms and of what follows each; queries, keys and values after their
        # rotation, and what attention makes of them; gate, its SiLU, up, and their product.
        per_layer = 4 * shape.dim + (2 * shape.dim + 2 * kv_dim + 4 * shape.hidden_dim) / parts
    return shape.num_layers * per_layer + 2 * shape.dim  # the last norm's input, and the head's


def _parameters(shape: ModelShape, parts: int) -> float:
    """Of one of ``parts`` tensor-parallel ranks: embedding and norms are whole on each."""
    whole = shape.vocab_size * shape.dim + (2 * shape.num_layers + 1) * shape.dim
    return whole + (shape.num_parameters - whole) / parts
