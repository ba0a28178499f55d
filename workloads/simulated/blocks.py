"""The KV cache in blocks: who holds them, which can be found again, which are given up first.

A block with a hash stays findable after its last holder has let go, until its room is needed; the
one that was let go longest ago goes first. Blocks without a hash are used before any of those. That
is vLLM's order (``v1/core/block_pool.py``, 0.33).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """``num_blocks`` blocks. A held block counts once, however many hold it."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._num_plain = num_blocks  # free, with nothing in them
        self._holders: dict[int, int] = {}  # by hash; 0: free but findable
        self._idle: OrderedDict[int, None] = OrderedDict()  # the free and findable, oldest first

    @property
    def num_free(self) -> int:
        return self._num_plain + len(self._idle)

    @property
    def num_held(self) -> int:
        return self.num_blocks - self.num_free

    def hits(self, hashes: Sequence[int], limit: int) -> int:
        """How many of the first ``limit`` blocks are there, from the first on without a gap."""
        num = 0
        holders = self._holders
        for key in hashes[:limit]:
            if key not in holders:
                break
            num += 1
        return num

    def num_idle(self, hashes: Sequence[int]) -> int:
        """How many of these blocks nobody holds: holding them takes free ones away."""
        return sum(1 for key in hashes if self._holders[key] == 0)

    def hold(self, hashes: Sequence[int]) -> None:
        """Hold blocks that are there."""
        for key in hashes:
            if self._holders[key] == 0:
                del self._idle[key]
            self._holders[key] += 1

    def take(self, num: int) -> None:
        """Hold ``num`` blocks without a hash; there must be as many free."""
        plain = min(num, self._num_plain)
        self._num_plain -= plain
        for _ in range(num - plain):
            key, _none = self._idle.popitem(last=False)
            del self._holders[key]

    def name(self, key: int) -> bool:
        """Give a held block without a hash its hash. False: another block has it already, and this
        one stays as it is."""
        if key in self._holders:
            return False
        self._holders[key] = 1
        return True

    def release(self, num_plain: int, hashes: Sequence[int]) -> None:
        """Let go of blocks without a hash, and of these; the last of a sequence is given up first,
        for whoever comes next shares the beginning."""
        self._num_plain += num_plain
        for key in reversed(hashes):
            self._holders[key] -= 1
            if self._holders[key] == 0:
                self._idle[key] = None
