"""Answers with what caches need to know, the same way for every route."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from results.api.problems import MEDIA_TYPE, Problem, is_google
from results.api.snapshots import Snapshot

JSON: Final = "application/json"
# Kept by whom it was made for, and asked about before it is used again.
CACHE_CONTROL: Final = "private, no-cache"
_NOSNIFF: Final = ("x-content-type-options", "nosniff")


class _Ready(Response):
    """200 with headers that are made already: the framework spells and sorts them for each answer
    anew."""

    def __init__(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = int(HTTPStatus.OK)
        self.background = None
        self.body = body
        self.raw_headers = headers


def reply(body: bytes, media_type: str = JSON, etag: str = "", cache: str = "no-store") -> Response:
    """200 with that body. ``etag`` empty: none."""
    first, last = _headers(media_type, etag, cache)
    return _Ready(body, [*first, (b"content-length", b"%d" % len(body)), last])


@lru_cache(64)
def _headers(
    media_type: str, etag: str, cache: str
) -> tuple[tuple[tuple[bytes, bytes], ...], tuple[bytes, bytes]]:
    """What comes before the length of the body, and what comes after it."""
    told = [("cache-control", cache), _NOSNIFF, *([("etag", etag)] if etag else [])]
    first = tuple([(name.encode(), value.encode()) for name, value in told])
    return first, (b"content-type", media_type.encode())


def of_snapshot(body: bytes, snapshot: Snapshot, now: datetime) -> Response:
    return reply(body, etag=snapshot.etag(now), cache=CACHE_CONTROL)


def unchanged(request: Request, etag: str) -> Response | None:
    """304 where the client has it already: a GET whose If-None-Match names ``etag``, compared
    weakly (RFC 9110, section 13.1.2)."""
    if request.method != "GET":
        return None
    held = next((v for name, v in request.scope["headers"] if name == b"if-none-match"), b"")
    if not held:
        return None
    tags = {tag.strip().removeprefix("W/") for tag in held.decode("latin-1").split(",")}
    if "*" not in tags and etag.removeprefix("W/") not in tags:
        return None
    headers = {"etag": etag, "cache-control": CACHE_CONTROL}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)


def told(problem: Problem, path: str, headers: dict[str, str] | None = None) -> Response:
    """The problem as an answer; with Google's ``error`` where its client listens."""
    response = Response(
        problem.body(google=is_google(path)),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )
    response.headers.append("cache-control", "no-store")
    response.headers.append(*_NOSNIFF)
    if problem.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        response.headers.append("connection", "close")  # the rest of it is not waited for
    return response
