"""Programs started, pinned, weighed and ended: the C server, and one load client at a time."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SAMPLE_S = 0.1
_SAMPLE_SHARE = 20.0  # rest so many times as long as a look took
_END_S = 10.0


def build(name: str) -> Path:
    """Compile ``name``.c unless the program is newer than its source."""
    source, program = HERE / f"{name}.c", BUILD / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    BUILD.mkdir(exist_ok=True)
    flags = ["-O2", "-std=c11", "-Wall", "-Wextra"]
    subprocess.run(["cc", *flags, "-o", str(program), str(source)], check=True)
    return program


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where and how urgently a program runs; None: as its parent."""

    core: int | None = None
    nice: int | None = None
    realtime: bool = False  # before all that is not, at once and not at the next tick

    def command(self, command: Sequence[str]) -> list[str]:
        urgency = [] if self.nice is None else ["nice", "-n", str(self.nice)]
        place = [] if self.core is None else ["taskset", "-c", str(self.core)]
        policy = ["chrt", "--fifo", "1"] if self.realtime else []
        return [*urgency, *policy, *place, *command]

    def take(self, pid: int) -> None:
        """Of a program that leads a session of its own: Linux weighs sessions against each other
        first, processes within one only then (sched(7), autogroup)."""
        group = Path(f"/proc/{pid}/autogroup")
        if self.nice is not None and group.exists():
            group.write_text(str(self.nice))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds the server has used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def paced_server(
    log: Path, *, seat: Seat | None = None, options: Sequence[str] = ()
) -> Iterator[Server]:
    """The C server on a port of its own. Its diary is in ``log`` once this is left."""
    program = [str(build("paced_server")), "--log", str(log), *options]
    seat = seat or Seat()
    with subprocess.Popen(
        seat.command(program), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            seat.take(process.pid)
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"paced_server did not start; it said {line!r}")
            yield Server(port=int(line.split()[-1]), pid=process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_END_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """One program with all that it started. ``peak_rss_bytes`` is the highest sum of resident sets
    over the tree in samples; pages that processes share count once in each."""

    exit_code: int | None  # None: it did not end in time and was ended
    started_s: float  # CLOCK_MONOTONIC
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    max_processes: int
    cpu_at: tuple[tuple[float, float], ...]  # (CLOCK_MONOTONIC, CPU seconds so far)

    def cpu_until(self, when_s: float) -> float:
        """CPU seconds used by ``when_s``, linear between samples."""
        times = [self.started_s, *(at for at, _ in self.cpu_at), self.started_s + self.wall_s]
        used = [0.0, *(cpu for _, cpu in self.cpu_at), self.cpu_s]
        return float(np.interp(when_s, times, used))


def run_weighed(
    command: Sequence[str],
    *,
    seat: Seat,
    sampler_core: int | None,
    timeout_s: float,
    output: Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
) -> Weighed:
    """Run ``command``; what it prints goes to ``output``, its errors to a file with the ending
    .err. Whatever it leaves behind is ended."""
    with _adopting() as before, output.open("wb") as sink:
        started = time.monotonic()
        with output.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                seat.command(command),
                stdout=sink,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                cwd=cwd,
                env=_as_installed({**os.environ, **(env or {})}),
                start_new_session=True,
            )
        ended = False
        scale = _Scale(process.pid, sampler_core)
        try:
            seat.take(process.pid)
            scale.start()
            ended = wait_until(lambda: _has_ended(process.pid), started + timeout_s)
        finally:
            wall = time.monotonic() - started
            scale.stop()
            if not ended:
                _end_tree(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, not by Popen
        cpu_s = used.ru_utime + used.ru_stime + _reap_orphans(before)
    return Weighed(
        exit_code=process.returncode if ended else None,
        started_s=started,
        wall_s=wall,
        cpu_s=cpu_s,
        peak_rss_bytes=scale.peak_rss_bytes,
        max_processes=scale.max_processes,
        cpu_at=tuple(scale.cpu_at),
    )


def _as_installed(env: Mapping[str, str]) -> dict[str, str]:
    """A Python that keeps no bytecode compiles itself anew in every run, which no user pays for."""
    return {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}


def wait_until(happened: Callable[[], bool], deadline_s: float) -> bool:
    while time.monotonic() < deadline_s:
        if happened():
            return True
        time.sleep(0.02)
    return False


def _has_ended(pid: int) -> bool:
    """True once it can be reaped; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class _Scale(threading.Thread):
    """Weighs a tree of processes now and then, at the lowest priority, beside the server: what it
    costs is neither the tool's nor in the server's way."""

    def __init__(self, pid: int, core: int | None) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._core = core
        self._stopped = threading.Event()
        self.peak_rss_bytes = self.max_processes = 0
        self.cpu_at: list[tuple[float, float]] = []

    def run(self) -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, 19)
        if self._core is not None:
            os.sched_setaffinity(thread, {self._core})
        pause_s = 0.0
        while not self._stopped.wait(pause_s):
            begun = time.monotonic()
            rss, cpu_s, number = _weigh(self._pid)
            self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
            self.max_processes = max(self.max_processes, number)
            if number:
                # A child that is gone but not yet waited for is missing for a moment.
                cpu_s = max(cpu_s, self.cpu_at[-1][1] if self.cpu_at else 0.0)
                self.cpu_at.append((begun, cpu_s))
            pause_s = max(_SAMPLE_S, (time.monotonic() - begun) * _SAMPLE_SHARE)

    def stop(self) -> None:
        self._stopped.set()
        if self.is_alive():
            self.join()


def _weigh(pid: int) -> tuple[int, float, int]:
    """(resident bytes, CPU seconds, processes) of the tree under ``pid``, its dead included."""
    rss, cpu_s, number = 0, 0.0, 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                rss += process.memory_info().rss
                number += 1
    return rss, cpu_s, number


@contextmanager
def _adopting() -> Iterator[set[int]]:
    """Whatever a program leaves running becomes our child, so that it is weighed, and ended, too.
    Gives the children there were before."""
    _set_subreaper(1)
    try:
        yield {child.pid for child in psutil.Process().children()}
    finally:
        _set_subreaper(0)


def _set_subreaper(value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _reap_orphans(before: set[int]) -> float:
    """CPU seconds of the orphans, once they are ended."""
    cpu_s = 0.0
    for child in psutil.Process().children():
        if child.pid in before:
            continue
        _end_tree(child.pid)
        with suppress(ChildProcessError):
            _, _, used = os.wait4(child.pid, 0)
            cpu_s += used.ru_utime + used.ru_stime
    return cpu_s


def _end_tree(pid: int) -> None:
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [*root.children(recursive=True), root]:
            with suppress(psutil.Error):
                process.kill()
