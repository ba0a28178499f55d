"""What accelerators can do at most, from their makers' data sheets; and models of public shape.

The one table of peaks. Dense bfloat16 without sparsity; bandwidths in decimal bytes per second. A
link's bandwidth is that of one chip in one direction: half of the figure that makers print, which
counts both. Names are Ray's, as node pools have them.

Sources, read in November 2026:
L4, A100, H100, H200: NVIDIA's product data sheets (H100 and H200: SXM). B200: the DGX B200 data
sheet, divided by its eight chips. TPUs: cloud.google.com/tpu/docs/v5e, /v5p and /v6e.
Shapes: the ``config.json`` of each model on its hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads.errors import LaunchRefused
from workloads.model_shape import PRESETS, ModelShape

_T = 1e12
_G = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Peaks of one chip."""

    name: str
    flops: float  # per second, dense bfloat16
    memory_bytes: float
    memory_bytes_per_s: float
    link_bytes_per_s: float  # to its neighbours, one direction


def _chip(name: str, flops: float, gigabytes: float, memory: float, link: float) -> Accelerator:
    return Accelerator(
        name=name,
        flops=flops * _T,
        memory_bytes=gigabytes * _G,
        memory_bytes_per_s=memory * _G,
        link_bytes_per_s=link * _G,
    )


ACCELERATORS: Mapping[str, Accelerator] = {
    chip.name: chip
    for chip in (
        _chip("L4", 121.0, 24.0, 300.0, 32.0),  # the link is PCIe 4.0 x16
        _chip("A100-40G", 312.0, 40.0, 1555.0, 300.0),
        _chip("A100-80G", 312.0, 80.0, 2039.0, 300.0),
        _chip("H100", 989.4, 80.0, 3350.0, 450.0),
        _chip("H200", 989.4, 141.0, 4800.0, 450.0),
        _chip("B200", 2250.0, 180.0, 8000.0, 900.0),
        _chip("TPU-V5LITEPOD", 197.0, 16.0, 819.0, 200.0),
        _chip("TPU-V5P", 459.0, 95.0, 2765.0, 600.0),
        _chip("TPU-V6E", 918.0, 32.0, 1638.0, 400.0),
    )
}


def _llama(
    vocab_size: int,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv_heads: int,
    context: int,
    head_dim: int | None = None,
) -> ModelShape:
    return ModelShape(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=inner,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        max_position_embeddings=context,
        head_dim=head_dim,
    )


MODELS: Mapping[str, ModelShape] = {
    **PRESETS,
    "qwen3-8b": _llama(151936, 4096, 12288, 36, 32, 8, 40960),
    "qwen3-32b": _llama(151936, 5120, 25600, 64, 64, 8, 40960, head_dim=128),
    "mistral-7b": _llama(32768, 4096, 14336, 32, 32, 8, 32768),
    "llama-3.1-8b": _llama(128256, 4096, 14336, 32, 32, 8, 131072),
    "llama-3.1-70b": _llama(128256, 8192, 28672, 80, 64, 8, 131072),
    "llama-3.1-405b": _llama(128256, 16384, 53248, 126, 128, 8, 131072),
}


def accelerator_named(name: str) -> Accelerator:
    """Raises LaunchRefused for one that the table does not have."""
    if name not in ACCELERATORS:
        known = ", ".join(ACCELERATORS)
        raise LaunchRefused(f"accelerator {name!r} cannot be simulated; there are: {known}")
    return ACCELERATORS[name]


def model_named(name: str) -> ModelShape:
    """Raises LaunchRefused for one that the table does not have."""
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise LaunchRefused(f"model {name!r} cannot be simulated; there are: {known}")
    return MODELS[name]
