"""Has a series made a step? One statistic for every night of many series at once.

Each night asks whether the last ``m`` nights lie elsewhere than the ``n`` before them, for some
lengths of both, and divides the difference by what such a difference varies *in this series when
nothing happens*. That spread has two parts, found as for clocks (Allan, Proc. IEEE 54, 1966; NIST
SP 1065): noise that averages out, σ², and a level that wanders, c per night. Differences of block
means vary by

    V(m, n) = σ² (1/m + 1/n) + c ((m + n)/3 + (1/m + 1/n)/6)

exactly, for white noise, for a random walk, and for their sum. Autocorrelated noise is taken for
some of each, which is too wide rather than too narrow. The largest quotient over all lengths
is compared with what it does on null series (``reports.steps_null``), never with a table of the
normal: the split is chosen, the spread is estimated, and both have their price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

AFTER = (3, 4, 5, 7, 10, 14, 20)  # m: nights since the step
BEFORE = (4, 8, 21, 55)  # n: nights before it
SCALES = (1, 2, 4, 8, 16)  # block lengths whose differences tell σ² and c
NOISE_NIGHTS = 180  # older nights say little of how much a metric varies today
LONE = 8  # nights that one night alone is held against
MIN_NIGHTS = 14  # of noise; fewer and no history is judged
# One night alone is no step. A night is pulled to the median of the seven around it, if it is
# farther from it than this many of the usual distances (Hampel's filter).
SPIKE = 3.0
_WIDTH = 7
_SCALE_NIGHTS = 61
# A level that wanders by less than this over N², as a share of σ², is not seen in N nights.
HIDDEN = 10.0
# Logarithms closer than this are equal: 0.01 %. A metric that never varies has no spread.
FLOOR = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """For every series and night (S, T): the largest |quotient| ``z`` (0: cannot be judged), the
    lengths it was found with, the difference ``size`` of logarithms and its ``spread``, and how
    many nights of ``noise`` the spread was learned from. ``apart``: how much one night differs from
    the next by chance, as a standard deviation. ``grain``: the smallest difference that there had
    been between two nights, but for none: what a metric that is rounded can move by at all."""

    z: Floats
    after: Ints
    before: Ints
    size: Floats
    spread: Floats
    noise: Ints
    apart: Floats
    grain: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clean:
    """``values`` (S, T) without lone spikes, as known three nights later; ``recent`` (S, T, 3):
    the last three nights as they were known in each night; ``total`` (S, T + 1): running sums.
    ``grain`` (S, T): the smallest difference so far between a night and the next, but for none."""

    values: Floats
    recent: Floats
    total: Floats
    grain: Floats


def judge(
    values: Floats,
    segment: Ints,
    after: tuple[int, ...] = AFTER,
    before: tuple[int, ...] = BEFORE,
) -> Panel:
    """``values`` (S, T): logarithms, one per night, no gaps. ``segment`` (S, T): the first night
    of the level that each night belongs to; blocks never reach across."""
    clean = _cleaned(values)
    sums, counts = _scales(clean, segment)
    best = _nothing(values.shape)
    for m in after:
        late, noise = _mean_after(clean, m), _noise(sums, counts, m)
        # A baseline shorter than half of what it is compared with adds nothing but noise.
        for n in (n for n in before if 2 * n >= m):
            _take(best, clean, late - _mean_before(clean, m, n), noise, segment, m, n)
    return best


def judge_newest(values: Floats, segment: Ints) -> Panel:
    """As ``judge``, for each night alone against the median of the LONE before it: fast to see,
    easy to fool."""
    clean = _cleaned(values)
    padded = np.pad(values, ((0, 0), (LONE, 0)), mode="edge")[:, :-1]
    early = np.median(np.lib.stride_tricks.sliding_window_view(padded, LONE, axis=1), axis=2)
    best = _nothing(values.shape)
    # Spikes of the last nights are not all known yet, so the noise is that of before.
    noise = _noise(*_scales(clean, segment), _WIDTH // 2 + 1)
    _take(best, clean, values - early, noise, segment, 1, LONE)
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noise:
    white: Floats
    drift: Floats
    apart: Floats
    nights: Ints


def _nothing(shape: tuple[int, ...]) -> Panel:
    return Panel(
        z=np.zeros(shape),
        after=np.zeros(shape, np.int64),
        before=np.zeros(shape, np.int64),
        size=np.zeros(shape),
        spread=np.zeros(shape),
        noise=np.zeros(shape, np.int64),
        apart=np.zeros(shape),
        grain=np.zeros(shape),
    )


def _take(
    best: Panel, clean: _Clean, size: Floats, noise: _Noise, segment: Ints, m: int, n: int
) -> None:
    """Where these lengths give a larger quotient, they take their place in ``best``."""
    nights = np.arange(size.shape[1])
    spread = np.sqrt(variance(noise.white, noise.drift, m, n) + FLOOR**2)
    z = np.abs(size) / spread
    fits = (nights - m - n + 1 >= segment) & (noise.nights >= MIN_NIGHTS)
    better = fits & (z > best.z)
    for kept, found in (
        (best.z, z),
        (best.size, size),
        (best.spread, spread),
        (best.noise, noise.nights),
        (best.apart, noise.apart),
        (best.grain, clean.grain[:, np.maximum(nights - m, 0)]),
    ):
        kept[better] = found[better]
    best.after[better], best.before[better] = m, n


def variance(white: Floats, drift: Floats, m: int, n: int) -> Floats:
    """V(m, n) of the module's text."""
    short = 1.0 / m + 1.0 / n
    made: Floats = white * short + drift * ((m + n) / 3.0 + short / 6.0)
    return made


def _cleaned(values: Floats) -> _Clean:
    s, t = values.shape
    half = _WIDTH // 2
    padded = np.pad(values, ((0, 0), (half, half)), mode="edge")
    centre = np.median(np.lib.stride_tricks.sliding_window_view(padded, _WIDTH, axis=1), axis=2)
    # The last half-window of nights is judged by the seven nights up to now.
    so_far = np.pad(values, ((0, 0), (_WIDTH - 1, 0)), mode="edge")
    newest = np.median(np.lib.stride_tricks.sliding_window_view(so_far, _WIDTH, axis=1), axis=2)
    usual = _usual_distance(np.abs(values - centre))
    kept = np.clip(values, centre - SPIKE * usual, centre + SPIKE * usual)
    recent = np.empty((s, t, half))
    for j in range(half):
        shifted = np.empty_like(values)
        shifted[:, j:] = values[:, : t - j] if j else values
        shifted[:, :j] = values[:, :1]
        recent[:, :, j] = np.clip(shifted, newest - SPIKE * usual, newest + SPIKE * usual)
    total = np.concatenate([np.zeros((s, 1)), np.cumsum(kept, axis=1)], axis=1)
    return _Clean(values=kept, recent=recent, total=total, grain=_grain(values))


def _grain(values: Floats) -> Floats:
    """Zero until there has been any difference."""
    apart = np.abs(np.diff(values, axis=1, prepend=values[:, :1]))
    smallest = np.minimum.accumulate(np.where(apart > FLOOR / 100.0, apart, np.inf), axis=1)
    made: Floats = np.where(np.isfinite(smallest), smallest, 0.0)
    return made


def _usual_distance(distance: Floats) -> Floats:
    """(S, T): the median of the last nights' distances, as a standard deviation; of distances that
    were known then, three nights late."""
    t, lag = distance.shape[1], _WIDTH // 2
    width = min(_SCALE_NIGHTS, t)
    middle = np.empty_like(distance)
    for n in range(1, width):
        middle[:, n - 1] = np.median(distance[:, :n], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(distance, width, axis=1)
    middle[:, width - 1 :] = np.median(windows, axis=2)
    known = middle[:, np.maximum(np.arange(t) - lag, 0)]
    made: Floats = 1.4826 * known + FLOOR
    return made


def _mean_after(clean: _Clean, m: int) -> Floats:
    """(S, T): mean of the last m nights, the newest three as they are known in that night."""
    t = clean.values.shape[1]
    half = _WIDTH // 2
    made: Floats = clean.recent.sum(axis=2)
    if m > half:
        ends = np.clip(np.arange(t) - half + 1, 0, t)
        begins = np.clip(np.arange(t) - m + 1, 0, t)
        made = made + clean.total[:, ends] - clean.total[:, begins]
    return made / m


def _mean_before(clean: _Clean, m: int, n: int) -> Floats:
    t = clean.values.shape[1]
    ends = np.clip(np.arange(t) - m + 1, 0, t)
    begins = np.clip(ends - n, 0, t)
    made: Floats = (clean.total[:, ends] - clean.total[:, begins]) / n
    return made


def _scales(clean: _Clean, segment: Ints) -> tuple[list[Floats], list[Floats]]:
    """For each of SCALES, running sums (S, T + 1) of squared differences of neighbouring block
    means, and of how many there were."""
    t = clean.values.shape[1]
    sums, counts = [], []
    for k in SCALES:
        at = np.arange(t + 1)
        middle, first = np.clip(at - k, 0, t), np.clip(at - 2 * k, 0, t)
        ahead = clean.total[:, at] - clean.total[:, middle]
        behind = clean.total[:, middle] - clean.total[:, first]
        squared = ((ahead - behind) / k) ** 2
        valid = np.zeros(squared.shape)
        valid[:, 1:] = (at[1:] - 2 * k >= segment) & (at[1:] >= 2 * k)
        sums.append(np.cumsum(squared * valid, axis=1))
        counts.append(np.cumsum(valid, axis=1))
    return sums, counts


def _noise(sums: list[Floats], counts: list[Floats], m: int) -> _Noise:
    """For each night, from the nights up to ``m`` before it.

    Least squares of the mean squares on V(k, k), each weighted by its degrees of freedom over its
    own square, begun from the mean squares themselves and repeated with the fit's. The walk is then
    taken at the upper end of what so few blocks can tell, and never for less than could hide.
    """
    t = sums[0].shape[1] - 1
    last = np.clip(np.arange(t) - m + 1, 0, t)
    first = np.clip(last - NOISE_NIGHTS, 0, t)
    found, weights = [], []
    for k, total, number in zip(SCALES, sums, counts, strict=True):
        n = number[:, last] - number[:, first]
        found.append((total[:, last] - total[:, first]) / np.maximum(n, 1.0) + FLOOR**2)
        weights.append(n / k)
    expected = found
    white = drift = np.zeros_like(found[0])
    for _ in range(4):
        white, drift = _fit(found, weights, expected)
        expected = [variance(white, drift, k, k) + FLOOR**2 for k in SCALES]
    pairs = weights[0]
    nights = pairs + 1.0
    upper = drift * (1.0 + 2.0 / np.sqrt(nights / 8.0)) + white * HIDDEN / nights**2
    apart = np.sqrt(found[0])
    known = np.where(pairs > 0, nights, 0.0).astype(np.int64)
    return _Noise(white=white, drift=upper, apart=apart, nights=known)


def _fit(
    found: list[Floats], weights: list[Floats], expected: list[Floats]
) -> tuple[Floats, Floats]:
    """Both not negative: the better of the two edges where the free solution is."""
    aa = ag = gg = ay = gy = np.zeros_like(found[0])
    for k, y, w, v in zip(SCALES, found, weights, expected, strict=True):
        a, g, u = 2.0 / k, 2.0 * k / 3.0 + 1.0 / (3.0 * k), w / v**2
        aa, ag, gg = aa + u * a * a, ag + u * a * g, gg + u * g * g
        ay, gy = ay + u * a * y, gy + u * g * y
    det = np.maximum(aa * gg - ag * ag, 1e-300)
    white, drift = (gg * ay - ag * gy) / det, (aa * gy - ag * ay) / det
    only_white, only_drift = ay / np.maximum(aa, 1e-300), gy / np.maximum(gg, 1e-300)
    free = (white >= 0) & (drift >= 0)
    prefer_white = ay * only_white >= gy * only_drift
    return (
        np.where(free, white, np.where(prefer_white, only_white, 0.0)),
        np.where(free, drift, np.where(prefer_white, 0.0, only_drift)),
    )
