"""Load workers on this machine, without Ray: one in this process, or several in their own.

One worker needs no process: its event loop has a thread here, and the first request goes out as
soon as it can. Several have a process each, spoken to over a socket pair before and after the load.
They end with the thread that hired them, whatever ends it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from harness.errors import SpecError, WorkerDied
from harness.load.clocks import ClockReading, boot_id
from harness.load.fleet import Fleet, Look, Worker, nothing_seen
from harness.load.priority import together_first
from harness.load.worker import LoadWorker, Prepared, Share, WorkerResult
from results.clock import Clock, SystemClock
from results.samples import RequestSamples
from workloads.base import ServerTarget
from workloads.traffic.spec import Traffic

_ENTRY = "harness.load.worker_process"
_END_S = 5.0
MAX_WORKERS_PER_CORE = 8


class Seat:
    """What a worker of any kind does, around one LoadWorker."""

    def __init__(self, api_key: str | None = None) -> None:
        self._api_key = api_key
        self._clock = SystemClock()
        self._worker: LoadWorker | None = None

    def __repr__(self) -> str:
        return "Seat()"  # without the key

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared:
        if self._worker is None:
            self._worker = LoadWorker(self._api_key)
        return self._worker.prepare(target, traffic, share)

    def read_clock(self) -> ClockReading:
        return ClockReading(boot_id=boot_id(), monotonic_s=self._clock.monotonic_s())

    def start(self, at_s: float) -> None:
        self._present.start(at_s)

    def is_done(self) -> bool:
        return self._present.is_done()

    def look(self) -> Look:
        worker = self._present
        num_done, num_total, _ = worker.progress()
        return Look(
            num_done=num_done,
            num_total=num_total,
            num_failed=worker.num_failed,
            ttft=nothing_seen().added(np.maximum(worker.take_ttfts(), 0.0)),
        )

    def snapshot(self) -> RequestSamples:
        return self._present.snapshot()

    def stop(self) -> None:
        self._present.stop()

    def result(self) -> WorkerResult:
        """What is not done is waited for; ``stop`` first to have it at once."""
        return self._present.result()

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    @property
    def _present(self) -> LoadWorker:
        if self._worker is None:
            raise RuntimeError("the worker was asked for a load before one was prepared")
        return self._worker


class InProcessWorker(Seat):
    """While it is there the whole process goes before others where it may."""

    label = "the load worker in this process"
    kind = "thread"

    def __init__(self, api_key: str | None = None) -> None:
        super().__init__(api_key)
        self._first = ExitStack()
        self._first.enter_context(together_first())

    def close(self) -> None:
        super().close()
        self._first.close()


class ProcessWorker:
    """A ``Seat`` in a process of its own. Starting it does not wait for it."""

    kind = "process"

    def __init__(self, number: int, api_key: str | None = None) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _ENTRY, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is ours to take
            )
        self._connection = Connection(ours.detach())
        self._lock = threading.Lock()
        self._doing = "starting"
        self.label = f"load worker {number} (process {self._process.pid})"
        with suppress(OSError):  # it is gone already; the first question tells
            self._connection.send(api_key)

    @property
    def pid(self) -> int:
        return self._process.pid

    def prepare(self, target: ServerTarget, traffic: Traffic, share: Share) -> Prepared:
        made: Prepared = self._ask("prepare", target, traffic, share)
        return made

    def read_clock(self) -> ClockReading:
        reading: ClockReading = self._ask("read_clock")
        return reading

    def start(self, at_s: float) -> None:
        self._ask("start", at_s)

    def is_done(self) -> bool:
        return bool(self._ask("is_done"))

    def look(self) -> Look:
        seen: Look = self._ask("look")
        return seen

    def snapshot(self) -> RequestSamples:
        seen: RequestSamples = self._ask("snapshot")
        return seen

    def stop(self) -> None:
        self._ask("stop")

    def result(self) -> WorkerResult:
        result: WorkerResult = self._ask("result")
        return result

    def close(self) -> None:
        self._process.kill()  # it keeps nothing; a call under way gets the end of the stream
        self._process.wait(_END_S)
        with self._lock:
            self._connection.close()

    def _ask(self, what: str, *arguments: Any) -> Any:
        with self._lock:
            try:
                self._connection.send((what, arguments))
                answer, error = self._connection.recv()
            except (EOFError, OSError):
                raise self._died(what) from None
        if error is not None:
            raise error
        return answer

    def _died(self, what: str) -> WorkerDied:
        try:
            code: int | None = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            code = None
        return WorkerDied(
            "load",
            f"{self.label} ended with exit code {code} when asked to {what}; "
            "the other workers were stopped and the rows of this load are lost",
        )


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def check_workers(num_workers: int) -> None:
    """Raises SpecError for a number of workers that nobody has a use for."""
    if num_workers < 1:
        raise SpecError(f"--workers {num_workers}: at least one has to send")
    most = MAX_WORKERS_PER_CORE * num_cores()
    if num_workers > most:
        raise SpecError(
            f"--workers {num_workers}: at most {most} can send here, {MAX_WORKERS_PER_CORE} for "
            "each core of this process; each is an event loop that fills one"
        )


def local_fleet(
    num_workers: int = 1,
    *,
    api_key: str | None = None,
    max_workers: int | None = None,
    clock: Clock | None = None,
) -> Fleet:
    """Workers on this machine; use it as a context. One is a thread here, several are processes.

    ``max_workers`` bounds what the fleet may grow to (default: this process's cores).
    """
    limit = max(num_workers, num_cores() if max_workers is None else max_workers)

    def hire(number: int) -> Worker | None:
        if number >= limit:
            return None
        alone = number == 0 and num_workers == 1
        return InProcessWorker(api_key) if alone else ProcessWorker(number, api_key)

    return Fleet(hire, num_workers, clock=clock)
