"""When requests go out: at the schedule's times, or after the last answer.

Open loop never waits for answers and never leaves an arrival out: one that is late is sent late,
and its latency still counts from the intended time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from harness.load.client import Transcript
from workloads.traffic.spec import ClosedLoop, Traffic

Send = Callable[[Transcript], Awaitable[None]]

# The loop's timers count whole milliseconds and may fire one early. The rest is spun away when
# arrivals are further apart than this; when they are closer, spinning would cost a whole core,
# and a send may be up to about 1 ms late instead.
_SPIN_WHEN_GAP_S = 0.02
_TIMER_SLACK_S = 0.002
# A user whose request failed pauses at least this long: without it a dead server would be asked
# thousands of times a second, each time a row.
FAILURE_PAUSE_S = 0.5


async def sleep_until(when_s: float, now_s: Callable[[], float], *, spin: bool = False) -> None:
    """Return at ``when_s`` or later, never earlier."""
    while (left_s := when_s - now_s()) > 0:
        if not spin:
            await asyncio.sleep(math.ceil(left_s * 1e3) / 1e3)
        elif left_s > _TIMER_SLACK_S:
            await asyncio.sleep(left_s - _TIMER_SLACK_S)
        else:
            await asyncio.sleep(0)


async def one_after_another(
    transcripts: Sequence[Transcript], send: Send, now_s: Callable[[], float]
) -> None:
    """Each is meant to be sent when the one before it was answered."""
    for transcript in transcripts:
        transcript.intended_s = now_s()
        await send(transcript)


async def open_loop(
    transcripts: Sequence[Transcript], send: Send, now_s: Callable[[], float]
) -> None:
    """Send each at its ``intended_s``, then wait until all are answered or have failed."""
    previous_s = -math.inf
    async with asyncio.TaskGroup() as group:
        for transcript in transcripts:
            gap_s = transcript.intended_s - previous_s
            previous_s = transcript.intended_s
            await sleep_until(transcript.intended_s, now_s, spin=gap_s >= _SPIN_WHEN_GAP_S)
            group.create_task(_sent(send, transcript))


async def _sent(send: Send, transcript: Transcript) -> None:
    await send(transcript)


async def closed_loop(
    traffic: Traffic,
    take: Callable[[int], Transcript],
    send: Send,
    now_s: Callable[[], float],
    origin_s: float,
) -> None:
    """Each user sends, waits for the answer, thinks, and sends again. All users begin at once.

    The next request is intended for (last answer + think time). ``take(k)`` gives the transcript
    of the k-th measured request; a request intended for ``duration_s`` or later is not sent.
    """
    arrivals = traffic.arrivals
    assert isinstance(arrivals, ClosedLoop)
    num_requests = math.inf if traffic.num_requests is None else traffic.num_requests
    end_s = math.inf if traffic.duration_s is None else origin_s + traffic.duration_s
    num_taken = 0

    async def user() -> None:
        nonlocal num_taken
        intended_s = origin_s
        while intended_s < end_s and num_taken < num_requests:
            await sleep_until(intended_s, now_s, spin=arrivals.think_time_s >= _SPIN_WHEN_GAP_S)
            if num_taken >= num_requests:  # the others went on meanwhile
                return
            transcript = take(num_taken)
            num_taken += 1
            transcript.intended_s = intended_s
            await send(transcript)
            failed = transcript.error or not 200 <= transcript.status < 300
            pause_s = max(arrivals.think_time_s, FAILURE_PAUSE_S if failed else 0.0)
            intended_s = transcript.done_s + pause_s

    async with asyncio.TaskGroup() as group:
        for _ in range(arrivals.num_users):
            group.create_task(user())
