"""What every request passes before it is looked at: host, token, size, time.

A plain ASGI layer, so that nothing of a request is read, parsed or routed before it may be.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from results.api.problems import MEDIA_TYPE, Problem, Refused, is_google

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# What holds no data: whether we are alive, and the page, which asks for the token itself.
OPEN_PATHS: Final = frozenset({"/", "/healthz"})
OPEN_PREFIX: Final = "/page/"

MAX_BODY_BYTES: Final = 64 * 1024
MAX_REQUEST_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """``token``: empty asks for none. ``hosts``: names that a Host header may have, in lower case
    and without port; empty: any. ``max_request_s`` counts from the headers to the answer's end."""

    token: str = ""
    hosts: frozenset[str] = frozenset()
    max_body_bytes: int = MAX_BODY_BYTES
    max_request_s: float = MAX_REQUEST_S


class Guard:
    """Refuses what the rules refuse; ``app`` sees the rest, HEAD as GET."""

    def __init__(self, app: App, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._token = _digest(rules.token.encode()) if rules.token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        headers = dict(scope["headers"])
        problem = self._refusal(path, headers)
        if problem is not None:
            await _answer(send, problem, path)
            return
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        await self._within_limits(scope, receive, send, path)

    async def _within_limits(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        counted = _Counted(receive, self._rules.max_body_bytes)
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._rules.max_request_s):
                await self._app(scope, counted.receive, sending)
        except TimeoutError:
            if not started:
                await _answer(send, _too_slow(self._rules.max_request_s, counted.whole), path)

    def _refusal(self, path: str, headers: Mapping[bytes, bytes]) -> Problem | None:
        rules = self._rules
        if rules.hosts and _host(headers.get(b"host", b"")) not in rules.hosts:
            return _stranger(headers.get(b"host", b""), rules.hosts)
        is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIX)
        if self._token and not is_open and not self._knows(headers.get(b"authorization")):
            return _no_token(headers.get(b"authorization"))
        length = headers.get(b"content-length", b"0")
        # The server has checked that it is a number.
        if int(length) > rules.max_body_bytes:
            return _too_large(rules.max_body_bytes)
        return None

    def _knows(self, authorization: bytes | None) -> bool:
        scheme, _, token = (authorization or b"").partition(b" ")
        # Digests, so that the time tells neither the token nor its length.
        same = hmac.compare_digest(_digest(token.strip()), self._token)
        return same and scheme.lower() == b"bearer"


class _Counted:
    """A body of unknown length, counted while it comes. ``whole``: it came to its end.

    Raises Refused where it is read, which the application answers as it does any other.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = self._left = limit
        self.whole = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise Refused(_too_large(self._limit))
            self.whole = not message.get("more_body", False)
        return message


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _host(header: bytes) -> str:
    """The name of a Host header without its port; IPv6 addresses keep their brackets."""
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]


async def _answer(send: Send, problem: Problem, path: str) -> None:
    body = problem.body(google=is_google(path))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        # What is left of the request is not waited for.
        (b"connection", b"close"),
    ]
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="windtunnel"'))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _stranger(host: bytes, hosts: Iterable[str]) -> Problem:
    return Problem(
        kind="wrong-host",
        status=HTTPStatus.MISDIRECTED_REQUEST,
        asked=f"Host {host.decode('latin-1')!r}",
        found=f"this server answers to {', '.join(sorted(hosts))} alone",
        what_to_do="Name the server by one of those, or start it with --host and a token",
    )


def _no_token(authorization: bytes | None) -> Problem:
    found = "the token is not the one this server was given" if authorization else "no token came"
    return Problem(
        kind="unauthorized",
        status=HTTPStatus.UNAUTHORIZED,
        asked="a request with a bearer token",
        found=found,
        what_to_do="Send 'Authorization: Bearer TOKEN'",
    )


def _too_large(limit: int) -> Problem:
    return Problem(
        kind="body-too-large",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        asked=f"a body of at most {limit:,} bytes",
        found="more came",
        what_to_do="Ask one question at a time",
    )


def _too_slow(limit_s: float, whole: bool) -> Problem:
    return Problem(
        kind="too-slow",
        status=HTTPStatus.GATEWAY_TIMEOUT if whole else HTTPStatus.REQUEST_TIMEOUT,
        asked=f"a request and its answer within {limit_s:g} s",
        found="the answer was not ready" if whole else "the body did not come to its end",
        what_to_do="Ask again" if whole else "Send the whole body at once",
    )
