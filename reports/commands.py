"""Commands that a page prints, to be typed again in another shell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def carried(command: str, *options: str) -> str:
    """These options of ``command`` with their values, for another command about the same thing:
    empty, or beginning with a space."""
    words = shlex.split(command, comments=True)
    found = [word for option in options for word in values_of(words, option)]
    return f" {shlex.join(found)}" if found else ""


def values_of(words: Sequence[str], option: str) -> list[str]:
    """The option and its value, as often as ``words`` have it."""
    found = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            found += [word, following]
        elif word.startswith(f"{option}="):
            found += [option, word.partition("=")[2]]
    return found
