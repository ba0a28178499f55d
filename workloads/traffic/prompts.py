"""What prompts are made of: token ids for the completions API, word-like text for chat.

Both are noise from the seed: no two requests share a prefix, so a prefix cache finds nothing
(unless the same seed is sent to the same server again). A chat prompt of n words is *about* n
tokens or a few times as many; only the server's own usage count tells how many it was.
"""

from __future__ import annotations

import numpy as np

from results.samples import IntColumn
from workloads.traffic.randomness import Stream, words_of

# Ids below this are where special tokens and raw bytes stand in most vocabularies ...
_NUM_RESERVED_LOW = 256
# ... and the last 1/64 is where Llama 3, Qwen and GPT-2 put theirs.
_RESERVED_HIGH_SHARE = 64
# Every language model in use has at least this many tokens; a server refuses ids it does not have.
DEFAULT_VOCAB_SIZE = 1024
MIN_VOCAB_SIZE = 16

_SYLLABLES = tuple(c + v for c in "bdfghklmnprstvwz" for v in "aeiou")
_WORDS = tuple(a + b for a in _SYLLABLES for b in _SYLLABLES)


def id_range(vocab_size: int | None) -> tuple[int, int]:
    """(lowest id, highest id + 1) that prompts use; ``None``: the server's size is not known.

    A small vocabulary keeps an eighth at the bottom instead of 256. Raises ValueError below 16.
    """
    size = DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size
    if size < MIN_VOCAB_SIZE:
        raise ValueError(
            f"prompts need a vocabulary of at least {MIN_VOCAB_SIZE} tokens; the server has {size}"
        )
    low = _NUM_RESERVED_LOW if size >= 4 * _NUM_RESERVED_LOW else size // 8
    return low, size - max(1, size // _RESERVED_HIGH_SHARE)


def prompt_ids(
    seed: int,
    index: int,
    num_tokens: int,
    vocab_size: int | None = None,
    stream: Stream = Stream.PROMPT,
) -> IntColumn:
    """(num_tokens,) token ids of request ``index``, each id of ``id_range`` alike."""
    low, high = id_range(vocab_size)
    words = words_of(seed, stream, index, num_tokens)
    return low + (words % np.uint64(high - low)).astype(np.int64)


def prompt_text(seed: int, index: int, num_words: int, stream: Stream = Stream.PROMPT) -> str:
    """``num_words`` made-up words of two syllables for request ``index``, one space between."""
    words = words_of(seed, stream, index, num_words) % np.uint64(len(_WORDS))
    return " ".join([_WORDS[i] for i in words.tolist()])
