"""TPU chips: duty cycle, HBM and tensor-core use, from libtpu in either of its two ways.

The engine's own libtpu serves metrics on localhost (what ``tpu-info`` reads); the monitoring module
of a libtpu in this interpreter (``libtpu.sdk.tpumonitoring``) tells the same, and the tensor cores
as well. The module is taken where it answers, the service otherwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from harness.errors import SourceAbsent, SourceFailed
from harness.telemetry.sampler import Reading
from harness.telemetry.tpu_service import ADDRESS, RuntimeMetrics

# Metric of the library → (our name, its unit in ours).
_SERVICE: Final = {
    "tpu.runtime.tensorcore.dutycycle.percent": ("device_utilisation", 0.01),
    "tpu.runtime.hbm.memory.usage.bytes": ("device_memory_used_bytes", 1.0),
    "tpu.runtime.hbm.memory.total.bytes": ("device_memory_total_bytes", 1.0),
}
_MODULE: Final = {
    "duty_cycle_pct": ("device_utilisation", 0.01),
    "tensorcore_util": ("device_tensorcore_utilisation", 0.01),
    "hbm_capacity_usage": ("device_memory_used_bytes", 1.0),
    "hbm_capacity_total": ("device_memory_total_bytes", 1.0),
}
_MODULE_NAME: Final = "libtpu.sdk.tpumonitoring"

Values = Mapping[str, float]  # device → value
# How to ask, and what may be asked for.
_Way = tuple[Callable[[str], Values], Mapping[str, tuple[str, float]]]


def has_chips(dev: Path = Path("/dev")) -> bool:
    """Whether the kernel shows TPU chips: as ``accel`` devices or, newer, through VFIO."""
    return any(dev.glob("accel[0-9]*")) or any(dev.glob("vfio/[0-9]*"))


def tpu_module() -> Any:
    """The monitoring module, or SourceAbsent where there is no libtpu in this interpreter."""
    try:
        return importlib.import_module(_MODULE_NAME)
    except ImportError as error:
        raise SourceAbsent(f"{_MODULE_NAME}: {error}") from error


class TpuSampler:
    """``module`` and ``service`` are what libtpu offers, or raise SourceAbsent.

    Raises SourceAbsent where no chip is shown, or neither way gives a single value.
    """

    def __init__(
        self,
        *,
        chips: Callable[[], bool] = has_chips,
        module: Callable[[], Any] = tpu_module,
        service: Callable[[], RuntimeMetrics] = lambda: RuntimeMetrics(ADDRESS),
    ) -> None:
        if not chips():
            raise SourceAbsent("the kernel shows no TPU chip (/dev/accel*, /dev/vfio/*)")
        why: list[str] = []
        self._close: Callable[[], None] = lambda: None
        for way, offer in ((self._by_module, module), (self._by_service, service)):
            try:
                self._ask, names = way(offer())
                self._names = {
                    name: told for name, told in names.items() if self._values(name, why)
                }
            except (SourceAbsent, SourceFailed) as error:
                why.append(str(error))
                continue
            if self._names:
                return
            self.close()
        raise SourceAbsent(f"libtpu tells nothing: {'; '.join(why)}")

    def read(self) -> tuple[Reading, ...]:
        return tuple(
            Reading(ours, value * factor, label=f"tpu={device}")
            for name, (ours, factor) in self._names.items()
            for device, value in self._ask(name).items()
        )

    def close(self) -> None:
        self._close()
        self._close = lambda: None

    def _values(self, name: str, why: list[str]) -> Values:
        try:
            return self._ask(name)
        except SourceFailed as failed:
            why.append(str(failed))
            return {}

    def _by_module(self, module: Any) -> _Way:
        try:
            supported = set(module.list_supported_metrics())
        except Exception as error:  # the module's own errors have no common class
            raise SourceFailed(f"{_MODULE_NAME}: {error!r}") from error

        def ask(name: str) -> Values:
            try:
                told = module.get_metric(name).data()
                # One number per chip, as text; nothing while no program runs on the chips.
                return {str(i): float(value) for i, value in enumerate(told)}
            except Exception as error:  # see above
                raise SourceFailed(f"{_MODULE_NAME}, {name}: {error!r}") from error

        return ask, {name: told for name, told in _MODULE.items() if name in supported}

    def _by_service(self, service: RuntimeMetrics) -> _Way:
        self._close = service.close
        return service.values, _SERVICE
