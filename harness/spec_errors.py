"""What is wrong with a file a person wrote, said so that it can be put right at once.

A ``Problem`` has a path and a sentence; ``listed`` gives each its file and line (or the ``--set``
that brought it in), ``refuse`` raises all of them as one SpecError.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from harness.errors import SpecError

Path = tuple[str | int, ...]  # of a value in a document: ("hardware", 0, "num_chips")

_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """``message`` says what was found, what is accepted and, where one is near, the nearest."""

    path: Path
    message: str


def dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def listed(problems: Iterable[Problem], where: Callable[[Path], str]) -> list[str]:
    """Each problem on a line of its own; ``where`` says where a path stands (``file:line``)."""
    return [
        ": ".join(part for part in (where(p.path), dotted(p.path), p.message) if part)
        for p in problems
    ]


def refuse(lines: Iterable[str]) -> NoReturn:
    """Raise one SpecError with every line once, in the order of the lines they name."""
    raise SpecError("\n".join(sorted(dict.fromkeys(lines), key=_natural)))


def _natural(line: str) -> list[str]:
    """Sorts ``q.yaml:9`` before ``q.yaml:10``."""
    return [part.zfill(9) if part.isdecimal() else part for part in re.split(r"(\d+)", line)]


def nearest(word: object, accepted: Iterable[str]) -> str:
    """``; did you mean x?`` or nothing."""
    lowered = {name.lower(): name for name in accepted}
    near = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[near[0]]}?" if near else ""


def accepted(names: Iterable[str]) -> str:
    known = list(names)
    return f"accepted: {', '.join(known)}" if known else "nothing is accepted here"


def unknown(word: object, names: Sequence[str], what: str = "unknown key") -> str:
    """``unknown key; did you mean rate_rps? accepted: kind, rate_rps``."""
    hint = nearest(word, names)
    return f"{what}{hint}{' ' if hint else '; '}{accepted(names)}"


def found(value: Any) -> str:
    """A value as a person would name it: ``text "2"``, ``integer 2``, ``a list``, ``nothing``."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
        return f"text {json.dumps(text, ensure_ascii=False)}"
    return f"{'integer' if isinstance(value, int) else 'number'} {value!r}"
