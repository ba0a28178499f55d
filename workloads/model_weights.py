"""Random weights of a made model, streamed into safetensors files tensor by tensor."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.model_shape import ITEM_BYTES, ModelShape

INIT_STD = 0.02
_CONSTANT = 0.25  # what every embedding has on channel 0
_QUIET = -64.0  # the head's weight on channel 0 for a token that must not be sampled
_SAFETENSORS_DTYPE = {"bfloat16": "BF16", "float32": "F32"}


def write_weights(
    folder: Path, shape: ModelShape, seed: int, quiet: NDArray[np.bool_], max_shard_bytes: int
) -> None:
    """Write all tensors into ``folder``; ``quiet`` (vocab,) marks the tokens never to sample.

    Raises OSError.
    """
    tensors = shape.tensors()
    shards = list(_shards(tensors, ITEM_BYTES[shape.dtype], max_shard_bytes))
    where: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        name = (
            "model.safetensors"
            if len(shards) == 1
            else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        where |= dict.fromkeys(names, name)
        _write_safetensors(folder / name, names, shape, seed, quiet)
    if len(shards) > 1:
        index = {"metadata": {"total_size": shape.size_bytes}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_safetensors(
    path: Path, names: list[str], shape: ModelShape, seed: int, quiet: NDArray[np.bool_]
) -> None:
    """One shard: the header's length (u64), the header (JSON), the tensors one after another.

    Written here because the library wants a whole shard in memory, has no bfloat16 for numpy, and
    changed the call that takes raw bytes between 0.6 and 0.8. The tests read it with the library.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        size = shape.tensors()[name]
        end = offset + math.prod(size) * ITEM_BYTES[shape.dtype]
        header[name] = {
            "dtype": _SAFETENSORS_DTYPE[shape.dtype],
            "shape": size,
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors start aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(_encode(_values(name, shape, seed, quiet), shape.dtype))


def _shards(
    tensors: Mapping[str, tuple[int, ...]], item_bytes: int, max_bytes: int
) -> Iterator[list[str]]:
    """Tensor names in order, cut where a shard would pass ``max_bytes``; at least one in each."""
    names: list[str] = []
    held = 0
    for name, shape in tensors.items():
        size = math.prod(shape) * item_bytes
        if names and held + size > max_bytes:
            yield names
            names, held = [], 0
        names.append(name)
        held += size
    yield names


def _values(
    name: str, shape: ModelShape, seed: int, quiet: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """One tensor, float32, from a random stream of its own (so shards can be cut anywhere).

    Channel 0 of the residual stream is a constant: the embedding sets it and no layer writes to
    it, so it is positive after the last norm and the head's column 0 acts as a bias per token.
    """
    size = shape.tensors()[name]
    if len(size) == 1:
        return np.ones(size, dtype=np.float32)
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.default_rng((seed, 3, stream))
    values = rng.standard_normal(size, dtype=np.float32)
    values *= INIT_STD
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        # As GPT-2 has it: the residual stream's variance must not grow with depth.
        values /= math.sqrt(2 * shape.num_layers)
        values[0, :] = 0.0
    elif name == "model.embed_tokens.weight":
        values[:, 0] = _CONSTANT
    elif name == "lm_head.weight":
        values[:, 0] = np.where(quiet, _QUIET, 0.0)
    return values


def _encode(values: NDArray[np.float32], dtype: str) -> bytes:
    """Little-endian bytes; bfloat16 is the upper half of float32, rounded to nearest even."""
    if dtype == "float32":
        return values.astype("<f4", copy=False).tobytes()
    bits = values.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded >> np.uint32(16)).astype("<u2").tobytes()
