"""A column that is computed when it is first looked at, and kept.

``functools.cached_property`` of Python 3.11 takes a lock each time, which costs as much as a short
column does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - it is read as a decorator
    """Of an instance with a ``__dict__``, where the value takes the descriptor's place."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, one: Any, owner: type | None = None) -> T:
        value = one.__dict__[self._name] = self._compute(one)
        return value
