"""The process that a training rank starts beside itself, and its certain end. Knows nothing of Ray.

It stands under the warden, whose pipe this process holds: whatever ends the rank, Ray's kill or a
SIGKILL, ends the process and all that it started.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from harness import warden
from harness.server_process import MAX_LINE_CHARS, ServerCommand, child_environment

GRACE_S = 5.0
STOP_MARGIN_S = 15.0
MAX_WAITING = 100_000  # lines that nobody has read yet; older ones go
_LINE_END = re.compile(rb"[\r\n]+")


class RankProcess:
    """A ``workloads.base.OwnProcess``. Times are on the clock that it is given.

    ``cwd`` "" is the caller's own. Raises OSError where the process cannot be made at all; a
    command that is not there ends with exit code 127, as in a shell.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        python_path: Sequence[str] = (),
        *,
        owns_chips: bool,
        now_s: Callable[[], float],
    ) -> None:
        self._now_s = now_s
        self._changed = threading.Condition()
        self._lines: deque[tuple[float, str]] = deque(maxlen=MAX_WAITING)
        self._read_all = False
        command = ServerCommand(argv=tuple(argv), env=env, owns_chips=owns_chips)
        readable, writable = os.pipe()
        guard = [sys.executable, "-S", "-E", warden.__file__, "--grace", f"{GRACE_S:g}"]
        try:
            self._process = subprocess.Popen(
                [*guard, "--started-fd", str(writable), "--", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writable,),
                env=_with_path(child_environment(command, {}, os.environ), python_path),
                cwd=cwd or None,
                start_new_session=True,
            )
        except OSError:
            os.close(readable)
            raise
        finally:
            os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            pipe.read()  # closes in the instant the command runs
        self.started_s = now_s()
        threading.Thread(target=self._read, name="rank-process", daemon=True).start()

    @property
    def pid(self) -> int:
        """The warden's."""
        return self._process.pid

    def lines(self, patience_s: float) -> list[tuple[float, str]]:
        """(when it was read, line) since the last call; waits up to ``patience_s`` for any."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._read_all, patience_s)
            found = list(self._lines)
            self._lines.clear()
            return found

    def exit_code(self) -> int | None:
        """None while it runs or while there are lines to read; 128 + N where signal N killed it."""
        with self._changed:
            if not self._read_all or self._lines:
                return None
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def end(self) -> None:
        """End the whole tree and wait for it; harmless when it has ended."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S + STOP_MARGIN_S)

    def _read(self) -> None:
        rest = b""
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                now_s = self._now_s()
                *whole, rest = _LINE_END.split(rest + chunk)
                self._keep(whole, now_s)
                rest = rest[-MAX_LINE_CHARS:]
        self._keep([rest], self._now_s())
        with self._changed:
            self._read_all = True
            self._changed.notify_all()

    def _keep(self, raw: Sequence[bytes], now_s: float) -> None:
        texts = [line.decode(errors="replace")[:MAX_LINE_CHARS] for line in raw if line.strip()]
        with self._changed:
            self._lines.extend((now_s, text) for text in texts)
            self._changed.notify_all()


def _with_path(env: Mapping[str, str], python_path: Sequence[str]) -> dict[str, str]:
    parts = [*python_path, *filter(None, [env.get("PYTHONPATH")])]
    return {**env, "PYTHONPATH": os.pathsep.join(parts)} if parts else dict(env)
