"""One load against an endpoint, once: the only place here that touches the load driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import DeploymentError, EngineDied
from harness.load.driver import HttpLoadDriver
from harness.settings import secret
from results.checks import doubts_of
from results.clock import Clock, SystemClock
from results.record import Doubt
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

OnProgress = Callable[[int, int, float], None]

_CANARY_S = 10.0
# Whether a server that answered nothing is still there: it was, a moment ago.
_STILL_THERE_S = 3.0
# Doubts that speak of the client. Every other one is the server's doing, and a search's business.
CLIENT_FAULTS = frozenset(
    {"client_late", "client_slow", "client_stalled", "client_near_ceiling", "unsent_requests"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMeasured:
    """One load's columns, what speaks against them, and how long it took in all."""

    samples: RequestSamples
    doubts: tuple[Doubt, ...]
    took_s: float
    run_id: str = ""  # of its record, where it is kept

    @property
    def client_faults(self) -> tuple[str, ...]:
        """Why the client, not the server, made these numbers; () where it did not."""
        return tuple(d.message for d in self.doubts if d.invalidates and d.code in CLIENT_FAULTS)


MeasurePoint = Callable[[Traffic], PointMeasured]


def _nothing(_done: int, _total: int, _elapsed_s: float) -> None:
    """Nobody watches."""


def measure_endpoint_once(
    target: ServerTarget,
    traffic: Traffic,
    *,
    on_progress: OnProgress = _nothing,
    clock: Clock | None = None,
) -> PointMeasured:
    """Send ``traffic`` to ``target``. Raises EngineDied when the server went away meanwhile."""
    clock = clock or SystemClock()
    driver = HttpLoadDriver(api_key=secret(target.api_key_env))
    begun_s = clock.monotonic_s()
    samples = driver.drive(target, traffic, on_progress)
    measured = ~samples.is_warmup
    if measured.any() and not (samples.status[measured] >= 0).any():
        canary = driver.first_token(target, _STILL_THERE_S, traffic.api)
        if canary.error:
            raise EngineDied("load", f"{target.base_url} stopped answering: {canary.error}")
    return PointMeasured(
        samples=samples,
        doubts=doubts_of(samples, None, None),
        took_s=clock.monotonic_s() - begun_s,
    )


def look(target: ServerTarget, api: str) -> bool:
    """Whether the server says of itself that it is a simulation. Raises DeploymentError when it
    does not answer as a server should."""
    driver = HttpLoadDriver(api_key=secret(target.api_key_env))
    canary = driver.first_token(target, _CANARY_S, api)
    if canary.error:
        raise DeploymentError(
            "startup",
            f"{target.base_url} does not answer a {api} request for model {target.model!r}: "
            f"{canary.error}; is it up, and is this the model's name?",
        )
    return canary.simulated
