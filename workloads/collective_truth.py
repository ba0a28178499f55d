"""What a collective is given when its result is looked at, and what must come of it. Pure.

Elements are small whole numbers that tell their position and rank: sums of them are exact, in
bfloat16 for up to 128 ranks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Elements = npt.NDArray[np.float32]

# Each rank gives the whole array; to the others it gives a share of it.
GIVES_ALL = ("all_reduce", "reduce_scatter", "all_to_all", "broadcast")


def given(collective: str, count: int, num_ranks: int, rank: int) -> Elements:
    """What ``rank`` gives, where the whole array has ``count`` elements."""
    return _pattern(count if collective in GIVES_ALL else count // num_ranks, rank)


def expected(collective: str, count: int, num_ranks: int, rank: int) -> Elements:
    """What ``rank`` must have afterwards."""
    share = count // num_ranks
    mine, ranks = rank * share, range(num_ranks)
    match collective:
        case "all_reduce":
            return _sum(count, num_ranks, 0)
        case "reduce_scatter":
            return _sum(share, num_ranks, mine)
        case "all_gather":
            return np.concatenate([_pattern(share, other) for other in ranks])
        case "all_to_all":
            return np.concatenate([_pattern(share, other, mine) for other in ranks])
        case _:
            return _pattern(count, 0)


def _pattern(count: int, rank: int, start: int = 0) -> Elements:
    turn = ((np.arange(3) + rank + start) % 3).astype(np.float32)
    return np.resize(turn, count)  # over and over


def _sum(count: int, num_ranks: int, start: int) -> Elements:
    """Of all ranks' patterns from ``start`` on: whole turns of 0 + 1 + 2, and the ranks left."""
    turns, rest = divmod(num_ranks, 3)
    total = np.full(count, 3.0 * turns, dtype=np.float32)
    for rank in range(rest):
        total += _pattern(count, rank, start)
    return total
