"""How long prompts and answers are, in tokens."""

from __future__ import annotations

import numpy as np

from results.samples import IntColumn
from workloads.traffic.randomness import Stream, uniforms
from workloads.traffic.spec import FixedLength, Length


def lengths(length: Length, seed: int, stream: Stream, start: int, count: int) -> IntColumn:
    """(count,) token counts of the requests from index ``start`` on; a function of the index."""
    if isinstance(length, FixedLength):
        return np.full(count, length.tokens, dtype=np.int64)
    u = uniforms(seed, stream, start, count)
    return length.low + np.floor(u * (length.high - length.low + 1)).astype(np.int64)
