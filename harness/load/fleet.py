"""A fleet of load workers: one schedule, sent by N event loops, and one table of what they saw.

Every worker makes the whole schedule from the seed and sends every N-th request of it, so one
worker or sixteen send the same requests at the same times. They agree on the instant of t = 0 on
the driver's clock, each told in readings of its own. What comes back is merged row by row; nobody
ever merges percentiles. Calls to workers are made before and after the load, and about once a
second while it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Protocol, TypeVar

from harness.load.clocks import ClockOffset, ClockReading, drifted, measure_offset
from harness.load.merging import max_in_flight, merged
from harness.load.worker import Prepared, Share, WorkerResult
from results.client import ClientReport, ClockAudit
from results.clock import Clock, SystemClock
from results.samples import RequestSamples
from results.sketch import Sketch, empty_sketch
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

T = TypeVar("T")

PROGRESS_S = 1.0
# Between two questions whether all are done, near the end; before, PROGRESS_S. A question takes the
# interpreter from the loop of a worker in this process: ten a second were 3 ms in its p99.
_POLL_S = 0.1
# From the common decision to t = 0: by then every worker must have been told.
LEAD_S = 0.05
LEAD_PER_WORKER_S = 0.005


class Worker(Protocol):
    """A LoadWorker, wherever it lives. Its methods may be called from any thread, one at a time;
    ``close`` at any time, and it ends a call that is under way. A worker takes one load after
    another. A process that died raises WorkerDied from whatever was asked of it."""

    @property
    def label(self) -> str:
        """Who it is, for people: ``load worker 2 (process 4711)``."""
        ...

    @property
    def kind(self) -> str:
        """What it runs as: workers of one kind on one machine have one ceiling."""
        ...

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared: ...

    def read_clock(self) -> ClockReading: ...

    def start(self, at_s: float) -> None: ...

    def is_done(self) -> bool: ...

    def look(self) -> Look: ...

    def snapshot(self) -> RequestSamples: ...

    def stop(self) -> None: ...

    def result(self) -> WorkerResult: ...

    def close(self) -> None: ...


# What a display's percentiles may be off by, as a share of themselves: it shows three digits.
LOOK_ALPHA = 0.001


def nothing_seen() -> Sketch:
    return empty_sketch(LOOK_ALPHA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One worker's state, taken without a look into any answer."""

    num_done: int
    num_total: int  # −1: only the clock ends the load
    num_failed: int  # as far as it shows before the answers are read
    ttft: Sketch = field(
        default_factory=nothing_seen
    )  # of the answers since the last look, to about a chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How a load goes, about once a second. ``rate_rps`` counts answers since the last one."""

    num_done: int
    num_total: int
    elapsed_s: float  # since t = 0; negative while it is prepared
    rate_rps: float
    num_failed: int
    ttft: Sketch = field(
        default_factory=nothing_seen
    )  # so far, of all workers, for a display: answers are not read yet


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetResult:
    """``samples`` has one row per request, in the order of ``index``, on the driver's clock less
    ``client.origin_s``. ``simulated``: the server says of itself that it is a simulation."""

    samples: RequestSamples
    client: ClientReport
    simulated: bool


def _pause_s(pulse: Pulse) -> float:
    """Until the next question: long while the end is more than a second or two away."""
    if pulse.num_total < 0:
        return PROGRESS_S / 2
    is_far = pulse.num_total - pulse.num_done > 2 * PROGRESS_S * max(pulse.rate_rps, 1.0)
    return PROGRESS_S if is_far else _POLL_S


# Called about once a second; True ends the load there. What it raises ends the fleet.
OnPulse = Callable[[Pulse], bool]


class Fleet:
    """Keeps its workers from load to load; ``close``, or leaving its context, ends them.

    ``hire(number)`` makes one more worker (None where there is no room). ``check`` is asked once a
    second in every phase and raises what it finds, for a server that may die.
    """

    def __init__(
        self,
        hire: Callable[[int], Worker | None],
        num_workers: int = 1,
        *,
        clock: Clock | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._hire = hire
        self._clock = clock or SystemClock()
        self._workers: list[Worker] = []
        self.check = check
        try:
            self.grow(num_workers)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_workers(self) -> int:
        return len(self._workers)

    @property
    def workers(self) -> tuple[Worker, ...]:
        return tuple(self._workers)

    def grow(self, num_workers: int) -> int:
        """Hire until there are ``num_workers`` or no more room; returns how many there are."""
        while self.num_workers < num_workers:
            worker = self._hire(self.num_workers)
            if worker is None:
                break
            self._workers.append(worker)
        return self.num_workers

    def close(self) -> None:
        """End every worker and what it has in flight. Does not raise for one that is gone."""
        while self._workers:
            self._workers.pop().close()

    def drive(
        self, target: ServerTarget, traffic: Traffic, on_pulse: OnPulse = lambda _: False
    ) -> FleetResult:
        """Send ``traffic`` with all workers and bring every row back.

        Raises WorkerDied, with the worker's name, and whatever ``check`` and ``on_pulse`` raise;
        the fleet is then closed, so that nothing of the load goes on. Who wants the rows of a load
        that was interrupted calls the four steps.
        """
        try:
            prepared = self.prepare(target, traffic)
            origin_s, offsets = self.start()
            self.watch(origin_s, on_pulse)
            return self.collect(prepared, origin_s, offsets)
        except BaseException:
            self.close()
            raise

    def prepare(self, target: ServerTarget, traffic: Traffic) -> tuple[Prepared, ...]:
        """All at once; warm-up is sent by the first. Blocks until the last is ready."""
        count = self.num_workers
        return self._all(
            lambda i, w: w.prepare(target, traffic, Share(worker=i, num_workers=count))
        )

    def start(self) -> tuple[float, tuple[ClockOffset, ...]]:
        """Give every worker t = 0; returns it on our clock, and each clock's offset."""
        offsets = self._offsets()
        slowest_s = 4 * max(offset.resolution_s for offset in offsets)
        origin_s = self._now_s() + LEAD_S + LEAD_PER_WORKER_S * (len(offsets) - 1) + slowest_s
        self._all(lambda i, w: w.start(origin_s - offsets[i].offset_s))
        return origin_s, offsets

    def watch(self, origin_s: float, on_pulse: OnPulse) -> bool:
        """Wait until all are done, or until ``on_pulse`` wants no more; then True."""
        told_s, num_told, pause_s, ttft = self._now_s(), 0, _POLL_S, nothing_seen()
        while True:
            over = all(self._all(lambda _, w: w.is_done()))
            now_s = self._now_s()
            if over or now_s - told_s >= PROGRESS_S:
                self.check()
                looks = self._all(lambda _, w: w.look())
                ttft = reduce(Sketch.merged, (look.ttft for look in looks), ttft)
                pulse = _pulse(looks, now_s - origin_s, num_told, now_s - told_s, ttft)
                told_s, num_told = now_s, pulse.num_done
                pause_s = _pause_s(pulse)
                if on_pulse(pulse) and not over:
                    self._all(lambda _, w: w.stop())
                    return True
            if over:
                return False
            self._clock.sleep(pause_s)

    def snapshot(self) -> RequestSamples:
        """The rows answered so far, all workers'."""
        return merged(self._all(lambda _, w: w.snapshot()))

    def stop(self) -> None:
        """Send no more, and cut off what is in flight."""
        self._all(lambda _, w: w.stop())

    def collect(
        self, prepared: Sequence[Prepared], origin_s: float, offsets: Sequence[ClockOffset]
    ) -> FleetResult:
        """The rows of a load that is done or stopped, and how its senders did."""
        results = self._all(lambda _, w: w.result())
        after = self._offsets()
        samples = merged([result.samples for result in results])
        reports = []
        for result, before, later in zip(results, offsets, after, strict=True):
            offset = drifted(before, later)
            reports.append(
                replace(
                    result.report,
                    clock_offset_s=offset.offset_s,
                    clock_resolution_s=offset.resolution_s,
                )
            )
        client = ClientReport(
            dialect="+".join(sorted({p.dialect for p in prepared})),
            max_in_flight=max_in_flight(samples) if len(results) > 1 else results[0].max_in_flight,
            workers=tuple(reports),
            origin_s=origin_s,
            audit=merge_audits([r.audit for r in results if r.audit is not None]),
        )
        simulated = any(p.simulated for p in prepared)
        return FleetResult(samples=samples, client=client, simulated=simulated)

    def _offsets(self) -> tuple[ClockOffset, ...]:
        return self._all(lambda _, w: measure_offset(w.read_clock, self._now_s))

    def _now_s(self) -> float:
        return self._clock.monotonic_s()

    def _all(self, call: Callable[[int, Worker], T]) -> tuple[T, ...]:
        """Ask every worker at once; the first that fails is told at once."""
        calls = [partial(call, number, worker) for number, worker in enumerate(self._workers)]
        return tuple(in_parallel(calls, self.check))


def in_parallel(
    calls: Sequence[Callable[[], T]], tick: Callable[[], None] = lambda: None
) -> list[T]:
    """The values of ``calls``, each made in a thread of its own; raises what the first failure
    raised, without waiting for the others. ``tick`` is called about once a second meanwhile.

    The threads are daemons: a call that never returns holds up neither Ctrl-C nor the exit.
    """
    futures: list[Future[T]] = []
    for call in calls:
        future: Future[T] = Future()
        futures.append(future)
        threading.Thread(target=_answer, args=(call, future), daemon=True).start()
    while True:
        done, waiting = wait(futures, timeout=PROGRESS_S, return_when=FIRST_EXCEPTION)
        failed = next((f for f in done if f.exception() is not None), None)
        if failed is not None:
            failed.result()
        if not waiting:
            return [future.result() for future in futures]
        tick()


def _answer(call: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # carried over to the thread that waits
        future.set_exception(error)


def _pulse(
    looks: Sequence[Look], elapsed_s: float, num_told: int, since_s: float, ttft: Sketch
) -> Pulse:
    num_done = sum(look.num_done for look in looks)
    totals = [look.num_total for look in looks]
    return Pulse(
        num_done=num_done,
        num_total=-1 if min(totals) < 0 else sum(totals),
        elapsed_s=elapsed_s,
        rate_rps=(num_done - num_told) / since_s if since_s > 0 else 0.0,
        num_failed=sum(look.num_failed for look in looks),
        ttft=ttft,
    )


def merge_audits(audits: Sequence[ClockAudit]) -> ClockAudit | None:
    """Of several workers the worst: a pooled percentile is never above the largest of its parts."""
    if not audits:
        return None

    def worst(values: list[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return max(known) if known else None

    return ClockAudit(
        num_reads=sum(a.num_reads for a in audits),
        lag_p50_s=worst([a.lag_p50_s for a in audits]),
        lag_p99_s=worst([a.lag_p99_s for a in audits]),
        lag_max_s=worst([a.lag_max_s for a in audits]),
    )
