"""The shape of a made model: a Llama's sizes, the tensors they lead to, and the presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from workloads.errors import ModelError, UnknownPreset

SPECIAL_TOKENS = ("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")  # ids 0…4
ITEM_BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A Llama's sizes. Raises ModelError when they do not fit each other."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    max_position_embeddings: int
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    head_dim: int | None = None  # None: hidden_size / num_heads, as Llama has it

    def __post_init__(self) -> None:
        sizes = {name: value for name, value in asdict(self).items() if name != "dtype"}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ModelError(f"{name} = {value}; it must be at least 1")
        if self.dtype not in ITEM_BYTES:
            raise ModelError(f"dtype = {self.dtype!r}; accepted: {', '.join(ITEM_BYTES)}")
        whole = self.head_dim is not None or self.hidden_size % self.num_heads == 0
        if not whole or self.head_size % 2:
            raise ModelError(
                f"hidden_size = {self.hidden_size} over num_heads = {self.num_heads} "
                "must give a whole, even head size"
            )
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"num_heads = {self.num_heads} must be a multiple of "
                f"num_kv_heads = {self.num_kv_heads}"
            )
        if self.vocab_size < 256 + len(SPECIAL_TOKENS):
            raise ModelError(
                f"vocab_size = {self.vocab_size}; every byte and {len(SPECIAL_TOKENS)} special "
                f"tokens need at least {256 + len(SPECIAL_TOKENS)}"
            )

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_heads

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.tensors().values())

    @property
    def size_bytes(self) -> int:
        """Of the weights alone; the tokenizer adds under 3 MB."""
        return self.num_parameters * ITEM_BYTES[self.dtype]

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the model, by its Hugging Face name, in the order it is stored."""
        hidden, inner = self.hidden_size, self.intermediate_size
        query, kv = self.num_heads * self.head_size, self.num_kv_heads * self.head_size
        of_layer: dict[str, tuple[int, ...]] = {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, query),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        return {
            "model.embed_tokens.weight": (self.vocab_size, hidden),
            **{
                f"model.layers.{layer}.{name}.weight": shape
                for layer in range(self.num_layers)
                for name, shape in of_layer.items()
            },
            "model.norm.weight": (hidden,),
            "lm_head.weight": (self.vocab_size, hidden),
        }


PRESETS: Mapping[str, ModelShape] = {
    "tiny-llama": ModelShape(  # 5.0 M parameters, 10 MB
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=688,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        max_position_embeddings=2048,
    ),
    "mini-llama": ModelShape(  # 31.6 M parameters, 63 MB
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1376,
        num_layers=8,
        num_heads=8,
        num_kv_heads=4,
        max_position_embeddings=4096,
    ),
    "small-llama": ModelShape(  # 254 M parameters, 0.5 GB
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=2816,
        num_layers=16,
        num_heads=16,
        num_kv_heads=8,
        max_position_embeddings=8192,
    ),
}


def shape_of(preset: str | ModelShape) -> ModelShape:
    """A shape as it is, or that of the preset so named. Raises UnknownPreset."""
    if isinstance(preset, ModelShape):
        return preset
    if preset not in PRESETS:
        raise UnknownPreset(f"model preset {preset!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[preset]
