"""Sampling in a process of its own, for a process whose event loop sends the load.

A read parses some hundred lines; in threads of the sender it would hold the interpreter's lock for
as long, and every latency would be later by that. The child reads until its input ends, so it goes
when its parent goes, however that may be; what it read comes back on its output as Arrow. Both
stand on one host and share one monotonic clock.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

import pyarrow as pa

from harness.telemetry.sampling import (
    DEFAULT_INTERVAL_S,
    END_DEADLINE_S,
    Sampling,
    absent,
)
from results.clock import SystemClock
from results.telemetry import Telemetry

READY = b"ready\n"
START_DEADLINE_S = 15.0


class ProcessWatch:
    """A ``Watch`` of the endpoint ``base_url``, by a child process.

    The child starts when this is made, so that it costs the load no time: ``begin`` waits until
    every source has been read once.
    """

    def __init__(
        self,
        base_url: str,
        now_s: Callable[[], float],
        interval_s: float = DEFAULT_INTERVAL_S,
    ) -> None:
        self._now_s = now_s
        self._trouble = ""
        self._process: subprocess.Popen[bytes] | None = None
        ask = json.dumps({"base_url": base_url, "interval_s": interval_s})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.telemetry.process", ask],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # what is read ahead of a line would be lost to ``communicate``
                start_new_session=True,  # a Ctrl-C at the terminal is for the parent alone
            )
        except OSError as error:
            self._trouble = f"the sampling process could not be started: {error}"

    def begin(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        if not select.select([self._process.stdout], [], [], START_DEADLINE_S)[0]:
            self._trouble = f"the sampling process read nothing within {START_DEADLINE_S:g} s"
        elif self._process.stdout.readline() != READY:
            self._trouble = "the sampling process ended before its first read"

    def end(self) -> Telemetry:
        data = self._ended(END_DEADLINE_S * 2)
        if not self._trouble:
            try:
                with pa.ipc.open_stream(data) as reader:
                    return Telemetry.from_table(reader.read_all())
            except pa.ArrowInvalid as error:
                self._trouble = f"the sampling process left nothing that can be read: {error}"
        return absent(("vllm", "host"), self._now_s(), self._trouble)

    def abandon(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._ended(END_DEADLINE_S)

    def _ended(self, deadline_s: float) -> bytes:
        """Closes the child's input and returns what it says until its end."""
        if self._process is None:
            return b""
        try:
            data, _ = self._process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            self._trouble = f"the sampling process did not end within {deadline_s:g} s"
            return b""
        return data


def sample_until_end(ask: Mapping[str, Any], source: IO[bytes], sink: IO[bytes]) -> None:
    """What the child does: says when it has read once, and at its input's end what it has read."""
    from harness.telemetry.sources import of_endpoint

    sampling = Sampling(
        of_endpoint(ask["base_url"]), SystemClock().monotonic_s, float(ask["interval_s"])
    )
    sampling.start()
    sink.write(READY)
    sink.flush()
    source.read()
    table = sampling.stop().to_table()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    sink.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):
        sample_until_end(json.loads(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
