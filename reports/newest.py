"""Tonight alone: jumps that no history can confirm yet, and where every series stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import numpy as np

from reports.compare import MARGIN
from reports.steps import LONE, MIN_NIGHTS, NOISE_NIGHTS, Panel, judge, judge_newest
from reports.suspicion import Kind, SeriesState, Standing, State, Suspicion
from reports.tracks import Track, newest_nights, suspicion, threshold_of
from results.pairs import unpaired_shift

JUMP = 4.5  # usual distances; as rare as a night in a thousand for most metrics
# Before a history can judge, the repeats of two nights do: a change of this much at least, and
# clear of the repeats' own spread. What nights differ by is not known yet.
YOUNG_CHANGE = 0.07
YOUNG_P = 0.01
RECENT_NIGHTS = NOISE_NIGHTS + 80  # no night before them has a say in tonight
_REPEATS = 3  # on each side
_RECENT, _BASELINES = 3, (21, 8)  # nights that tell where a series stands, against how many


def newest_suspicions(tracks: Sequence[Track], tonight: date) -> tuple[Suspicion, ...]:
    """Of series that have tonight and made no step in it."""
    found = []
    mine = [t for t in tracks if t.nights[-1].night == tonight]
    quiet = [t for t in mine if not any(s.found == tonight for s in t.steps)]
    for track in quiet:
        if len(track.nights) <= MIN_NIGHTS:
            young = _young(track)
            found += [young] if young is not None else []
    old = [t for t in quiet if len(t.nights) > MIN_NIGHTS]
    if old:
        values, segment, last = newest_nights(old, RECENT_NIGHTS)
        panel = judge_newest(values, segment)
        limits = threshold_of(panel)
        for row, track in enumerate(old):
            t = int(last[row])
            if panel.z[row, t] >= JUMP and abs(panel.size[row, t]) >= limits[row, t]:
                found.append(_jump(track, panel, row, t, float(limits[row, t])))
    return tuple(found)


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
        num_before=LONE,
    )


def _young(track: Track) -> Suspicion | None:
    t = len(track.nights) - 1
    if t < 1 or t in track.levels:
        return None
    before, after = (np.log(np.array(track.nights[i].values)) for i in (t - 1, t))
    if min(len(before), len(after)) < _REPEATS:
        return None
    shift = unpaired_shift(before, after)
    if shift is None or shift.p_value > YOUNG_P or abs(shift.mean) < math.log1p(YOUNG_CHANGE):
        return None
    return suspicion(
        track,
        kind=Kind.JUMP,
        found=t,
        range_=(t, t, t),
        logs=(shift.mean, shift.interval.low, shift.interval.high),
        before=float(before.mean()),
        p_value=None,
        threshold=YOUNG_CHANGE,
        num_before=1,
    )


def states_of(
    tracks: Sequence[Track], told: Sequence[Suspicion], tonight: date
) -> tuple[SeriesState, ...]:
    """Of every series that has tonight, in the order given."""
    mine = [t for t in tracks if t.nights[-1].night == tonight]
    if not mine:
        return ()
    values, segment, last = newest_nights(mine, RECENT_NIGHTS)
    panels = [judge(values, segment, after=(_RECENT,), before=(n,)) for n in _BASELINES]
    suspected = {s.series for s in told if s.state is State.OPEN and s.found == tonight}
    return tuple(
        _state(track, row, int(last[row]), panels, track.series.key in suspected)
        for row, track in enumerate(mine)
    )


def _state(
    track: Track, row: int, t: int, panels: Sequence[Panel], is_suspected: bool
) -> SeriesState:
    key, num = track.series.key, len(track.nights)
    panel = next((p for p in panels if p.noise[row, t] > 0), None)
    if panel is None:
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
