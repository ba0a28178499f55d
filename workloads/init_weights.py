"""The first weights of a training, from a seed alone: NumPy, no engine, no device.

Drawn on the host, they are the same on every layout and every accelerator, and no program has to be
compiled to make them. A matrix is (in, out); those of all layers are stacked, (L, in, out).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.torch_shape import ModelShape

_RESIDUAL = ("out", "down")  # what feeds the residual stream


def array_shapes(shape: ModelShape) -> dict[str, Any]:
    """The tree of the parameters' shapes."""
    layers, dim, kv_dim = shape.num_layers, shape.dim, shape.num_kv_heads * shape.head_dim
    return {
        "embedding": (shape.vocab_size, dim),
        "blocks": {
            "attention_norm": (layers, dim),
            "query": (layers, dim, dim),
            "key": (layers, dim, kv_dim),
            "value": (layers, dim, kv_dim),
            "out": (layers, dim, dim),
            "feed_forward_norm": (layers, dim),
            "gate": (layers, dim, shape.hidden_dim),
            "up": (layers, dim, shape.hidden_dim),
            "down": (layers, shape.hidden_dim, dim),
        },
        "norm": (dim,),
        "head": (dim, shape.vocab_size),
    }


def first_weights(
    shape: ModelShape, seed: int, name: str, size: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """The parameter of that name in ``array_shapes``, float32.

    PyTorch's rule of the torch workload and other draws: normal with deviation 0.02, scaled by the
    depth where the residual stream is fed; norms are one.
    """
    if "norm" in name:
        return np.ones(size, np.float32)
    deviation = 0.02 / (2 * shape.num_layers) ** 0.5 if name in _RESIDUAL else 0.02
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn: npt.NDArray[np.float32] = generator.standard_normal(size, np.float32)
    return drawn * np.float32(deviation)
