"""The kinds of noise that a series of nights may have, and what each makes of its past.

Every kind is an ARMA(1, 1) process (Box & Jenkins, Time Series Analysis, 1970) about a level,

    noise(t) = φ noise(t − 1) + e(t) − θ e(t − 1),      0 ≤ θ ≤ φ ≤ 1,

which is white noise (φ = 0), noise that remembers (φ), a level that wanders (φ = 1; θ tells how
much white noise is on top) and their mixtures. The e(t) are independent: tests are made of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.spikes import FLOOR, Clean
from results.pairs import Floats

# φ, θ, and what the kind counts before anything is known of a series.
KINDS = (
    (0.0, 0.0, 6.0),
    (0.2, 0.0, 1.0),
    (0.4, 0.0, 1.0),
    (0.6, 0.0, 1.0),
    (0.75, 0.0, 1.0),
    (0.9, 0.0, 1.0),
    (0.7, 0.4, 0.5),
    (0.9, 0.5, 0.5),
    (0.9, 0.75, 0.5),
    (0.97, 0.85, 0.5),
    (1.0, 0.0, 1.0),
    (1.0, 0.38, 1.0),
    (1.0, 0.6, 1.0),
    (1.0, 0.75, 1.0),
    (1.0, 0.88, 1.0),
    (1.0, 0.95, 1.0),
)
PHI = np.array([phi for phi, _, _ in KINDS])
THETA = np.array([theta for _, theta, _ in KINDS])
PRIOR = np.log(np.array([weight for _, _, weight in KINDS]) / sum(w for _, _, w in KINDS))
# A step of 1 has innovations 1 at first and, after i nights, LASTING + (1 − LASTING) θ^i.
LASTING = (1.0 - PHI) / (1.0 - THETA)
# The first so many kinds are soon back where they were: a wild night says nothing of the next.
NUM_SHORT = int(np.sum((PHI <= 0.2) & (THETA == 0.0)))
# Nights fade: what was so long ago counts 1/e.
MEMORY_NIGHTS = 150
_FADE = 1.0 - 1.0 / MEMORY_NIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known after each night, of T nights, K kinds, S series; all sums fade.

    ``innovations`` (T, K, S); ``power`` (T, K, S): θ^i, i nights after the level's first;
    ``squares``, ``with_level``, ``level`` (T, K, S): sums of e², e h and h² of this level's nights,
    where h is what a level of 1 leaves in the innovations; ``before`` (T, K, S): squares that were
    left when earlier levels ended. ``relative`` (T, S): values less the level's first.
    ``nights`` (T, S): how many were counted, less one a level; ``apart`` (T, S): variance of the
    difference of two neighbours; ``first`` (T, S): the value that ``relative`` is relative to.
    """

    innovations: Floats
    power: Floats
    squares: Floats
    with_level: Floats
    level: Floats
    before: Floats
    relative: Floats
    first: Floats
    nights: Floats
    apart: Floats


def past_of(clean: Clean, segment: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Past:
    """``segment`` (S, T): the first night of the level that each night belongs to."""
    values, starts = clean.values.T, segment.T
    t, s = values.shape
    shape = (t, len(KINDS), s)
    made = Past(
        **{n: np.empty(shape) for n in ("innovations", "power", "squares", "with_level")},
        **{n: np.empty(shape) for n in ("level", "before")},
        **{n: np.empty((t, s)) for n in ("relative", "first", "nights", "apart")},
    )
    phi, theta, lasting = PHI[:, None], THETA[:, None], LASTING[:, None]
    e = power = squares = mixed = level = before = np.zeros(shape[1:])
    relative = first = nights = apart = pairs = np.zeros(s)
    for night in range(t):
        begins = starts[night] == night
        if begins.any():
            left = before + np.maximum(squares - mixed**2 / np.maximum(level, 1e-12), 0.0)
            before = np.where(begins, left, before)
            squares, mixed, level, e = (
                np.where(begins, 0.0, x) for x in (squares, mixed, level, e)
            )
            power = np.where(begins, 1.0, power * theta)
            first = np.where(begins, values[night], first)
            relative = np.where(begins, 0.0, relative)
            nights = np.where(begins, nights - 1.0, nights)
        else:
            power = power * theta
        now = values[night] - first
        e = now - phi * relative + theta * e
        h = lasting + (1.0 - lasting) * power
        squares, mixed, level = (
            _FADE * squares + e * e,
            _FADE * mixed + h * e,
            _FADE * level + h * h,
        )
        apart = _FADE * apart + np.where(begins, 0.0, (now - relative) ** 2)
        pairs = _FADE * pairs + ~begins
        before, nights, relative = _FADE * before, _FADE * nights + 1.0, now
        for kept, found in (
            (made.innovations, e),
            (made.power, power),
            (made.squares, squares),
            (made.with_level, mixed),
            (made.level, level),
            (made.before, before),
            (made.relative, relative),
            (made.first, first),
            (made.nights, nights),
            (made.apart, apart / np.maximum(pairs, 1.0) + FLOOR**2),
        ):
            kept[night] = found
    return made


def newest_innovations(clean: Clean, past: Past) -> tuple[Floats, Floats, Floats]:
    """(T, K, S) each: of the night before last, last night and tonight, as known in each night.
    Of the first three nights they are of no use."""
    lag = clean.recent.shape[2]
    relative = np.roll(past.relative, lag, axis=0)[:, None, :]
    e = np.roll(past.innovations, lag, axis=0)
    first = np.roll(past.first, lag, axis=0)
    made = []
    for j in range(lag - 1, -1, -1):
        now = (clean.recent[:, :, j].T - first)[:, None, :]
        e = now - PHI[:, None] * relative + THETA[:, None] * e
        relative = now
        made.append(e)
    return made[0], made[1], made[2]
