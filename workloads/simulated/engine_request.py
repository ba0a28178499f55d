"""What an engine is asked and held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from workloads.simulated.roofline import Roofline


class State(IntEnum):
    WAITING = 0
    PREFILL = 1
    DECODE = 2
    DONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What the scheduler is held to. Names and meaning are vLLM's."""

    roofline: Roofline
    num_blocks: int
    block_size: int = 16
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    enable_prefix_caching: bool = True

    def __post_init__(self) -> None:
        if min(self.num_blocks, self.block_size, self.max_num_seqs) < 1:
            raise ValueError("num_blocks, block_size and max_num_seqs must be at least 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens = {self.max_num_batched_tokens} is below max_num_seqs = "
                f"{self.max_num_seqs}: not every sequence could have its token of a step"
            )

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether a sequence can ever be served whole. Its last token is never read again, so no
        keys and values are kept for it."""
        return prompt_tokens + output_tokens - 1 <= self.num_blocks * self.block_size


@dataclass(slots=True, eq=False)
class EngineRequest:
    """One request inside the engine; times are the engine's clock, NaN: not yet."""

    number: int
    prompt_tokens: int
    output_tokens: int
    arrived_s: float
    hashes: Sequence[int] = ()  # of its full blocks, as far as they are known
    state: State = State.WAITING
    generated: int = 0  # tokens, up to when it last left the decoding ones
    computed: int = 0  # tokens whose keys and values are there, while its prompt is computed
    base: int = 0  # while it decodes: tokens in the KV cache − number of the step
    num_blocks: int = 0  # held, while its prompt is computed
    named: list[int] = field(default_factory=list)  # hashes of blocks it holds
    finish_step: int = 0
    epoch: int = 0  # counts what makes earlier entries in heaps and lists void
    cached_tokens: int = -1  # of the prompt, found in the prefix cache when first admitted
    num_preemptions: int = 0
    first_token_s: float = math.nan
    done_s: float = math.nan
    segments: list[int] = field(default_factory=list)  # first step, last step of its tokens, …

    @property
    def target(self) -> int:
        """Tokens that must be computed before it decodes (again)."""
        return self.prompt_tokens + self.generated


def steps_until(wait_s: float, first_s: float, growth_s: float) -> int:
    """The least k ≥ 1 with k·first + growth·k·(k − 1)/2 ≥ wait."""
    if wait_s <= first_s:
        return 1
    half = growth_s / 2
    linear = first_s - half
    root = linear + math.sqrt(linear * linear + 4 * half * wait_s)
    k = max(1, math.ceil(2 * wait_s / root))
    # The square root may be off by one rounding; the sum decides.
    while k > 1 and (k - 1) * first_s + half * (k - 1) * (k - 2) >= wait_s:
        k -= 1
    while k * first_s + half * k * (k - 1) < wait_s:
        k += 1
    return k
