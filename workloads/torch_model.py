"""The transformer that is trained: decoder-only, Llama-like, small enough to read in one go.

Shapes in comments: B sequences, T positions, D = dim, H query heads, K key-value heads,
E = head size, F = SwiGLU's hidden size, V = vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from workloads.torch_shape import ModelShape

# What the backward pass computes again: nothing, every block, or all of a block but its products.
Recompute = Literal["none", "full", "selective"]


class RMSNorm(nn.Module):
    """x / rms(x) × weight, in float32 whatever the input's type: the mean of squares needs it."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()  # (B, T, D)
        scale = torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)  # (B, T, 1)
        return (wide * scale).type_as(x) * self.weight.type_as(x)


def rope_table(head_dim: int, max_positions: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position × frequency; both (T, E/2), float32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim  # (E/2,)
    angles = torch.outer(
        torch.arange(max_positions, dtype=torch.float64), 1.0 / theta**exponents
    )  # (T, E/2)
    return angles.cos().float(), angles.sin().float()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x[i], x[i + E/2]) by its position's angle. x: (B, heads, T, E)."""
    first, second = x.chunk(2, dim=-1)  # each (B, heads, T, E/2)
    cos, sin = cos.type_as(x), sin.type_as(x)  # (T, E/2), broadcast over B and heads
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Causal self-attention with grouped key-value heads."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.is_grouped = shape.num_kv_heads != shape.num_heads
        self.head_dim = shape.head_dim
        kv_dim = shape.num_kv_heads * shape.head_dim
        self.query = nn.Linear(shape.dim, shape.dim, bias=False)
        self.key = nn.Linear(shape.dim, kv_dim, bias=False)
        self.value = nn.Linear(shape.dim, kv_dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape  # (B, T, D)
        # As many heads as this rank has: tensor parallelism splits them.
        query = self.query(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
        key = self.key(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
        value = self.value(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(
            apply_rope(query, cos, sin),  # (B, H, T, E)
            apply_rope(key, cos, sin),  # (B, K, T, E)
            value,  # (B, K, T, E)
            is_causal=True,
            enable_gqa=self.is_grouped,
        )  # (B, H, T, E)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out  # (B, T, D)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) × up(x))."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.dim, shape.hidden_dim, bias=False)
        self.up = nn.Linear(shape.dim, shape.hidden_dim, bias=False)
        self.down = nn.Linear(shape.hidden_dim, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))  # (B, T, F) inside
        return out  # (B, T, D)


def _keep_products() -> Any:
    return create_selective_checkpoint_contexts(_is_product)  # type: ignore[no-untyped-call]


def _is_product(_context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    """Matrix products and attention are dear and their results small beside what lies between."""
    name = str(operation)
    kept = name.startswith(("aten.mm.", "aten.bmm.", "aten.addmm.", "aten._scaled_dot_product"))
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


class Block(nn.Module):
    """Pre-norm residual: x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, shape: ModelShape, recompute: Recompute = "none") -> None:
        super().__init__()
        self.recompute = recompute
        self.attention_norm = RMSNorm(shape.dim, shape.norm_eps)
        self.attention = Attention(shape)
        self.feed_forward_norm = RMSNorm(shape.dim, shape.norm_eps)
        self.feed_forward = SwiGLU(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Checkpointed inside, so that whatever is wrapped around the block stays outside."""
        if self.recompute == "none" or not self.training:
            return self._compute(x, cos, sin)
        context: dict[str, Any] = {}
        if self.recompute == "selective":
            context["context_fn"] = _keep_products
        out: Tensor = checkpoint(self._compute, x, cos, sin, use_reentrant=False, **context)
        return out

    def _compute(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


class Transformer(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out. Weights come from torch's global generator."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self, shape: ModelShape, max_positions: int, recompute: Recompute = "none"
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab_size, shape.dim)
        self.blocks = nn.ModuleList(Block(shape, recompute) for _ in range(shape.num_layers))
        self.norm = RMSNorm(shape.dim, shape.norm_eps)
        self.head = nn.Linear(shape.dim, shape.vocab_size, bias=False)
        cos, sin = rope_table(shape.head_dim, max_positions, shape.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise(shape.num_layers)

    def _initialise(self, num_layers: int) -> None:
        """Normal with deviation 0.02; what feeds the residual stream is scaled by its depth, so
        that the stream's variance does not grow with the number of layers."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            feeds_residual = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
            deviation = 0.02 / (2 * num_layers) ** 0.5 if feeds_residual else 0.02
            nn.init.normal_(parameter, mean=0.0, std=deviation)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embedding(tokens)  # (B, T, D)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits: Tensor = self.head(self.norm(x))
        return logits  # (B, T, V)
