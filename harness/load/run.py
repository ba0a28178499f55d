"""One load from its first probe to its last answer, inside the event loop."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.load.bodies import DIALECTS, Bodies, Dialect, probe_body
from harness.load.client import Client, RawStore, Transcript
from harness.load.pacing import closed_loop, one_after_another, open_loop
from workloads.base import ServerTarget
from workloads.traffic.schedule import Schedule
from workloads.traffic.spec import ClosedLoop

# HTTP statuses by which servers refuse a field they do not know.
REFUSES_FIELDS = (400, 422)
_PROBE_TIMEOUT_S = 30.0
_LAG_SAMPLE_S = 0.02
# The measured schedule begins this much after the warm-up, so that its first send is not late.
_LEAD_S = 0.01


class LoopLag:
    """How late the event loop wakes a sleeper: what it adds to every time stamp, at worst."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._sum_s = 0.0
        self._num = 0
        self.max_s = 0.0

    @property
    def mean_s(self) -> float:
        return self._sum_s / self._num if self._num else 0.0

    async def sample(self) -> None:
        """Until cancelled."""
        while True:
            asked_s = self._now_s() + _LAG_SAMPLE_S
            await asyncio.sleep(_LAG_SAMPLE_S)
            late_s = max(0.0, self._now_s() - asked_s)
            self._sum_s += late_s
            self._num += 1
            self.max_s = max(self.max_s, late_s)


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """What exists now is left alone by the cyclic collector: a full pass over a process that has
    loaded an engine takes 100 ms and more, and would stand still in the middle of the load."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def choose_dialect(
    client: Client, target: ServerTarget, api: str, timeout_s: float
) -> Dialect:
    """The richest dialect the server does not refuse, by up to three one-token requests.

    They are no part of the traffic and no rows. A server that fails in another way is taken at its
    best: its failures will be rows of the load itself.
    """
    for number, dialect in enumerate(DIALECTS):
        transcript = Transcript(index=-1)
        body = probe_body(target, api, dialect, number, num_tokens=1)
        await client.send(transcript, body, timeout_s)
        if transcript.status not in REFUSES_FIELDS:
            return DIALECTS[0] if transcript.status < 0 else dialect
    return DIALECTS[-1]


class Load:
    """The state of one load. ``transcripts`` are its rows, in the order of the schedule."""

    def __init__(
        self, target: ServerTarget, schedule: Schedule, store: RawStore, now_s: Callable[[], float]
    ) -> None:
        self.target = target
        self.schedule = schedule
        self.store = store
        self.lag = LoopLag(now_s)
        self.dialect = DIALECTS[0]
        self.origin_s = now_s()
        self.num_done = 0
        self.max_in_flight = 0
        self.cpu_share = 0.0
        self._now_s = now_s
        self._num_in_flight = 0
        self._bodies = Bodies(target, schedule, self.dialect)
        # Closed loop makes a row when its turn comes; open loop has all of them in advance.
        is_closed = isinstance(schedule.traffic.arrivals, ClosedLoop)
        count = self._num_warmup if is_closed else schedule.num_requests
        self.transcripts = [
            Transcript(index=i, is_warmup=i < self._num_warmup) for i in range(count)
        ]

    @property
    def _num_warmup(self) -> int:
        return self.schedule.traffic.num_warmup_requests

    @property
    def num_total(self) -> int:
        """Requests there will be, warm-up included; −1: only the clock knows."""
        return -1 if self.schedule.is_open_ended else self.schedule.num_requests

    async def run(self, client: Client) -> None:
        """Probe, warm up, send all, wait for all."""
        traffic = self.schedule.traffic
        timeout_s = min(_PROBE_TIMEOUT_S, traffic.request_timeout_s)
        self.dialect = await choose_dialect(client, self.target, traffic.api, timeout_s)
        self._bodies = Bodies(self.target, self.schedule, self.dialect)
        self._bodies.make_ahead()
        with _frozen_heap():
            sampler = asyncio.create_task(self.lag.sample())
            begun_s, begun_cpu_s = self._now_s(), time.thread_time()
            try:
                await self._warm_up_and_send(client)
            finally:
                sampler.cancel()
                # Of the sending alone: making the bodies is over by now and delays nobody.
                self.cpu_share = (time.thread_time() - begun_cpu_s) / (self._now_s() - begun_s)

    async def _warm_up_and_send(self, client: Client) -> None:
        async def send(transcript: Transcript) -> None:
            body = self._bodies.take(transcript.index)
            self._num_in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self._num_in_flight)
            try:
                await client.send(transcript, body)
            finally:
                self._num_in_flight -= 1
                self.num_done += 1

        await one_after_another(self.transcripts[: self._num_warmup], send, self._now_s)
        self.origin_s = self._now_s() + _LEAD_S
        traffic = self.schedule.traffic
        if isinstance(traffic.arrivals, ClosedLoop):
            await closed_loop(traffic, self._take, send, self._now_s, self.origin_s)
            return
        measured = self.transcripts[self._num_warmup :]
        for transcript in measured:
            transcript.intended_s = self.origin_s + self.schedule.intended_s[transcript.index]
        await open_loop(measured, send, self._now_s)

    def _take(self, number: int) -> Transcript:
        transcript = Transcript(index=self._num_warmup + number)
        self.transcripts.append(transcript)
        return transcript

    def give_up(self, deadline_s: float) -> None:
        """The load's deadline has passed: what is not answered by now becomes a failed row."""
        traffic = self.schedule.traffic
        if isinstance(traffic.arrivals, ClosedLoop) and traffic.duration_s is None:
            named = range(len(self.transcripts), self.schedule.num_requests)
            self.transcripts += [Transcript(index=i) for i in named]
        for t in self.transcripts:
            if math.isnan(t.dispatched_s):
                t.error = f"deadline: not sent when the load's {deadline_s:g} s were over"
            elif t.error.startswith("cancelled"):
                t.error = f"deadline: not answered when the load's {deadline_s:g} s were over"
