"""Spans sent by the real OpenTelemetry SDK arrive whole; what is no span is refused."""

from __future__ import annotations

import gzip
import http.client
import urllib.parse
import zlib
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.telemetry.otlp import OtlpReceiver, Span, span_phases
from results.startup import PhaseSource


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def _post(
    receiver: OtlpReceiver, body: bytes, path: str = "/v1/traces", **headers: str
) -> tuple[int, bytes]:
    address = urllib.parse.urlsplit(receiver.endpoint).netloc
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        named = {"Content-Type": "application/x-protobuf"} | {
            key.replace("_", "-"): value for key, value in headers.items()
        }
        connection.request("POST", path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _request(name: str = "Load weights") -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name = name
    span.start_time_unix_nano = 1_700_000_000_123_456_789
    span.end_time_unix_nano = 1_700_000_001_123_456_789
    return request.SerializeToString()


@pytest.mark.parametrize("compression", ["NoCompression", "Gzip", "Deflate"])
def test_the_real_exporter_is_understood(receiver: OtlpReceiver, compression: str) -> None:
    exporters = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    http_common = pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    resources = pytest.importorskip("opentelemetry.sdk.resources")

    provider = trace.TracerProvider(
        resource=resources.Resource.create({"vllm.process_kind": "worker", "shared": "resource"})
    )
    exporter = exporters.OTLPSpanExporter(
        endpoint=receiver.endpoint, compression=getattr(http_common.Compression, compression)
    )
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    outer = tracer.start_span("Worker init", start_time=1_700_000_000_000_000_001)
    inner = tracer.start_span(
        "Load weights",
        start_time=1_700_000_000_500_000_000,
        attributes={"n": 3, "share": 0.5, "yes": True, "shared": "span", "list": [1, 2]},
    )
    inner.end(end_time=1_700_000_001_000_000_000)
    outer.end(end_time=1_700_000_002_000_000_000)
    provider.shutdown()

    first, second = receiver.spans()
    assert (first.name, second.name) == ("Worker init", "Load weights")
    assert first.start_unix_ns == 1_700_000_000_000_000_001
    assert second.end_unix_s - second.start_unix_s == pytest.approx(0.5)
    assert second.attributes["vllm.process_kind"] == "worker"
    expected = {"n": 3, "share": 0.5, "yes": True, "shared": "span"}
    assert {key: second.attributes[key] for key in expected} == expected
    assert "list" not in second.attributes


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)],
)
def test_encodings(receiver: OtlpReceiver, encoding: str, encode: type[bytes]) -> None:
    status, body = _post(receiver, encode(_request()), Content_Encoding=encoding)
    assert (status, body) == (200, b"")
    assert [span.name for span in receiver.spans()] == ["Load weights"]


def test_what_is_no_trace_request_is_refused_and_the_receiver_lives(
    receiver: OtlpReceiver,
) -> None:
    assert _post(receiver, b"\xff\xff not protobuf")[0] == 400
    assert _post(receiver, b"not gzip", Content_Encoding="gzip")[0] == 400
    assert _post(receiver, gzip.compress(_request())[:-4], Content_Encoding="gzip")[0] == 400
    assert _post(receiver, _request(), Content_Encoding="br")[0] == 400
    assert _post(receiver, b"{}", Content_Type="application/json")[0] == 415
    assert _post(receiver, _request(), path="/v1/metrics")[0] == 404
    assert _post(receiver, b"", Content_Length="9999999999")[0] == 413
    assert _post(receiver, b"", Content_Length="many")[0] == 411
    assert receiver.spans() == ()
    assert _post(receiver, _request())[0] == 200
    assert len(receiver.spans()) == 1


def test_it_leaves_when_its_context_ends_even_while_a_connection_is_open() -> None:
    receiver = OtlpReceiver()
    with pytest.raises(RuntimeError, match="no endpoint outside its context"):
        _ = receiver.endpoint
    with receiver:
        address = urllib.parse.urlsplit(receiver.endpoint).netloc
        idle = http.client.HTTPConnection(address, timeout=10)
        idle.connect()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(address, timeout=10).connect()
    idle.close()


def test_phases_count_from_the_origin_and_leave_requests_out() -> None:
    def span(name: str, start_s: int, end_s: int) -> Span:
        return Span(name=name, start_unix_ns=start_s * 10**9, end_unix_ns=end_s * 10**9)

    phases = span_phases(
        [
            span("llm_request", 1040, 1041),
            span("Load weights", 1012, 1013),
            span("EngineCoreProc init", 1010, 1030),
        ],
        origin_unix_s=1000.0,
    )
    assert [(p.name, p.start_s, p.end_s) for p in phases] == [
        ("engine core", 10.0, 30.0),
        ("load weights", 12.0, 13.0),
    ]
    assert {p.source for p in phases} == {PhaseSource.OTEL}
    assert all(0 < p.resolution_s <= 0.01 for p in phases)
