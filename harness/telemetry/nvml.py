"""NVIDIA devices through NVML: what they did, what they drew, and whether they were slowed down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from harness.errors import SourceAbsent, SourceFailed
from harness.telemetry.sampler import Reading

# Of the reasons why clocks are low (nvml.h, nvmlClocksEventReasons), those that slow work down:
# software power cap, hardware slowdown, software and hardware thermal slowdown, power brake.
SLOWED: Final = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


class NvmlSampler:
    """Devices of this host. ``visible`` is CUDA_VISIBLE_DEVICES of the engine: indices or UUIDs;
    None: all. ``library`` is ``pynvml`` or what has its functions.

    Raises SourceAbsent without a driver or a device.
    """

    def __init__(self, visible: str | None = None, library: Any = None) -> None:
        if library is None:
            import pynvml  # loads a shared library; only nodes that are asked need it

            library = pynvml
        self._nvml = library
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            raise SourceAbsent(f"NVML: {error}") from error
        self._is_open = True
        self._unsupported: set[tuple[str, str]] = set()
        try:
            self._devices = tuple(self._open(visible))
        except library.NVMLError as error:
            self.close()
            raise SourceAbsent(f"NVML: {error}") from error
        if not self._devices:
            self.close()
            raise SourceAbsent(
                "NVML: no device is visible to the engine"
                if visible is not None
                else "NVML: the host has no device"
            )

    def _open(self, visible: str | None) -> Iterator[tuple[str, Any]]:
        """(label, handle). NVML counts a host's devices, whatever CUDA is allowed to see."""
        if visible is None:
            names = [str(index) for index in range(self._nvml.nvmlDeviceGetCount())]
        else:
            names = [name.strip() for name in visible.split(",") if name.strip()]
        for name in names:
            by_index = name.isdigit()
            handle = (
                self._nvml.nvmlDeviceGetHandleByIndex(int(name))
                if by_index
                else self._nvml.nvmlDeviceGetHandleByUUID(name)
            )
            yield f"gpu={name}", handle

    def read(self) -> tuple[Reading, ...]:
        return tuple(r for label, handle in self._devices for r in self._device(label, handle))

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _device(self, label: str, handle: Any) -> Iterator[Reading]:
        nvml = self._nvml
        for ask, read in (
            (nvml.nvmlDeviceGetUtilizationRates, _utilisation),
            (nvml.nvmlDeviceGetMemoryInfo, _memory),
            (nvml.nvmlDeviceGetPowerUsage, _power),
            (nvml.nvmlDeviceGetTotalEnergyConsumption, _energy),
            (lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM), _clock),
            (lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU), _temperature),
            (nvml.nvmlDeviceGetCurrentClocksEventReasons, _reasons),
        ):
            for name, value in self._ask(label, handle, ask, read):
                yield Reading(name, value, label=label)

    def _ask(
        self,
        label: str,
        handle: Any,
        ask: Callable[[Any], Any],
        read: Callable[[Any], tuple[tuple[str, float], ...]],
    ) -> tuple[tuple[str, float], ...]:
        """What a device does not support (a MIG slice has no power of its own) is asked once."""
        if (label, read.__name__) in self._unsupported:
            return ()
        try:
            return read(ask(handle))
        except self._nvml.NVMLError as error:
            if error.value in (
                self._nvml.NVML_ERROR_NOT_SUPPORTED,
                self._nvml.NVML_ERROR_NO_PERMISSION,
                self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            ):
                self._unsupported.add((label, read.__name__))
                return ()
            raise SourceFailed(f"NVML, {label}: {error}") from error


def _utilisation(told: Any) -> tuple[tuple[str, float], ...]:
    """Percent of the last sample period (1/6 to 1 s, by device) in which a kernel ran, and in
    which memory was read or written."""
    return (
        ("device_utilisation", told.gpu / 100.0),
        ("device_memory_utilisation", told.memory / 100.0),
    )


def _memory(told: Any) -> tuple[tuple[str, float], ...]:
    return (
        ("device_memory_used_bytes", float(told.used)),
        ("device_memory_total_bytes", float(told.total)),
    )


def _power(milliwatts: int) -> tuple[tuple[str, float], ...]:
    return (("device_power_w", milliwatts / 1e3),)


def _energy(millijoules: int) -> tuple[tuple[str, float], ...]:
    """Since the driver was loaded."""
    return (("device_energy_j", millijoules / 1e3),)


def _clock(mhz: int) -> tuple[tuple[str, float], ...]:
    return (("device_sm_clock_hz", mhz * 1e6),)


def _temperature(celsius: int) -> tuple[tuple[str, float], ...]:
    return (("device_temperature_c", float(celsius)),)


def _reasons(mask: int) -> tuple[tuple[str, float], ...]:
    return (
        ("device_clock_reasons", float(mask)),
        ("device_throttled", float(bool(mask & SLOWED))),
    )
