"""What is refused before it is looked at, and what a slow or rude client can hold up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from results.api import server
from results.api.guard import Guard, Rules
from results.api.problems import Refused
from results.api.testing import served

TOKEN = "s3cret-of-the-tests"


@pytest.fixture(scope="module")
def locked(app_of: Callable[..., Any], lookup: Any, store: Any) -> Iterator[str]:
    rules = {"token": TOKEN, "hosts": frozenset({"127.0.0.1"}), "max_body_bytes": 1000}
    with served(app_of(lookup, store, **rules)) as url:
        yield url


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer ", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_a_token_is_asked_for(locked: str, header: str | None, status: int) -> None:
    headers = {"Authorization": header} if header else {}
    reply = requests.get(f"{locked}/v1/models", headers=headers, timeout=10)
    assert reply.status_code == status
    if status == 401:
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN not in reply.text


def test_only_what_holds_no_data_is_open(locked: str) -> None:
    status = {
        path: requests.get(f"{locked}{path}", timeout=10).status_code
        for path in (
            "/",
            "/page/page.js",
            "/healthz",
            "/metrics",
            "/openapi.json",
            "/v1/runs",
            "/x",
        )
    }
    assert status == {
        "/": 200,
        "/page/page.js": 200,
        "/healthz": 200,
        "/metrics": 401,
        "/openapi.json": 401,
        "/v1/runs": 401,
        "/x": 401,
    }


def test_another_host_name_is_refused(locked: str) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        reply = requests.get(f"{locked}/healthz", headers={"Host": host}, timeout=10)
        assert reply.status_code == 421, host
    assert requests.get(f"{locked}/healthz", headers={"Host": "127.0.0.1:1"}, timeout=10).ok


def test_a_body_is_counted_whether_or_not_its_length_is_told(locked: str) -> None:
    path = f"{locked}/v1/recommendations"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.post(path, data=b" " * 1001, headers=headers, timeout=10).status_code == 413
    chunks = (b" " * 100 for _ in range(11))
    reply = requests.post(path, data=chunks, headers=headers, timeout=10)
    assert reply.status_code == 413
    assert reply.json()["type"] == "urn:windtunnel:problem:body-too-large"
    assert requests.post(path, data=b'{"model": ""}', headers=headers, timeout=10).ok


def exchanged(url: str, data: bytes, wait_s: float = 10.0) -> bytes:
    """What the server says to ``data`` until it closes the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=wait_s) as sock:
        sock.sendall(data)
        said = b""
        while part := sock.recv(65536):
            said += part
    return said


def test_headers_that_never_end_are_cut_off(
    monkeypatch: pytest.MonkeyPatch, app_of: Callable[..., Any], lookup: Any, store: Any
) -> None:
    monkeypatch.setattr(server, "HEADERS_S", 0.3)
    with served(app_of(lookup, store)) as url:
        assert exchanged(url, b"") == b""
        assert exchanged(url, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ") == b""
        endless = b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 5000
        assert exchanged(url, endless).startswith(b"HTTP/1.1 431 ")
        # A second request on one connection has the same limits as the first.
        twice = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nX: "
        said = exchanged(url, twice)
        assert said.count(b"HTTP/1.1 200 OK") == 1


def test_a_body_that_never_ends_is_told_so(
    app_of: Callable[..., Any], lookup: Any, store: Any
) -> None:
    head = b"POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
    with served(app_of(lookup, store, max_request_s=0.3)) as url:
        assert exchanged(url, head).startswith(b"HTTP/1.1 408 ")


def test_no_http_at_all(url: str) -> None:
    assert exchanged(url, b"\x16\x03\x01\x02\x00nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(60)

    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": []}
    asyncio.run(Guard(slow, Rules(max_request_s=0.05))(scope, receive, send))
    assert said[0]["status"] == 504


def test_a_refusal_survives_pickling() -> None:
    import pickle

    from results.api.problems import FieldProblem, invalid

    told = Refused(invalid("a", [FieldProblem(field="b", message="c")], "d"))
    assert pickle.loads(pickle.dumps(told)).problem == told.problem
