"""The command that was typed, as whoever reads a page of its results can type it again.

It is kept as it came in, so that every option is there, those of tomorrow included; what only says
how to show the result is left out. A store that the environment named is named by its option: the
reader's shell has another environment. Passwords are left out, and the command says so.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from harness.settings import read_settings
from reports.commands import carried, values_of

_SHOWN_ONLY = ("--json", "--quiet", "-q")
_HIDDEN = "***"
_SAID = f"  # a password is left out: put it in the place of {_HIDDEN}"
_URL = re.compile(r"(.*?)([A-Za-z][A-Za-z0-9+.-]*://.*)", re.DOTALL)
_typed: list[str] = []


def typed(words: Sequence[str]) -> None:
    """Told by the command line, once: what follows ``windtunnel``."""
    _typed[:] = words


def command_again(*, flags: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """Quoted for a shell. ``flags`` and ``options`` (those with a value) are left out: what goes on
    with something is not what makes it."""
    words = ["windtunnel", *_without(_typed, (*_SHOWN_ONLY, *flags), options)]
    url = read_settings().named_store_url
    if url and not values_of(words, "--store"):
        words += ["--store", url]
    shown = [_without_password(word) for word in words]
    return shlex.join(shown) + (_SAID if shown != words else "")


def and_so(*options: str) -> str:
    """These options of the command that was typed, for another one about the same thing: empty, or
    beginning with a space."""
    return carried(command_again(), *options)


def _without_password(word: str) -> str:
    from results.pages import without_password  # brings fsspec

    found = _URL.fullmatch(word)
    if found is None:
        return word
    try:
        return found[1] + without_password(found[2])
    except ValueError:  # no URL after all: brackets that do not close
        return word


def _without(words: Sequence[str], flags: Sequence[str], options: Sequence[str]) -> list[str]:
    kept, skips = [], False
    for word in words:
        if skips:
            skips = False
        elif word in options:
            skips = True
        elif word not in flags and word.partition("=")[0] not in options:
            kept.append(word)
    return kept
