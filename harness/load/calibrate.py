"""What this client can do at all, found out before it is believed.

The run's own requests are sent to a server that does nothing, at rates that double until the client
no longer keeps its own schedule. That rate is the ceiling; what the client reports when nobody made
it wait is the floor. A run is asked to stay below half the ceiling: there the client is idle most
of the time, and what it adds to a latency is the floor. Above, more workers are taken, or the run
is refused.

The server answers at once and in one write, so the ceiling is one of requests per second; what many
small reads per answer cost on top is for the gate after the run to see.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import psutil

from harness import __version__
from harness.errors import ClientTooSlow
from harness.load.clocks import boot_id
from harness.load.fleet import Fleet
from harness.load.kept_calibrations import CalibrationStore
from harness.load.local_workers import num_cores
from harness.load.priority import ordinary
from results.client import Calibration
from results.clock import Clock, SystemClock
from results.environment import stable_hash
from results.samples import FloatColumn, RequestSamples
from results.units import counted
from workloads.base import ServerTarget
from workloads.simulated import process
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    FixedLength,
    PoissonArrivals,
    TraceReplay,
    Traffic,
)

# The share of the ceiling that a run may ask for.
MAX_SHARE = 0.5
# As the gate after a run has it: the p99 lag that a client may show and still be believed.
MAX_LAG_S = 0.005
# Answers per second of the time they took / asked: below, somebody was left behind.
MIN_ACHIEVED_SHARE = 0.9
START_RPS = 800.0
MIN_RPS, MAX_RPS = 12.5, 25_600.0
CLOSE_ENOUGH = 1.5  # lowest rate that failed / highest that was kept
STEP_S = 0.25
MIN_STEP_REQUESTS = 30
# A ceiling that is not found by then is "at least" what was kept.
SEARCH_S = 2.5
FLOOR_REQUESTS = 1000  # what a p99 needs
MAX_FLOOR_S = 1.0
# Bodies are made before a step and answers read after it: both are bounded, in tokens.
_MAX_STEP_TOKENS = 100_000
# A machine of which others took more while it was calibrated may do better at another time: such a
# calibration is good for its own load only.
MAX_BUSY_SHARE = 0.25
_BUSY_LOOK_S = 0.2
_MIN_EVIDENCE = 100  # rows of a load that may contradict a calibration

NoopServer = Callable[[], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One rate that was tried. ``on_time``: the client kept its schedule. ``answered``: the answers
    came as fast as they were asked for; if not while on time, it is the server that gave out."""

    rate_rps: float
    on_time: bool
    answered: bool

    @property
    def kept(self) -> bool:
        return self.on_time and self.answered


def next_rate(trials: Sequence[Trial]) -> float | None:
    """The rate to try next, or None when the ceiling is known well enough: up or down by doubling,
    then the geometric middle of the highest kept and the lowest failed above it."""
    if not trials:
        return START_RPS
    kept = max((t.rate_rps for t in trials if t.kept), default=None)
    if kept is None:
        lower = min(t.rate_rps for t in trials) / 2
        return lower if lower >= MIN_RPS else None
    failed = min((t.rate_rps for t in trials if not t.kept and t.rate_rps > kept), default=None)
    if failed is None:
        return kept * 2 if kept * 2 <= MAX_RPS else None
    return None if failed / kept <= CLOSE_ENOUGH else math.sqrt(failed * kept)


def ceiling_of(trials: Sequence[Trial]) -> tuple[float, bool]:
    """(highest rate kept, whether it was the client that failed above it).

    Where no rate was kept it is the lowest one tried: nobody should ask for half of that either.
    """
    kept = max((t.rate_rps for t in trials if t.kept), default=None)
    if kept is None:
        return min(t.rate_rps for t in trials), True
    above = [t for t in trials if not t.kept and t.rate_rps > kept]
    return kept, any(not t.on_time for t in above)


def peak_rps(intended_s: FloatColumn) -> float:
    """Most requests meant to be sent within any one second; times (n,) ascending, NaN left out."""
    times = intended_s[~np.isnan(intended_s)]
    if not len(times):
        return 0.0
    # i / rate + 1 rounds up as often as down: the window ends a nanosecond early.
    ends_s = times + (1.0 - 1e-9)
    within = np.searchsorted(times, ends_s, side="left") - np.arange(len(times))
    return float(within.max())


def asked_rps(traffic: Traffic, vocab_size: int | None = None) -> float | None:
    """The schedule's highest rate; None for a closed loop, whose rate the server decides."""
    if isinstance(traffic.arrivals, ClosedLoop):
        return None
    return peak_rps(build_schedule(traffic, vocab_size).intended_s)


def judge(samples: RequestSamples, rate_rps: float) -> Trial:
    """Whether the client kept its schedule over one step, and whether the answers came."""
    lag_s = samples.dispatched_s - samples.intended_s
    late_s = float(np.quantile(np.nan_to_num(lag_s, nan=math.inf), 0.99, method="lower"))
    answered = samples.error == ""
    asked_s = float(samples.intended_s[-1])
    took_s = float(np.nanmax(samples.done_s)) if answered.any() else math.inf
    # A short step ends with its last answer, however quick: give that one its own time.
    spare_s = float(np.nanmedian(samples.done_s - samples.intended_s)) if answered.any() else 0.0
    in_time = took_s - spare_s <= max(asked_s, STEP_S / 2) / MIN_ACHIEVED_SHARE + MAX_LAG_S
    return Trial(
        rate_rps=rate_rps, on_time=late_s <= MAX_LAG_S, answered=bool(answered.all()) and in_time
    )


def requests_alone(traffic: Traffic, vocab_size: int | None) -> Traffic:
    """The same requests without what decides their times and their models: no sessions, no trace
    (its mean lengths instead)."""
    alone = replace(traffic, arrivals=PoissonArrivals(rate_rps=START_RPS), sessions=None, models={})
    if isinstance(traffic.arrivals, TraceReplay):
        rows = build_schedule(traffic, vocab_size)
        alone = replace(
            alone,
            prompt_tokens=FixedLength(tokens=max(1, round(float(rows.prompt_tokens.mean())))),
            output_tokens=FixedLength(tokens=max(1, round(float(rows.output_tokens.mean())))),
        )
    return alone


def step_traffic(traffic: Traffic, rate_rps: float, count: int) -> Traffic:
    """The same requests, asked for at another rate."""
    return replace(
        traffic,
        arrivals=PoissonArrivals(rate_rps=rate_rps),
        num_requests=count,
        duration_s=None,
        num_warmup_requests=0,
        request_timeout_s=5.0,
    )


def _mean_tokens(traffic: Traffic, vocab_size: int | None) -> float:
    """Prompt and answer of one request, by a few of those of ``requests_alone``."""
    few = build_schedule(step_traffic(traffic, START_RPS, MIN_STEP_REQUESTS), vocab_size)
    return max(1.0, float((few.prompt_tokens + few.output_tokens).mean()))


def calibrate(fleet: Fleet, target: ServerTarget, traffic: Traffic, clock: Clock) -> Calibration:
    """Ceiling and floor of ``fleet`` at ``target``, a server that does nothing. Takes some seconds.

    ``asked_rps`` of the answer is 0: it is the caller's to fill in.
    """
    began_s = clock.monotonic_s()
    traffic = requests_alone(traffic, target.vocab_size)
    most = max(MIN_STEP_REQUESTS, int(_MAX_STEP_TOKENS / _mean_tokens(traffic, target.vocab_size)))

    def drive(rate_rps: float, count: int) -> RequestSamples:
        count = min(max(MIN_STEP_REQUESTS, count), most)
        return fleet.drive(target, step_traffic(traffic, rate_rps, count)).samples

    trials: list[Trial] = []
    while (rate := next_rate(trials)) is not None:
        trial = judge(drive(rate, int(rate * STEP_S)), rate)
        if not trial.kept:  # once is chance, on a machine that does other things as well
            trial = judge(drive(rate, int(rate * STEP_S)), rate)
        trials.append(trial)
        if clock.monotonic_s() - began_s > SEARCH_S:
            break
    ceiling, is_bound = ceiling_of(trials)
    rate = min(ceiling * MAX_SHARE, FLOOR_REQUESTS)
    floor = drive(rate, min(FLOOR_REQUESTS, int(rate * MAX_FLOOR_S)))
    ttft_s = (floor.first_token_s - floor.intended_s)[floor.error == ""]
    return Calibration(
        asked_rps=0.0,
        ceiling_rps=ceiling,
        ceiling_is_bound=is_bound,
        floor_ttft_p50_s=float(np.quantile(ttft_s, 0.5)) if len(ttft_s) else None,
        floor_ttft_p99_s=float(np.quantile(ttft_s, 0.99))
        if len(ttft_s) >= FLOOR_REQUESTS
        else None,
        duration_s=clock.monotonic_s() - began_s,
        num_workers=fleet.num_workers,
    )


@contextmanager
def noop_server() -> Iterator[str]:
    """The URL of a simulated server that answers at once, in a process of its own on this host.

    It ends with the context, and with this process. Raises SimulatedServerDied if it does not
    start.
    """
    with process.noop_server() as server:
        ordinary(server.child.pid)  # an engine would be, too
        yield server.url


def calibration_key(fleet: Fleet, traffic: Traffic, vocab_size: int | None) -> str:
    """What a ceiling depends on: the machine, the program, the workers, the size of a request."""
    alone = requests_alone(traffic, vocab_size)
    boots = sorted({worker.read_clock().boot_id for worker in fleet.workers} | {boot_id()})
    return stable_hash(
        {
            "boots": boots,
            "cores": num_cores(),
            "python": sys.version,
            "windtunnel": __version__,
            "workers": [worker.kind for worker in fleet.workers],
            "api": traffic.api,
            # To about a factor of 1.4: the size of a request decides, not its last token.
            "tokens": round(2 * math.log2(_mean_tokens(alone, vocab_size))),
        }
    )


def busy_share(clock: Clock) -> float:
    """The share of this host's CPU time that is not idle, over a fifth of a second."""
    before = psutil.cpu_times()
    clock.sleep(_BUSY_LOOK_S)
    after = psutil.cpu_times()
    spent = [later - earlier for earlier, later in zip(before, after, strict=True)]
    idle = sum(
        s for name, s in zip(after._fields, spent, strict=True) if name in ("idle", "iowait")
    )
    # Linux counts a guest's time into user time as well.
    guests = sum(
        s for name, s in zip(after._fields, spent, strict=True) if name.startswith("guest")
    )
    total = sum(spent) - guests
    return 1.0 - idle / total if total > 0 else 0.0


def contradicts(found: Calibration, samples: RequestSamples) -> bool:
    """Whether a load says otherwise than the calibration before it: its client was late where it
    had room enough, or on time well above the ceiling. Too few rows say nothing."""
    rows = ~samples.is_warmup & ~np.isnan(samples.dispatched_s)
    if int(rows.sum()) < _MIN_EVIDENCE:
        return False
    lag_s = (samples.dispatched_s - samples.intended_s)[rows]
    asked = found.asked_rps or peak_rps(np.sort(samples.intended_s[rows]))
    if float(np.quantile(lag_s, 0.99)) > MAX_LAG_S:
        return asked <= MAX_SHARE * found.ceiling_rps
    return found.ceiling_is_bound and asked > CLOSE_ENOUGH * found.ceiling_rps


def reconsider(
    fleet: Fleet,
    target: ServerTarget,
    traffic: Traffic,
    found: Calibration,
    samples: RequestSamples,
    store: CalibrationStore,
) -> None:
    """Forget a kept calibration that the load after it contradicts: the next one measures anew."""
    if contradicts(found, samples):
        store.drop(calibration_key(fleet, traffic, target.vocab_size))


def with_headroom(
    fleet: Fleet,
    target: ServerTarget,
    traffic: Traffic,
    *,
    server: NoopServer = noop_server,
    store: CalibrationStore | None = None,
    clock: Clock | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda _: None,
    busy: Callable[[Clock], float] = busy_share,
) -> Calibration:
    """A calibration of ``fleet`` for ``traffic``, the fleet grown until the schedule's highest rate
    is at most half its ceiling. Raises ClientTooSlow where it cannot grow so far, unless ``force``.

    A kept calibration is enough to go on, never to refuse; one that was made while others were busy
    here (``busy``) is not gone by. A ceiling that the server set, not the
    client, refuses nothing either.
    """
    clock = clock or SystemClock()
    asked = asked_rps(traffic, target.vocab_size)
    found = _kept(fleet, target, traffic, store)
    if found is not None and _is_enough(found, asked):
        return replace(found, asked_rps=asked or 0.0)
    workers = counted(fleet.num_workers, "worker")
    say(f"calibrating the client with {workers} against a server of its own")
    busy_before = busy(clock)
    with server() as url:
        idle = replace(target, base_url=url, api_key_env="")
        while True:
            found = calibrate(fleet, idle, traffic, clock)
            found = replace(found, busy_share=busy_before)
            if store is not None:
                store.put(calibration_key(fleet, traffic, target.vocab_size), found)
            if asked is None or _is_enough(found, asked):
                break
            per_worker = found.ceiling_rps / found.num_workers
            wanted = max(math.ceil(asked / (MAX_SHARE * per_worker)), fleet.num_workers + 1)
            if fleet.grow(wanted) == found.num_workers:
                break
            say(f"calibrating again with {fleet.num_workers} workers")
    found = replace(found, asked_rps=asked or 0.0)
    if not (force or _is_enough(found, asked) or not found.ceiling_is_bound):
        raise ClientTooSlow("load", too_slow(found))
    return found


def _kept(
    fleet: Fleet, target: ServerTarget, traffic: Traffic, store: CalibrationStore | None
) -> Calibration | None:
    if store is None:
        return None
    found = store.get(calibration_key(fleet, traffic, target.vocab_size))
    if found is None or found.busy_share is None or found.busy_share > MAX_BUSY_SHARE:
        return None
    return found


def _is_enough(found: Calibration, asked: float | None) -> bool:
    return asked is None or asked <= MAX_SHARE * found.ceiling_rps


def too_slow(found: Calibration) -> str:
    return (
        f"the schedule asks for {found.asked_rps:.0f} requests/s at its peak, and this client "
        f"keeps its own schedule up to {found.ceiling_rps:.0f} requests/s with "
        f"{counted(found.num_workers, 'worker')}, of which half may be asked for: lower the rate, "
        "give it more workers and cores, or take the numbers as they come (--force)"
    )
