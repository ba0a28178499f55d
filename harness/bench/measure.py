"""One load against one endpoint: calibrated, sent, collected, judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from harness.load.calibrate import (
    NoopServer,
    noop_server,
    peak_rps,
    reconsider,
    with_headroom,
)
from harness.load.fleet import Fleet, FleetResult, Pulse
from harness.load.kept_calibrations import calibration_store
from harness.load.local_workers import local_fleet
from harness.progress import Progress, Silent
from harness.settings import secret
from results.client import Calibration, ClientReport
from results.clock import Clock, SystemClock
from results.measure import subset
from results.record import Doubt
from results.samples import BoolColumn, RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

if TYPE_CHECKING:
    from results.measurement import Measurement

# A stop rule is looked at when so many requests have ended, then at this many times as many: each
# look reads all answers so far, and many looks would find a narrow interval by luck.
FIRST_LOOK = 200
LOOK_RATIO = 1.5


class Ending(StrEnum):
    """How a load came to its end."""

    COMPLETE = "complete"
    ENOUGH = "enough"  # the stop rule was met before the schedule was over
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load and all that is to be said about it.

    Where it was ended early, the rows are those meant to be sent before the first one that was cut
    off: what was answered later by chance of being short is not among them.
    """

    samples: RequestSamples
    client: ClientReport
    doubts: tuple[Doubt, ...]
    measurements: tuple[Measurement, ...]
    simulated: bool = False  # the server says of itself that it is a simulation
    ending: Ending = Ending.COMPLETE

    @property
    def reasons(self) -> tuple[str, ...]:
        """Codes of the doubts that make the numbers unusable."""
        return tuple(doubt.code for doubt in self.doubts if doubt.invalidates)

    @property
    def valid(self) -> bool:
        return not self.reasons


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while the load ran; ``measured`` is what there was until then."""

    def __init__(self, measured: Measured) -> None:
        super().__init__(measured)
        self.measured = measured


# Asked with all rows before the first that has not ended: leaving out slow ones that are still
# under way would favour the quick. True ends the load.
Until = Callable[[RequestSamples], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrating:
    """How the client is calibrated before a load. ``force``: a client that is too slow is told as
    a doubt instead of refused."""

    enabled: bool = True
    force: bool = False
    server: NoopServer = field(default=noop_server)


def measure_endpoint(
    target: ServerTarget,
    traffic: Traffic,
    *,
    slo: Mapping[str, float] | None = None,
    workers: Fleet | int = 1,
    calibrate: Calibrating | bool = True,
    clock: Clock | None = None,
    progress: Progress | None = None,
    until: Until | None = None,
    on_pulse: Callable[[Pulse], None] = lambda _: None,
) -> Measured:
    """Send ``traffic`` to ``target`` and measure what comes back.

    ``workers``: a fleet that the caller keeps from point to point, or the number of local workers
    to start for this load alone (1 may grow to the machine's cores where the calibration asks for
    more; another number is kept). The key named by ``target.api_key_env`` is read from the
    environment for those; a fleet has its own. ``slo`` maps a latency metric to its limit.

    Raises ClientTooSlow before a request is sent, WorkerDied, ValueError for traffic of which no
    schedule can be made, and Interrupted, with what was measured, when Ctrl-C ends the load. A
    fleet given by the caller is closed when anything but ClientTooSlow or Interrupted is raised.
    """
    clock, progress = clock or SystemClock(), progress or Silent()
    how = Calibrating(enabled=calibrate) if isinstance(calibrate, bool) else calibrate
    with ExitStack() as stack:
        if isinstance(workers, Fleet):
            fleet = workers
        else:
            fleet = stack.enter_context(
                local_fleet(
                    workers,
                    api_key=secret(target.api_key_env),
                    max_workers=None if workers == 1 else workers,
                    clock=clock,
                )
            )
        calibration, store = None, calibration_store(clock)
        if how.enabled:
            calibration = with_headroom(
                fleet,
                target,
                traffic,
                server=how.server,
                store=store,
                clock=clock,
                force=how.force,
                say=lambda sentence: progress.phase("calibrate", sentence),
            )
        result, ending = _load(fleet, target, traffic, progress, until, on_pulse)
        if calibration is not None and ending is not Ending.INTERRUPTED:
            reconsider(fleet, target, traffic, calibration, result.samples, store)
    measured = _measured(result, ending, traffic, calibration, slo or {})
    if ending is Ending.INTERRUPTED:
        raise Interrupted(measured)
    return measured


def _load(
    fleet: Fleet,
    target: ServerTarget,
    traffic: Traffic,
    progress: Progress,
    until: Until | None,
    on_pulse: Callable[[Pulse], None],
) -> tuple[FleetResult, Ending]:
    try:
        words = f" and sending {traffic.num_warmup_requests} to warm it up"
        warmup = words if traffic.num_warmup_requests else ""
        progress.phase("prepare", f"asking {target.base_url} which fields it takes{warmup}")
        prepared = fleet.prepare(target, traffic)
        origin_s, offsets = fleet.start()
        progress.phase("load", f"sending {traffic.arrivals.kind} traffic to {target.base_url}")
        next_look = float(FIRST_LOOK)

        def beat(pulse: Pulse) -> bool:
            nonlocal next_look
            progress.advance(pulse.num_done, pulse.num_total, pulse.elapsed_s)
            on_pulse(pulse)
            if until is None or pulse.num_done < next_look:
                return False
            while next_look <= pulse.num_done:
                next_look *= LOOK_RATIO
            return until(without_gaps(fleet.snapshot()))

        try:
            ending = Ending.ENOUGH if fleet.watch(origin_s, beat) else Ending.COMPLETE
        except KeyboardInterrupt:
            progress.phase("stop", "stopping; reading what was answered so far")
            ending = Ending.INTERRUPTED
            fleet.stop()
        return fleet.collect(prepared, origin_s, offsets), ending
    except BaseException:
        fleet.close()
        raise


def _measured(
    result: FleetResult,
    ending: Ending,
    traffic: Traffic,
    calibration: Calibration | None,
    slo: Mapping[str, float],
) -> Measured:
    # What judges a load is imported once the load is over: its first request goes out sooner.
    from harness.judge import judge_load, measure_load

    samples = result.samples
    if ending is not Ending.COMPLETE:
        samples = whole_until_cut(samples)
    if calibration is not None and calibration.asked_rps == 0.0:
        # A closed loop's rate is known only now.
        seen = peak_rps(np.sort(samples.intended_s[~samples.is_warmup]))
        calibration = replace(calibration, asked_rps=seen)
    client = replace(result.client, calibration=calibration)
    return Measured(
        samples=samples,
        client=client,
        doubts=judge_load(samples, traffic, client),
        measurements=measure_load(samples, client, slo, 0),
        simulated=result.simulated,
        ending=ending,
    )


def without_gaps(samples: RequestSamples) -> RequestSamples:
    """The rows of a load under way before the first that is missing; rows in order of ``index``."""
    return _rows(samples, samples.index == np.arange(samples.num_requests))


def whole_until_cut(samples: RequestSamples) -> RequestSamples:
    """The rows meant to be sent before the first one that the end of the load cut off."""
    cut = was_cut(samples)
    if not cut.any():
        return samples
    meant = samples.intended_s[cut]
    first_s = float(np.nanmin(meant)) if not np.isnan(meant).all() else np.inf
    return _rows(samples, ~cut & (samples.intended_s < first_s))


def _rows(samples: RequestSamples, keep: BoolColumn) -> RequestSamples:
    return samples if keep.all() else subset(samples, keep)


def was_cut(samples: RequestSamples) -> BoolColumn:
    """(n,) ended by the end of the load, before its turn or before its answer."""
    cancelled = [str(error).startswith("cancelled") for error in samples.error]
    return np.isnan(samples.dispatched_s) | np.array(cancelled, dtype=np.bool_)
