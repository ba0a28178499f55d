"""One server process: its port, its log, its health and its certain end. Knows nothing of Ray.

All times are seconds on this host's monotonic clock since one reading of it; whoever asks from
another host places that zero on a clock of its own (``harness.startup.anchor``).
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from harness import warden
from harness.errors import DeadlineExceeded, EngineDied
from harness.startup import ServerMarks
from results.clock import Clock, SystemClock

HEALTH_PERIOD_S = 0.05
HEALTH_TIMEOUT_S = 2.0
NUM_STARTUP_LINES = 20_000
NUM_TAIL_LINES = 200
MAX_LINE_CHARS = 4096
# What the warden may take beyond its grace: SIGKILL, and the kernel taking the memory back.
STOP_MARGIN_S = 15.0

_PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE|\[Errno 98\]", re.IGNORECASE)
_LINE_END = re.compile(rb"[\r\n]+")  # progress bars end their lines with \r
# Set by Ray or by the user's shell for a process that owns chips; a server on a CPU owns none.
_CHIP_VARIABLES = ("TPU_VISIBLE_CHIPS", "TPU_CHIPS_PER_HOST_BOUNDS", "TPU_HOST_BOUNDS")


class ServerState(StrEnum):
    STARTING = "starting"  # the command does not run yet
    LOADING = "loading"  # it runs and does not answer its health probe
    HEALTHY = "healthy"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """What to start; ``{port}``, ``{host}``, ``{otlp}`` in ``argv`` and ``env`` are filled in."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    health_path: str = "/health"
    host: str = "127.0.0.1"
    otlp: str = ""
    owns_chips: bool = False
    grace_s: float = 10.0  # from SIGTERM to SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """Times are seconds since the process's zero; None: not yet.

    ``retried_s`` is when a second attempt began, on another port, because the first was taken.
    """

    state: ServerState
    elapsed_s: float
    port: int = 0
    warden_pid: int = 0
    retried_s: float | None = None
    started_s: float | None = None  # the command itself runs (its exec succeeded)
    started_resolution_s: float = 0.0
    first_line_s: float | None = None
    healthy_s: float | None = None
    healthy_resolution_s: float = 0.0
    exited_s: float | None = None
    exit_code: int | None = None
    last_line: str = ""

    def marks(self) -> ServerMarks:
        """What the startup timeline needs, of a server that is healthy."""
        started_s = self.started_s or 0.0
        return ServerMarks(
            started_s=started_s,
            started_resolution_s=self.started_resolution_s,
            healthy_s=started_s if self.healthy_s is None else self.healthy_s,
            healthy_resolution_s=self.healthy_resolution_s,
            retried_s=self.retried_s,
        )


def reserve_port(host: str) -> tuple[socket.socket, int]:
    """A port from the kernel, and the bound socket that keeps others off it.

    The socket never listens and has SO_REUSEADDR, so a server that sets SO_REUSEADDR too (asyncio,
    uvicorn and vLLM do) binds the same port while nobody else is given it. Without it, an engine
    that imports for half a minute before it binds can find its port taken, or a probe of the
    closed port can connect to itself.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reservation.bind((host, 0))
    except OSError:
        reservation.close()
        raise
    return reservation, int(reservation.getsockname()[1])


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """Replaces ``{port}``-like names; other braces (JSON in an argument) stay as they are."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def child_environment(
    command: ServerCommand, values: Mapping[str, str], inherited: Mapping[str, str]
) -> dict[str, str]:
    """The server's environment: what we inherited less Ray's own variables, plus the launch's.

    Ray's go because the server is no Ray worker. CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS, which
    Ray set by the bundle, stay; on a device without chips no chip is visible.
    """
    env = {key: value for key, value in inherited.items() if not key.startswith("RAY_")}
    env.setdefault("PYTHONUNBUFFERED", "1")  # a line is stamped when it reaches us
    if not command.owns_chips:
        for name in _CHIP_VARIABLES:
            env.pop(name, None)
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env | {key: fill_in(value, values) for key, value in command.env.items()}


def engine_died(stage: str, status: ServerStatus, tail: tuple[str, ...]) -> EngineDied:
    """What to raise for a server that has exited."""
    code = status.exit_code
    killed = f", killed by signal {code - 128}" if code is not None and code > 128 else ""
    when = "in use" if status.healthy_s is not None else "before it was healthy"
    return EngineDied(
        stage,
        f"the server ended with exit code {code}{killed} {when}, "
        f"{status.exited_s or status.elapsed_s:.1f} s after its start. {_quote(tail)}",
        tail,
    )


def too_late(
    stage: str, waited_for: str, tail: tuple[str, ...], startup_s: float
) -> DeadlineExceeded:
    """What to raise when no answer came in time; at startup, the time is the spec's deadline."""
    limit = f" within deadlines.startup_s = {startup_s:.0f} s" if stage == "startup" else ""
    return DeadlineExceeded(stage, f"waited in vain for {waited_for}{limit}. {_quote(tail)}", tail)


def _quote(tail: tuple[str, ...]) -> str:
    if not tail:
        return "It printed nothing."
    return f"Its last line: {tail[-1]}"


def _is_healthy(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _close_control(process: subprocess.Popen[bytes]) -> None:
    """Closes our end of the warden's pipe: the tree ends, if it has not already."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


class ServerProcess:
    """Starts the command through the warden and watches it. Its methods may be called from any
    thread. ``begin`` once, ``stop`` as often as wanted, in any order."""

    def __init__(
        self,
        command: ServerCommand,
        clock: Clock | None = None,
        counted_from_s: float | None = None,
    ) -> None:
        """``counted_from_s``: the clock's reading that is zero, if an earlier one than now."""
        self._command = command
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._status: dict[str, object] = {"state": ServerState.STARTING}
        self._lines: list[tuple[float, str]] = []
        self._tail: deque[str] = deque(maxlen=NUM_TAIL_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._ended = threading.Event()
        self._runner: threading.Thread | None = None
        self._zero_s = self._clock.monotonic_s() if counted_from_s is None else counted_from_s

    @property
    def host(self) -> str:
        """The address that the server was told to bind."""
        return self._command.host

    def begin(self) -> None:
        """Returns at once; what happens then is told by ``watch``."""
        self._runner = threading.Thread(target=self._run, name="server", daemon=True)
        self._runner.start()

    def status(self) -> ServerStatus:
        with self._changed:
            return ServerStatus(
                elapsed_s=self._elapsed_s(),
                last_line=self._tail[-1] if self._tail else "",
                **self._status,  # type: ignore[arg-type]
            )

    def watch(self, seen: ServerState, timeout_s: float) -> ServerStatus:
        """The status as soon as its state is another than ``seen``, or after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._status["state"] != seen, timeout_s)
        return self.status()

    def lines(self) -> list[tuple[float, str]]:
        """(seconds since the command runs, line), the first ones of the latest attempt."""
        with self._changed:
            return list(self._lines)

    def tail(self) -> tuple[str, ...]:
        with self._changed:
            return tuple(self._tail)

    def stop(self) -> bool:
        """Ends the whole tree and waits for it; whether it is gone."""
        with self._changed:
            self._stopping = True
            process = self._process
        if process is None:
            return True
        _close_control(process)
        try:
            process.wait(self._command.grace_s + STOP_MARGIN_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _elapsed_s(self) -> float:
        return self._clock.monotonic_s() - self._zero_s

    def _tell(self, **changes: object) -> None:
        with self._changed:
            self._status |= changes
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            exit_code = self._attempts()
        except OSError as error:  # no process, no port: there is no log that could tell
            self._keep([f"windtunnel: the server cannot be started: {error}".encode()], 0.0)
            exit_code = 127
        self._tell(state=ServerState.EXITED, exit_code=exit_code, exited_s=self._elapsed_s())

    def _attempts(self) -> int:
        exit_code = self._attempt(reserved=True)
        if self._wants_another_port():
            with self._changed:
                self._lines.clear()
                self._tail.append("windtunnel: the port was taken; starting once more on another")
            self._tell(retried_s=self._elapsed_s(), started_s=None, first_line_s=None)
            # A server that does not set SO_REUSEADDR stumbles over our reservation itself.
            exit_code = self._attempt(reserved=False)
        return exit_code

    def _wants_another_port(self) -> bool:
        texts = (*self._command.argv, *self._command.env.values())
        uses_ours = any("{port}" in text for text in texts)
        with self._changed:
            was_healthy = self._status.get("healthy_s") is not None
            taken = any(_PORT_TAKEN.search(line) for line in self._tail)
            return uses_ours and taken and not was_healthy and not self._stopping

    def _attempt(self, reserved: bool) -> int:
        """From the port to the exit code."""
        reservation, port = reserve_port(self._command.host)
        with reservation:
            if not reserved:
                reservation.close()
            self._ended.clear()
            process, started_fd = self._spawn(port)
            if process is None:
                return 128 + signal.SIGTERM
            self._tell(port=port, warden_pid=process.pid)
            self._await_exec(started_fd)
            reader = threading.Thread(target=self._read, args=(process,), daemon=True)
            reader.start()
            self._await_health(port)
        reader.join()
        code = process.wait()
        _close_control(process)
        return code if code >= 0 else 128 - code

    def _spawn(self, port: int) -> tuple[subprocess.Popen[bytes] | None, int]:
        command = self._command
        values = {"port": str(port), "host": command.host, "otlp": command.otlp}
        argv = [fill_in(part, values) for part in command.argv]
        readable, writable = os.pipe()
        guard = [sys.executable, "-S", "-E", warden.__file__, "--grace", f"{command.grace_s:g}"]
        try:
            with self._changed:  # a stop that comes now finds the process, or prevents it
                if self._stopping:
                    os.close(readable)
                    return None, -1
                self._process = subprocess.Popen(
                    [*guard, "--started-fd", str(writable), "--", *argv],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(writable,),
                    env=child_environment(command, values, os.environ),
                    start_new_session=True,  # a Ctrl-C at the terminal is for the driver alone
                )
                return self._process, readable
        finally:
            os.close(writable)

    def _await_exec(self, started_fd: int) -> None:
        """The warden's pipe closes in the instant the command runs."""
        began_s, text = self._elapsed_s(), b""
        with os.fdopen(started_fd, "rb", buffering=0) as pipe:
            while chunk := pipe.read(4096):
                began_s, text = self._elapsed_s(), text + chunk
        if text and b"error" not in text:
            now_s = self._elapsed_s()
            # Between the pid written just before the exec and the pipe closed by it.
            self._tell(
                state=ServerState.LOADING, started_s=now_s, started_resolution_s=now_s - began_s
            )

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        started_s = self._status.get("started_s")
        origin_s = started_s if isinstance(started_s, float) else self._elapsed_s()
        rest = b""
        with process.stdout as pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                *whole, rest = _LINE_END.split(rest + chunk)
                self._keep(whole, origin_s)
                rest = rest[-MAX_LINE_CHARS:]
        self._keep([rest], origin_s)
        self._ended.set()

    def _keep(self, raw: list[bytes], origin_s: float) -> None:
        now_s = self._elapsed_s()
        texts = [line.decode(errors="replace")[:MAX_LINE_CHARS] for line in raw if line.strip()]
        if not texts:
            return
        with self._changed:
            if self._status.get("first_line_s") is None:
                self._status["first_line_s"] = now_s
            self._tail.extend(texts)
            room = NUM_STARTUP_LINES - len(self._lines)
            self._lines.extend((now_s - origin_s, text) for text in texts[:room])

    def _await_health(self, port: int) -> None:
        last_no_s = self._elapsed_s()
        while not self._ended.is_set():
            began_s = self._elapsed_s()
            if _is_healthy(self._command.host, port, self._command.health_path):
                now_s = self._elapsed_s()
                self._tell(
                    state=ServerState.HEALTHY,
                    healthy_s=now_s,
                    healthy_resolution_s=now_s - last_no_s,
                )
                return
            last_no_s = began_s
            self._ended.wait(HEALTH_PERIOD_S)
