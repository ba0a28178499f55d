"""Devices: fakes of NVML and of libtpu, named so; and the real libraries, which find nothing here.

Nothing below is a measurement of any accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import pynvml
import pytest

from harness.errors import SourceAbsent, SourceFailed
from harness.telemetry.nvml import NvmlSampler
from harness.telemetry.nvml_fake import FakeNvml
from harness.telemetry.sampler import Reading, Sampler
from harness.telemetry.testing import SamplerContract
from harness.telemetry.tpu import TpuSampler, has_chips, tpu_module
from harness.telemetry.tpu_service import MESSAGES, METHOD, PACKAGE, RuntimeMetrics


class TestNvmlSamplerOnAFake(SamplerContract):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return NvmlSampler(library=FakeNvml())


def of(readings: tuple[Reading, ...], label: str) -> dict[str, float]:
    return {r.name: r.value for r in readings if r.label == label}


def test_nvml_in_our_units() -> None:
    found = of(NvmlSampler(library=FakeNvml()).read(), "gpu=1")
    assert found == {
        "device_utilisation": pytest.approx(0.81),
        "device_memory_utilisation": pytest.approx(0.30),
        "device_memory_used_bytes": 10 * 2**30,
        "device_memory_total_bytes": 80 * 2**30,
        "device_power_w": pytest.approx(350.5),
        "device_energy_j": pytest.approx(7000.0),
        "device_sm_clock_hz": pytest.approx(1.98e9),
        "device_temperature_c": 61.0,
        "device_clock_reasons": 0.0,
        "device_throttled": 0.0,
    }


@pytest.mark.parametrize(
    ("reason", "slowed"),
    [
        (pynvml.nvmlClocksEventReasonGpuIdle, False),
        (pynvml.nvmlClocksEventReasonApplicationsClocksSetting, False),
        (pynvml.nvmlClocksEventReasonSyncBoost, False),
        (pynvml.nvmlClocksEventReasonSwPowerCap, True),
        (pynvml.nvmlClocksThrottleReasonHwSlowdown, True),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, True),
        (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown, True),
        (pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, True),
    ],
)
def test_which_reasons_slow_a_device_down(reason: int, slowed: bool) -> None:
    library = FakeNvml()
    library.reasons = reason | pynvml.nvmlClocksEventReasonGpuIdle
    found = of(NvmlSampler(library=library).read(), "gpu=0")
    assert found["device_throttled"] == float(slowed)
    assert found["device_clock_reasons"] == reason | pynvml.nvmlClocksEventReasonGpuIdle


def test_only_the_devices_that_the_engine_sees() -> None:
    library = FakeNvml(num_devices=8)
    labels = {r.label for r in NvmlSampler("2,5", library).read()}
    assert labels == {"gpu=2", "gpu=5"}
    assert {r.label for r in NvmlSampler("GPU-3", library).read()} == {"gpu=GPU-3"}
    with pytest.raises(SourceAbsent, match="no device is visible"):
        NvmlSampler("", library)
    assert library.num_open == 2  # what was refused was closed


def test_what_a_device_does_not_support_is_asked_once() -> None:
    library = FakeNvml(num_devices=1)
    library.unsupported = {"power", "energy"}
    sampler = NvmlSampler(library=library)
    found = of(sampler.read(), "gpu=0")
    assert "device_power_w" not in found
    assert found["device_utilisation"] == pytest.approx(0.80)
    sampler.read()
    assert library.asked.count("power") == 1
    assert library.asked.count("utilisation") == 2


def test_a_device_that_is_lost_fails_the_read() -> None:
    library = FakeNvml()
    sampler = NvmlSampler(library=library)
    library.lost = True
    with pytest.raises(SourceFailed, match="gpu=0: GPU is lost"):
        sampler.read()


def test_the_real_nvml() -> None:
    """With a driver it reads; without one it says so."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        with pytest.raises(SourceAbsent) as raised:
            NvmlSampler()
        assert str(raised.value) == f"NVML: {error}"
        return
    pynvml.nvmlShutdown()
    assert NvmlSampler().read()


# ---- TPU ----


class FakeTpuMonitoring:
    """The interface of ``libtpu.sdk.tpumonitoring``: numbers as text, one per chip."""

    def __init__(self, data: Mapping[str, list[str]]) -> None:
        self.told = dict(data)

    def list_supported_metrics(self) -> list[str]:
        return [*self.told, "hlo_queue_size"]

    def get_metric(self, name: str) -> Any:
        if name not in self.told:
            raise RuntimeError(f"no such metric: {name}")
        return SimpleNamespace(data=lambda: self.told[name], description=lambda: name)


BUSY = {
    "duty_cycle_pct": ["45.50", "0.00"],
    "tensorcore_util": ["31.00", "0.00"],
    "hbm_capacity_usage": ["1000", "0"],
    "hbm_capacity_total": ["34088157184", "34088157184"],
}


def no_module() -> Any:
    raise SourceAbsent("no libtpu")


class FakeTpuService:
    """libtpu's metric service over real gRPC, answering with hand-made messages."""

    def __init__(self, gauges: Mapping[str, Mapping[int, float | int]]) -> None:
        self.gauges = dict(gauges)
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._answer,
            request_deserializer=MESSAGES["MetricRequest"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        service = grpc.method_handlers_generic_handler(
            f"{PACKAGE}.RuntimeMetricService", {METHOD.rpartition("/")[2]: handler}
        )
        self._server.add_generic_rpc_handlers((service,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _answer(self, request: Any, context: Any) -> Any:
        if request.metric_name not in self.gauges:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such metric")
        answer = MESSAGES["MetricResponse"]()
        answer.metric.name = request.metric_name
        for device, value in self.gauges[request.metric_name].items():
            metric = answer.metric.metrics.add()
            metric.attribute.key = "device-id"
            metric.attribute.value.int_attr = device
            if isinstance(value, int):
                metric.gauge.as_int = value
            else:
                metric.gauge.as_double = value
        return answer

    def stop(self) -> None:
        self._server.stop(None).wait(10)


@pytest.fixture
def service() -> Iterator[FakeTpuService]:
    running = FakeTpuService(
        {
            "tpu.runtime.tensorcore.dutycycle.percent": {0: 12.5, 1: 87.5},
            "tpu.runtime.hbm.memory.usage.bytes": {0: 2**30, 1: 2**31},
            "tpu.runtime.hbm.memory.total.bytes": {0: 2**35, 1: 2**35},
        }
    )
    yield running
    running.stop()


class TestTpuSamplerOnAFakeModule(SamplerContract):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return TpuSampler(chips=lambda: True, module=lambda: FakeTpuMonitoring(BUSY))


class TestTpuSamplerOnAFakeService(SamplerContract):
    @pytest.fixture
    def sampler(self, service: FakeTpuService) -> Sampler:
        address = f"127.0.0.1:{service.port}"
        return TpuSampler(
            chips=lambda: True, module=no_module, service=lambda: RuntimeMetrics(address)
        )


def test_the_module_in_our_units() -> None:
    sampler = TpuSampler(chips=lambda: True, module=lambda: FakeTpuMonitoring(BUSY))
    assert of(sampler.read(), "tpu=0") == {
        "device_utilisation": pytest.approx(0.455),
        "device_tensorcore_utilisation": pytest.approx(0.31),
        "device_memory_used_bytes": 1000.0,
        "device_memory_total_bytes": 34088157184.0,
    }
    assert of(sampler.read(), "tpu=1")["device_utilisation"] == 0.0


def test_the_service_in_our_units(service: FakeTpuService) -> None:
    sampler = TpuSampler(
        chips=lambda: True,
        module=no_module,
        service=lambda: RuntimeMetrics(f"127.0.0.1:{service.port}"),
    )
    assert of(sampler.read(), "tpu=1") == {
        "device_utilisation": pytest.approx(0.875),
        "device_memory_used_bytes": 2.0**31,
        "device_memory_total_bytes": 2.0**35,
    }
    del service.gauges["tpu.runtime.hbm.memory.usage.bytes"]
    with pytest.raises(SourceFailed, match=r"hbm.memory.usage.bytes: NOT_FOUND"):
        sampler.read()
    sampler.close()


def test_a_module_that_tells_nothing_leaves_it_to_the_service(service: FakeTpuService) -> None:
    """While no program of its own process runs, the module's lists are empty."""
    idle = FakeTpuMonitoring({name: [] for name in BUSY})
    sampler = TpuSampler(
        chips=lambda: True,
        module=lambda: idle,
        service=lambda: RuntimeMetrics(f"127.0.0.1:{service.port}"),
    )
    assert len(sampler.read()) == 6
    sampler.close()


def test_the_wire_format_is_that_of_the_service() -> None:
    """Bytes by hand from the field numbers of ``tpu_metric_service.proto``: what protoc's own
    classes would send."""
    attribute = b"\x0a\x09device-id" + b"\x12\x02\x18\x03"  # key (1), value (2) {int_attr (3): 3}
    gauge = b"\x09" + b"\x00\x00\x00\x00\x00\x00\x45\x40"  # as_double (1): 42.0
    metric = b"\x0a" + bytes([len(attribute)]) + attribute + b"\x1a" + bytes([len(gauge)]) + gauge
    tpu_metric = b"\x0a\x01m" + b"\x1a" + bytes([len(metric)]) + metric
    answer = MESSAGES["MetricResponse"].FromString(b"\x0a" + bytes([len(tpu_metric)]) + tpu_metric)
    assert answer.metric.metrics[0].gauge.as_double == 42.0
    assert answer.metric.metrics[0].attribute.value.int_attr == 3
    assert MESSAGES["MetricRequest"](metric_name="m").SerializeToString() == b"\x0a\x01m"


def test_nothing_that_answers_is_absent_with_every_reason() -> None:
    with pytest.raises(SourceAbsent) as raised:
        TpuSampler(
            chips=lambda: True,
            module=no_module,
            service=lambda: RuntimeMetrics("127.0.0.1:9", timeout_s=0.2),
        )
    assert "no libtpu" in str(raised.value)
    assert "libtpu at 127.0.0.1:9" in str(raised.value)


def test_the_real_libtpu() -> None:
    """On a host with chips it reads; elsewhere it says what is missing."""
    if has_chips():
        pytest.skip("this host has TPU chips; the fakes above are for hosts without")
    with pytest.raises(SourceAbsent, match="the kernel shows no TPU chip"):
        TpuSampler()
    try:
        tpu_module()
    except SourceAbsent as absent:
        assert "libtpu" in str(absent)


def test_chips_are_what_the_kernel_shows(tmp_path: Any) -> None:
    assert not has_chips(tmp_path)
    (tmp_path / "vfio").mkdir()
    (tmp_path / "vfio/vfio").touch()  # the driver's own control file is no chip
    assert not has_chips(tmp_path)
    (tmp_path / "vfio/0").touch()
    assert has_chips(tmp_path)
    (tmp_path / "vfio/0").unlink()
    (tmp_path / "accel3").touch()
    assert has_chips(tmp_path)
