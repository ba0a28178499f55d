"""A coroutine in an event loop and a thread of its own, for callers that have neither to spare."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")
_TICK_EVERY_S = 1.0


def run_in_loop_thread(
    make: Callable[[], Coroutine[Any, Any, T]], tick: Callable[[], None] | None = None
) -> T:
    """Run ``make()`` to its end and return or raise what it does.

    ``tick`` is called about once a second, here in the caller's thread, where it may block without
    holding up the loop. When it raises, or Ctrl-C arrives, the coroutine is cancelled and waited
    for before the exception goes on.
    """
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()
    result: Future[T] = Future()

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        ready.set_result((asyncio.get_running_loop(), task))
        return await make()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                value = runner.run(main())
            result.set_result(value)
        except BaseException as error:  # carried over to the caller's thread, whatever it is
            if not ready.done():
                ready.set_exception(error)
            result.set_exception(error)

    thread = threading.Thread(target=run, name="windtunnel-load", daemon=True)
    thread.start()
    try:
        while not wait([result], timeout=_TICK_EVERY_S).done:
            if tick is not None:
                tick()
    except BaseException:
        # The loop may be over by now; then there is nothing to cancel.
        with suppress(RuntimeError):
            loop, task = ready.result()
            loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()
    return result.result()
