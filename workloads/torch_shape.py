"""The shapes of the trained transformer, apart from the transformer: known without importing torch.

Counts follow from the shape in closed form, so that a plan can state them before anything runs.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from workloads.errors import UnknownPreset


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A Llama-like decoder. ``dim`` = ``num_heads`` × head size; query heads share the fewer
    ``num_kv_heads``.

    The token embedding and the output head are two matrices (not tied), and nothing has a bias.
    """

    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    hidden_dim: int  # of the SwiGLU block
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def num_parameters(self) -> int:
        kv_dim = self.num_kv_heads * self.head_dim
        attention = 2 * self.dim * self.dim + 2 * self.dim * kv_dim
        feed_forward = 3 * self.dim * self.hidden_dim
        norms = 2 * self.dim
        per_layer = attention + feed_forward + norms
        return 2 * self.vocab_size * self.dim + self.num_layers * per_layer + self.dim

    def flops_per_token(self, sequence_length: int) -> float:
        """Forward and backward, multiply and add counted apart.

        The rule: 6 per parameter of every matrix multiplication (the embedding is a lookup and
        norms are not counted), plus attention's two T × T products, 12 · layers · dim · T, halved
        because the mask is causal.
        """
        multiplied = self.num_parameters - self.vocab_size * self.dim
        multiplied -= (2 * self.num_layers + 1) * self.dim
        return 6.0 * multiplied + 6.0 * self.num_layers * self.dim * sequence_length


FLOPS_RULE = (
    "6 per parameter of every matrix product and token, plus 6 x layers x dim x sequence length "
    "for attention (its two products, halved because the mask is causal); forward and backward, "
    "recomputation not counted"
)

PRESETS: dict[str, ModelShape] = {
    "tiny": ModelShape(  # 1,000,576 parameters
        vocab_size=1024, dim=128, num_layers=4, num_heads=4, num_kv_heads=2, hidden_dim=352
    ),
    "small": ModelShape(  # 30,941,696 parameters
        vocab_size=8192, dim=512, num_layers=8, num_heads=8, num_kv_heads=2, hidden_dim=1408
    ),
    "medium": ModelShape(  # 213,943,296 parameters
        vocab_size=16384, dim=1024, num_layers=16, num_heads=16, num_kv_heads=4, hidden_dim=2816
    ),
    # TinyLlama's and Llama 3 8B's shapes, from their config.json on the Hugging Face hub.
    "1b": ModelShape(  # 1,100,048,384 parameters
        vocab_size=32000, dim=2048, num_layers=22, num_heads=32, num_kv_heads=4, hidden_dim=5632
    ),
    "8b": ModelShape(  # 8,030,261,248 parameters
        vocab_size=128256,
        dim=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        hidden_dim=14336,
        rope_theta=500_000.0,
    ),
}


def shape_of(preset: str) -> ModelShape:
    """The preset of that name, or UnknownPreset with the nearest names and all of them."""
    try:
        return PRESETS[preset]
    except KeyError:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f"; did you mean {near[0]!r}" if near else ""
        raise UnknownPreset(
            f"no torch preset is called {preset!r}; there are {', '.join(PRESETS)}{hint}"
        ) from None
