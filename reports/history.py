"""Nights in, suspicions out: which series moved, when, by how much, and how many would by chance.

The history is read as it came: each night is judged with what was known in it, so that reading it
again tomorrow tells the same of yesterday. A series that made a step goes on from its new level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from reports.newest import newest_suspicions, states_of
from reports.series import Series
from reports.steps import Panel, judge
from reports.steps_null import ALPHA, highest_called, p_values
from reports.suspicion import History, Kind, State, Suspicion
from reports.tracks import Track, padded, suspicion, threshold_of, track_of
from results.events import Event, Said, in_force
from results.pairs import Floats

FALSE_RATE = 0.10  # of a night's suspicions, at most this share by chance
# Where a step began: nights whose fit is worse by less than this may hold it, with 95 % (Siegmund,
# Adv. Appl. Prob. 20, 1988: −2 ln(1 − √0.95)).
LOCATED = 7.35
MEDIAN = 1.2533  # √(π/2): a median's standard error over a mean's, of normal values
_BASELINE = 55  # nights before a step that its range is told from
SOON = timedelta(days=14)  # within which a step that was told is called expected


def read_history(
    series: Sequence[Series], events: Sequence[Event] = (), *, until: date | None = None
) -> History:
    """``until``: read no further than this night. Raises ValueError without a single night."""
    valid = in_force(events)
    tracks = [track_of(one, valid, until) for one in series]
    tracks = [t for t in tracks if t.nights]
    if not tracks:
        raise ValueError("no series has a night to judge")
    calendar = sorted({night.night for t in tracks for night in t.nights})
    panel, p = _replay(tracks, calendar)
    missed = [_missed(track, valid) for track in tracks]
    if any(missed):
        for track, levels in zip(tracks, missed, strict=True):
            track.begin_again(levels)
        panel, p = _replay(tracks, calendar)
    tonight = calendar[-1]
    last = [t.nights[-1].night == tonight for t in tracks]
    tested = np.array([p[i, len(t.nights) - 1] for i, t in enumerate(tracks) if last[i]])
    tested = tested[[_is_tested(t, panel, i) for i, t in enumerate(tracks) if last[i]]]
    cut = min(highest_called(tested, FALSE_RATE), ALPHA)
    steps = [s for t in tracks for s in t.steps]
    jumps = newest_suspicions(tracks, tonight)
    told = _stated([*steps, *jumps], valid)
    told.sort(key=lambda s: (-s.found.toordinal(), -abs(math.log1p(s.change)), s.series))
    return History(
        night=tonight,
        suspicions=tuple(told),
        states=states_of(tracks, told, tonight),
        num_tested=len(tested),
        num_young=sum(last) - len(tested),
        expected_false=cut * len(tested),
    )


def _is_tested(track: Track, panel: Panel, row: int) -> bool:
    return bool(panel.noise[row, len(track.nights) - 1] > 0)


def _replay(tracks: Sequence[Track], calendar: Sequence[date]) -> tuple[Panel, Floats]:
    """Every night in order, all series of it together; fills each track's ``steps``.

    Returns the panel and p-values (series, night of the series) at the end."""
    width = max(len(t.nights) for t in tracks)
    place = {night: c for c, night in enumerate(calendar)}
    at = np.full((len(tracks), width), -1)
    for row, track in enumerate(tracks):
        at[row, : len(track.nights)] = [place[n.night] for n in track.nights]
    panel = _judged(tracks, width)
    p = p_values(panel.evidence, panel.noise)
    night = 0
    while True:
        could = (p <= ALPHA) & (np.abs(panel.size) >= threshold_of(panel)) & (at >= night)
        if not could.any():
            return panel, p
        night = int(at[could].min())
        rows, nights = np.nonzero((at == night) & (panel.noise > 0))
        cut = highest_called(p[rows, nights], FALSE_RATE)
        called = [
            (row, t)
            for row, t in zip(rows, nights, strict=True)
            if could[row, t] and p[row, t] <= cut
        ]
        for row, t in called:
            step = _located(tracks[row], panel, float(p[row, t]), int(row), int(t))
            tracks[row].steps.append(step)
        if called:
            moved = [int(row) for row, _ in called]
            fresh = _judged([tracks[row] for row in moved], width)
            for name in Panel.__slots__:
                getattr(panel, name)[moved] = getattr(fresh, name)
            p[moved] = p_values(fresh.evidence, fresh.noise)
        night += 1


def _judged(tracks: Sequence[Track], width: int) -> Panel:
    return judge(*padded(tracks, width))


def _located(track: Track, panel: Panel, p: float, row: int, t: int) -> Suspicion:
    """The step seen in night ``t``: its first night and the range of it; the track goes on from
    there."""
    m, n = int(panel.after[row, t]), min(int(panel.before[row, t]), _BASELINE)
    segment = int(track.segment(t + 1)[t])
    begun = max(segment, t - m - _BASELINE + 1)
    unit = float(panel.spread[row, t]) ** 2 / (1.0 / m + 1.0 / n)
    cuts = np.arange(begun + 3, t)  # first nights of the new level, which has two at least
    fits = np.array([_fit(track.values[begun : t + 1], int(cut) - begun) for cut in cuts]) / unit
    best = int(np.argmax(fits))
    near = cuts[fits >= fits[best] - LOCATED]
    likely = int(cuts[best])
    track.levels = sorted({b for b in track.levels if b <= segment or b > t} | {likely})
    # The level's change is told of the nights as they were: those of the panel are without spikes,
    # and the first nights of a step look like some.
    before, after = track.values[begun:likely], track.values[likely : t + 1]
    size = float(np.median(after) - np.median(before))
    error = 1.96 * MEDIAN * math.sqrt(unit * (1.0 / len(after) + 1.0 / len(before)))
    return suspicion(
        track,
        kind=Kind.STEP,
        found=t,
        range_=(int(near[0]), likely, int(near[-1])),
        logs=(size, size - error, size + error),
        before=float(np.median(before)),
        p_value=p,
        threshold=float(np.expm1(threshold_of(panel)[row, t])),
        num_before=likely - begun,
    )


def _fit(values: Floats, cut: int) -> float:
    """By how much two levels fit better than one, in squares."""
    before, after = values[:cut], values[cut:]
    return float((before.mean() - after.mean()) ** 2 / (1.0 / len(before) + 1.0 / len(after)))


def _speaks_of(event: Event, steps: Sequence[Suspicion]) -> int | None:
    """Which of a series' steps, in order of their beginning: the last that began by the event's
    night. An expected step is one that was found about then, or else it is yet to come."""
    begun = [i for i, s in enumerate(steps) if s.earliest <= event.night]
    if not begun:
        return None
    late = event.night - steps[begun[-1]].found > SOON
    return None if late and event.said is Said.EXPECTED else begun[-1]


def _missed(track: Track, events: Sequence[Event]) -> list[int]:
    """First nights of steps that were expected and not found: the track is to be read again, with
    a new level from each on."""
    nights = track.nights
    return [
        i
        for e in events
        if e.said is Said.EXPECTED and e.concerns(track.series.key)
        if _speaks_of(e, track.steps) is None
        if 0 < (i := sum(n.night < e.night for n in nights)) < len(nights)
    ]


def _stated(steps: Sequence[Suspicion], events: Sequence[Event]) -> list[Suspicion]:
    """With what people said."""
    states = {Said.ACK: State.ACKNOWLEDGED, Said.EXPECTED: State.EXPECTED}
    by_series: dict[str, list[Suspicion]] = {}
    for step in sorted(steps, key=lambda s: s.earliest):
        by_series.setdefault(step.series, []).append(step)
    for event in (e for e in events if e.said in states):
        for name, mine in by_series.items():
            i = _speaks_of(event, mine) if event.concerns(name) else None
            if i is not None:
                mine[i] = replace(mine[i], state=states[event.said], said=event.reason)
    return [step for mine in by_series.values() for step in mine]
