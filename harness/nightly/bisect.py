"""Which version brought it: halving the versions between a good and a bad one. Pure.

Every version asked about is measured against the good one in pairs, so an answer may also be that
the pairs cannot tell; then its neighbours are asked, and what stays open is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Found(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    version: str
    found: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """``last_good`` ("": the good version that was given) and ``first_bad`` are what was measured;
    ``unclear`` lie between them. ``why_none``: why there is no answer at all."""

    asked: tuple[Asked, ...]
    last_good: str = ""
    first_bad: str = ""
    unclear: tuple[str, ...] = ()
    why_none: str = ""

    @property
    def is_exact(self) -> bool:
        return bool(self.first_bad) and not self.unclear


def bisect(versions: Sequence[str], ask: Callable[[str], Found]) -> Bisection:
    """``versions``: after the good one, up to and with the bad one, old to new. The bad one is
    asked first: where it is not measurably bad there is nothing to look for."""
    asked: list[Asked] = []

    def answer(index: int) -> Found:
        found = ask(versions[index])
        asked.append(Asked(version=versions[index], found=found))
        return found

    last = len(versions) - 1
    if (found := answer(last)) is not Found.BAD:
        words = "as good as the good one" if found is Found.GOOD else "too close to the good one"
        return Bisection(
            asked=tuple(asked), why_none=f"{versions[last]}, measured again, is {words}"
        )
    low, high = -1, last  # low is good, high is bad
    unclear: set[int] = set()
    while open_ones := [i for i in range(low + 1, high) if i not in unclear]:
        middle = open_ones[(len(open_ones) - 1) // 2]
        match answer(middle):
            case Found.BAD:
                high = middle
            case Found.GOOD:
                low = middle
            case Found.UNCLEAR:
                unclear.add(middle)
    return Bisection(
        asked=tuple(asked),
        last_good=versions[low] if low >= 0 else "",
        first_bad=versions[high],
        unclear=tuple(versions[i] for i in sorted(unclear) if low < i < high),
    )
