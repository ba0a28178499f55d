"""Tonight alone: jumps that no history can confirm yet, and where every series stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import numpy as np

from reports.compare import MARGIN
from reports.kinds import MEMORY_NIGHTS
from reports.steps import Panel, judge, judge_newest
from reports.suspicion import Kind, SeriesState, Standing, State, Suspicion
from reports.tracks import Track, newest_nights, suspicion, threshold_of
from reports.young import least, young_jump

JUMP = 4.5  # usual distances; as rare as a night in a thousand for most metrics
RECENT_NIGHTS = 3 * MEMORY_NIGHTS  # what nights before them still count in tonight is 5 %
_RECENT = 3  # nights that tell where a series stands
_YOUNG_NIGHTS = 30  # that tell what a young series differs by


def newest_suspicions(tracks: Sequence[Track], tonight: date) -> tuple[Suspicion, ...]:
    """Of series that have tonight and made no step in it."""
    mine = [t for t in tracks if t.nights[-1].night == tonight]
    quiet = [t for t in mine if not any(s.found == tonight for s in t.steps)]
    if not quiet:
        return ()
    found: list[Suspicion | None] = []
    values, segment, last = newest_nights(quiet, RECENT_NIGHTS)
    panel = judge_newest(values, segment)
    limits = threshold_of(panel)
    for row, track in enumerate(quiet):
        t = int(last[row])
        if panel.noise[row, t] == 0:
            found.append(_young(track))
        elif panel.evidence[row, t] >= JUMP and abs(panel.size[row, t]) >= limits[row, t]:
            found.append(_jump(track, panel, row, t, float(limits[row, t])))
    return tuple(s for s in found if s is not None)


def _jump(track: Track, panel: Panel, row: int, t: int, limit: float) -> Suspicion:
    size, error = float(panel.size[row, t]), 1.96 * float(panel.spread[row, t])
    tonight = len(track.nights) - 1
    return suspicion(
        track,
        kind=Kind.JUMP,
        found=tonight,
        range_=(tonight, tonight, tonight),
        logs=(size, size - error, size + error),
        before=float(track.values[tonight]) - size,
        p_value=None,
        threshold=math.expm1(limit),
        num_before=int(panel.before[row, t]),
    )


def _young(track: Track) -> Suspicion | None:
    """Asked for once: not again of a level that last night was called for."""
    t = len(track.nights) - 1
    begun = max(int(track.segment(t + 1)[t]), t - _YOUNG_NIGHTS)
    runs = [np.log(np.array(night.values)) for night in track.nights[begun:]]
    found = young_jump(runs[:-1], runs[-1])
    if found is None or not found.called:
        return None
    last = young_jump(runs[:-2], runs[-2])
    if last is not None and last.called and last.size * found.size > 0.0:
        return None
    return suspicion(
        track,
        kind=Kind.JUMP,
        found=t,
        range_=(t, t, t),
        logs=(found.size, found.interval.low, found.interval.high),
        before=found.before,
        p_value=found.p_value,
        threshold=math.expm1(least()),
        num_before=len(runs) - 1,
    )


def states_of(
    tracks: Sequence[Track], told: Sequence[Suspicion], tonight: date
) -> tuple[SeriesState, ...]:
    """Of every series that has tonight, in the order given."""
    mine = [t for t in tracks if t.nights[-1].night == tonight]
    if not mine:
        return ()
    values, segment, last = newest_nights(mine, RECENT_NIGHTS)
    panel = judge(values, segment, after=(_RECENT,), since=int(last.min()))
    suspected = {s.series for s in told if s.state is State.OPEN and s.found == tonight}
    return tuple(
        _state(track, row, int(last[row]), panel, track.series.key in suspected)
        for row, track in enumerate(mine)
    )


def _state(track: Track, row: int, t: int, panel: Panel, is_suspected: bool) -> SeriesState:
    key, num = track.series.key, len(track.nights)
    if panel.noise[row, t] == 0:
        standing = Standing.SUSPECTED if is_suspected else Standing.YOUNG
        return SeriesState(series=key, standing=standing, num_nights=num)
    size, error = float(panel.size[row, t]), 1.96 * float(panel.spread[row, t])
    low, high = size - error, size + error
    limit = math.log1p(MARGIN)
    standing = Standing.UNCHANGED if -limit <= low and high <= limit else Standing.INCONCLUSIVE
    recent = float(np.mean(track.values[-_RECENT:]))
    return SeriesState(
        series=key,
        standing=Standing.SUSPECTED if is_suspected else standing,
        num_nights=num,
        level=math.exp(recent - size),
        change=math.expm1(size),
        low=math.expm1(low),
        high=math.expm1(high),
        apart=math.expm1(float(panel.apart[row, t])),
        threshold=math.expm1(float(threshold_of(panel)[row, t])),
    )
