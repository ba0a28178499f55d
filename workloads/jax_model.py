"""The transformer of ``workloads.torch_model`` as functions on a tree of arrays. Imports JAX.

Parameters of all layers are stacked, (L, …), and the layers are a scan: XLA compiles one of them
whatever the depth. A matrix is (in, out), the transpose of PyTorch's.

Shapes in comments: B sequences, T positions, D = dim, H query heads, K key-value heads,
E = head size, F = SwiGLU's hidden size, V = vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from workloads.torch_shape import ModelShape

Params = dict[str, Any]  # a tree of arrays; ``blocks`` holds those that are stacked


def partition() -> Params:
    """Which axis of the mesh splits which axis of a parameter; the tree of
    ``init_weights.array_shapes``.

    A pair of matrices is split by ``tensor`` along what it sums over in between, so that the two
    need one sum of their results and none of what is in between.
    """
    out_of_stream = PartitionSpec(None, "fsdp", "tensor")
    into_stream = PartitionSpec(None, "tensor", "fsdp")
    whole = PartitionSpec()
    return {
        "embedding": PartitionSpec("tensor", "fsdp"),
        "blocks": {
            "attention_norm": whole,
            "query": out_of_stream,
            "key": out_of_stream,
            "value": out_of_stream,
            "out": into_stream,
            "feed_forward_norm": whole,
            "gate": out_of_stream,
            "up": out_of_stream,
            "down": into_stream,
        },
        "norm": whole,
        "head": PartitionSpec("fsdp", "tensor"),
    }


def rope_table(head_dim: int, num_positions: int, theta: float) -> tuple[Array, Array]:
    """Cosines and sines of position × frequency; both (T, 1, E/2), float32."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim  # (E/2,)
    angles = np.outer(np.arange(num_positions, dtype=np.float64), 1.0 / theta**exponents)
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    return jnp.asarray(cos, jnp.float32), jnp.asarray(sin, jnp.float32)


def apply_rope(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate each pair (x[i], x[i + E/2]) by its position's angle. x: (B, T, heads, E)."""
    first, second = jnp.split(x, 2, axis=-1)  # each (B, T, heads, E/2)
    cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
    return jnp.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x / rms(x) × weight. x: (B, T, D), float32."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def forward(
    params: Params,
    tokens: Array,
    shape: ModelShape,
    *,
    compute: Any = jnp.float32,
    recompute: Literal["none", "full", "selective"] = "none",
    pin: Callable[[Array], Array] = lambda x: x,
) -> Array:
    """Tokens (B, T) in, logits (B, T, V) out, in ``compute``.

    As under PyTorch's autocast, matrices are multiplied in ``compute``; norms, the residual stream
    and the parameters stay float32. ``recompute``: what of a block the backward pass makes again;
    all but its input (full), or all but what its weights' matrices gave (selective). ``pin`` tells
    XLA how the stream (B, T, D) lies on the mesh.
    """
    cos, sin = rope_table(shape.head_dim, tokens.shape[1], shape.rope_theta)

    def block(x: Array, layer: Params) -> tuple[Array, None]:
        x = pin(x + _attention(rms_norm(x, layer["attention_norm"], shape.norm_eps), layer))
        x = pin(x + _feed_forward(rms_norm(x, layer["feed_forward_norm"], shape.norm_eps), layer))
        return x, None

    def _attention(x: Array, layer: Params) -> Array:
        narrow = x.astype(compute)  # (B, T, D)
        query, key, value = (
            _heads(narrow @ layer[name].astype(compute), shape.head_dim)
            for name in ("query", "key", "value")
        )  # (B, T, H, E), (B, T, K, E), (B, T, K, E)
        mixed = jax.nn.dot_product_attention(
            apply_rope(query, cos, sin), apply_rope(key, cos, sin), value, is_causal=True
        )  # (B, T, H, E)
        out: Array = mixed.reshape(x.shape) @ layer["out"].astype(compute)
        return out

    def _feed_forward(x: Array, layer: Params) -> Array:
        narrow = x.astype(compute)
        gate = narrow @ layer["gate"].astype(compute)  # (B, T, F)
        up = narrow @ layer["up"].astype(compute)
        down: Array = (jax.nn.silu(gate) * up) @ layer["down"].astype(compute)
        return down

    x = pin(params["embedding"][tokens])  # (B, T, D), float32
    x, _ = jax.lax.scan(_recomputed(block, recompute), x, params["blocks"])
    x = rms_norm(x, params["norm"], shape.norm_eps)
    logits: Array = x.astype(compute) @ params["head"].astype(compute)
    return logits


def _recomputed(block: Callable[..., Any], what: str) -> Callable[..., Any]:
    if what == "none":
        return block
    selective = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    kept: Callable[..., Any] = jax.checkpoint(
        block, policy=selective if what == "selective" else None
    )
    return kept


def _heads(x: Array, head_dim: int) -> Array:
    """(B, T, heads × E) → (B, T, heads, E)."""
    return x.reshape(*x.shape[:2], -1, head_dim)


def next_token_loss(logits: Array, targets: Array) -> Array:
    """Mean cross-entropy in nats, in float32. logits: (B, T, V); targets: (B, T)."""
    wide = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(wide, targets[..., None], axis=-1)[..., 0]  # (B, T)
    return jnp.mean(jax.nn.logsumexp(wide, axis=-1) - picked)
