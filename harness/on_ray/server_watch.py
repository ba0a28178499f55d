"""The driver's side of telemetry that is read on the server's node, by the server's actor."""

from __future__ import annotations

from contextlib import suppress

from ray.exceptions import RayError

from harness.errors import HarnessError
from harness.on_ray.server_handle import ServerHandle
from harness.startup import CALL_RESOLUTION_S
from harness.telemetry.beside import with_resolution
from harness.telemetry.sampling import absent
from harness.telemetry.sources import ENGINE, HOST
from results.clock import Clock
from results.telemetry import Telemetry


class ServerWatch:
    """A ``Watch`` of the server that ``handle`` owns. What goes wrong on the way is told as absent
    sources: that the server or its node died is for ``handle.check`` to say."""

    def __init__(
        self, handle: ServerHandle, device_kind: str, clock: Clock, interval_s: float
    ) -> None:
        self._handle, self._device_kind = handle, device_kind
        self._clock, self._interval_s = clock, interval_s
        self._trouble = ""

    def begin(self) -> None:
        try:
            self._handle.sample(self._interval_s, self._device_kind)
        except (HarnessError, RayError) as error:
            self._trouble = f"sampling on the server's node could not be begun: {error}"

    def end(self) -> Telemetry:
        if self._trouble:
            return self._nothing()
        try:
            telemetry, zero = self._handle.sampled()
        except (HarnessError, RayError) as error:
            self._trouble = f"what was sampled on the server's node did not come back: {error}"
            return self._nothing()
        if telemetry is None:
            self._trouble = "nothing was being sampled on the server's node"
            return self._nothing()
        blur_s = zero.resolution_s if zero.resolution_s > CALL_RESOLUTION_S else 0.0
        return with_resolution(telemetry.moved(zero.origin_s), blur_s)

    def abandon(self) -> None:
        with suppress(HarnessError, RayError):
            self._handle.stop_sampling()

    def _nothing(self) -> Telemetry:
        return absent((ENGINE, HOST), self._clock.monotonic_s(), self._trouble)
