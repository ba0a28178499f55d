"""One load against an endpoint, once: the only place here that sends anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.bench.measure import Calibrating, measure_endpoint
from harness.bench.preflight import look
from harness.errors import ClientTooSlow, EndpointUnreachable, EngineDied, SpecError
from harness.load.fleet import Fleet, Pulse
from harness.load.local_workers import local_fleet
from harness.progress import Progress, Silent
from harness.settings import secret
from results.client import ClientReport
from results.clock import Clock, SystemClock
from results.measurement import Measurement, of_group
from results.record import Doubt
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

# Doubts of the gate that speak of the client: the point says nothing about the server.
CLIENT_FAULTS = frozenset(
    {
        "client_busy",
        "client_late",
        "client_reads_late",
        "client_too_slow",
        "loop_stalled",
        "near_client_ceiling",
        "rate_not_achieved",
        "unsent_requests",
    }
)
# Those that speak of the server's failures, which a search is after. Every other doubt that
# invalidates (a prefix cache that helped, answers of another length) makes the load another one.
SERVER_FAULTS = frozenset({"failed_requests", "no_requests"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMeasured:
    """One load. ``samples`` None: the client could not even begin, and ``doubts`` say why."""

    samples: RequestSamples | None
    doubts: tuple[Doubt, ...]
    took_s: float
    measurements: tuple[Measurement, ...] = ()
    client: ClientReport | None = None
    simulated: bool = False
    run_id: str = ""  # of its record, where it is kept

    @property
    def client_faults(self) -> tuple[str, ...]:
        """Why the client, not the server, made these numbers; () where it did not."""
        return tuple(d.message for d in self.doubts if d.invalidates and d.code in CLIENT_FAULTS)

    @property
    def load_faults(self) -> tuple[str, ...]:
        """Why the load was not the one asked for, whoever's fault that is."""
        known = CLIENT_FAULTS | SERVER_FAULTS
        return tuple(d.message for d in self.doubts if d.invalidates and d.code not in known)


MeasurePoint = Callable[[Traffic], PointMeasured]


class _Bar:
    """Shows how far a load has come under the sentence that the search has given it."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self.advance = shown.advance

    def phase(self, name: str, sentence: str) -> None:
        if name == "calibrate":
            self._shown.phase(name, sentence)


@contextmanager
def point_measurer(
    target: ServerTarget,
    *,
    workers: int = 1,
    calibrate: bool = True,
    shown: Progress | None = None,
    on_pulse: Callable[[Pulse], None] = lambda _: None,
    clock: Clock | None = None,
) -> Iterator[MeasurePoint]:
    """How points of ``target`` are measured; the senders live until the context is left."""
    clock = clock or SystemClock()
    limit = None if workers == 1 else workers
    key = secret(target.api_key_env)
    with local_fleet(workers, api_key=key, max_workers=limit, clock=clock) as fleet:

        def measure(traffic: Traffic) -> PointMeasured:
            return measure_endpoint_once(
                target,
                traffic,
                fleet=fleet,
                calibrate=calibrate,
                progress=_Bar(shown or Silent()),
                on_pulse=on_pulse,
                clock=clock,
            )

        yield measure


def measure_endpoint_once(
    target: ServerTarget,
    traffic: Traffic,
    *,
    fleet: Fleet,
    calibrate: bool,
    progress: Progress,
    on_pulse: Callable[[Pulse], None],
    clock: Clock,
) -> PointMeasured:
    """Send ``traffic`` to ``target``. Raises EngineDied when the server went away meanwhile."""
    begun_s = clock.monotonic_s()
    try:
        measured = measure_endpoint(
            target,
            traffic,
            workers=fleet,
            calibrate=Calibrating(enabled=calibrate),
            clock=clock,
            progress=progress,
            on_pulse=on_pulse,
        )
    except ClientTooSlow as error:
        doubt = Doubt(code="client_too_slow", message=str(error), invalidates=True)
        return PointMeasured(samples=None, doubts=(doubt,), took_s=clock.monotonic_s() - begun_s)
    sent = ~measured.samples.is_warmup
    if sent.any() and not (measured.samples.status[sent] >= 0).any():
        _still_there(target, traffic.api)
    return PointMeasured(
        samples=measured.samples,
        doubts=measured.doubts,
        took_s=clock.monotonic_s() - begun_s,
        measurements=of_group(measured.measurements),
        client=measured.client,
        simulated=measured.simulated,
    )


def _still_there(target: ServerTarget, api: str) -> None:
    key = secret(target.api_key_env)
    try:
        look(target.base_url, target.model, api, api_key=key, api_key_env=target.api_key_env)
    except (EndpointUnreachable, SpecError) as error:
        raise EngineDied("load", f"{target.base_url} stopped answering: {error}") from None
