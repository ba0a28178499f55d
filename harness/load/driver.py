"""The load driver: one run's traffic, sent over HTTP from one process, and its columns.

The event loop has a thread of its own; the caller's thread waits, tells of progress and takes
Ctrl-C. So it works the same in a script, in a Ray actor's method and under a running loop.
"""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from harness.load.bodies import DIALECTS, probe_body
from harness.load.client import Client, RawStore, Transcript
from harness.load.collect import collect, event_times, read_transcript, short_error
from harness.load.run import REFUSES_FIELDS, Load
from harness.load.thread import run_in_loop_thread
from results.clock import SystemClock
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import Traffic

OnProgress = Callable[[int, int, float], None]

_FIRST_TOKEN_RETRY_S = 0.02
# A canary may need a few tokens until one has text: half a character has none.
_CANARY_TOKENS = 8
_NOT_UP_YET = (502, 503, 504)
# One connection per request in flight; the usual soft limit of 1,024 files is too few for that.
_MAX_OPEN_FILES = 65536


# What our simulated servers give as the owner of their models.
SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """The startup canary. ``ttft_s`` counts from the send of the attempt that was answered.

    ``seen_s`` is this host's monotonic clock (``SystemClock.monotonic_s``) at the first token.
    Both are None, and ``error`` says why, when there was none.
    """

    ttft_s: float | None
    status: int  # HTTP status of the last attempt; −1: no response
    error: str
    seen_s: float | None = None
    simulated: bool = False  # the server says of itself that it is a simulation


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHealth:
    """How the client itself did, over the measured schedule and its warm-up."""

    max_loop_lag_s: float  # worst lateness of the event loop, sampled every 20 ms
    mean_loop_lag_s: float
    cpu_share: float  # CPU time of the loop's thread / wall time; near 1: the client is the limit
    max_in_flight: int  # requests sent and not yet answered, at most
    dialect: str  # which request fields the server took: full, plain or bare


class HttpLoadDriver:
    """A ``LoadDriver`` for OpenAI-compatible streaming servers.

    The key is kept here only: not in ``repr``, not in samples, not in error texts.
    ``deadline_s`` bounds a whole ``drive``, warm-up included; what is unfinished then is a row.
    """

    def __init__(
        self, api_key: str | None = None, deadline_s: float | None = None, worker: int = 0
    ) -> None:
        self._api_key = api_key
        self._deadline_s = deadline_s
        self._worker = worker
        self._now_s = SystemClock().monotonic_s
        self.last_health: ClientHealth | None = None  # of the last ``drive``

    def __repr__(self) -> str:
        key = "None" if self._api_key is None else "'***'"
        return f"HttpLoadDriver(api_key={key}, deadline_s={self._deadline_s})"

    def drive(
        self,
        target: ServerTarget,
        traffic: Traffic,
        on_progress: OnProgress,
        *,
        deadline_s: float | None = None,
    ) -> RequestSamples:
        """Send ``traffic`` to ``target``; one row per request, in the order of the schedule.

        t = 0 is the start of the measured schedule; warm-up comes before it, at negative times.
        ``on_progress(num_done, num_total, elapsed_s)`` counts warm-up too; ``num_total`` is −1
        where only the clock ends the load. It is called in the caller's thread.
        Raises ValueError for traffic of which no schedule can be made.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        begun_s = self._now_s()
        store = RawStore()
        load = Load(target, build_schedule(traffic, target.vocab_size), store, self._now_s)

        def tell() -> None:
            on_progress(load.num_done, load.num_total, self._now_s() - begun_s)

        try:
            with _many_open_files():
                self.last_health = run_in_loop_thread(
                    lambda: self._load(load, limit_s, begun_s), tell
                )
            samples = collect(
                load.transcripts,
                store,
                origin_s=load.origin_s,
                worker=self._worker,
                secrets=self._secrets,
            )
        finally:
            store.close()
        tell()
        return samples

    def first_token(
        self, target: ServerTarget, timeout_s: float, api: str = "completions"
    ) -> FirstToken:
        """Ask for one short answer, as soon as the server takes it; never raises for the server.

        Refused connections and HTTP 502 to 504 are tried again until ``timeout_s`` is over.
        """
        return run_in_loop_thread(lambda: self._first_token(target, timeout_s, api))

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (self._api_key,) if self._api_key else ()

    async def _load(self, load: Load, limit_s: float | None, begun_s: float) -> ClientHealth:
        traffic = load.schedule.traffic
        client = Client(
            load.target.base_url,
            traffic.api,
            self._api_key,
            traffic.request_timeout_s,
            load.store,
            self._now_s,
        )
        left_s = None if limit_s is None else begun_s + limit_s - self._now_s()
        async with client:
            try:
                async with asyncio.timeout(left_s):
                    await load.run(client)
            except TimeoutError:
                load.give_up(limit_s or math.nan)
        return ClientHealth(
            max_loop_lag_s=load.lag.max_s,
            mean_loop_lag_s=load.lag.mean_s,
            cpu_share=load.cpu_share,
            max_in_flight=load.max_in_flight,
            dialect=load.dialect.name,
        )

    async def _first_token(self, target: ServerTarget, timeout_s: float, api: str) -> FirstToken:
        ends_s = self._now_s() + timeout_s
        store = RawStore()
        number, dialects, last = 0, list(DIALECTS), "no attempt was made"
        async with Client(
            target.base_url, api, self._api_key, timeout_s, store, self._now_s
        ) as client:
            while (left_s := ends_s - self._now_s()) > 0:
                number += 1
                seen = Transcript(index=-1)
                body = probe_body(target, api, dialects[0], number, _CANARY_TOKENS)
                await client.send(seen, body, left_s)
                if seen.status in REFUSES_FIELDS and len(dialects) > 1:
                    del dialects[0]
                    continue
                answer = self._read_first_token(seen, store)
                is_up = seen.status >= 0 and seen.status not in _NOT_UP_YET
                if is_up or answer.error.startswith("timeout"):
                    return replace(answer, simulated=await client.owner() == SIMULATED)
                last = answer.error
                await asyncio.sleep(_FIRST_TOKEN_RETRY_S)
        return FirstToken(
            ttft_s=None, status=-1, error=f"timeout: no answer within {timeout_s:g} s; last: {last}"
        )

    def _read_first_token(self, seen: Transcript, store: RawStore) -> FirstToken:
        reading = read_transcript(seen, store.get(seen.raw))
        error = short_error(reading.error, self._secrets)
        times = event_times(seen, reading)
        if not times and error:
            return FirstToken(ttft_s=None, status=seen.status, error=error)
        # An answer all of whose tokens are without text: they are there at its end at the latest.
        at_s = times[0] if times else seen.done_s
        return FirstToken(
            ttft_s=at_s - seen.dispatched_s, status=seen.status, error=error, seen_s=at_s
        )


@contextmanager
def _many_open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _MAX_OPEN_FILES if hard == unlimited else min(hard, _MAX_OPEN_FILES)
    if soft == unlimited or soft >= wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
