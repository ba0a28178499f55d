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
    OF_FAILURES,
    Array,
    Prior,
    Rows,
    Seen,
    Surrogate,
    fit,
)

_TINY = 1e-12
_MIXED = 0.05  # the share of the plain sum in a mixture of goals, which keeps all of them in view
_ENOUGH = 3  # readings, from which on a process may do without the forecast
DOUBT = 1.0  # the log odds of the forecast before there are any
_NEGLIGIBLE = 0.01  # the weight below which an explanation is not asked
_CALIBRATED = 0.2  # the spread of a common factor that earlier studies have measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """``x``: (m, columns), and the same as ``rows``. ``forecast``: by statistic (m,), above 0;
    empty where there is none."""

    x: Array
    rows: Rows
    forecast: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """One explanation of what was seen. ``centre``: f̄; None: without the forecast, around
    ``middle``. ``top``: from where distances are bent; see ``_bent``."""

    surrogate: Surrogate
    centre: float | None
    middle: float
    top: float

    def around(self, size: int, forecast: Array | None) -> tuple[Array, Array]:
        """The process's mean and slope at ``size`` configurations."""
        if self.centre is None or forecast is None:
            return np.full(size, self.middle), np.zeros(size)
        mean = _bent(forecast + self.middle, self.top)
        return mean, mean - self.centre


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mixture:
    """Explanations with their weights, which add up to 1."""

    models: Sequence[_Model]
    weights: Array

    @property
    def noise(self) -> float:
        return float(self.weights @ [model.surrogate.noise for model in self.models])

    def joined(self, means: Sequence[Array], spreads: Sequence[Array]) -> tuple[Array, Array]:
        """The mean and the standard deviation of the mixture, of (s, m) and (m,) of each."""
        if len(means) == 1:
            return means[0], np.broadcast_to(spreads[0], means[0].shape)
        weights = self.weights[:, None, None]
        every = np.array(means)
        mean = (weights * every).sum(axis=0)
        inside = np.array(spreads)[:, None, :] ** 2
        variance = (weights * (inside + (every - mean) ** 2)).sum(axis=0)
        return mean, np.sqrt(variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """At m configurations: ``score`` and its ``spread`` (s, m) in each of s imagined worlds;
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
        self._models: dict[str, _Mixture] = {}
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
        return {name: mixture.noise for name, mixture in self._models.items()}

    def at(
        self, points: Points, running: Points, draws: Array, *, of_reading: bool = False
    ) -> Believed:
        """``running``: (q) trials under way, imagined to end as ``draws`` (s, statistics, q) say.
        ``of_reading``: that the next reading keeps the limits themselves, noise and all; else that
        the truth keeps them with their margin."""
        means, spreads = {}, {}
        for at, name in enumerate(self._models):
            means[name], spreads[name] = self._means(name, points, running, draws[:, at])
        keeps = np.tile(self._log_works(points.rows), (len(draws), 1))
        for bound in self._bounds:
            spread, edge = spreads[bound.name], self._edge(bound)
            if of_reading:
                spread, edge = np.hypot(spread, self._models[bound.name].noise), 0.0
            keeps = keeps + special.log_ndtr((edge - means[bound.name]) / spread)
        return Believed(score=means[""], spread=spreads[""], keeps=keeps)

    @property
    def num_statistics(self) -> int:
        return len(self._models)

    def _means(
        self, name: str, points: Points, running: Points, draws: Array
    ) -> tuple[Array, Array]:
        mixture = self._models[name]
        here, there = self._forecast(name, points), self._forecast(name, running)
        means, spreads = [], []
        for model in mixture.models:
            around = model.around(len(points), here)
            if len(running):
                own = model.around(len(running), there)
                imagined, residuals = model.surrogate.imagined(running.x, *own, draws)
                mean, spread = imagined.means_at(points.rows, *around, residuals)
            else:
                mean, spread = model.surrogate.at(points.rows, *around)
                mean = np.tile(mean, (len(draws), 1))
            means.append(mean)
            spreads.append(spread)
        return mixture.joined(means, spreads)

    def _fit(self, name: str, points: Points, y: Array, known: float | None) -> None:
        """Around the forecast, and from some readings on without it beside that, each with the
        weight that the evidence gives it. ``known``: the logarithm of measured / forecast, from
        earlier studies."""
        none, top = np.zeros(len(y)), self._top(name, y)
        forecast = self._forecast(name, points)
        models: list[_Model] = []
        if forecast is not None:
            before = [] if known is None else [known] * PRIOR_TRIALS
            off = [*before, *(y - forecast)]
            shift = float(np.median(off)) if off else 0.0
            mean = _bent(forecast + shift, top)
            centre = float(mean.mean()) if len(mean) else 0.0
            prior = (
                AROUND_FORECAST if known is None else replace(AROUND_FORECAST, factor=_CALIBRATED)
            )
            told = self._seen(points.x, _bent(y, top), mean, mean - centre)
            around = self._fitted(f"{name} around", told, prior)
            models.append(_Model(surrogate=around, centre=centre, middle=shift, top=top))
        if not models or len(y) >= _ENOUGH:
            bent = _bent(y, top)
            middle = float(np.median(bent)) if len(y) else 0.0
            plain = self._seen(points.x, bent, none + middle, none)
            alone = self._fitted(f"{name} alone", plain, ALONE)
            models.append(_Model(surrogate=alone, centre=None, middle=middle, top=top))
        self._models[name] = _weighed(models)

    def _top(self, name: str, y: Array) -> float:
        """Where it matters what is how far: at a limit, and at the best that was seen."""
        if name:
            return 0.0
        whole = len(self._wish.goals) == 1 or self._weights is None
        return float(y.max()) if whole and len(y) else math.inf

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

    def _log_works(self, rows: Rows) -> Array:
        none = np.zeros(len(rows))
        if self._works is None:
            return none
        mean, spread = self._works.at(rows, none, none)
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


def _weighed(models: Sequence[_Model]) -> _Mixture:
    """``DOUBT`` in favour of the forecast, which knows what no handful of trials does."""
    evidence = np.array(
        [m.surrogate.evidence + (0.0 if m.centre is None else DOUBT) for m in models]
    )
    kept = np.exp(evidence - evidence.max())
    kept = np.where(kept < _NEGLIGIBLE, 0.0, kept) / kept.sum()
    return _Mixture(
        models=[m for m, weight in zip(models, kept, strict=True) if weight > 0],
        weights=kept[kept > 0] / kept.sum(),
    )


def _bent(value: Array, top: float) -> Array:
    """As it is up to a factor of e from ``top``, and beyond by the logarithm of the distance: what
    is far off is far off, and no process should spend its amplitude on by how much."""
    if math.isinf(top):
        return value
    far = value - top
    size = np.maximum(np.abs(far), 1.0)
    bent: Array = np.where(np.abs(far) > 1.0, top + np.sign(far) * (1.0 + np.log(size)), value)
    return bent


def _lower(bound: Bound) -> bool:
    return metric(bound.metric).direction is Direction.LOWER


def _up(goal: Goal, value: float) -> float:
    return math.log(max(value, _TINY)) * (1.0 if goal.maximize else -1.0)


def _shift(wish: Wish, usual: Mapping[str, float]) -> float | None:
    (goal,) = wish.goals
    return _up(goal, usual[goal.name]) if goal.name in usual else None
