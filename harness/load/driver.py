"""The load driver of one process: one run's traffic, sent over HTTP, and its columns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.load.bodies import DIALECTS, api_path, probe_body
from harness.load.client import Client, owner_of
from harness.load.collect import HowToRead, event_times, read_answer, response_of, short_error
from harness.load.run import REFUSES_FIELDS
from harness.load.spool import pack, unpack
from harness.load.thread import LoopThread
from harness.load.wire import Exchange, RequestHead
from harness.load.worker import SIMULATED, LoadWorker, WorkerResult
from results.client import ClientReport
from results.clock import read_monotonic_s
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

OnProgress = Callable[[int, int, float], None]

_FIRST_TOKEN_RETRY_S = 0.02
# A canary may need a few tokens until one has text: half a character has none.
_CANARY_TOKENS = 8
_NOT_UP_YET = (502, 503, 504)
# The measured schedule begins this much after the warm-up, so that its first send is not late.
LEAD_S = 0.05


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


class HttpLoadDriver:
    """A ``LoadDriver`` for OpenAI-compatible streaming servers.

    The key is kept here only: not in ``repr``, not in samples, not in error texts.
    ``deadline_s`` bounds a whole ``drive``, warm-up included; what is unfinished then is a row.
    """

    def __init__(self, api_key: str | None = None, deadline_s: float | None = None) -> None:
        self._api_key = api_key
        self._deadline_s = deadline_s
        self.last_report: ClientReport | None = None  # of the last ``drive``

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
        begun_s = read_monotonic_s()
        worker = LoadWorker(self._api_key)

        def tell() -> None:
            done, total, _ = worker.progress()
            on_progress(done, total, read_monotonic_s() - begun_s)

        try:
            prepared = worker.prepare(target, traffic)
            origin_s = read_monotonic_s() + LEAD_S
            worker.start(origin_s)
            left_s = None if limit_s is None else limit_s - (read_monotonic_s() - begun_s)
            result = worker.result(left_s, tell, limit_s)
            self.last_report = report_of(prepared.dialect, result, origin_s)
            tell()
        finally:
            worker.close()
        return result.samples

    def first_token(
        self, target: ServerTarget, timeout_s: float, api: str = "completions"
    ) -> FirstToken:
        """Ask for one short answer, as soon as the server takes it; never raises for the server.

        Refused connections and HTTP 502 to 504 are tried again until ``timeout_s`` is over.
        """
        thread = LoopThread()
        try:
            return thread.run(self._first_token(target, timeout_s, api))
        finally:
            thread.close()

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (self._api_key,) if self._api_key else ()

    async def _first_token(self, target: ServerTarget, timeout_s: float, api: str) -> FirstToken:
        ends_s = read_monotonic_s() + timeout_s
        number, dialects, last = 0, list(DIALECTS), "no attempt was made"
        client = Client(RequestHead(target.base_url, api_path(api), self._api_key), timeout_s)
        try:
            while (left_s := ends_s - read_monotonic_s()) > 0:
                number += 1
                body = probe_body(target, api, dialects[0], number, _CANARY_TOKENS)
                seen = Exchange(-1, read_monotonic_s(), client.head.post(body), is_warmup=True)
                await client.send(seen, left_s)
                answer = self._read_first_token(seen)
                if answer.status in REFUSES_FIELDS and len(dialects) > 1:
                    del dialects[0]
                    continue
                is_up = answer.status >= 0 and answer.status not in _NOT_UP_YET
                if is_up or answer.error.startswith("timeout"):
                    owner = owner_of(await client.models())
                    return replace(answer, simulated=owner == SIMULATED)
                last = answer.error
                await asyncio.sleep(_FIRST_TOKEN_RETRY_S)
        finally:
            await client.close()
        return FirstToken(
            ttft_s=None, status=-1, error=f"timeout: no answer within {timeout_s:g} s; last: {last}"
        )

    def _read_first_token(self, seen: Exchange) -> FirstToken:
        ended = unpack(pack(seen))
        assert ended is not None
        response = response_of(ended)
        reading = read_answer(ended, response, HowToRead())
        error = short_error(reading.error, self._secrets)
        times = event_times(ended, response, reading)
        if not len(times) and error:
            return FirstToken(ttft_s=None, status=response.status, error=error)
        # An answer all of whose tokens are without text: they are there at its end at the latest.
        at_s = float(times[0]) if len(times) else seen.done_s
        return FirstToken(
            ttft_s=at_s - seen.dispatched_s, status=response.status, error=error, seen_s=at_s
        )


def report_of(dialect: str, result: WorkerResult, origin_s: float) -> ClientReport:
    """The report of a load that one worker sent."""
    return ClientReport(
        dialect=dialect,
        max_in_flight=result.max_in_flight,
        workers=(result.report,),
        origin_s=origin_s,
        audit=result.audit,
    )
