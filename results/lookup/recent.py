"""What was asked for lately, bounded in bytes: the least used leaves first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key. One that is larger than an eighth of all there is room for is not kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        found = self._kept.get(key)
        if found is None:
            return None
        with suppress(KeyError):  # another thread has just let go of it
            self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: V, num_bytes: int) -> None:
        if key in self._kept or num_bytes > self._max_bytes // 8:
            return
        self._kept[key] = value, num_bytes
        self._num_bytes += num_bytes
        while self._num_bytes > self._max_bytes:
            _, (_, old) = self._kept.popitem(last=False)
            self._num_bytes -= old
