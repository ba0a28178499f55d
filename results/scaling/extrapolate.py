"""Efficiency at sizes not measured: a prediction with its interval, or why there is none.

Every model is fitted without the largest size and asked for it; how far it misses is its vote.
The prediction is the votes' mean, not the winner's word: with a handful of sizes several laws fit
alike and part ways beyond. In simulation the winner is as good where the truth is a law of the
list and worse where it is not (tests; ``docs/scaling.md`` for public data). The interval holds 90 %
of draws that vary the data within their error (parameters), the model by its vote (spread), and
the law by what the held-out size showed, once per doubling beyond the data (what no model knows),
and that add the noise of a new run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from results.scaling.models import Fit, Floats, Mode, Scope, fit, models_for, refit

CONFIDENCE = 0.9
MIN_SIZES = 3
# Within these many times the largest size the interval is one of 90 %; further out the unknown part
# of it grows twice as fast, and beyond the second bound there is no prediction.
WIDENED_BEYOND = 4.0
REFUSED_BEYOND = 16.0
# Of a throughput's spread between runs, where one run per size leaves it unknown.
ASSUMED_SPREAD = 0.005
# Share of the held-out error that one more doubling may add. At ½, 93 to 99 of 100 intervals hold
# in simulations: laws of the list, power laws that are not, laws that bend beyond the data (tests).
_DRIFT = 0.5
_DRAWS = 2000
_REFITS = 50
_WORTH_A_NOTE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Throughput per chip by size: (k,) each, ascending in ``n``, one entry per size.

    ``relative_error`` is one standard deviation of each entry, ``spread`` that of a single run;
    ``dof``: degrees of freedom behind them, 0 where the spread is assumed.
    """

    n: Floats
    throughput: Floats
    relative_error: Floats
    spread: float
    dof: int

    @property
    def efficiency(self) -> Floats:
        return np.asarray(self.throughput / self.throughput[0])


def curve_of(runs: Sequence[tuple[float, Sequence[float]]]) -> Curve:
    """(size, throughputs per chip of its runs) → a curve; sizes in any order.

    The spread of a run is pooled over the sizes: few repeats of each are enough.
    """
    ordered = sorted(runs, key=lambda r: r[0])
    logs = [np.log(np.asarray(values, dtype=np.float64)) for _, values in ordered]
    counts = np.array([len(v) for v in logs], dtype=np.float64)
    dof = int(counts.sum()) - len(logs)
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in logs)
    spread = float(np.sqrt(squares / dof)) if dof else ASSUMED_SPREAD
    spread = max(spread, 1e-4)  # runs that agree to the digit still do not weigh infinitely
    return Curve(
        n=np.array([n for n, _ in ordered], dtype=np.float64),
        throughput=np.exp([v.mean() for v in logs]),
        relative_error=spread / np.sqrt(counts),
        spread=spread,
        dof=dof,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJudged:
    """``held_out_error``: predicted − measured efficiency at the largest size, fitted without it.

    ``weight``: its share of the prediction; 0 for one that fitted as another of the list does.
    """

    name: str
    formula: str
    parameters: tuple[float, ...]
    held_out_error: float
    weight: float
    fitted: Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """``efficiency`` None with ``reason``. ``by_model``: what each model alone says."""

    n: float
    efficiency: float | None
    low: float | None = None
    high: float | None = None
    by_model: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolation:
    """``chosen``: the model with the least held-out error; "" with ``reason`` for none."""

    n0: float
    mode: Mode
    models: tuple[ModelJudged, ...]
    predictions: tuple[Prediction, ...]
    chosen: str
    confidence: float = CONFIDENCE
    reason: str = ""


def extrapolate(
    curve: Curve,
    targets: Sequence[float],
    *,
    mode: Mode = "weak",
    domain: float | None = None,
    global_batch: int | None = None,
    seed: int = 0,
) -> Extrapolation:
    """Efficiency at ``targets`` relative to the smallest size of ``curve``.

    ``domain``: chips that share the fast network; ``global_batch``: sequences of a step in strong
    mode, which more chips than that cannot share.
    """
    n0 = float(curve.n[0])
    if len(curve.n) < MIN_SIZES:
        why = (
            f"{len(curve.n)} sizes were measured; {MIN_SIZES} are needed: two to fit and one more "
            "to see whether the fit holds"
        )
        return refused(n0, mode, targets, why)
    # Within one fast domain there is one network, and its size says nothing.
    inside = domain is not None and curve.n[-1] <= domain
    scope = Scope(n0=n0, mode=mode, domain=None if inside else domain)
    curve, inflated = _as_scattered_as_it_is(curve, scope)
    judged = _judged(curve, scope)
    chosen = min(judged, key=lambda m: abs(m.held_out_error)).name
    draw = np.random.default_rng(seed)
    predictions = []
    for n in targets:
        why = _refusal(curve, n, domain, global_batch)
        predictions.append(
            Prediction(n=n, efficiency=None, reason=why)
            if why
            else replace(
                _predicted(curve, judged, n, draw), notes=(*inflated, *_notes(curve, n, domain))
            )
        )
    return Extrapolation(
        n0=n0, mode=mode, models=judged, predictions=tuple(predictions), chosen=chosen
    )


def refused(n0: float, mode: Mode, targets: Sequence[float], why: str) -> Extrapolation:
    """No prediction of any of them, and why."""
    none = tuple(Prediction(n=n, efficiency=None, reason=why) for n in targets)
    return Extrapolation(n0=n0, mode=mode, models=(), predictions=none, chosen="", reason=why)


def _as_scattered_as_it_is(curve: Curve, scope: Scope) -> tuple[Curve, tuple[str, ...]]:
    """Where no model comes as near to the data as their error says, the error was told too small
    (a machine that is busy by turns): it is raised until the best one does (Birge, Physical Review
    40, 1932), and a note says so. Most of all where one run per size left it to be assumed."""
    ratios = []
    for model in models_for(scope):
        found = fit(model, scope, curve.n, curve.throughput, curve.relative_error)
        left = len(curve.n) - found.num_free
        if left > 0:
            miss = found.throughput(curve.n) / curve.throughput - 1.0
            ratios.append(float(((miss / curve.relative_error) ** 2).sum()) / left)
    factor = float(np.sqrt(min(ratios, default=1.0)))
    if factor <= 1.0:
        return curve, ()
    spread = curve.spread * factor
    raised = replace(curve, relative_error=curve.relative_error * factor, spread=spread)
    if factor < _WORTH_A_NOTE:
        return raised, ()
    return raised, (
        f"no model fits the sizes measured within {curve.spread * 100:.2g} %, "
        f"{'the spread between runs' if curve.dof else 'which is assumed for one run per size'}; "
        f"a spread of {spread * 100:.2g} % would explain them, and is what the interval is made of",
    )


def _judged(curve: Curve, scope: Scope) -> tuple[ModelJudged, ...]:
    """Every model fitted to all sizes, with the vote of the fit that did not see the largest."""
    n, y, error = curve.n, curve.throughput, curve.relative_error
    seen = curve.efficiency
    fits, misses = [], []
    for model in models_for(scope):
        before = fit(model, scope, n[:-1], y[:-1], error[:-1])
        misses.append(float(before.throughput(n[-1:])[0] / y[0] - seen[-1]))
        fits.append(fit(model, scope, n, y, error))
    held_out = np.array(misses)
    # A miss counts as large against the mean loss per doubling, which sets how fast things move
    # here, and against the noise of the two runs it compares.
    per_doubling = max(1.0 / seen[-1] - 1.0, 0.0) / np.log2(n[-1] / n[0])
    scale = np.sqrt(error[0] ** 2 + error[-1] ** 2 + per_doubling**2)
    votes = np.exp(-0.5 * (held_out / scale) ** 2)
    # A model whose extra term is fitted to nothing is its simpler relative: they share one vote.
    sizes = np.append(n, n[-1] * WIDENED_BEYOND)
    curves = np.stack([f.throughput(sizes) for f in fits]) / y[0]
    apart = np.abs(curves[:, None] - curves[None]).max(axis=2)
    votes /= (apart < max(float(error.mean()), 1e-3)).sum(axis=1)
    votes /= votes.sum()
    return tuple(
        ModelJudged(
            name=f.model.name,
            formula=f.model.formula,
            parameters=f.parameters,
            held_out_error=miss,
            weight=float(vote),
            fitted=f,
        )
        for f, miss, vote in zip(fits, misses, votes, strict=True)
    )


def _predicted(
    curve: Curve, judged: Sequence[ModelJudged], n: float, draw: np.random.Generator
) -> Prediction:
    weights = np.array([m.weight for m in judged])
    y0 = curve.throughput[0]
    each = np.array([m.fitted.throughput([n])[0] / y0 for m in judged])
    value = min(float(weights @ each), 1.0)
    drift = _DRIFT * float(np.sqrt(weights @ np.array([m.held_out_error**2 for m in judged])))
    drift *= _doublings(n / curve.n[-1])
    drawn = np.concatenate(
        [
            _refitted(curve, m.fitted, n, int(count), draw)
            for m, count in zip(judged, draw.multinomial(_DRAWS, weights), strict=True)
        ]
    )
    # No law of the list gains from more chips, and a drift does not either.
    drawn = np.clip(drawn / y0 + drift * draw.standard_normal(len(drawn)), 0.0, 1.0)
    drawn *= 1.0 + curve.spread * draw.standard_normal(len(drawn))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = (float(v) for v in np.quantile(drawn, [tail, 1.0 - tail]))
    return Prediction(
        n=n,
        efficiency=value,
        low=max(min(low, value), 0.0),
        high=max(high, value),
        by_model=tuple((m.name, float(e)) for m, e in zip(judged, each, strict=True)),
    )


def _doublings(ratio: float) -> float:
    """Beyond the largest size measured; those beyond ``WIDENED_BEYOND`` count twice."""
    h = max(float(np.log2(ratio)), 0.0)
    return h + max(h - float(np.log2(WIDENED_BEYOND)), 0.0)


def _refitted(curve: Curve, fitted: Fit, n: float, num: int, draw: np.random.Generator) -> Floats:
    """(num,) throughputs at n of the same model, fitted to data that vary within their error.

    A fit is costly and its error is the smallest part: each of up to ``_REFITS`` is used again.
    """
    if not num:
        return np.empty(0)
    fits = min(num, _REFITS)
    # With few repeats the spread itself is uncertain: Student's t instead of the normal.
    wide = np.sqrt(curve.dof / draw.chisquare(curve.dof, (fits, 1))) if curve.dof else 1.0
    noise = curve.relative_error * wide * draw.standard_normal((fits, len(curve.n)))
    varied = curve.throughput * np.maximum(1.0 + noise, 0.05)
    return np.resize(refit(fitted, curve.n, varied, curve.relative_error, n), num)


def _refusal(curve: Curve, n: float, domain: float | None, global_batch: int | None) -> str:
    largest = float(curve.n[-1])
    if n <= largest:
        return f"{n:g} is within what was measured (up to {largest:g}); read it there"
    if n > REFUSED_BEYOND * largest:
        return (
            f"{n:g} is {n / largest:.3g} times the largest size measured, {largest:g}; beyond "
            f"{REFUSED_BEYOND:g} times nothing measured speaks for it: measure up to "
            f"{n / REFUSED_BEYOND:g} at least"
        )
    if domain is not None and largest <= domain < n:
        return (
            f"{n:g} leaves the fast domain of {domain:g}; every size measured, up to {largest:g}, "
            f"is inside it, so what leaving costs was never seen: measure beyond {domain:g}"
        )
    if global_batch is not None and n > global_batch:
        return f"a global batch of {global_batch} cannot be shared by {n:g}"
    return ""


def _notes(curve: Curve, n: float, domain: float | None) -> tuple[str, ...]:
    """What no small run can see, and what widened the interval."""
    found = []
    largest = float(curve.n[-1])
    if n > WIDENED_BEYOND * largest:
        found.append(
            f"{n / largest:.3g} times the largest size measured: beyond {WIDENED_BEYOND:g} times "
            "the interval is widened"
        )
    if domain is None:
        found.append(
            "the size of the fast domain (NVLink host or rack, TPU slice) was not given: if "
            f"a predicted size leaves one that {largest:g} did not, this does not hold"
        )
    elif n > domain:
        beyond = int((curve.n > domain).sum())
        if beyond == 1:
            found.append("only one size measured lies beyond the fast domain")
    found.append(
        "a network that saturates, pipeline bubbles or a batch that must shrink bend the curve "
        "where they begin, which smaller runs do not show"
    )
    return tuple(found)
