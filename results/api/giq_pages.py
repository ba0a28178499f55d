"""Pages of lists and the tokens between them.

A token says what was asked and where the page ended, by *name*, not by number: records that arrive
between two pages neither repeat an item nor hide one that was there.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import hashlib
from collections.abc import Hashable, Sequence
from typing import Final

import msgspec

from results.api.problems import FieldProblem, Refused, invalid

MAX_PAGE: Final = 1000


class Place(msgspec.Struct, frozen=True):
    """``asked``: digest of the question the page belongs to. ``after``: the last item's keys."""

    asked: str
    after: list[str]


def digest(asked: Hashable) -> str:
    """Of the same words in any process; only equality matters."""
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def token_of(asked: Hashable, after: Sequence[str]) -> str:
    place = Place(asked=digest(asked), after=list(after))
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def place_of(token: str, asked: Hashable, num_keys: int) -> list[str]:
    """Where the page before ended; empty without a token. Raises Refused for another's token."""
    if not token:
        return []
    try:
        place = msgspec.json.decode(
            base64.b64decode(token, altchars=b"-_", validate=True), type=Place
        )
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise _wrong("is no token of ours") from None
    if place.asked != digest(asked) or len(place.after) != num_keys:
        raise _wrong("belongs to another question; all other parameters must stay as they were")
    return place.after


def page_of(items: Sequence[str], size: int, token: str, asked: Hashable) -> tuple[list[str], str]:
    """A page of sorted ``items`` and the token of the next, empty at the end. Raises Refused."""
    after = place_of(token, asked, 1)
    first = bisect.bisect_right(items, after[0]) if after else 0
    page = list(items[first : first + page_size(size)])
    more = first + len(page) < len(items)
    return page, token_of(asked, page[-1:]) if more else ""


def page_size(asked: int | None) -> int:
    """Not given, or 0: the most there is on a page."""
    return min(asked or MAX_PAGE, MAX_PAGE)


def _wrong(message: str) -> Refused:
    said = FieldProblem(field="pageToken", message=message)
    return Refused(invalid("the next page", [said], "Begin again without a pageToken"))
