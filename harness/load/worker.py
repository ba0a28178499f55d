"""One sender of a load: a process's event loop in a thread of its own, and its columns.

    worker.prepare(target, traffic, Share())   # probes, builds bodies, warms up
    worker.start(at_s)                         # returns at once
    worker.result()                            # waits, reads what came, gives columns

Every method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import gc
import math
import resource
import socket
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.load.bodies import Bodies, api_path
from harness.load.client import Client, owner_of
from harness.load.collect import HowToRead, collect
from harness.load.run import PROBE_TIMEOUT_S, LoadRun, choose_dialect
from harness.load.spool import Spool
from harness.load.thread import LoopThread
from harness.load.wire import RequestHead
from results.client import ClockAudit, WorkerReport
from results.clock import read_monotonic_s
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.schedule import Schedule, build_schedule
from workloads.traffic.spec import ClosedLoop, Traffic

# What our simulated servers give as the owner of their models.
SIMULATED = "simulated"
# One connection per request in flight; the usual soft limit of 1,024 files is too few for that.
_MAX_OPEN_FILES = 65536
_OTHER_FILES = 100
_TICK_S = 1.0
# Bodies made before a closed loop that only the clock ends: a fraction of a millisecond for ten.
_LEAST_AHEAD, _MOST_AHEAD = 1_000, 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of the schedule a worker sends: every ``num_workers``-th row from ``worker`` on.
    Worker 0 also sends the warm-up."""

    worker: int = 0
    num_workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    dialect: str  # which request fields the server took: full, plain or bare
    simulated: bool  # the server says of itself that it is a simulation
    num_rows: int  # measured rows of this share; −1: open ended


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """The times of ``samples`` count from the load's origin."""

    samples: RequestSamples
    report: WorkerReport
    audit: ClockAudit | None
    max_in_flight: int


@dataclass(slots=True, kw_only=True)
class _Task:
    """One load from ``prepare`` to ``result``."""

    target: ServerTarget
    share: Share
    client: Client
    run: LoadRun
    prepared: Prepared
    begun: Future[None] | None = None


class LoadWorker:
    """The key is kept here only: not in ``repr``, not in samples, not in error texts."""

    def __init__(self, api_key: str | None = None) -> None:
        self._api_key = api_key
        self._thread = LoopThread()
        self._task: _Task | None = None
        allow_many_files()

    def __repr__(self) -> str:
        return f"LoadWorker(api_key={'None' if self._api_key is None else '***'!r})"

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share = Share()) -> Prepared:
        """Ask the server what it takes, make the bodies, send the warm-up; blocks.

        Raises ValueError for traffic of which no schedule can be made, or a URL that is none.
        """
        self._drop()
        _check_users(traffic, share)
        schedule = build_schedule(traffic, target.vocab_size)
        rows = [int(i) for i in schedule.rows_of(share.worker, share.num_workers)]
        warmup = [i for i in range(schedule.num_requests) if schedule.is_warmup[i]]
        is_closed = isinstance(traffic.arrivals, ClosedLoop)
        # A closed loop takes the next number, unless its users hold sessions made in advance.
        is_taken = is_closed and traffic.sessions is None
        measured = [] if is_taken else [i for i in rows if not schedule.is_warmup[i]]
        head = RequestHead(target.base_url, api_path(traffic.api), self._api_key)

        async def meet() -> tuple[Client, Any, str]:
            client = Client(head, traffic.request_timeout_s)
            timeout_s = min(PROBE_TIMEOUT_S, traffic.request_timeout_s)
            dialect = await choose_dialect(client, target, traffic.api, timeout_s)
            return client, dialect, owner_of(await client.models())

        client, dialect, owner = self._thread.run(meet())
        run = LoadRun(
            client=client,
            schedule=schedule,
            rows=measured,
            bodies=Bodies(target, schedule, dialect),
            spool=Spool(),
            worker=share.worker,
            num_workers=share.num_workers,
        )
        task = _Task(
            target=target,
            share=share,
            client=client,
            run=run,
            prepared=Prepared(
                dialect=dialect.name, simulated=owner == SIMULATED, num_rows=run.num_total
            ),
        )
        self._task = task
        mine = warmup if share.worker == 0 else []
        run.bodies.make_ahead([*mine, *_made_ahead(schedule, measured, share)])
        self._thread.run(run.warm_up(mine))
        client.max_in_flight = 0
        gc.collect()
        return task.prepared

    def start(self, at_s: float) -> None:
        """Zero of the schedule on this host's monotonic clock; returns at once."""
        task = self._of_now()
        task.begun = self._thread.submit(task.run.run(at_s))

    def progress(self) -> tuple[int, int, float]:
        """(requests over, warm-up included; all there will be, −1: only the clock knows; seconds
        since the start)."""
        if self._task is None:
            return 0, 0, 0.0
        run = self._task.run
        total = run.num_total
        if total >= 0 and self._task.share.worker == 0:
            total += run.schedule.traffic.num_warmup_requests
        elapsed_s = read_monotonic_s() - run.origin_s
        return run.counts.num_done, total, 0.0 if math.isnan(elapsed_s) else max(elapsed_s, 0.0)

    @property
    def num_failed(self) -> int:
        """Requests over that look failed so far; a stream is read only afterwards."""
        return 0 if self._task is None else self._task.run.counts.num_failed

    def take_ttfts(self) -> list[float]:
        """Of the answers since the last call, for a display."""
        return [] if self._task is None else self._task.run.counts.take_ttfts()

    def is_done(self) -> bool:
        return self._task is not None and self._task.begun is not None and self._task.begun.done()

    def result(
        self,
        deadline_s: float | None = None,
        tick: Callable[[], None] | None = None,
        deadline_name_s: float | None = None,
    ) -> WorkerResult:
        """Wait, and read what came.

        What is unfinished ``deadline_s`` from now becomes failed rows, whose errors name
        ``deadline_name_s``, the limit as the user knows it. ``tick`` is called about once a second
        in the caller's thread; what it raises ends the wait.
        """
        task = self._of_now()
        assert task.begun is not None, "start comes first"
        gives_up_s = math.inf if deadline_s is None else read_monotonic_s() + deadline_s
        while True:
            left_s = gives_up_s - read_monotonic_s()
            with suppress(NotYet):
                task.begun.result(max(0.0, min(_TICK_S, left_s)))
                break
            if tick is not None:
                tick()
            if read_monotonic_s() >= gives_up_s:
                self._give_up(task, deadline_name_s or deadline_s or 0.0)
                gives_up_s = math.inf
        task.run.spool.flush()
        return self._read(task)

    def snapshot(self) -> RequestSamples:
        """The rows that are over so far. Reading takes the interpreter's time from the sending:
        for a look every now and then, not for a display."""
        return self._samples(self._of_now(), unsent=False)

    def stop(self, *, drain: bool = False) -> None:
        """Send nothing more. What is open becomes "cancelled" rows, or with ``drain`` may end."""
        if self._task is not None:
            run = self._task.run
            error = "" if drain else "cancelled: the load was stopped before the answer was in"
            self._thread.call(lambda: run.stop(error))

    def close(self) -> None:
        """End everything; safe to call again."""
        self._drop()
        with suppress(RuntimeError):  # the loop is closed already
            self._thread.close()

    def _of_now(self) -> _Task:
        assert self._task is not None, "prepare comes first"
        return self._task

    def _give_up(self, task: _Task, limit_s: float) -> None:
        over = f"when the load's {limit_s:g} s were over"
        self._thread.call(
            lambda: task.run.stop(f"deadline: not answered {over}", f"deadline: not sent {over}")
        )

    def _drop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        with suppress(RuntimeError, asyncio.CancelledError):
            if task.begun is not None:
                task.begun.cancel()
            self._thread.run(task.client.close())
        task.run.spool.close()
        task.run.bodies.close()

    def _samples(self, task: _Task, *, unsent: bool = True) -> RequestSamples:
        run = task.run
        how = HowToRead(
            is_stream=run.schedule.traffic.is_stream,
            worker=task.share.worker,
            secrets=(self._api_key,) if self._api_key else (),
            model_of=run.schedule.model_of,
            num_prompt_tokens=run.schedule.num_sent_tokens,
            count_tokens=None if run.schedule.tokenizer is None else run.schedule.tokenizer.count,
        )
        origin_s = run.origin_s
        return collect(run.spool.read(), run.unsent if unsent else (), origin_s=origin_s, how=how)

    def _read(self, task: _Task) -> WorkerResult:
        run, samples = task.run, self._samples(task)
        report = WorkerReport(
            worker=task.share.worker,
            host=socket.gethostname(),
            num_requests=samples.num_requests,
            cpu_share=run.cpu.share,
            max_loop_stall_s=run.stalls.max_s,
            mean_loop_stall_s=run.stalls.mean_s,
        )
        return WorkerResult(
            samples=samples,
            report=report,
            audit=task.client.lateness.summary(),
            max_in_flight=task.client.max_in_flight,
        )


def _made_ahead(schedule: Schedule, measured: list[int], share: Share) -> list[int]:
    """The rows whose bodies are made before the load; of an open-ended one, as many as its users
    would send if every answer took half a second."""
    arrivals = schedule.traffic.arrivals
    if measured or not isinstance(arrivals, ClosedLoop):
        return measured
    warmup, count = schedule.traffic.num_warmup_requests, schedule.traffic.num_requests
    if count is None:
        seconds = schedule.traffic.duration_s or 0.0
        count = min(_MOST_AHEAD, max(_LEAST_AHEAD, int(arrivals.num_users * seconds / 0.5)))
    numbers = range(share.worker, count, share.num_workers)
    return [warmup + n for n in numbers]


def _check_users(traffic: Traffic, share: Share) -> None:
    """Raises ValueError where a share's users need more connections than this process may open."""
    if not isinstance(traffic.arrivals, ClosedLoop):
        return
    users = len(range(share.worker, traffic.arrivals.num_users, share.num_workers))
    wanted = users if traffic.num_requests is None else min(users, traffic.num_requests)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and wanted + _OTHER_FILES > limit:
        raise ValueError(
            f"{wanted} users of one worker need as many connections, and this process may open "
            f"{limit} files: ask for fewer users or more workers, or raise the limit (ulimit -n)"
        )


def allow_many_files() -> None:
    """Raise this process's soft limit of open files, as far as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _MAX_OPEN_FILES if hard == unlimited else min(hard, _MAX_OPEN_FILES)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
