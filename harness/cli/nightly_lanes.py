"""Lanes of a night: runs that share no chips go on at the same time, each lane in a process.

A lane's process joins the night's Ray cluster, makes its runs and ends; what it made stands in the
store and the journal. It is ended with its parent, whatever ends that.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from harness.cli.exits import interrupt_main, interrupt_on_sigterm, told
from harness.cli.live import progress
from harness.cli.options import fresh_index, store_of
from harness.cli.output import stderr
from harness.cli.session import deployer, run_context
from harness.errors import HarnessError
from harness.nightly.journal import Journal
from harness.nightly.night import Night
from harness.nightly.order import Slot, slots_of
from harness.nightly.subject import Subjects
from harness.nightly.suite import read_suite
from harness.progress import Progress
from harness.settings import read_settings
from results.clock import SystemClock
from results.nights import NIGHT, nights_in

_GRACE_S = 90.0  # to seal and take down what a lane has up


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneAsk:
    """All that a lane's process is told; ``series`` are those that it runs, ``name`` says where."""

    name: str
    suite: str
    overrides: tuple[str, ...]
    night_id: str
    date: str
    begun_s: float  # when the night began, on the machine's monotonic clock
    series: tuple[str, ...]
    subject: str
    ray: str
    store: str
    prices: str


def run_lanes(asks: Sequence[LaneAsk], shown: Progress) -> None:
    """All lanes to their end. Raises HarnessError when one could not do its work (what it made is
    kept), KeyboardInterrupt when asked to stop, after every lane has ended."""
    with _started(asks, shown) as children:
        codes = [child.wait() for child in children]
    if any(codes):
        raise HarnessError(
            f"{sum(map(bool, codes))} of {len(codes)} lanes of the night did not end well (see "
            "above); the night goes on with --resume"
        )


@contextmanager
def _started(asks: Sequence[LaneAsk], shown: Progress) -> Iterator[list[subprocess.Popen[str]]]:
    children: list[subprocess.Popen[str]] = []
    readers = []
    try:
        for ask in asks:
            command = [sys.executable, "-m", "harness.cli.nightly_lanes", json.dumps(asdict(ask))]
            child = subprocess.Popen(
                command,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,  # it hears of a Ctrl-C or a SIGTERM once, from us
            )
            children.append(child)
            reader = threading.Thread(target=_relay, args=(child, ask, shown), daemon=True)
            reader.start()
            readers.append(reader)
        yield children
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
        for child in children:
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for reader in readers:
            reader.join(1.0)


def _relay(child: subprocess.Popen[str], ask: LaneAsk, shown: Progress) -> None:
    assert child.stderr is not None
    for line in child.stderr:
        if words := line.rstrip():
            shown.phase("lane", f"{ask.name}: {words}")


def slots_in(slots: Sequence[Slot], series: Sequence[str]) -> tuple[Slot, ...]:
    return tuple(slot for slot in slots if slot.series.name in series)


def _end_with_parent() -> None:
    """A parent that is killed takes the night's Ray along. What runs here is then interrupted, and
    run again when the night goes on; left alone it would be sealed as a node that failed."""
    parent = os.pidfd_open(os.getppid())

    def watch() -> None:
        poll = select.poll()
        poll.register(parent, select.POLLIN)  # readable when the process has ended
        poll.poll()
        interrupt_main()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _lane(ask: LaneAsk) -> None:
    interrupt_on_sigterm()
    _end_with_parent()
    clock, settings = SystemClock(), read_settings()
    suite = read_suite(Path(ask.suite), ask.overrides)
    store = store_of(ask.store)
    subjects = Subjects(suite, settings.home / "checkouts")
    prices = Path(ask.prices) if ask.prices else None
    with (
        progress(stderr(), clock) as shown,
        deployer(ask.ray, None, clock, shown) as ours,
    ):
        night = Night(
            night_id=ask.night_id,
            date=date.fromisoformat(ask.date),
            suite=suite,
            subjects=subjects,
            version=subjects.version(ask.subject) if ask.subject else None,
            context=run_context(ours, store, clock, shown, prices),
            journal=Journal(settings.home, suite.name, ask.night_id),
        )
        night.spent.begun_s = ask.begun_s
        runs = nights_in(fresh_index(store), suite.name, NIGHT, ask.night_id)
        night.resume(runs.get(ask.night_id, ()))
        for _ in night.run(slots_in(slots_of(suite), ask.series)):
            pass


if __name__ == "__main__":
    with told():
        _lane(LaneAsk(**json.loads(sys.argv[1])))
