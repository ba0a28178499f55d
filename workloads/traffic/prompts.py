"""What prompts are made of: token ids for the completions API, word-like text for chat.

Both are noise from the seed. A prompt is a row of pieces; two prompts share a prefix exactly as far
as their pieces are the same, so that a prefix cache finds what the traffic says and nothing else
(unless the same seed and salt are sent to the same server again).

Without a tokenizer a text of n words is *about* n tokens or a few times as many; only the server's
own usage count tells how many it was. With one it is n tokens, beginning-of-text tokens and chat
templates, which the server adds, not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.samples import IntColumn
from workloads.traffic.randomness import Stream, words_of
from workloads.traffic.tokenizer import Tokenizer, exact_text

# Ids below this are where special tokens and raw bytes stand in most vocabularies ...
_NUM_RESERVED_LOW = 256
# ... and the last 1/64 is where Llama 3, Qwen and GPT-2 put theirs.
_RESERVED_HIGH_SHARE = 64
# Every language model in use has at least this many tokens; a server refuses ids it does not have.
DEFAULT_VOCAB_SIZE = 1024
MIN_VOCAB_SIZE = 16

_SYLLABLES = tuple(c + v for c in "bdfghklmnprstvwz" for v in "aeiou")
_WORDS = tuple(a + b for a in _SYLLABLES for b in _SYLLABLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """``num_tokens`` of noise; pieces of the same stream and number begin alike."""

    stream: Stream
    number: int
    num_tokens: int


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


def pieces_as_ids(seed: int, pieces: Sequence[Piece], vocab_size: int | None) -> IntColumn:
    """(tokens of all pieces,) token ids."""
    return np.concatenate(
        [prompt_ids(seed, p.number, p.num_tokens, vocab_size, p.stream) for p in pieces]
    )


def pieces_as_text(seed: int, pieces: Sequence[Piece], tokenizer: Tokenizer | None) -> str:
    """The pieces as words. With a tokenizer the text has as many tokens as the pieces together.

    Raises TrafficFileUnusable where the tokenizer has no such text.
    """
    if tokenizer is None:
        return " ".join([prompt_text(seed, p.number, p.num_tokens, p.stream) for p in pieces])
    words: list[str] = []
    for piece in pieces:
        drawn = words_of(seed, piece.stream, piece.number, piece.num_tokens).tolist()
        words += [tokenizer.words[raw % len(tokenizer.words)] for raw in drawn]
        if len(words) == len(drawn) > 0:
            words[0] = tokenizer.first_words[drawn[0] % len(tokenizer.first_words)]
    return exact_text(tokenizer, words)
