"""A series while its nights are read: what counts of it, and the levels it has had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from reports.series import Night, Series, log_values
from reports.steps import Ints, Panel
from reports.suspicion import Kind, Suspicion
from results.events import Event, Said
from results.pairs import Floats

LEAST_CHANGE = 0.01  # never told of less, however quiet the metric
# Of a change below half of what two nights differ by, eight pairs confirm one in four.
APART_SHARE = 0.5
# A rounded metric that went from 13 to 14 may have gone from 13.49 to 13.51.
GRAINS = 1.5


@dataclass(slots=True, kw_only=True)
class Track:
    """One series while its nights are read: the nights that count, their logarithms, and the first
    nights (indices) of its levels, known and to come."""

    series: Series
    nights: tuple[Night, ...]
    values: Floats
    levels: list[int]
    steps: list[Suspicion] = field(default_factory=list)

    def begin_again(self, levels: Sequence[int]) -> None:
        """Forget what was found; ``levels``: the first nights of those known from the start."""
        self.levels, self.steps = sorted({0, *levels}), []

    def segment(self, width: int) -> Ints:
        """(width,): the first night of the level that each night belongs to."""
        made = np.zeros(width, np.int64)
        for begun in sorted(self.levels):
            made[begun:] = begun
        return made


def track_of(series: Series, events: Sequence[Event], until: date | None) -> Track:
    mine = [e for e in events if e.concerns(series.key)]
    invalid = {e.night for e in mine if e.said is Said.INVALID}
    nights = tuple(
        n
        for n in series.nights
        if n.values and n.night not in invalid and (until is None or n.night <= until)
    )
    return Track(series=series, nights=nights, values=log_values(nights), levels=[0])


def threshold_of(panel: Panel) -> Floats:
    """The smallest difference of logarithms that is told, of every night."""
    least = np.maximum(APART_SHARE * panel.apart, GRAINS * panel.grain)
    made: Floats = np.maximum(math.log1p(LEAST_CHANGE), least)
    return made


def padded(tracks: Sequence[Track], width: int) -> tuple[Floats, Ints]:
    """(S, width) each; a shorter series stays at its last value, which nobody looks at."""
    values = np.stack([np.pad(t.values, (0, width - len(t.values)), mode="edge") for t in tracks])
    return values, np.stack([t.segment(width) for t in tracks])


def newest_nights(tracks: Sequence[Track], most: int) -> tuple[Floats, Ints, Ints]:
    """(S, T) each, and (S,) the column of every series' last night: as ``padded``, of no more than
    its ``most`` newest nights."""
    width = min(most, max(len(t.nights) for t in tracks))
    values, segments, last = [], [], []
    for track in tracks:
        n = len(track.nights)
        left = max(n - width, 0)
        kept = track.values[left:]
        values.append(np.pad(kept, (0, width - len(kept)), mode="edge"))
        segment = np.maximum(track.segment(n)[left:] - left, 0)
        segments.append(np.pad(segment, (0, width - len(kept)), mode="edge"))
        last.append(n - left - 1)
    return np.stack(values), np.stack(segments), np.array(last)


def suspicion(
    track: Track,
    *,
    kind: Kind,
    found: int,
    range_: tuple[int, int, int],
    logs: tuple[float, float, float],
    before: float,
    p_value: float | None,
    threshold: float,
    num_before: int,
) -> Suspicion:
    """``logs``: the change and its interval, as logarithms; ``before``: the level's logarithm;
    ``found`` and ``range_``: indices of nights."""
    series, nights = track.series, track.nights
    early, likely, late = range_
    change, low, high = (math.expm1(x) for x in logs)
    last, first = nights[max(early - 1, 0)], nights[late]
    return Suspicion(
        series=series.key,
        name=series.name,
        pool=series.pool,
        metric=series.metric,
        statistic=series.statistic,
        direction=series.direction,
        canary=series.canary,
        kind=kind,
        found=nights[found].night,
        earliest=nights[early].night,
        likely=nights[likely].night,
        latest=nights[late].night,
        before=math.exp(before),
        after=math.exp(before + logs[0]),
        change=change,
        low=low,
        high=high,
        p_value=p_value,
        threshold=threshold,
        num_before=num_before,
        num_after=found - likely + 1,
        environments=(last.environment, first.environment),
        revisions=(last.revision, first.revision),
    )
