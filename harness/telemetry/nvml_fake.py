"""A fake of NVML for tests, named so. Nothing that it says is a measurement of any device."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml


class FakeNvml:
    """The functions of pynvml that are used, with its own constants and its own error.
    ``energy_j`` says what a device has drawn."""

    NVMLError = pynvml.NVMLError
    NVML_ERROR_NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
    NVML_ERROR_NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
    NVML_ERROR_FUNCTION_NOT_FOUND = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(
        self, num_devices: int = 2, energy_j: Callable[[int], float] = lambda _: 7000.0
    ) -> None:
        self.num_devices, self.energy_j = num_devices, energy_j
        self.num_open = 0
        self.reasons = 0
        self.unsupported: set[str] = set()
        self.lost = False
        self.asked: list[str] = []

    def nvmlInit(self) -> None:  # noqa: N802
        self.num_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.num_devices

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= self.num_devices:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        return int(uuid.removeprefix("GPU-"))

    def _say(self, name: str, value: Any) -> Any:
        self.asked.append(name)
        if self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if name in self.unsupported:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return self._say("utilisation", SimpleNamespace(gpu=80 + handle, memory=30))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return self._say("memory", SimpleNamespace(used=10 * 2**30, total=80 * 2**30))

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return int(self._say("power", 350_500))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        return int(self._say("energy", self.energy_j(handle) * 1e3))

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:  # noqa: N802
        assert kind == pynvml.NVML_CLOCK_SM
        return int(self._say("clock", 1980))

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:  # noqa: N802
        assert kind == pynvml.NVML_TEMPERATURE_GPU
        return int(self._say("temperature", 61))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:  # noqa: N802
        return int(self._say("reasons", self.reasons))
