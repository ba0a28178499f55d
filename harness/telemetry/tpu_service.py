"""libtpu's metric service over gRPC: the few messages of it that we need, and one call.

The messages are those of ``tpu.monitoring.runtime.RuntimeMetricService`` as ``tpu-info`` (Apache
2.0, github.com/AI-Hypercomputer/cloud-accelerator-diagnostics) declares them; field numbers are the
wire format, and fields we do not read are left out.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from harness.errors import SourceFailed

ADDRESS: Final = "localhost:8431"
TIMEOUT_S: Final = 1.0
PACKAGE: Final = "tpu.monitoring.runtime"
METHOD: Final = f"/{PACKAGE}.RuntimeMetricService/GetRuntimeMetric"

# message → (field, number, type, is it repeated)
_MESSAGES: Final[dict[str, tuple[tuple[str, int, int | str, bool], ...]]] = {
    "AttrValue": (("string_attr", 1, Field.TYPE_STRING, False), ("int_attr", 3, 3, False)),
    "Attribute": (("key", 1, Field.TYPE_STRING, False), ("value", 2, "AttrValue", False)),
    "Gauge": (("as_double", 1, Field.TYPE_DOUBLE, False), ("as_int", 2, 3, False)),
    "Metric": (("attribute", 1, "Attribute", False), ("gauge", 3, "Gauge", False)),
    "TPUMetric": (("name", 1, Field.TYPE_STRING, False), ("metrics", 3, "Metric", True)),
    "MetricRequest": (("metric_name", 1, Field.TYPE_STRING, False),),
    "MetricResponse": (("metric", 1, "TPUMetric", False),),
}
_ONEOF: Final = ("AttrValue", "Gauge")


def _messages() -> dict[str, Any]:
    """Message classes by name, in a pool of their own: a real libtpu's may be loaded as well."""
    file = descriptor_pb2.FileDescriptorProto(
        name="windtunnel/tpu_metric_service.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONEOF:
            message.oneof_decl.add(name="value")
        for field, number, kind, is_repeated in fields:
            added = message.field.add(
                name=field,
                number=number,
                label=Field.LABEL_REPEATED if is_repeated else Field.LABEL_OPTIONAL,
            )
            if isinstance(kind, str):
                added.type, added.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                added.type = kind
            if name in _ONEOF:
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _MESSAGES
    }


MESSAGES: Final = _messages()


class RuntimeMetrics:
    """A client of the service at ``address``; it connects at the first call."""

    def __init__(self, address: str = ADDRESS, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._timeout_s = address, timeout_s
        # No proxy: the service is on this host, whatever the environment says of the others.
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self._call = self._channel.unary_unary(
            METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["MetricResponse"].FromString,
        )

    def values(self, metric: str) -> dict[str, float]:
        """The metric's gauges by device. Raises SourceFailed."""
        request = MESSAGES["MetricRequest"](metric_name=metric)
        try:
            answer = self._call(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else repr(error)
            raise SourceFailed(f"libtpu at {self._address}, {metric}: {code}") from error
        found = {}
        for index, told in enumerate(answer.metric.metrics):
            kind = told.gauge.WhichOneof("value")
            if kind is not None:
                found[_device(told.attribute.value, index)] = float(getattr(told.gauge, kind))
        return found

    def close(self) -> None:
        self._channel.close()


def _device(attribute: Any, index: int) -> str:
    """The device id that the metric carries, or its place in the answer."""
    kind = attribute.WhichOneof("value")
    return str(getattr(attribute, kind)) if kind else str(index)
