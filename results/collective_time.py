"""What a collective takes by the α–β model: pure formulas, one per algorithm.

α (seconds) is the cost of handing over one message, β (seconds per byte) that of each byte in it
(Hockney, Parallel Computing 20, 1994). Ring: Patarasu & Yuan, JPDC 69, 2009, who also show that no
all-reduce moves fewer than 2(n − 1)/n of the bytes. Tree: a reduction up and a broadcast down a
binary tree, the bytes pipelined: each level adds its α, and the bytes are paid once per direction
(Sanders, Speck & Träff, Parallel Computing 35, 2009: the two trees that NCCL's tree follows).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["ring", "tree"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """``alpha_s``: one message. ``beta_s_per_byte``: one byte, of what one member sends."""

    alpha_s: float
    beta_s_per_byte: float


def ring_hops(num_members: int) -> int:
    """Messages one after the other in a ring all-reduce: n − 1 to reduce, n − 1 to gather."""
    return 2 * (num_members - 1)


def tree_hops(num_members: int) -> int:
    """Levels up and down: 2 ⌈log₂ n⌉."""
    return 2 * math.ceil(math.log2(num_members)) if num_members > 1 else 0


def ring_all_reduce_s(num_members: int, num_bytes: float, link: Link) -> float:
    """2(n − 1)·α + 2(n − 1)/n·S·β; 0 for one member. The same for ``reduce-scatter`` then
    ``all-gather``, each of which is half of it."""
    hops = ring_hops(num_members)
    return hops * (link.alpha_s + num_bytes / num_members * link.beta_s_per_byte)


def tree_all_reduce_s(num_members: int, num_bytes: float, link: Link) -> float:
    """2⌈log₂ n⌉·α + 2·S·β; 0 for one member."""
    if num_members <= 1:
        return 0.0
    return tree_hops(num_members) * link.alpha_s + 2.0 * num_bytes * link.beta_s_per_byte


def all_reduce_s(algorithm: Algorithm, num_members: int, num_bytes: float, link: Link) -> float:
    if algorithm == "ring":
        return ring_all_reduce_s(num_members, num_bytes, link)
    return tree_all_reduce_s(num_members, num_bytes, link)


def two_level_all_reduce_s(
    algorithm: Algorithm,
    num_domains: int,
    chips_per_domain: int,
    num_bytes: float,
    inner: Link,
    outer: Link,
) -> float:
    """Reduce-scatter inside each domain, all-reduce of each chip's share between the domains,
    all-gather inside."""
    inside_s = ring_all_reduce_s(chips_per_domain, num_bytes, inner)
    return inside_s + all_reduce_s(algorithm, num_domains, num_bytes / chips_per_domain, outer)
