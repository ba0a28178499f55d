"""A response's bytes as they came → status, headers, and a body whose bytes have times.

httptools takes the framing apart a second time, read by read, so that for every byte of the body it
is known which read brought it. Runs after the load, or beside it in a thread with time to spare.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

import httptools


@dataclass(slots=True, kw_only=True)
class Response:
    """``body_end[k]`` is the number of body bytes that reads 0…k brought, ``(reads,)``."""

    status: int = -1  # −1: no status line
    content_type: str = ""
    body: bytes = b""
    body_end: list[int] = field(default_factory=list)


class _Taker:
    """What httptools calls while it is fed."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append  # the list's own method: one call per chunk of the answer
        self.content_type = ""
        self.has_headers = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value.decode("latin-1").lower()

    def on_headers_complete(self) -> None:
        self.has_headers = True


def body_of(parts: Iterable[bytes | memoryview]) -> Response:
    """Read one response; never raises: what is no HTTP has no status and no body."""
    taker = _Taker()
    parser = httptools.HttpResponseParser(taker)
    pieces, num_pieces = taker.pieces, []
    for part in parts:
        try:
            parser.feed_data(part)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            num_pieces.append(len(pieces))
            break
        num_pieces.append(len(pieces))
    ends = list(accumulate(map(len, pieces), initial=0))
    response = Response(body=b"".join(pieces), body_end=[ends[n] for n in num_pieces])
    if taker.has_headers:
        response.status = parser.get_status_code()
        response.content_type = taker.content_type
    return response
