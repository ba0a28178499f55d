"""One request, sent and received. The hot path keeps time stamps and bytes, and reads neither.

Times here are readings of this host's monotonic clock; ``collect`` turns them into times of the
load. A time stamp is taken when the event loop hands over the bytes, so a loop that is late shows
as latency; the driver reports how late it was.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import tempfile
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import IO, Any

import aiohttp

from harness.load.bodies import api_path

# A response beyond this is cut off as a failure; in a stream of 300-byte chunks, 200,000 tokens.
MAX_RESPONSE_BYTES = 64 * 2**20
# Answers held in memory until they are read after the load; more than this waits in a file.
MAX_RAW_BYTES_IN_MEMORY = 128 * 2**20
# uvicorn, under vLLM and most others, closes an idle connection after 5 s. Letting go first means
# that no request is ever sent into a connection which the server is just closing.
KEEP_ALIVE_S = 4.0
# aiohttp warns about larger bodies given as bytes, because it would write them in one piece.
_MAX_BODY_IN_ONE_PIECE = 2**20


@dataclass(slots=True, kw_only=True)
class Transcript:
    """All that was seen of one request. Readings of the monotonic clock; NaN: did not happen."""

    index: int
    is_warmup: bool = False
    intended_s: float = math.nan
    dispatched_s: float = math.nan
    written_s: float = math.nan
    first_byte_s: float = math.nan  # status line and headers are in
    done_s: float = math.nan
    status: int = -1
    error: str = ""
    read_s: array[float] = field(default_factory=lambda: array("d"))  # (reads,)
    read_end: array[int] = field(default_factory=lambda: array("q"))  # (reads,) bytes so far
    raw: RawRef = b""


RawRef = bytes | tuple[int, int]  # the bytes, or (offset, length) in the file


class RawStore:
    """Response bodies waiting to be read: in memory up to a limit, then in an unnamed file."""

    def __init__(self, max_bytes_in_memory: int = MAX_RAW_BYTES_IN_MEMORY) -> None:
        self._max_bytes = max_bytes_in_memory
        self._held = 0
        self._file: IO[bytes] | None = None

    def put(self, raw: bytes) -> RawRef:
        if self._held + len(raw) <= self._max_bytes:
            self._held += len(raw)
            return raw
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``
        offset = self._file.seek(0, io.SEEK_END)
        self._file.write(raw)
        return offset, len(raw)

    def get(self, ref: RawRef) -> bytes:
        if isinstance(ref, bytes):
            return ref
        assert self._file is not None, "a reference into a file that was never written"
        offset, length = ref
        self._file.seek(offset)
        return self._file.read(length)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


MODELS_PATH = "/v1/models"
_OWNER_TIMEOUT_S = 5.0


class Client:
    """A pool of kept-alive connections to one server, without a limit on their number."""

    def __init__(
        self,
        base_url: str,
        api: str,
        api_key: str | None,
        timeout_s: float,
        store: RawStore,
        now_s: Callable[[], float],
    ) -> None:
        self._url = root_url(base_url) + api_path(api)
        self._models_url = root_url(base_url) + MODELS_PATH
        self._timeout_s = timeout_s
        self._store = store
        self._now_s = now_s
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a compressed stream arrives in lumps
        }
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        trace = aiohttp.TraceConfig()
        trace.on_request_chunk_sent.append(self._on_written)
        self._session = aiohttp.ClientSession(
            # No limit: a cap would make arrivals wait for answers. Names are looked up once.
            connector=aiohttp.TCPConnector(
                limit=0, ttl_dns_cache=None, keepalive_timeout=KEEP_ALIVE_S
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=[trace],
        )
        return self

    async def owner(self) -> str:
        """Who the server says owns its first model, or "" where it does not say."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=_OWNER_TIMEOUT_S)
        try:
            async with self._session.get(self._models_url, timeout=timeout) as response:
                document = json.loads(await response.read())
                return str(document["data"][0]["owned_by"])
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError):
            return ""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def _on_written(
        self, _session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any
    ) -> None:
        # Called right before a piece of the body goes to the transport; the last call stays.
        context.trace_request_ctx.written_s = self._now_s()

    async def send(
        self, transcript: Transcript, body: bytes, timeout_s: float | None = None
    ) -> None:
        """Send, receive, and write down what happened; whatever the server does is no exception.

        ``timeout_s`` counts from here; None: the client's own. Cancelled, it notes so in the
        transcript and lets the cancellation pass.
        """
        t, parts = transcript, list[bytes]()
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        t.dispatched_s = self._now_s()
        try:
            async with asyncio.timeout(limit_s):
                await self._exchange(t, body, parts)
        except TimeoutError:
            t.error = f"timeout: not answered in full within {limit_s:.3g} s"
        except (aiohttp.ClientError, OSError) as error:
            t.error = _describe(error)
        except asyncio.CancelledError:
            t.error = "cancelled: the load ended before the answer did"
            raise
        finally:
            t.done_s = self._now_s()
            t.raw = self._store.put(b"".join(parts))

    async def _exchange(self, t: Transcript, body: bytes, parts: list[bytes]) -> None:
        assert self._session is not None
        now_s, num_bytes = self._now_s, 0
        data = body if len(body) < _MAX_BODY_IN_ONE_PIECE else io.BytesIO(body)
        async with self._session.post(
            self._url, data=data, trace_request_ctx=t, allow_redirects=False
        ) as response:
            t.first_byte_s = now_s()
            t.status = response.status
            async for part in response.content.iter_any():
                t.read_s.append(now_s())
                num_bytes += len(part)
                t.read_end.append(num_bytes)
                parts.append(part)
                if num_bytes > MAX_RESPONSE_BYTES:
                    t.error = f"oversized: the answer is larger than {MAX_RESPONSE_BYTES} bytes"
                    response.close()
                    return


def root_url(base_url: str) -> str:
    """A server's URL without the ``/v1`` that many people add."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


def _describe(error: aiohttp.ClientError | OSError) -> str:
    """A short kind, a colon, and what the library says."""
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)
        kind = "refused" if refused else "connect_failed"
    elif isinstance(
        error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionError
    ):
        kind = "disconnected"
    else:
        kind = "http_error"
    return f"{kind}: {str(error) or type(error).__name__}"
