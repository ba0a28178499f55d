"""Progress on stderr: one live region on a terminal, plain lines with a heartbeat elsewhere.

In a pod's log a carriage return is noise and silence looks like a hang, so there each phase is a
line, and a phase that lasts says every ``HEARTBEAT_S`` that it still does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from harness.load.fleet import Pulse
from harness.progress import Progress
from results.clock import Clock
from results.metrics import Unit
from results.units import format_value

HEARTBEAT_S = 10.0
# Drawing takes milliseconds of the interpreter, which a load may share with us.
DRAWS_PER_S = 2
# Each with the answers it needs: ten beyond it, as in a record. (``results.intervals`` says so too,
# and brings scipy, for which the first request would have to wait.)
_SHOWN_PERCENTILES = ((0.5, 20), (0.99, 1000))


class Shown(Progress, Protocol):
    """A Progress that also shows a few words on how the present phase goes."""

    def note(self, words: str) -> None: ...


def pulse_words(pulse: Pulse) -> str:
    """How a load goes: ``412.0/s done, 0 failed, TTFT p50 12.3 ms, p99 41.0 ms so far``."""
    words = f"{pulse.rate_rps:.1f}/s done, {pulse.num_failed} failed"
    told = [
        f"p{100 * q:g} {format_value(pulse.ttft.quantile(q), Unit.SECONDS)}"
        for q, needs in _SHOWN_PERCENTILES
        if pulse.ttft.num_values >= needs
    ]
    return f"{words}, TTFT {', '.join(told)} so far" if told else words


@contextmanager
def progress(console: Console, clock: Clock, quiet: bool = False) -> Iterator[Shown]:
    """The reporter that fits ``console``; it stops, and clears its live region, on leaving."""
    if console.is_terminal and not quiet:
        with _terminal(console) as live:
            yield live
    else:
        with _lines(console, clock, quiet) as lines:
            yield lines


class TerminalLines:
    """The present phase as a bar among ``bars``, which somebody else draws."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._sentence = "starting"
        self._task = bars.add_task(self._sentence, total=None)

    def phase(self, name: str, sentence: str) -> None:
        # The new one first: a Ctrl-C in the midst of it leaves a task that is there.
        self._bars.update(self._task, visible=False)
        self._sentence = sentence
        before, self._task = self._task, self._bars.add_task(sentence, total=None)
        self._bars.remove_task(before)

    def advance(self, num_done: int, num_total: int, elapsed_s: float) -> None:
        self._bars.update(
            self._task, completed=num_done, total=num_total if num_total > 0 else None
        )

    def note(self, words: str) -> None:
        self._bars.update(self._task, description=f"{words} · {self._sentence}")


def phase_bars(console: Console) -> RichProgress:
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:g}/{task.total}", justify="right"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        refresh_per_second=DRAWS_PER_S,
    )


@contextmanager
def _terminal(console: Console) -> Iterator[TerminalLines]:
    with phase_bars(console) as bars:
        yield TerminalLines(bars)


class _Lines:
    """Prints a line per phase and repeats the present one while nothing else is said."""

    def __init__(self, console: Console, clock: Clock, quiet: bool) -> None:
        self._console, self._clock, self._quiet = console, clock, quiet
        self._lock = threading.Lock()
        self._start_s = self._spoke_s = self._phase_s = clock.monotonic_s()
        self._sentence, self._done, self._words = "", "", ""

    def phase(self, name: str, sentence: str) -> None:
        with self._lock:
            self._phase_s = self._clock.monotonic_s()
            self._sentence, self._done, self._words = sentence, "", ""
            self._say(sentence)

    def advance(self, num_done: int, num_total: int, elapsed_s: float) -> None:
        with self._lock:
            self._done = f" {num_done}/{num_total}" if num_total > 0 else f" {num_done}"

    def note(self, words: str) -> None:
        with self._lock:
            self._words = f" ({words})"

    def beat(self) -> None:
        with self._lock:
            now_s = self._clock.monotonic_s()
            if self._sentence and now_s - self._spoke_s >= HEARTBEAT_S:
                since_s = now_s - self._phase_s
                self._say(f"… {self._sentence}:{self._done} after {since_s:.0f} s{self._words}")

    def _say(self, text: str) -> None:
        self._spoke_s = self._clock.monotonic_s()
        if not self._quiet:
            stamp = self._spoke_s - self._start_s
            self._console.print(f"[{stamp:6.1f} s] {text}", markup=False, soft_wrap=True)


@contextmanager
def _lines(console: Console, clock: Clock, quiet: bool) -> Iterator[_Lines]:
    lines, stop = _Lines(console, clock, quiet), threading.Event()

    def run() -> None:
        while not stop.wait(1.0):
            lines.beat()

    heart = threading.Thread(target=run, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield lines
    finally:
        stop.set()
        heart.join()
