"""Random numbers that belong to a request, not to whoever happens to draw them.

A number depends on (seed, stream, request index) alone: Philox is a counter-based generator, so
request 7's numbers are found without drawing those of requests 0 to 6. One worker or a hundred,
in any order, see the same arrivals, lengths and prompts. Only raw 64-bit outputs are used, because
numpy keeps those the same from release to release and its distributions not.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from results.samples import FloatColumn

# One Philox counter step yields this many 64-bit outputs.
_OUTPUTS_PER_COUNT = 4


class Stream(IntEnum):
    """What a number is for; streams of one seed are independent. Values are part of the format."""

    ARRIVAL = 0
    PROMPT_LENGTH = 1
    OUTPUT_LENGTH = 2
    PROMPT = 3
    PROBE = 4
    PREFIX = 5  # belongs to a group, not to a request
    QUESTION = 6  # belongs to a prompt of the pool
    PREFIX_LENGTH = 7
    QUESTION_LENGTH = 8
    BLOCK = 9  # belongs to a block's hash
    ORDER = 10
    TURNS = 11  # belongs to a session
    THINK_TIME = 12
    MODEL = 13
    ANSWER = 14  # belongs to the turn that is answered
    CONVERSATION = 15  # belongs to a session of a trace


@lru_cache(maxsize=64)
def _key(seed: int, stream: Stream) -> tuple[int, int]:
    words = np.random.SeedSequence(seed, spawn_key=(int(stream),)).generate_state(2, np.uint64)
    return int(words[0]), int(words[1])


def _philox(seed: int, stream: Stream, counter: tuple[int, int]) -> np.random.Philox:
    return np.random.Philox(
        key=np.array(_key(seed, stream), dtype=np.uint64),
        counter=np.array([*counter, 0, 0], dtype=np.uint64),
    )


def salted(seed: int, salt: str) -> int:
    """The seed of what prompts are made of; an empty salt leaves it as it is.

    Any other gives a 128-bit seed of its own: two salts' prompts are as unlike as two seeds'.
    """
    if not salt:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {salt}".encode()).digest()[:16], "big")


def uniforms(seed: int, stream: Stream, start: int, count: int) -> FloatColumn:
    """(count,) numbers in [0, 1): one for each request from index ``start`` on.

    ``uniforms(s, t, 0, n)[i] == uniforms(s, t, i, 1)[0]`` for every i.
    Raises ValueError for a negative seed.
    """
    counter, skip = divmod(start, _OUTPUTS_PER_COUNT)
    raw = _philox(seed, stream, (counter, 0)).random_raw(skip + count)[skip:]
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def words_of(seed: int, stream: Stream, index: int, count: int) -> npt.NDArray[np.uint64]:
    """(count,) raw 64-bit numbers of one request; each request has 2**64 counts of its own."""
    return _philox(seed, stream, (0, index)).random_raw(count)
