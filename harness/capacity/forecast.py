"""What it would take to decide a rate: a guess from all rates measured so far. Pure.

Guesses steer the search and are never told: a bad one costs time, not truth.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.capacity.evidence import share_bounds
from results.capacity import RateJudged
from results.samples import FloatColumn

# Of effective requests: numbers that may be needed for a decision, a seventh apart.
_SIZES = [float(n) for n in np.geomspace(1.0, 1e6, 101)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """``passes``: which way the rate would go; ``num_requests`` more decide it. None: too near."""

    passes: bool
    num_requests: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """One condition over the rates (k,), ascending: misses only ever grow with the rate."""

    wanted: float
    log_rates: FloatColumn
    log_misses: FloatColumn
    effects: FloatColumn
    effective_n: FloatColumn


class Forecast:
    """Made from the judged rates; asked about any rate."""

    def __init__(self, rates: Sequence[RateJudged], error: float) -> None:
        self._error = error
        self._measured = {r.rate_rps: i for i, r in enumerate(rates)}
        by_name: dict[str, list[tuple[float, float, float, int]]] = {}
        wanted: dict[str, float] = {}
        for rate in rates:
            for c in rate.constraints:
                if c.wanted > 0.0:
                    wanted[c.name] = c.wanted
                    row = (rate.rate_rps, c.attainment, c.effective_n, c.num_judged)
                    by_name.setdefault(c.name, []).append(row)
        self._curves = [_curve(wanted[name], rows) for name, rows in by_name.items()]

    def guess(self, rate: float) -> Guess:
        """Raises ValueError where nothing was measured yet."""
        if not self._curves:
            raise ValueError("nothing was measured: there is nothing to guess from")
        seen = [self._of(curve, rate) for curve in self._curves]
        failing = [need for passes, need in seen if not passes]
        if failing:  # one condition is enough
            known = [need for need in failing if need is not None]
            return Guess(passes=False, num_requests=min(known, default=None))
        needs = [need for _, need in seen]
        if any(need is None for need in needs):
            return Guess(passes=True, num_requests=None)
        return Guess(passes=True, num_requests=max(n for n in needs if n is not None))

    def passes(self, rate: float) -> bool:
        """Which way the rate would go, whatever it takes."""
        return all(_share(curve, rate) >= curve.wanted for curve in self._curves)

    def _of(self, curve: _Curve, rate: float) -> tuple[bool, float | None]:
        x, share = math.log(rate), _share(curve, rate)
        effect = float(np.interp(x, curve.log_rates, curve.effects))
        at = self._measured.get(rate)
        there = float(curve.effective_n[at]) if at is not None else 0.0
        passes = share >= curve.wanted
        n = _needed_n(share, curve.wanted, self._error)
        return passes, None if n is None else max(n - there, 0.0) * effect


def _curve(wanted: float, rows: Sequence[tuple[float, float, float, int]]) -> _Curve:
    rate, attainment, effective_n, num = np.array(rows, dtype=np.float64).T
    n = np.maximum(effective_n, 1e-9)
    return _Curve(
        wanted=wanted,
        log_rates=np.log(rate),
        log_misses=np.log(_rising_misses(1.0 - attainment, n)),
        effects=np.maximum(num / n, 1.0),
        effective_n=effective_n,
    )


def _share(curve: _Curve, rate: float) -> float:
    misses = np.interp(math.log(rate), curve.log_rates, curve.log_misses)
    return 1.0 - math.exp(float(misses))


def _rising_misses(
    misses: FloatColumn,
    weights: FloatColumn,
) -> FloatColumn:
    """Shares of misses, made to rise with the rate by pooling neighbours (pool adjacent violators),
    each pool with a third of a miss more than was seen: none seen is not none."""
    pools: list[list[float]] = []  # misses, weight, number of rates
    for miss, weight in zip(misses, weights, strict=True):
        pools.append([miss * weight, weight, 1.0])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    values = [(k + 1 / 3) / (w + 2 / 3) for k, w, _ in pools]
    risen = np.maximum.accumulate(np.repeat(values, [int(p[2]) for p in pools]))
    return np.clip(risen, 1e-9, 1.0)


def _needed_n(share: float, wanted: float, error: float) -> float | None:
    """Effective requests at which a share decides; None: more than anybody will send."""

    def decides(n: float) -> bool:
        low, high = share_bounds(share * n, n, error)
        return bool(low >= wanted or high < wanted)

    # What decides with some requests decides with more.
    at = bisect_left(_SIZES, True, key=decides)
    return _SIZES[at] if at < len(_SIZES) else None
