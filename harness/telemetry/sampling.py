"""Reads several sources about once a second, each in a thread of its own, on one clock.

A source that hangs or dies delays no other, and never the load: its thread is left behind and what
it did not say is a gap with a reason. Reading costs time of the server's host, so each read is
timed, and a source that is slow to read is read less often (``MAX_DUTY``).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from harness.errors import SourceAbsent, SourceFailed
from harness.telemetry.sampler import Reading, Sampler, Source
from results.telemetry import ABSENT, GAP, READ_S, Row, Telemetry

DEFAULT_INTERVAL_S = 1.0
# A source takes at most this share of a thread's time.
MAX_DUTY = 0.05
# For the first reads before the load, and for the last ones after it.
READY_DEADLINE_S = 5.0
END_DEADLINE_S = 5.0


def next_read_s(
    begun_s: float, took_s: float, zero_s: float, interval_s: float, max_duty: float = MAX_DUTY
) -> float:
    """When to read again: the first tick of the grid ``zero_s + k * interval_s`` that leaves the
    reading of this source at most ``max_duty`` of the time. Missed ticks are not made up for."""
    earliest_s = begun_s + max(took_s / max_duty, took_s + interval_s * 0.5)
    return zero_s + interval_s * math.ceil((earliest_s - zero_s) / interval_s - 1e-9)


class _Reader:
    """One source in its thread. ``rows`` is appended to by that thread alone."""

    def __init__(
        self, source: Source, interval_s: float, now_s: Callable[[], float], zero_s: float
    ) -> None:
        self.source = source
        self.rows: list[Row] = []
        self.is_ready = threading.Event()
        self.stop = threading.Event()
        self._interval_s = interval_s
        self._now_s = now_s
        self._zero_s = zero_s
        self._latest: tuple[float, tuple[Reading, ...]] | None = None
        self._has_first = False
        self._lock = threading.Lock()
        self.thread = threading.Thread(
            target=self._run, name=f"telemetry-{source.name}", daemon=True
        )

    def taken(self) -> list[Row]:
        """All rows so far, and the latest of those kept for the ends alone."""
        with self._lock:
            rows = list(self.rows)
            if self._latest is not None:
                at_s, readings = self._latest
                rows += [self._row(at_s, reading) for reading in readings]
        return rows

    def note(self, name: str, why: str) -> Row:
        return Row(self._now_s(), self.source.name, name, math.nan, label=why)

    def _run(self) -> None:
        try:
            sampler = self.source.open()
        except SourceAbsent as absent:
            self._keep([self.note(ABSENT, str(absent))])
            self.is_ready.set()
            return
        except Exception as error:  # a library we do not know failed in its own way
            self._keep([self.note(ABSENT, f"opening it failed: {error!r}")])
            self.is_ready.set()
            return
        try:
            self._read_until_stopped(sampler)
        finally:
            self.is_ready.set()
            with suppress(Exception):  # the reads are what counts
                sampler.close()

    def _read_until_stopped(self, sampler: Sampler) -> None:
        is_last = False
        while True:
            begun_s = self._now_s()
            self._read(sampler, begun_s)
            took_s = self._now_s() - begun_s
            self.is_ready.set()
            if is_last:
                return
            due_s = next_read_s(begun_s, took_s, self._zero_s, self._interval_s)
            # One more look once the load is over: the end of every counter.
            is_last = self.stop.wait(max(due_s - self._now_s(), 0.0))

    def _read(self, sampler: Sampler, begun_s: float) -> None:
        try:
            readings = sampler.read()
        except SourceFailed as failed:
            self._keep([self.note(GAP, str(failed))])
            return
        except Exception as error:  # see _run
            self._keep([self.note(GAP, f"reading it failed: {error!r}")])
            return
        ended_s = self._now_s()
        at_s = (begun_s + ended_s) / 2
        rows = [Row(at_s, self.source.name, READ_S, ended_s - begun_s)]
        rows += [self._row(at_s, r) for r in readings if not (r.ends_only and self._has_first)]
        ends = tuple(r for r in readings if r.ends_only)
        with self._lock:
            self.rows += rows
            if self._has_first and ends:
                self._latest = (at_s, ends)
        self._has_first = True

    def _row(self, at_s: float, reading: Reading) -> Row:
        return Row(
            at_s, self.source.name, reading.name, reading.value, reading.replica, reading.label
        )

    def _keep(self, rows: list[Row]) -> None:
        with self._lock:
            self.rows += rows


class Sampling:
    """Reads ``sources`` from ``start`` to ``stop``. ``now_s`` is the clock of every time."""

    def __init__(
        self,
        sources: Sequence[Source],
        now_s: Callable[[], float],
        interval_s: float = DEFAULT_INTERVAL_S,
    ) -> None:
        zero_s = now_s()
        self._now_s = now_s
        self._readers = [_Reader(source, interval_s, now_s, zero_s) for source in sources]

    def start(self, deadline_s: float = READY_DEADLINE_S) -> None:
        """Returns when every source was read once, or is known to be absent, or the time is up."""
        for reader in self._readers:
            reader.thread.start()
        self._each(lambda reader, left_s: reader.is_ready.wait(left_s), deadline_s)

    def stop(self, deadline_s: float = END_DEADLINE_S) -> Telemetry:
        """One last read of each source, and everything that was read. Never raises for a source."""
        for reader in self._readers:
            reader.stop.set()
        self._each(lambda reader, left_s: reader.thread.join(left_s), deadline_s)
        rows: list[Row] = []
        for reader in self._readers:
            rows += reader.taken()
            if reader.thread.is_alive():
                why = f"it did not answer within {deadline_s:g} s of the load's end"
                rows.append(reader.note(GAP if reader.is_ready.is_set() else ABSENT, why))
        return Telemetry.of(rows)

    def _each(self, wait: Callable[[_Reader, float], object], deadline_s: float) -> None:
        """All readers share one deadline."""
        give_up_s = self._now_s() + deadline_s
        for reader in self._readers:
            wait(reader, max(give_up_s - self._now_s(), 0.0))


def absent(names: Iterable[str], at_s: float, why: str) -> Telemetry:
    """What there is to say where the sampling itself could not be had."""
    return Telemetry.of(Row(at_s, name, ABSENT, math.nan, label=why) for name in names)
