"""A simulated server as a process: it loads, it serves, it hangs or dies when told to, it ends."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import uvloop

from workloads.simulated.transport import bound_socket

_LOG = logging.getLogger("windtunnel.simulated")
_NUM_LOADING_STEPS = 4
_CRASH_EXIT_CODE = 1

# Told the port and the bound socket, serves on it until left.
Serving = Callable[[int, socket.socket], AbstractAsyncContextManager[None]]


def add_lifecycle_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: one from the kernel")
    parser.add_argument("--startup-delay-s", type=float, default=0.0, help="loading takes this")
    parser.add_argument("--die-after-s", type=float, help="crash so long after the start")
    parser.add_argument("--hang", action="store_true", help="load, and never become healthy")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end when standard input does: with the process at the other end of the pipe",
    )


def run_server(name: str, options: argparse.Namespace, serving: Serving) -> None:
    """Serve until SIGTERM, Ctrl-C or, where asked, the end of standard input."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(name, options, serving))


async def _serve(name: str, options: argparse.Namespace, serving: Serving) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end_of_stdin, loop, stop)
    sock = bound_socket(options.host, options.port)
    port = sock.getsockname()[1]
    _LOG.info("%s on http://%s:%d", name, options.host, port)
    sys.stdout.flush()
    if options.die_after_s is not None:
        loop.call_later(options.die_after_s, _crash)
    try:
        for step in range(_NUM_LOADING_STEPS):
            _LOG.info("simulated engine: loading part %d of %d", step + 1, _NUM_LOADING_STEPS)
            if await _stopped(stop, options.startup_delay_s / _NUM_LOADING_STEPS):
                return
        if options.hang:
            _LOG.info("simulated engine: hanging, asked for by --hang")
            await stop.wait()
            return
        async with serving(port, sock):
            _LOG.info("simulated engine: healthy")
            await stop.wait()
    finally:
        sock.close()


def _stop_at_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


def _crash() -> None:
    _LOG.error("RuntimeError: simulated engine failure, asked for by --die-after-s")
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(_CRASH_EXIT_CODE)  # as an engine that is gone: no goodbye to anybody


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    if within_s <= 0:
        return stop.is_set()
    try:
        await asyncio.wait_for(stop.wait(), within_s)
    except TimeoutError:
        return False
    return True
