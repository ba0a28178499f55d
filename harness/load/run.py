"""One share of a load on the event loop: what goes out when, what ends, and when it is over."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.load.bodies import DIALECTS, Bodies, Dialect, probe_body
from harness.load.client import Client
from harness.load.collect import Unsent
from harness.load.pacing import Agenda
from harness.load.reading import Reading, read_stream, read_whole
from harness.load.response import body_of
from harness.load.senders import Cpu, LoopStalls, no_collections
from harness.load.spool import Spool
from harness.load.wire import Exchange
from results.clock import read_monotonic_s
from workloads.base import ServerTarget
from workloads.traffic.schedule import Schedule
from workloads.traffic.spec import ClosedLoop

# HTTP statuses by which servers refuse a field they do not know.
REFUSES_FIELDS = (400, 422)
PROBE_TIMEOUT_S = 30.0
# More answers than one worker has between two looks, a second apart.
_MAX_NOTED = 65_536
# The users of a closed loop begin one after another, this far apart. All at once would measure how
# fast a thousand requests can be written, and call it latency.
USER_START_GAP_S = 0.00025
# So many of their connections are opened before; more would take seconds.
MAX_OPEN_AHEAD = 4096
MAX_OPEN_AHEAD_OF_A_RATE = 512
# A user whose request failed pauses at least this long: without it a dead server would be asked
# thousands of times a second, each time a row.
FAILURE_PAUSE_S = 0.5


async def choose_dialect(
    client: Client, target: ServerTarget, api: str, timeout_s: float
) -> Dialect:
    """The richest dialect the server does not refuse, by up to three one-token requests.

    They are no part of the traffic and no rows. A server that fails in another way is taken at its
    best: its failures will be rows of the load itself.
    """
    for number, dialect in enumerate(DIALECTS):
        body = probe_body(target, api, dialect, number, num_tokens=1)
        probe = Exchange(-1, read_monotonic_s(), client.head.post(body), is_warmup=True)
        await client.send(probe, timeout_s)
        status = body_of(probe.parts).status
        if status not in REFUSES_FIELDS:
            return DIALECTS[0] if status < 0 else dialect
    return DIALECTS[-1]


@dataclass(slots=True)
class Counts:
    """What the driver's side may look at while the load runs."""

    num_done: int = 0
    num_failed: int = 0
    num_sent: int = 0
    # Of the latest answers, until somebody looks; bounded, should nobody ever do so.
    ttfts_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_NOTED))

    def take_ttfts(self) -> list[float]:
        """Those noted since the last time, to about a chunk. For another thread than the loop's."""
        taken, self.ttfts_s = self.ttfts_s, deque(maxlen=_MAX_NOTED)
        return list(taken)

    def note_ttft(self, exchange: Exchange) -> None:
        """For a display: the answer's first bytes after its headers, without reading them."""
        if exchange.is_warmup or not exchange.parts:
            return
        first = exchange.parts[0]
        has_body = -1 < first.find(b"\r\n\r\n") < len(first) - 4
        number = 0 if has_body or len(exchange.read_s) < 2 else 1
        self.ttfts_s.append(exchange.read_s[number] - exchange.intended_s)


@dataclass(slots=True, kw_only=True)
class LoadRun:
    """Rows ``rows`` of ``schedule``, sent by ``client``. Everything runs on the event loop.

    A request is over when it was answered or has failed; it is then in ``spool``. What was never
    sent is in ``unsent``, with the reason.
    """

    client: Client
    schedule: Schedule
    rows: list[int]  # measured rows of this share; empty for a closed loop without sessions
    bodies: Bodies
    spool: Spool
    num_workers: int = 1
    worker: int = 0
    counts: Counts = field(default_factory=Counts)
    stalls: LoopStalls = field(default_factory=LoopStalls)
    cpu: Cpu = field(default_factory=Cpu)
    unsent: list[Unsent] = field(default_factory=list)
    origin_s: float = math.nan
    _agenda: Agenda | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _open: dict[int, Exchange] = field(default_factory=dict)  # dispatched and not over
    _closed: _ClosedLoopState | None = None
    _is_stopping: bool = False
    _next_turn: dict[int, int] = field(default_factory=dict)  # of a session, by the turn before
    _first_turns: list[int] = field(default_factory=list)  # of the sessions of a closed loop
    _num_skipped: int = 0

    def __post_init__(self) -> None:
        after, traffic = self.schedule.after, self.schedule.traffic
        self._next_turn = {int(after[i]): i for i in self.rows if after[i] >= 0}
        if isinstance(traffic.arrivals, ClosedLoop) and traffic.sessions is not None:
            self._first_turns = [i for i in self.rows if after[i] < 0]

    @property
    def num_total(self) -> int:
        """Measured requests there will be; −1: only the clock knows."""
        arrivals = self.schedule.traffic.arrivals
        if not isinstance(arrivals, ClosedLoop) or self._has_sessions:
            return len(self.rows)
        return -1 if self._quota == math.inf else int(self._quota)

    @property
    def _has_sessions(self) -> bool:
        return self.schedule.traffic.sessions is not None

    @property
    def _quota(self) -> float:
        """How many requests of a closed loop are this share's; or sessions, where it holds some."""
        if self._has_sessions:
            return len(self._first_turns)
        count = self.schedule.traffic.num_requests
        if count is None:
            return math.inf
        return len(range(self.worker, count, self.num_workers))

    @property
    def _users(self) -> range:
        """The users of a closed loop that are this share's."""
        arrivals = self.schedule.traffic.arrivals
        num_users = arrivals.num_users if isinstance(arrivals, ClosedLoop) else 0
        return range(self.worker, num_users, self.num_workers)

    async def warm_up(self, indices: list[int]) -> None:
        """One after another: each is meant to be sent when the one before it was answered. Then
        the connections are opened that the load begins with."""
        for index in indices:
            exchange = Exchange(index, read_monotonic_s(), self._message(index), is_warmup=True)
            self._open[index] = exchange
            try:
                await self.client.send(exchange)
            finally:
                self._keep(exchange)
        await self.client.open_ahead(self._num_open_ahead())

    def _num_open_ahead(self) -> int:
        """One connection for every user of a closed loop, or for every request of an open one's
        first second: opening them takes the loop as long as ten chunks take, and would be in the
        latencies of those requests alone."""
        if isinstance(self.schedule.traffic.arrivals, ClosedLoop):
            return int(min(len(self._users), self._quota, MAX_OPEN_AHEAD))
        times_s = self.schedule.intended_s
        return min(sum(1 for i in self.rows if times_s[i] < 1.0), MAX_OPEN_AHEAD_OF_A_RATE)

    async def run(self, origin_s: float) -> None:
        """Send everything at its time after ``origin_s``; return when all of it is over."""
        self.origin_s = origin_s
        loop = asyncio.get_running_loop()
        self._agenda = Agenda(loop, self._fire)
        arrivals = self.schedule.traffic.arrivals
        if isinstance(arrivals, ClosedLoop):
            self._closed = _ClosedLoopState(
                users_left=len(self._users),
                think_s=arrivals.think_time_s,
                end_s=origin_s + (self.schedule.traffic.duration_s or math.inf),
            )
        with no_collections():
            sampler = asyncio.create_task(self.stalls.sample())
            self.cpu.begin()
            try:
                self._begin()
                await self._over.wait()
            finally:
                sampler.cancel()
                self.cpu.end()
                self._agenda.close()

    def stop(self, error: str = "", unsent_error: str = "") -> None:
        """Send nothing more. Without ``error`` what is open may end by itself; with one it ends
        now, as failed. What was not sent becomes a row only where ``unsent_error`` is given."""
        self._is_stopping = True
        if self._agenda is None or math.isnan(self.origin_s):
            self._over.set()
            return
        left = self._agenda.clear()
        if unsent_error:
            for at_s, index in left:
                if index >= 0:  # no user who would only now take a request
                    self._skip(index, unsent_error, at_s)
            self.unsent += self._never_taken(unsent_error)
        if error:
            for exchange in list(self._open.values()):
                self.client.give_up(exchange, error)
        self._end_if_over()

    def _never_taken(self, error: str) -> list[Unsent]:
        """The rows of a counted closed loop whose turn never came."""
        if self._closed is None or self.schedule.traffic.duration_s is not None:
            return []
        firsts = [self._index_of(n) for n in range(self._closed.num_taken, int(self._quota))]
        return [
            Unsent(index=index, intended_s=math.nan, is_warmup=False, error=error)
            for first in firsts
            for index in self._with_later_turns(first)
        ]

    def _with_later_turns(self, index: int) -> Iterator[int]:
        following: int | None = index
        while following is not None:
            yield following
            following = self._next_turn.get(following)

    def _begin(self) -> None:
        assert self._agenda is not None
        if self._closed is not None:
            for user in self._users:
                self._agenda.add(self.origin_s + user * USER_START_GAP_S, -1)
        else:
            times_s, after = self.schedule.intended_s, self.schedule.after
            known = [i for i in self.rows if after[i] < 0]
            self._agenda.plan([self.origin_s + float(times_s[i]) for i in known], known)
        self._end_if_over()

    def _message(self, index: int) -> bytes:
        return self.client.head.post(self.bodies.take(index))

    def _index_of(self, number: int) -> int:
        """The schedule's index of the ``number``-th request, or session, that this share takes."""
        if self._has_sessions:
            return self._first_turns[number]
        warmup = self.schedule.traffic.num_warmup_requests
        return warmup + number * self.num_workers + self.worker

    def _fire(self, index: int, intended_s: float) -> None:
        closed = self._closed
        if closed is not None and index < 0:  # a user's turn to take the next
            if closed.num_taken >= self._quota:
                closed.users_left -= 1
                self._end_if_over()
                return
            index = self._index_of(closed.num_taken)
            closed.num_taken += 1
        exchange = Exchange(index, intended_s, self._message(index), is_warmup=False)
        exchange.on_done = self._done
        self._open[index] = exchange
        self.counts.num_sent += 1
        self.client.dispatch(exchange)

    def _done(self, exchange: Exchange) -> None:
        next_turn = self._next_turn.get(exchange.index)
        answer = None
        if next_turn is not None and self.schedule.sends_answers:
            answer = _answer(exchange, self.schedule)
        failed = self._keep(exchange)
        goes_on = False
        if next_turn is not None:
            failed = failed or (answer is not None and bool(answer.error))
            goes_on = self._follow(exchange, next_turn, failed, answer)
        closed = self._closed
        if closed is not None and not goes_on:
            pause_s = max(closed.think_s, FAILURE_PAUSE_S if failed else 0.0)
            next_s = exchange.done_s + pause_s
            if self._is_stopping or next_s >= closed.end_s or closed.num_taken >= self._quota:
                closed.users_left -= 1
            elif pause_s:
                assert self._agenda is not None
                self._agenda.add(next_s, -1)
            else:
                self._fire(-1, next_s)
        self._end_if_over()

    def _follow(self, exchange: Exchange, index: int, failed: bool, answer: Reading | None) -> bool:
        """The next turn of a session is meant for the answer to this one and the time to think.
        False: it will not be sent."""
        assert self._agenda is not None
        if failed:
            self._skip(index, "not_sent: the turn before it in its session failed")
            return False
        if self._is_stopping:
            return False
        if answer is not None:
            self.bodies.keep_answer(exchange.index, answer.text)
        self._agenda.add(exchange.done_s + float(self.schedule.think_s[index]), index)
        return True

    def _skip(self, index: int, error: str, intended_s: float = math.nan) -> None:
        """A request that will not be sent, and the turns that would have followed it."""
        for following in self._with_later_turns(index):
            self.unsent.append(
                Unsent(index=following, intended_s=intended_s, is_warmup=False, error=error)
            )
            self._num_skipped += 1
            intended_s = math.nan

    def _keep(self, exchange: Exchange) -> bool:
        """Put it away; whether it looks failed, as far as can be told without reading it."""
        self._open.pop(exchange.index, None)
        self.spool.put(exchange)
        status = exchange.parts[0][9:10] if exchange.parts else b""  # HTTP/1.1 2…
        failed = bool(exchange.error) or status != b"2"
        if not failed:
            self.counts.note_ttft(exchange)
        exchange.parts, exchange.read_s = [], []
        self.counts.num_done += 1
        self.counts.num_failed += failed
        return failed

    def _end_if_over(self) -> None:
        if self._closed is not None:
            if self._closed.users_left == 0 or (self._is_stopping and not self._open):
                self._over.set()
        elif not self._open:
            num_over = self.counts.num_sent + self._num_skipped
            if self._is_stopping or num_over == len(self.rows):
                self._over.set()


def _answer(exchange: Exchange, schedule: Schedule) -> Reading:
    """What the server said in a turn that others follow: the one thing that is read while the load
    runs, in the user's time to think."""
    if exchange.error:
        return Reading(error=exchange.error)
    response = body_of(exchange.parts)
    if not 200 <= response.status < 300:
        return Reading(error=f"http_{response.status}")
    if schedule.traffic.is_stream:
        return read_stream(response.body, keep_text=True)
    return read_whole(response.body)


@dataclass(slots=True)
class _ClosedLoopState:
    users_left: int
    think_s: float
    end_s: float
    num_taken: int = 0
