"""How a study's file says which trials are stopped after a probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# By itself a probe is this share of the window, and at least so long; where the window is not
# several times as long, there is none.
PROBE_SHARE, SHORTEST_PROBE_S, WINDOW_OF_PROBES = 0.2, 5.0, 4.0
# Fewer requests in a probe rule out nothing but the very worst.
LEAST_REQUESTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceSpec:
    """A trial gets no full window where its probe proves that a limit is broken by more than
    ``margin``, or its goal worse by more than that than the best so far. ``error``: how often that
    may be said of a trial of which it is not true. ``probe_s``: of studies without load points;
    null: by itself; 0: none."""

    probe_s: float | None = None
    margin: float = 0.1
    error: float = 0.05

    def probe_of(self, window_s: float) -> float:
        """Seconds of the probe before a window of ``window_s``; 0: none is made."""
        if self.probe_s is not None:
            return self.probe_s
        probe_s = max(PROBE_SHARE * window_s, SHORTEST_PROBE_S)
        return probe_s if window_s >= WINDOW_OF_PROBES * probe_s else 0.0


def wrong_race(race: RaceSpec) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)."""
    if (race.probe_s or 0.0) < 0:
        yield "race.probe_s", f"found {race.probe_s:g}; seconds, 0 or more (0: no probe)"
    if not 0 <= race.margin < 1:
        yield "race.margin", f"found {race.margin:g}; a share from 0 to below 1"
    if not 0 < race.error <= 0.5:
        yield "race.error", f"found {race.error:g}; a probability above 0, at most 0.5"
