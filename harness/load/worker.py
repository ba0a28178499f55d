"""One load worker: one event loop in a thread of its own, which sends its share of a schedule.

The methods may be called from any thread. A worker is made for one load; ``close`` ends it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import uvloop

from harness.load.bodies import Bodies
from harness.load.client import Client, RawStore, Transcript
from harness.load.collect import collect
from harness.load.pacing import closed_loop, one_after_another, open_loop
from harness.load.run import Load, choose_dialect
from results.client import ClockAudit, WorkerReport
from results.clock import SystemClock
from workloads.base import ServerTarget
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import ClosedLoop, Traffic

_PROBE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of the schedule a worker sends."""

    worker: int = 0
    num_workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    dialect: str  # which request fields the server took
    simulated: bool  # the server says of itself that it is a simulation
    num_rows: int  # rows of this share named in advance; −1: open ended


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """Times are this host's monotonic clock less the origin given to ``start``."""

    table: pa.Table  # RequestSamples.to_table()
    report: WorkerReport
    audit: ClockAudit | None
    max_in_flight: int


class LoadWorker:
    def __init__(self, api_key: str | None = None) -> None:
        self._api_key = api_key
        self._now_s = SystemClock().monotonic_s
        self._loop = uvloop.new_event_loop()
        self._store = RawStore()
        self._load: Any = None
        self._client: Any = None
        self._share = Share()
        self._traffic: Any = None
        self._origin_s = self._now_s()
        self._run: Future[None] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared:
        return asyncio.run_coroutine_threadsafe(
            self._prepare(target, traffic, share), self._loop
        ).result()

    async def _prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared:
        self._share, self._traffic = share, traffic
        schedule = build_schedule(traffic, target.vocab_size)
        load = self._load = Load(target, schedule, self._store, self._now_s)
        first = traffic.num_warmup_requests
        load.transcripts = [
            t
            for t in load.transcripts
            if (share.worker == 0 if t.is_warmup else self._is_mine(t.index - first))
        ]
        client = Client(
            target.base_url,
            traffic.api,
            self._api_key,
            traffic.request_timeout_s,
            self._store,
            self._now_s,
        )
        self._client = await client.__aenter__()
        load.dialect = await choose_dialect(
            client, target, traffic.api, min(_PROBE_TIMEOUT_S, traffic.request_timeout_s)
        )
        load._bodies = Bodies(target, schedule, load.dialect)
        simulated = await client.owner() == "simulated"
        warmup = [t for t in load.transcripts if t.is_warmup]
        await one_after_another(warmup, self._send, self._now_s)
        return Prepared(
            dialect=load.dialect.name,
            simulated=simulated,
            num_rows=-1 if schedule.is_open_ended else len(load.transcripts),
        )

    def _is_mine(self, number: int) -> bool:
        return number % self._share.num_workers == self._share.worker

    async def _send(self, t: Transcript) -> None:
        load = self._load
        load._num_in_flight += 1
        load.max_in_flight = max(load.max_in_flight, load._num_in_flight)
        try:
            await self._client.send(t, load._bodies.take(t.index))
        finally:
            load._num_in_flight -= 1
            load.num_done += 1

    def start(self, at_s: float) -> None:
        self._origin_s = at_s
        self._run = asyncio.run_coroutine_threadsafe(self._go(at_s), self._loop)

    async def _go(self, at_s: float) -> None:
        load, traffic = self._load, self._traffic
        sampler = asyncio.create_task(load.lag.sample())
        begun_s, begun_cpu_s = self._now_s(), time.thread_time()
        try:
            if isinstance(traffic.arrivals, ClosedLoop):
                await self._closed(at_s)
                return
            measured = [t for t in load.transcripts if not t.is_warmup]
            for t in measured:
                t.intended_s = at_s + load.schedule.intended_s[t.index]
            await open_loop(measured, self._send, self._now_s)
        finally:
            sampler.cancel()
            wall_s = max(self._now_s() - begun_s, 1e-9)
            load.cpu_share = (time.thread_time() - begun_cpu_s) / wall_s
            await self._client.__aexit__(None, None, None)

    async def _closed(self, at_s: float) -> None:
        traffic, n, w = self._traffic, self._share.num_workers, self._share.worker
        users = len(range(w, traffic.arrivals.num_users, n))
        count = traffic.num_requests
        mine = replace(
            traffic,
            arrivals=replace(traffic.arrivals, num_users=users),
            num_requests=None if count is None else len(range(w, count, n)),
        )

        def take(number: int) -> Transcript:
            t = Transcript(index=traffic.num_warmup_requests + w + number * n)
            self._load.transcripts.append(t)
            return t

        await closed_loop(mine, take, self._send, self._now_s, at_s)

    def progress(self) -> tuple[int, int, float]:
        load = self._load
        total = -1 if load.schedule.is_open_ended else len(load.transcripts)
        return load.num_done, total, self._now_s() - self._origin_s

    def is_done(self) -> bool:
        return self._run is not None and self._run.done()

    def result(self, deadline_s: float | None = None) -> WorkerResult:
        assert self._run is not None
        with suppress(CancelledError):
            try:
                self._run.result(deadline_s)
            except TimeoutError:
                self.stop()
                self._load.give_up(deadline_s or 0.0)
        load = self._load
        return WorkerResult(
            table=self._table(load.transcripts),
            report=WorkerReport(
                worker=self._share.worker,
                host=socket.gethostname(),
                num_requests=len(load.transcripts),
                cpu_share=load.cpu_share,
                max_loop_stall_s=load.lag.max_s,
                mean_loop_stall_s=load.lag.mean_s,
            ),
            audit=None,
            max_in_flight=load.max_in_flight,
        )

    def _table(self, transcripts: list[Transcript]) -> pa.Table:
        secrets = (self._api_key,) if self._api_key else ()
        samples = collect(
            transcripts,
            self._store,
            origin_s=self._origin_s,
            worker=self._share.worker,
            secrets=secrets,
        )
        index = np.array([t.index for t in transcripts], dtype=np.int64)
        return replace(samples, index=index).to_table()

    def snapshot(self) -> pa.Table:
        return self._table([t for t in list(self._load.transcripts) if t.done_s == t.done_s])

    @property
    def num_failed(self) -> int:
        done = [t for t in list(self._load.transcripts) if t.done_s == t.done_s]
        return sum(1 for t in done if t.error or not 200 <= t.status < 300)

    def stop(self) -> None:
        if self._run is None or self._run.done():
            return
        over = threading.Event()

        async def cancel() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            over.set()

        asyncio.run_coroutine_threadsafe(cancel(), self._loop)
        over.wait()

    def close(self) -> None:
        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(end)
            self._thread.join()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
        self._store.close()
