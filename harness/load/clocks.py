"""Where one host's monotonic clock lies on another's. Readings of two are never simply subtracted.

Processes of one boot share the clock. Otherwise the other side is asked for its reading several
times; it was taken between the send of the question and the arrival of the answer, so the exchange
with the shortest round trip bounds the error best (as in NTP, RFC 5905 section 8, and Cristian's
algorithm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NUM_EXCHANGES = 8
# Readings of one clock, in the order they were taken, may differ by its own resolution.
_CLOCK_RESOLUTION_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """A process's own ``monotonic_s`` and the boot that clock belongs to ("": cannot be told)."""

    boot_id: str
    monotonic_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One question about the other clock; ``sent_s`` and ``received_s`` are our own readings."""

    sent_s: float
    received_s: float
    theirs: ClockReading


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """our clock = their clock + ``offset_s``, give or take ``resolution_s``."""

    offset_s: float = 0.0
    resolution_s: float = 0.0


def boot_id() -> str:
    """Tells one boot of a kernel from all others; processes that agree share a monotonic clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def offset_of(exchanges: Sequence[Exchange], here: str) -> ClockOffset:
    """The offset that one or more exchanges show; ``here`` is our own boot.

    One boot means one clock only if every reading lies between its question and its answer:
    containers may be given clocks of their own (time_namespaces(7)).
    """
    if here and all(e.theirs.boot_id == here and _is_between(e) for e in exchanges):
        return ClockOffset()
    best = min(exchanges, key=lambda e: e.received_s - e.sent_s)
    return ClockOffset(
        offset_s=(best.sent_s + best.received_s) / 2 - best.theirs.monotonic_s,
        resolution_s=(best.received_s - best.sent_s) / 2,
    )


def _is_between(exchange: Exchange) -> bool:
    earliest = exchange.sent_s - _CLOCK_RESOLUTION_S
    return earliest <= exchange.theirs.monotonic_s <= exchange.received_s + _CLOCK_RESOLUTION_S


def measure_offset(ask: Callable[[], ClockReading], now_s: Callable[[], float]) -> ClockOffset:
    """Ask the other side for its clock; once where it is our own, ``NUM_EXCHANGES`` times else."""
    here, exchanges = boot_id(), list[Exchange]()
    while len(exchanges) < NUM_EXCHANGES:
        sent_s = now_s()
        theirs = ask()
        exchanges.append(Exchange(sent_s=sent_s, received_s=now_s(), theirs=theirs))
        if offset_of(exchanges, here) == ClockOffset():
            break
    return offset_of(exchanges, here)


def drifted(before: ClockOffset, after: ClockOffset) -> ClockOffset:
    """The offset a load began with, its error widened by how far the clocks went apart since."""
    drift_s = abs(after.offset_s - before.offset_s)
    return ClockOffset(
        offset_s=before.offset_s,
        resolution_s=max(before.resolution_s, after.resolution_s, drift_s),
    )
