"""Receives the spans an engine sends while it starts: OTLP over HTTP, protobuf, traces only.

An engine's own spans tell what a log cannot: both ends of a phase, read by the process that went
through it.
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from results.startup import PhaseSource, StartupPhase
from workloads.vllm_startup import SPAN_PHASES

_PATH = "/v1/traces"
_MAX_BODY_BYTES = 64 * 1024**2
_READ_TIMEOUT_S = 30.0  # of one connection that sends nothing
# Both clocks of one host are read microseconds apart; what is left is how they drift in a startup.
_RESOLUTION_S = 0.001

AttributeValue = str | bool | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One finished span. Times are the sender's wall clock, nanoseconds since 1970.

    ``attributes`` holds the scalar ones; those of the span hide those of its resource.
    """

    name: str
    start_unix_ns: int
    end_unix_ns: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)

    @property
    def start_unix_s(self) -> float:
        return self.start_unix_ns / 1e9

    @property
    def end_unix_s(self) -> float:
        return self.end_unix_ns / 1e9


class OtlpReceiver:
    """A context manager: inside it, spans posted to ``endpoint`` are kept.

    Listens on ``host`` (this machine alone, unless told otherwise), on a port the kernel gives.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        """The full URL an exporter for traces is given. Raises RuntimeError outside the context."""
        if self._server is None:
            raise RuntimeError("the OTLP receiver has no endpoint outside its context")
        return f"http://{self._host}:{self._server.server_port}{_PATH}"

    def spans(self) -> tuple[Span, ...]:
        """Every span received so far, by start. Exporters batch: some may be under way."""
        with self._lock:
            return tuple(sorted(self._spans, key=lambda span: span.start_unix_ns))

    def _keep(self, spans: list[Span]) -> None:
        with self._lock:
            self._spans.extend(spans)

    def __enter__(self) -> OtlpReceiver:
        receiver = self

        class Handler(_Handler):
            keep = staticmethod(receiver._keep)

        server = ThreadingHTTPServer((self._host, 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False  # an exporter may hold its connection open
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="otlp", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None


def span_phases(
    spans: Iterable[Span], origin_unix_s: float, names: Mapping[str, str] = SPAN_PHASES
) -> tuple[StartupPhase, ...]:
    """Startup phases from spans, counted from ``origin_unix_s`` on the sender's wall clock.

    ``names`` maps span names to phase names, so that a span and a log line that tell of the same
    phase are known for it; spans that it does not name are left out (requests are spans, too).
    """
    return tuple(
        StartupPhase(
            name=names[span.name],
            start_s=span.start_unix_ns / 1e9 - origin_unix_s,
            end_s=span.end_unix_ns / 1e9 - origin_unix_s,
            source=PhaseSource.OTEL,
            resolution_s=_RESOLUTION_S,
            detail=f"span {span.name}",
        )
        for span in sorted(spans, key=lambda span: (span.start_unix_ns, -span.end_unix_ns))
        if span.name in names
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers as the OTLP specification asks: 200 and an empty answer, or a reason not to retry."""

    protocol_version = "HTTP/1.1"
    timeout = _READ_TIMEOUT_S
    keep: Any = None  # set by the receiver

    def do_POST(self) -> None:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self._refuse(411, "a Content-Length is needed")
            return
        if not 0 <= length <= _MAX_BODY_BYTES:
            self._refuse(413, f"{length} bytes; at most {_MAX_BODY_BYTES} are taken")
            return
        body = self.rfile.read(length)
        if self.path != _PATH:
            self._refuse(404, f"spans go to {_PATH}")
            return
        if not self.headers.get("Content-Type", "").startswith("application/x-protobuf"):
            self._refuse(415, "send application/x-protobuf (http/protobuf)")
            return
        try:
            spans = _decode(body, self.headers.get("Content-Encoding", "identity"))
        except (DecodeError, OSError, EOFError, zlib.error, ValueError) as error:
            self._refuse(400, f"not an OTLP trace request: {error}")
            return
        self.keep(spans)
        self._answer(200, ExportTraceServiceResponse().SerializeToString())

    def _refuse(self, status: int, reason: str) -> None:
        self.close_connection = True
        self._answer(status, reason.encode(), "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, kind: str = "application/x-protobuf") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: standard error belongs to the command line."""


def _decode(body: bytes, encoding: str) -> list[Span]:
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    elif encoding not in ("", "identity"):
        raise ValueError(f"Content-Encoding {encoding}")
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            name=span.name,
            start_unix_ns=span.start_time_unix_nano,
            end_unix_ns=span.end_time_unix_nano,
            attributes=_scalars(group.resource.attributes) | _scalars(span.attributes),
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _scalars(attributes: Iterable[Any]) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {}
    for pair in attributes:
        value: AnyValue = pair.value
        kind = value.WhichOneof("value")
        if kind in ("string_value", "bool_value", "int_value", "double_value"):
            found[pair.key] = getattr(value, kind)
    return found
