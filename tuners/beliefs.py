"""What the trials so far make of every statistic of a wish: a surrogate for the goals, one for each
limit, and one for whether a configuration runs at all. Pure.

All of it in logarithms with the better side up for goals, and relative to the limit for limits, so
that 0 is the limit and an error of the forecast is a difference. A statistic that has been 0 or
less (a share of errors) has no logarithm, and is modelled as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from results.metrics import Direction, metric
from tuners.goals import Bound, Goal, Reading, Wish
from tuners.seeds import PRIOR_TRIALS
from tuners.surrogate import (
    ALONE,
    AROUND_FORECAST,
    DOUBT,
    OF_FAILURES,
    Array,
    Prior,
    Seen,
    Surrogate,
    fit,
)

_TINY = 1e-12
_MIXED = 0.05  # the share of the plain sum in a mixture of goals, which keeps all of them in view
_ENOUGH = 3  # readings, from which on a process may do without the forecast
_CALIBRATED = 0.2  # the spread of a common factor that earlier studies have measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """``x``: (m, columns). ``forecast``: by statistic (m,), above 0; empty where there is none."""

    x: Array
    forecast: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """``centre``: f̄; None: without the forecast, around ``middle``."""

    surrogate: Surrogate
    centre: float | None
    middle: float

    def inputs(self, x: Array, forecast: Array | None) -> tuple[Array, Array, Array]:
        if self.centre is None or forecast is None:
            return x, np.full(len(x), self.middle), np.zeros(len(x))
        return x, forecast + self.middle, forecast - self.centre


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """At m configurations: ``score`` (s, m) in each of s imagined worlds and its ``spread`` (m,);
    ``keeps`` (s, m): the logarithm of the probability that it runs and keeps the limits."""

    score: Array
    spread: Array
    keeps: Array


class Beliefs:
    """``weights``: the mixture of several goals; None: all alike, as ``Wish.score``. ``usual``:
    measured / forecast of earlier studies, by statistic. ``starts``: the ``thetas`` of the beliefs
    before, which are never far."""

    def __init__(
        self,
        wish: Wish,
        owner: npt.NDArray[np.int64],
        points: Points,
        readings: Sequence[Reading],
        failed: Array,
        *,
        weights: Array | None,
        usual: Mapping[str, float],
        starts: Mapping[str, Array] | None = None,
    ) -> None:
        self._starts, self.thetas = starts or {}, dict[str, Array]()
        self._wish, self._owner, self._weights = wish, owner, weights
        self._bounds = [b for b in wish.bounds if b.limit is not None]
        self._goal_scale = _Scale.of(wish, readings)
        self._flat = {b.name for b in self._bounds if any(r.bounds[b.name] <= 0 for r in readings)}
        self._models: dict[str, _Model] = {}
        scores = self._scores([r.goals for r in readings])
        shift = _shift(wish, usual) if len(wish.goals) == 1 else None
        self._fit("", points, scores, shift)
        for bound in self._bounds:
            seen = np.array([self._broken(bound, r.bounds[bound.name]) for r in readings])
            known = math.log(usual[bound.name]) if bound.name in usual else None
            if known is not None and not _lower(bound):
                known = -known
            self._fit(bound.name, points, seen, known)
        self._works = self._failures(points.x, failed)

    @property
    def noise(self) -> Mapping[str, float]:
        """The standard deviation of a reading's logarithm: of the goals "", of limits by name."""
        return {name: model.surrogate.noise for name, model in self._models.items()}

    def at(
        self, points: Points, running: Points, draws: Array, *, of_reading: bool = False
    ) -> Believed:
        """``running``: (q) trials under way, imagined to end as ``draws`` (s, statistics, q) say.
        ``of_reading``: that the next reading keeps the limits themselves, noise and all; else that
        the truth keeps them with their margin."""
        means, spreads = {}, {}
        for at, name in enumerate(self._models):
            means[name], spreads[name] = self._means(name, points, running, draws[:, at])
        keeps = np.tile(self._log_works(points.x), (len(draws), 1))
        for bound in self._bounds:
            spread, edge = spreads[bound.name], self._edge(bound)
            if of_reading:
                noise = self._models[bound.name].surrogate.noise
                spread, edge = np.hypot(spread, noise), 0.0
            keeps = keeps + special.log_ndtr((edge - means[bound.name]) / spread)
        return Believed(score=means[""], spread=spreads[""], keeps=keeps)

    @property
    def num_statistics(self) -> int:
        return len(self._models)

    def _means(
        self, name: str, points: Points, running: Points, draws: Array
    ) -> tuple[Array, Array]:
        model = self._models[name]
        inputs = model.inputs(points.x, self._forecast(name, points))
        if not len(running):
            mean, spread = model.surrogate.at(*inputs)
            return np.tile(mean, (len(draws), 1)), spread
        there = model.inputs(running.x, self._forecast(name, running))
        imagined, residuals = model.surrogate.imagined(*there, draws)
        _, spread = imagined.at(*inputs)
        return imagined.means_at(*inputs, residuals), spread

    def _fit(self, name: str, points: Points, y: Array, known: float | None) -> None:
        """Around the forecast, unless the process alone explains what was seen better. ``known``:
        the logarithm of measured / forecast, from earlier studies."""
        none = np.zeros(len(y))
        middle = float(np.median(y)) if len(y) else 0.0
        forecast = self._forecast(name, points)
        model: _Model | None = None
        if forecast is not None:
            before = [] if known is None else [known] * PRIOR_TRIALS
            off = [*before, *(y - forecast)]
            shift = float(np.median(off)) if off else 0.0
            centre = float(forecast.mean()) if len(forecast) else 0.0
            prior = (
                AROUND_FORECAST if known is None else replace(AROUND_FORECAST, factor=_CALIBRATED)
            )
            told = self._seen(points.x, y, forecast + shift, forecast - centre)
            around = self._fitted(f"{name} around", told, prior)
            model = _Model(surrogate=around, centre=centre, middle=shift)
        if model is None or len(y) >= _ENOUGH:
            alone = self._fitted(
                f"{name} alone", self._seen(points.x, y, none + middle, none), ALONE
            )
            if model is None or alone.evidence > model.surrogate.evidence + DOUBT:
                model = _Model(surrogate=alone, centre=None, middle=middle)
        self._models[name] = model

    def _fitted(self, name: str, seen: Seen, prior: Prior) -> Surrogate:
        found = fit(seen, prior, self._starts.get(name))
        self.thetas[name] = found.theta
        return found

    def _seen(self, x: Array, y: Array, mean: Array, slope: Array) -> Seen:
        return Seen(x=x, owner=self._owner, y=y, mean=mean, slope=slope)

    # ---- statistics as they are modelled ----

    def _broken(self, bound: Bound, value: float) -> float:
        """0 at the limit, above it where it is broken."""
        assert bound.limit is not None
        sign = 1.0 if _lower(bound) else -1.0
        if bound.name in self._flat:
            return sign * (value / bound.limit - 1.0)
        return sign * math.log(max(value, _TINY) / bound.limit)

    def _edge(self, bound: Bound) -> float:
        kept = 1.0 - bound.margin if _lower(bound) else 1.0 + bound.margin
        assert bound.limit is not None
        return self._broken(bound, bound.limit * kept)

    def _scores(self, goals: Sequence[Mapping[str, float]]) -> Array:
        """(n,) of one goal its logarithm, of several the mixture of their places between the worst
        and the best that was seen."""
        raw = np.array(
            [[_up(goal, found[goal.name]) for goal in self._wish.goals] for found in goals]
        ).reshape(len(goals), len(self._wish.goals))
        return self._goal_scale.mixed(raw, self._weights)

    def _forecast(self, name: str, points: Points) -> Array | None:
        if not points.forecast:
            return None
        if name:
            bound = next(b for b in self._bounds if b.name == name)
            if name in self._flat or name not in points.forecast:
                return None
            assert bound.limit is not None
            sign = 1.0 if _lower(bound) else -1.0
            told: Array = sign * np.log(points.forecast[name] / bound.limit)
            return told
        up = [
            np.log(points.forecast[g.name]) * (1.0 if g.maximize else -1.0)
            for g in self._wish.goals
        ]
        return self._goal_scale.mixed(np.column_stack(up), self._weights)

    def _failures(self, x: Array, failed: Array) -> Surrogate | None:
        if not len(failed):
            return None
        every = np.vstack([x, failed])
        none = np.zeros(len(every))
        labels = np.append(-np.ones(len(x)), np.ones(len(failed)))
        return self._fitted("works", self._seen(every, labels, none, none), OF_FAILURES)

    def _log_works(self, x: Array) -> Array:
        if self._works is None:
            return np.zeros(len(x))
        none = np.zeros(len(x))
        mean, spread = self._works.at(x, none, none)
        found: Array = special.log_ndtr(-mean / np.hypot(spread, 0.1))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Of several goals where the worst lies and how far the best from it; of one the logarithm."""

    low: Array
    width: Array

    @classmethod
    def of(cls, wish: Wish, readings: Sequence[Reading]) -> _Scale:
        many = len(wish.goals)
        if many == 1 or len(readings) < 2:
            return cls(low=np.zeros(many), width=np.ones(many))
        raw = np.array([[_up(goal, r.goals[goal.name]) for goal in wish.goals] for r in readings])
        low = raw.min(axis=0)
        return cls(low=low, width=np.maximum(raw.max(axis=0) - low, 0.05))

    def mixed(self, raw: Array, weights: Array | None) -> Array:
        if raw.shape[1] == 1:
            one: Array = raw[:, 0]
            return one
        if weights is None:
            middle: Array = raw.mean(axis=1)
            return middle
        parts = ((raw - self.low) / self.width - 1.0) * weights
        both: Array = parts.min(axis=1) + _MIXED * parts.sum(axis=1)
        return both


def _lower(bound: Bound) -> bool:
    return metric(bound.metric).direction is Direction.LOWER


def _up(goal: Goal, value: float) -> float:
    return math.log(max(value, _TINY)) * (1.0 if goal.maximize else -1.0)


def _shift(wish: Wish, usual: Mapping[str, float]) -> float | None:
    (goal,) = wish.goals
    return _up(goal, usual[goal.name]) if goal.name in usual else None
