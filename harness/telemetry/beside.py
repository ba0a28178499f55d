"""Sampling around a load: begun before it, ended after it, and brought onto its time axis.

Nothing here raises for a source, a node or a sampler: telemetry is told beside a run's numbers, and
what could not be had is told as absent, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from harness.startup import Anchor
from harness.telemetry.sampler import Source
from harness.telemetry.sampling import DEFAULT_INTERVAL_S, Sampling
from results.client import ClientReport
from results.samples import RequestSamples
from results.telemetry import RESOLUTION_S, Row, Telemetry

T = TypeVar("T")


class Watch(Protocol):
    """The sampling of one load. Its methods never raise, and ``begin`` returns once every source
    has been read for the first time."""

    def begin(self) -> None: ...

    def end(self) -> Telemetry:
        """Everything that was read, its times on this process's monotonic clock."""
        ...

    def abandon(self) -> None:
        """The load failed; nobody wants the readings."""
        ...


class LocalWatch:
    """Reads in threads of this process. Not for a process whose event loop sends the load."""

    def __init__(
        self,
        sources: tuple[Source, ...],
        now_s: Callable[[], float],
        interval_s: float = DEFAULT_INTERVAL_S,
    ) -> None:
        self._sampling = Sampling(sources, now_s, interval_s)

    def begin(self) -> None:
        self._sampling.start()

    def end(self) -> Telemetry:
        return self._sampling.stop()

    def abandon(self) -> None:
        self._sampling.stop(deadline_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A load's result, and what was read beside it, both on the driver's monotonic clock."""

    telemetry: Telemetry | None
    began_s: float  # the load was asked for
    ended_s: float  # its result was there


def watch_over(
    watch: Watch | None, now_s: Callable[[], float], drive: Callable[[], T]
) -> tuple[T, Watched]:
    """``drive()`` with ``watch`` around it. Raises what ``drive`` raises."""
    if watch is not None:
        watch.begin()
    began_s = now_s()
    try:
        result = drive()
    except BaseException:
        if watch is not None:
            watch.abandon()
        raise
    ended_s = now_s()
    telemetry = watch.end() if watch is not None else None
    return result, Watched(telemetry=telemetry, began_s=began_s, ended_s=ended_s)


def load_zero(watched: Watched, samples: RequestSamples, client: ClientReport | None) -> Anchor:
    """Where the load's zero lies on the driver's clock: as the client reports it, or between the
    bounds that its first dispatch and its last answer leave."""
    if client is not None and client.origin_s is not None:
        return Anchor(origin_s=client.origin_s, resolution_s=0.0)
    first = samples.dispatched_s[~np.isnan(samples.dispatched_s)]
    last = samples.done_s[~np.isnan(samples.done_s)]
    low_s = watched.began_s - (float(first.min()) if len(first) else 0.0)
    high_s = watched.ended_s - (float(last.max()) if len(last) else 0.0)
    middle_s = (low_s + high_s) / 2
    return Anchor(origin_s=middle_s, resolution_s=max(high_s - middle_s, 0.0))


def on_load_axis(
    watched: Watched, samples: RequestSamples, client: ClientReport | None
) -> Telemetry | None:
    """The telemetry with the load's zero as its own, and how exactly that is known."""
    if watched.telemetry is None:
        return None
    zero = load_zero(watched, samples, client)
    return with_resolution(watched.telemetry.moved(-zero.origin_s), zero.resolution_s)


def with_resolution(telemetry: Telemetry, resolution_s: float) -> Telemetry:
    """Where two clocks had to be brought together, by how much its times may be off."""
    if resolution_s <= 0.0:
        return telemetry
    return telemetry.plus([Row(0.0, "axis", RESOLUTION_S, resolution_s)])
