"""Has a series made a step? The evidence of every night of many series at once.

Each night asks whether the last m nights, for some m, are better told by a step that began with
them than without one. How well they are told either way depends on the kind of noise, and that is
not known: every kind (``reports.kinds``) tells it in its own way and counts for as much as it has
told the series so far (Bayes' theorem, in closed form; Zellner, An Introduction to Bayesian
Inference in Econometrics, 1971). Without a step, the kinds whose level wanders tell the last m
nights best; so a step is evident only where no kind that may be true explains it. The evidence is
the logarithm of the ratio of the two; the largest over all m counts, and is compared with what it
is on null series (``reports.steps_null``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.kinds import LASTING, NUM_SHORT, PHI, PRIOR, THETA, Past, newest_innovations, past_of
from reports.spikes import FLOOR, NEWEST, cleaned, grain
from results.pairs import Floats

Ints = npt.NDArray[np.int64]

AFTER = (3, 4, 5, 6, 8, 11, 15, 20, 28)  # m: nights since the step
MIN_NIGHTS = 14  # before the step; fewer and no history is judged
LEVEL_NIGHTS = 4  # of them on the step's own level before
# A step's size is looked for around so many standard deviations of an innovation.
SIZE = 1.5
# Without a step the last nights may have been loud: of so many times the variance, with a chance of
# so much, to begin with. Three bad nights on one side are then no step yet.
LOUD, LOUD_PRIOR = 10.0, 0.5
_AT_ONCE = 48  # series, so that what is in work stays near the processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """For every series and night (S, T): the ``evidence`` of a step (0: none, or not judged), the
    nights since it and before it on its level, the difference ``size`` of logarithms and its
    ``spread``, and how many nights of ``noise`` were known before it (0: not judged). ``apart``:
    how much one night differs from the next by chance, as a standard deviation. ``grain``: the
    smallest difference that there had been between two nights, but for none."""

    evidence: Floats
    after: Ints
    before: Ints
    size: Floats
    spread: Floats
    noise: Ints
    apart: Floats
    grain: Floats


def judge(
    values: Floats, segment: Ints, after: tuple[int, ...] = AFTER, *, since: int = 0
) -> Panel:
    """``values`` (S, T): logarithms, one per night, no gaps. ``segment`` (S, T): the first night
    of the level that each night belongs to; no step is looked for across. ``since``: nights before
    that one are read and not judged."""
    parts = [
        _judged(values[i : i + _AT_ONCE], segment[i : i + _AT_ONCE], after, since)
        for i in range(0, len(values), _AT_ONCE)
    ]
    return joined(parts)


def joined(parts: list[Panel]) -> Panel:
    return Panel(
        **{name: np.concatenate([getattr(x, name) for x in parts]) for name in Panel.__slots__}
    )


def nothing(shape: tuple[int, ...]) -> Panel:
    return Panel(
        evidence=np.zeros(shape),
        after=np.zeros(shape, np.int64),
        before=np.zeros(shape, np.int64),
        size=np.zeros(shape),
        spread=np.zeros(shape),
        noise=np.zeros(shape, np.int64),
        apart=np.zeros(shape),
        grain=np.zeros(shape),
    )


def _judged(values: Floats, segment: Ints, after: tuple[int, ...], since: int) -> Panel:
    s, t = values.shape
    best = nothing((s, t))
    clean = cleaned(values)
    past = past_of(clean, segment)
    smallest = grain(values)
    newest = newest_innovations(clean, past)
    begun = max(since, max(min(after), NEWEST))
    nights = np.arange(begun, t)
    # Sums over the nights since the step, of e, e θ^i and e², i nights after the step's first.
    total = power = squares = np.zeros_like(newest[0][begun:])
    for m in range(1, max(after) + 1):
        if m <= NEWEST:
            e = newest[NEWEST - m][begun:]
        else:
            e = past.innovations[np.maximum(nights - m + 1, 0)]
        total, power, squares = total + e, e + THETA[:, None] * power, squares + e * e
        if m not in after:
            continue
        at = np.maximum(nights - m, 0)
        weighed = _weighed(past, at, m, total, power, squares)
        level = (nights - m + 1)[:, None] - segment.T[begun:]
        known = past.nights[at]
        fits = (level >= LEVEL_NIGHTS) & (nights[:, None] >= m) & (known + 1.0 >= MIN_NIGHTS)
        _take(best, weighed, fits, begun, m, level, past, smallest, at)
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """(T, S) each: the evidence of a step, its size and its spread."""

    evidence: Floats
    size: Floats
    spread: Floats


def _weighed(
    past: Past, at: Ints, m: int, total: Floats, power: Floats, squares: Floats
) -> _Weighed:
    """Least squares of the innovations on what a level leaves in them (h) and what a step of one
    leaves (s), the level's size unknown, the step's normal about 0 with SIZE, the innovations'
    variance unknown. (T, K, S) inside."""
    theta, b = THETA[:, None], LASTING[:, None]
    c = 1.0 - b
    lag = np.arange(m)
    g1 = np.sum(theta**lag, axis=1, keepdims=True)
    g2 = np.sum(theta ** (2 * lag), axis=1, keepdims=True)
    first = past.power[at] * theta  # θ^i of the step's first night, i nights after the level's
    ss = b * b * m + 2.0 * b * c * g1 + c * c * g2
    sh = b * b * m + b * c * g1 * (1.0 + first) + c * c * g2 * first
    new_hh = b * b * m + first * (2.0 * b * c * g1 + c * c * g2 * first)
    se, new_he = b * total + c * power, b * total + c * first * power
    hh, he = past.level[at] + new_hh, past.with_level[at] + new_he
    num = (past.nights[at] + m)[:, None, :]
    old = past.before[at] + past.squares[at] + num * FLOOR**2
    left = old + squares - he**2 / hh
    own, u = ss - sh**2 / hh, se - sh * he / hh
    each = u / own
    gain = u**2 / (own + SIZE**-2)
    without = PRIOR[:, None] - 0.5 * num * np.log(left) - 0.5 * np.log(hh)
    ratio = -0.5 * num * np.log1p(-gain / left) - 0.5 * np.log1p(own * SIZE**2)
    most = without.max(axis=1, keepdims=True)
    weight = np.exp(without - most)
    short = slice(0, NUM_SHORT)
    loud = _loud(
        old[:, short] + squares[:, short] / LOUD,
        past.with_level[at, short] + new_he[:, short] / LOUD,
        past.level[at, short] + new_hh[:, short] / LOUD,
        num,
        m,
    )
    other = np.exp(np.minimum(loud - most, 600.0)).sum(axis=1)
    ratio = np.minimum(ratio, 600.0)
    step = weight * np.exp(ratio)
    all_steps = step.sum(axis=1)
    share = step / all_steps[:, None, :]
    size = np.sum(share * each, axis=1)
    spread2 = (
        np.sum(share * (np.maximum(left - own * each**2, 0.0) / (num * own) + each**2), axis=1)
        - size**2
    )
    return _Weighed(
        evidence=np.log(all_steps / (weight.sum(axis=1) + other)),
        size=size,
        spread=np.sqrt(np.maximum(spread2, FLOOR**2)),
    )


def _loud(squares: Floats, he: Floats, hh: Floats, num: Floats, m: int) -> Floats:
    """How well the nights are told without a step by the kinds of short memory, if the last m were
    loud: their innovations count as much less as their variance was larger. A wandering level is
    not taken to be loud: one wild move of it would be the very step that is looked for."""
    left = squares - he**2 / hh
    prior = PRIOR[:NUM_SHORT, None] + np.log(LOUD_PRIOR) - 0.5 * m * np.log(LOUD)
    told: Floats = prior - 0.5 * num * np.log(left) - 0.5 * np.log(hh)
    return told


def _take(
    best: Panel,
    weighed: _Weighed,
    fits: npt.NDArray[np.bool_],
    begun: int,
    m: int,
    level: Ints,
    past: Past,
    smallest: Floats,
    at: Ints,
) -> None:
    """Where so many nights since the step give more evidence, they take their place in ``best``."""
    here = best.evidence[:, begun:]
    known = np.rint(past.nights[at] + 1.0).astype(np.int64)
    better = (fits & ((weighed.evidence > here.T) | (best.noise[:, begun:].T == 0))).T
    for kept, found in (
        (best.evidence, weighed.evidence),
        (best.size, weighed.size),
        (best.spread, weighed.spread),
        (best.noise, known),
        (best.apart, np.sqrt(past.apart[at])),
        (best.grain, smallest.T[at]),
        (best.before, level),
    ):
        kept[:, begun:][better] = found.T[better]
    best.after[:, begun:][better] = m


def judge_newest(values: Floats, segment: Ints) -> Panel:
    """Each night alone against what was to be expected of it: fast to see, easy to fool. The
    ``evidence`` is the distance from that in standard deviations."""
    parts = [
        _newest_judged(values[i : i + _AT_ONCE], segment[i : i + _AT_ONCE])
        for i in range(0, len(values), _AT_ONCE)
    ]
    return joined(parts)


def _newest_judged(values: Floats, segment: Ints) -> Panel:
    s, t = values.shape
    made = nothing((s, t))
    if t <= NEWEST:
        return made
    clean = cleaned(values)
    past = past_of(clean, segment)
    nights = np.arange(NEWEST, t)
    # Spikes of the last nights are not all known yet, so the noise is that of before.
    at = nights - NEWEST
    left = past.before[at] + np.maximum(
        past.squares[at] - past.with_level[at] ** 2 / past.level[at], 0.0
    )
    num = past.nights[at][:, None, :]
    told = PRIOR[:, None] - 0.5 * num * np.log(left + num * FLOOR**2) - 0.5 * np.log(past.level[at])
    weight = np.exp(told - told.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    _, last, _ = newest_innovations(clean, past)
    tonight = (values.T[nights] - past.first[at])[:, None, :]
    yesterday = (clean.recent[:, NEWEST:, 1].T - past.first[at])[:, None, :]
    h = LASTING[:, None] + (1.0 - LASTING[:, None]) * past.power[at] * THETA[:, None] ** NEWEST
    mean = past.with_level[at] / past.level[at]
    off = tonight - PHI[:, None] * yesterday + THETA[:, None] * last[NEWEST:] - h * mean
    size = np.sum(weight * off, axis=1)
    error = (left / np.maximum(num, 1.0) + FLOOR**2) * (1.0 + h**2 / past.level[at])
    spread = np.sqrt(np.maximum(np.sum(weight * (error + off**2), axis=1) - size**2, FLOOR**2))
    weighed = _Weighed(evidence=np.abs(size) / spread, size=size, spread=spread)
    fits = (at[:, None] >= segment.T[nights]) & (past.nights[at] + 1.0 >= MIN_NIGHTS)
    level = nights[:, None] - segment.T[nights]
    _take(made, weighed, fits, NEWEST, 1, level, past, grain(values), at)
    return made
