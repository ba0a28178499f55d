"""Which version brought it: halving the versions between a good and a bad one. Pure.

Every version asked about is measured against the good one in pairs, so an answer may also be that
the pairs cannot tell, or that the version does not run; then its neighbours are asked, and what
stays open is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Found(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNCLEAR = "unclear"
    SKIPPED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``change`` against the good version with its 95 % interval, None where there is none, and
    ``told`` in words. ``why``: what stood in the way of a plain answer."""

    version: str
    found: Found
    why: str = ""
    change: float | None = None
    low: float | None = None
    high: float | None = None
    num_pairs: int = 0
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """``last_good`` ("": the good version that was given) and ``first_bad`` are what was measured;
    ``unclear`` lie between them: not told, not measured, or not asked. ``why_none``: why there is
    no answer at all; ``stopped``: why versions between were not asked; ``doubt``: what speaks
    against the answer when the last good and the first bad one are measured against each other."""

    asked: tuple[Asked, ...]
    last_good: str = ""
    first_bad: str = ""
    unclear: tuple[str, ...] = ()
    why_none: str = ""
    stopped: str = ""
    doubt: str = ""

    @property
    def is_exact(self) -> bool:
        return bool(self.first_bad) and not self.unclear and not self.doubt


class Halving:
    """What is known so far, and what to ask next. ``versions``: after the good one, up to and with
    the bad one, old to new. The bad one is asked first: where it is not measurably bad there is
    nothing to look for."""

    def __init__(self, versions: Sequence[str]) -> None:
        self._versions = versions
        self._asked: list[Asked] = []
        self._low, self._high = -1, len(versions)  # good, bad
        self._untold: set[int] = set()

    def next(self) -> str | None:
        """None: nothing is left to ask."""
        last = len(self._versions) - 1
        if not self._asked:
            return self._versions[last]
        if self._high > last:
            return None  # the bad one is not bad
        open_ones = [i for i in range(self._low + 1, self._high) if i not in self._untold]
        return self._versions[open_ones[(len(open_ones) - 1) // 2]] if open_ones else None

    def tell(self, asked: Asked) -> None:
        self._asked.append(asked)
        index = self._versions.index(asked.version)
        match asked.found:
            case Found.BAD:
                self._high = index
            case Found.GOOD:
                self._low = index
            case Found.UNCLEAR | Found.SKIPPED:
                self._untold.add(index)

    def result(self, stopped: str = "") -> Bisection:
        """As far as it is known. ``stopped``: why no more was asked, where more could be."""
        asked, last = tuple(self._asked), self._versions[-1]
        if self._high == len(self._versions):
            why = f"{_SAID[asked[0].found]}{_because(asked[0])}" if asked else stopped
            return Bisection(asked=asked, why_none=why or f"{last} was not asked about")
        return Bisection(
            asked=asked,
            last_good=self._versions[self._low] if self._low >= 0 else "",
            first_bad=self._versions[self._high],
            unclear=tuple(self._versions[self._low + 1 : self._high]),
            stopped=stopped if self.next() is not None else "",
        )


_SAID = {
    Found.GOOD: "the bad version, measured again, is as good as the good one",
    Found.UNCLEAR: "the bad version, measured again, is too close to the good one",
    Found.SKIPPED: "the bad version could not be measured",
    Found.BAD: "",
}


def _because(asked: Asked) -> str:
    return f": {asked.why}" if asked.why else ""


def bisect(versions: Sequence[str], ask: Callable[[str], Asked]) -> Bisection:
    """Ask until nothing is left to ask."""
    halving = Halving(versions)
    while (version := halving.next()) is not None:
        halving.tell(ask(version))
    return halving.result()


def num_questions(num_versions: int) -> int:
    """To the answer where every version can be told: the bad one, halves, and at the end the last
    good one against the first bad one."""
    return 1 + (num_versions - 1).bit_length() + (num_versions > 1)
