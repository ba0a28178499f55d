"""How long one step of an engine takes at least: the roofline of its arithmetic and its traffic.

A step computes ``num_tokens`` tokens, of which ``num_sampled`` are followed by a new one. Three
parts, one after another, as engines run them:

- the matrices, limited by arithmetic or by reading every weight once:
  max(2·P·tokens + 2·H·sampled over the chips' FLOP/s, weight bytes over their bandwidth), where P
  are the parameters of the layers and H those of the output head;
- attention, limited by arithmetic or by reading the keys and values:
  max(4·heads·head size·layers·pairs over FLOP/s, KV bytes over bandwidth), where pairs counts each
  query with each position that it sees (causal attention, counted exactly);
- two all-reduces a layer under tensor parallelism, each moving 2·(n−1)/n of the activations over
  every chip's link (the lower bound that ring all-reduce meets: Patarasuk & Yuan, 2009).

Efficiencies of 1 make this a bound that no engine beats. Anything below 1, and ``overhead_s`` (the
part of a step that no chip sees), are assumptions of whoever sets them.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads.model_shape import ITEM_BYTES, ModelShape
from workloads.simulated.accelerators import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Seconds per unit of work of a whole deployment; see the module for what is counted."""

    weights_s: float  # every weight read once
    token_s: float  # arithmetic of the layers, per token
    sampled_s: float  # arithmetic of the output head, per sampled token
    pair_s: float  # arithmetic of attention, per query and position
    kv_read_s: float  # per position whose keys and values are read
    all_reduce_s: float  # per token
    overhead_s: float = 0.0

    def step_s(self, num_tokens: int, num_sampled: int, num_pairs: int, num_read: int) -> float:
        return self.base_s(num_tokens, num_sampled) + self.attention_s(num_pairs, num_read)

    def base_s(self, num_tokens: int, num_sampled: int) -> float:
        """All but attention."""
        matrices_s = max(num_tokens * self.token_s + num_sampled * self.sampled_s, self.weights_s)
        return self.overhead_s + matrices_s + num_tokens * self.all_reduce_s

    def attention_s(self, num_pairs: int, num_read: int) -> float:
        return max(num_pairs * self.pair_s, num_read * self.kv_read_s)

    @property
    def decode_pair_s(self) -> float:
        """Attention of one new token per position that it sees: it reads each for itself."""
        return max(self.pair_s, self.kv_read_s)


def kv_bytes_per_token(
    model: ModelShape, tensor_parallel_size: int = 1, item_bytes: int | None = None
) -> int:
    """Of all layers, on one chip. With fewer KV heads than chips, heads are kept several times.
    ``item_bytes``: of one number in the cache; None: of the model's own type."""
    heads = max(1, model.num_kv_heads // tensor_parallel_size)
    item = ITEM_BYTES[model.dtype] if item_bytes is None else item_bytes
    return 2 * model.num_layers * heads * model.head_size * item


def roofline(
    model: ModelShape,
    chip: Accelerator,
    tensor_parallel_size: int = 1,
    *,
    compute_efficiency: float = 1.0,
    memory_efficiency: float = 1.0,
    overhead_s: float = 0.0,
    weight_bytes: float | None = None,
    kv_bytes: int | None = None,
    flops_factor: float = 1.0,
) -> Roofline:
    """The bound of ``model`` on ``tensor_parallel_size`` chips. Efficiencies are shares of peak.

    ``weight_bytes`` and ``kv_bytes``: of one weight and of one number in the cache, where they are
    quantised; None: of the model's own type. ``flops_factor``: the arithmetic's peak over that of
    bfloat16 (2 for 8-bit matrices on chips that multiply them).
    """
    n, item = tensor_parallel_size, ITEM_BYTES[model.dtype]
    head = model.vocab_size * model.hidden_size
    # Of the embedding only the rows of the step's own tokens are read: nothing beside the rest.
    read = model.num_parameters - head
    flops = n * chip.flops * compute_efficiency * flops_factor
    attention_flops = n * chip.flops * compute_efficiency  # is not quantised
    memory = chip.memory_bytes_per_s * memory_efficiency  # of one chip: each reads its own part
    reduced = 2 * model.num_layers * model.hidden_size * item
    return Roofline(
        weights_s=read * (item if weight_bytes is None else weight_bytes) / n / memory,
        token_s=2 * (read - head) / flops,
        sampled_s=2 * head / flops,
        pair_s=4 * model.num_heads * model.head_size * model.num_layers / attention_flops,
        kv_read_s=kv_bytes_per_token(model, n, kv_bytes) / memory,
        all_reduce_s=reduced * 2 * (n - 1) / n / chip.link_bytes_per_s,
        overhead_s=overhead_s,
    )
