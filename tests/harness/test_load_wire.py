"""Where a response ends, whatever pieces it comes in; and connections of a real loop."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load.response import body_of
from harness.load.wire import MAX_RESPONSE_BYTES, Connection, Exchange, RequestHead

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class Owner:
    """Keeps what a connection tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.over: list[Exchange] = []

    def released(self, connection: Connection) -> None:
        self.told.append("released")

    def lost(self, connection: Connection) -> None:
        self.told.append("lost")

    def ended(self, exchange: Exchange) -> None:
        self.told.append("ended")
        self.over.append(exchange)


class Wire:
    """A transport that keeps what was written; a fake of the loop's own."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True

    def get_write_buffer_size(self) -> int:
        return 0


def asked() -> tuple[Connection, Owner, Wire, Exchange]:
    owner, wire = Owner(), Wire()
    connection = Connection(owner)
    connection.attach(wire)
    exchange = Exchange(7, 0.0, b"POST", is_warmup=False)
    connection.send(exchange)
    return connection, owner, wire, exchange


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p)
    return framed + b"0\r\n" + trailer + b"\r\n"


def split(raw: bytes, cuts: set[int]) -> list[bytes]:
    ends = [0, *sorted({c % (len(raw) + 1) for c in cuts} - {0, len(raw)}), len(raw)]
    return [raw[a:b] for a, b in pairwise(ends)]


# Pieces that look like the end of a chunked response, and are not.
pieces = st.lists(
    st.sampled_from(
        [b"data: x\n\n", b"0\r\n\r\n", b"\r\n\r\n", b"data: y\r\n\r\n", b"\r\n", b"a" * 99]
    )
    | st.binary(min_size=1, max_size=30),
    max_size=8,
)


@given(pieces=pieces, cuts=st.sets(st.integers(0, 2000), max_size=12), trailer=st.booleans())
def test_a_chunked_response_ends_with_its_last_byte_and_not_before(
    pieces: list[bytes], cuts: set[int], trailer: bool
) -> None:
    raw = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    raw += chunked(*pieces, trailer=b"Server-Timing: x\r\n" if trailer else b"")
    connection, owner, wire, exchange = asked()
    assert wire.written == b"POST" and exchange.message == b""
    for part in split(raw, cuts):
        assert owner.told == []
        connection.data_received(part)
    assert owner.told == ["released", "ended"]
    assert owner.over == [exchange]
    assert exchange.error == "" and exchange.done_s == exchange.read_s[-1]
    response = body_of(exchange.parts)
    assert (response.status, response.body) == (200, b"".join(pieces))
    assert response.content_type == "text/event-stream"
    assert response.body_end[-1] == len(response.body)
    assert len(response.body_end) == len(exchange.read_s)


@given(body=st.binary(max_size=200), cuts=st.sets(st.integers(0, 400), max_size=6))
def test_a_response_of_known_length_ends_there(body: bytes, cuts: set[int]) -> None:
    raw = OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    connection, owner, _, exchange = asked()
    for part in split(raw, cuts):
        assert owner.told == []
        connection.data_received(part)
    assert owner.told == ["released", "ended"]
    assert body_of(exchange.parts).body == body


def test_the_same_connection_is_used_again() -> None:
    connection, owner, wire, first = asked()
    raw = OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"data: a\n\n")
    connection.data_received(raw)
    second = Exchange(8, 1.0, b"NEXT", is_warmup=False)
    connection.send(second)
    assert wire.written == b"POSTNEXT"
    connection.data_received(raw)
    assert owner.over == [first, second]
    assert [x.num_bytes for x in owner.over] == [len(raw)] * 2


def test_a_response_without_length_ends_with_the_connection() -> None:
    connection, owner, _, exchange = asked()
    connection.data_received(OK + b"Connection: close\r\n\r\ndata: a\n\n")
    assert owner.told == []
    connection.connection_lost(None)
    assert owner.told == ["lost", "ended"]
    assert exchange.error == ""
    assert body_of(exchange.parts).body == b"data: a\n\n"


def test_a_server_that_says_close_is_believed() -> None:
    connection, owner, wire, _ = asked()
    connection.data_received(OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na")
    assert owner.told == ["ended"]
    assert wire.is_aborted and connection.is_lost


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200", OK + b"Content-Length: 9\r\n\r\nabc"])
@pytest.mark.parametrize("error", [None, ConnectionResetError(104, "Connection reset by peer")])
def test_a_connection_that_is_lost_in_between_is_a_failure(received: bytes, error: Any) -> None:
    connection, owner, _, exchange = asked()
    if received:
        connection.data_received(received)
    connection.connection_lost(error)
    assert exchange.error.startswith("disconnected: ")
    assert f"after {len(received)} bytes" in exchange.error
    assert not math.isnan(exchange.done_s)
    assert owner.over == [exchange]


def test_what_is_no_http_is_said_to_be_none() -> None:
    connection, _, wire, exchange = asked()
    connection.data_received(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    assert exchange.error.startswith("http_error: ")
    assert wire.is_aborted


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_RESPONSE_BYTES >= 2**20
    monkeypatch.setattr("harness.load.wire.MAX_RESPONSE_BYTES", 1000)
    connection, owner, wire, exchange = asked()
    connection.data_received(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        if owner.over:
            break
        connection.data_received(b"64\r\n" + b"x" * 100 + b"\r\n")
    assert exchange.error.startswith("oversized: ")
    assert wire.is_aborted


def test_data_that_nobody_asked_for_ends_the_connection() -> None:
    owner, wire = Owner(), Wire()
    connection = Connection(owner)
    connection.attach(wire)
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.is_aborted
    assert owner.told == []


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://h", "h", 80, "/v1/completions"),
        ("https://h/v1/", "h", 443, "/v1/completions"),
        ("http://[::1]:8000", "::1", 8000, "/v1/completions"),
        ("http://h:1/models/a/v1", "h", 1, "/models/a/v1/completions"),
    ],
)
def test_the_head_of_a_request(url: str, host: str, port: int, path: str) -> None:
    head = RequestHead(url, "/v1/completions", "sk-secret")
    assert (head.host, head.port, head.is_tls) == (host, port, url.startswith("https"))
    text = head.post(b"{}").decode()
    assert text.startswith(f"POST {path} HTTP/1.1\r\n")
    assert text.endswith("Content-Length: 2\r\n\r\n{}")
    assert "Authorization: Bearer sk-secret\r\n" in text
    assert "sk-secret" not in repr(head)
    assert head.get("/v1/models").startswith(
        f"GET {path.removesuffix('/completions')}/models".encode()
    )


@pytest.mark.parametrize("url", ["", "h:80", "ftp://h", "http://", "//h"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no http:// or https:// URL"):
        RequestHead(url, "/v1/completions", None)


def test_written_is_when_a_full_socket_took_the_last_byte() -> None:
    """A server that reads nothing for a while: a body larger than any socket's buffer waits."""

    async def scene() -> Exchange:
        may_read = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await may_read.wait()
            await reader.readexactly(64 * 2**20)
            writer.write(OK + b"Content-Length: 1\r\nConnection: close\r\n\r\na")
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1", 0, limit=2**16)
        port = server.sockets[0].getsockname()[1]
        over = asyncio.Event()
        owner = Owner()
        owner.ended = lambda _: over.set()  # type: ignore[method-assign,assignment]
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(owner), "127.0.0.1", port)
        exchange = Exchange(0, 0.0, bytes(64 * 2**20), is_warmup=False)
        connection.send(exchange)
        handed_over_s = exchange.written_s
        await asyncio.sleep(0.05)
        may_read.set()
        await asyncio.wait_for(over.wait(), 30)
        assert exchange.written_s >= handed_over_s + 0.05
        server.close()
        await server.wait_closed()
        return exchange

    exchange = asyncio.run(scene())
    assert exchange.error == ""
    assert exchange.written_s <= exchange.done_s
