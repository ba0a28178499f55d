"""Nights without lone spikes: one bad night is no step, and says little of how much nights vary.

A night is pulled to the median of the seven around it, if it is farther from it than some usual
distances (Hampel's filter). The newest three have no seven around them yet; they are held against
the seven nights up to now, and looked at again as more come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from results.pairs import Floats

SPIKE = 3.0  # usual distances
NEWEST = 3  # nights that are not known for good yet
_WIDTH = 2 * NEWEST + 1
_SCALE_NIGHTS = 61
# Logarithms closer than this are equal: 0.01 %. A metric that never varies has no spread.
FLOOR = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """``values`` (S, T) without lone spikes, as known three nights later; ``recent`` (S, T, 3):
    tonight and the two nights before it, as they are known in each night."""

    values: Floats
    recent: Floats


def cleaned(values: Floats) -> Clean:
    """``values`` (S, T): logarithms, one per night, no gaps."""
    s, t = values.shape
    padded = np.pad(values, ((0, 0), (NEWEST, NEWEST)), mode="edge")
    centre = np.median(np.lib.stride_tricks.sliding_window_view(padded, _WIDTH, axis=1), axis=2)
    so_far = np.pad(values, ((0, 0), (_WIDTH - 1, 0)), mode="edge")
    newest = np.median(np.lib.stride_tricks.sliding_window_view(so_far, _WIDTH, axis=1), axis=2)
    far = SPIKE * _usual_distance(np.abs(values - centre))
    kept = np.clip(values, centre - far, centre + far)
    recent = np.empty((s, t, NEWEST))
    for j in range(NEWEST):
        shifted = values[:, np.maximum(np.arange(t) - j, 0)]
        recent[:, :, j] = np.clip(shifted, newest - far, newest + far)
    return Clean(values=kept, recent=recent)


def grain(values: Floats) -> Floats:
    """(S, T): the smallest difference so far between a night and the next, but for none: what a
    rounded metric can move by at all. Zero until there has been any difference."""
    apart = np.abs(np.diff(values, axis=1, prepend=values[:, :1]))
    smallest = np.minimum.accumulate(np.where(apart > FLOOR / 100.0, apart, np.inf), axis=1)
    made: Floats = np.where(np.isfinite(smallest), smallest, 0.0)
    return made


def _usual_distance(distance: Floats) -> Floats:
    """(S, T): the median of the last nights' distances, as a standard deviation; of distances that
    were known then, three nights late."""
    t = distance.shape[1]
    width = min(_SCALE_NIGHTS, t)
    middle = np.empty_like(distance)
    for n in range(1, width):
        middle[:, n - 1] = np.median(distance[:, :n], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(distance, width, axis=1)
    middle[:, width - 1 :] = np.median(windows, axis=2)
    known = middle[:, np.maximum(np.arange(t) - NEWEST, 0)]
    made: Floats = 1.4826 * known + FLOOR
    return made
