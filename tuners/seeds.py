"""The first trials of a study, from a forecast instead of from chance. Pure.

A forecast that is wrong by a common factor still ranks: what it needs is that factor. Each seed is
therefore the best configuration by the forecast as calibrated with all trials measured so far, with
the bounds kept by the forecast with their margins; the first has the forecast alone, or what was
measured on the same hardware before. Winners of other hardware never enter as they are: what they
are expected to do here replaces their forecast, and they are scored like all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from tuners.goals import Reading, Wish
from tuners.space import Branch, Config, Domain, Integers, Reals, Value, num_values

MAX_CANDIDATES = 20_000
MAX_LOOKED_AT = 1_000  # where nothing is forecast: enough to say which share may run

# How many trials the calibration of earlier studies counts for.
PRIOR_TRIALS = 2

# A configuration's forecast: a value for each goal and bound of the wish, by name; empty where it
# may run and nothing is forecast; or, as a sentence, why it cannot run: then it is never proposed,
# and never paid for.
Predict = Callable[[Config], Mapping[str, float] | str]


class Seeder:
    """Proposes from one branch. Its candidates are all configurations, or a seeded sample.

    ``prior``: measured / forecast of each name, from earlier studies on the same hardware.
    ``rescored``: configurations whose expectation here is known better than by the forecast.
    Without ``forecasts`` nothing is proposed, and it only says what is foreseen to fail.
    """

    def __init__(
        self,
        branch: Branch,
        wish: Wish,
        predict: Predict,
        *,
        seed: int = 0,
        prior: Mapping[str, float] | None = None,
        rescored: Sequence[tuple[Config, Mapping[str, float]]] = (),
        forecasts: bool = True,
    ) -> None:
        self._branch, self._wish, self._predict = branch, wish, predict
        self._seed, self._prior, self._forecasts = seed, dict(prior or {}), forecasts
        self._names = (*(g.name for g in wish.goals), *(b.name for b in wish.bounds))
        self._rescored = {key(config): expected for config, expected in rescored}

    @cached_property
    def _fitting(self) -> list[tuple[Config, Mapping[str, float]]]:
        found = []
        for config in self._looked_at:
            predicted = self._predict(config)
            if not isinstance(predicted, str):
                found.append((config, self._rescored.get(key(config), predicted)))
        return found

    @cached_property
    def _looked_at(self) -> list[Config]:
        most = MAX_CANDIDATES if self._forecasts else MAX_LOOKED_AT
        return candidates(self._branch, self._seed, most)

    @property
    def has_forecasts(self) -> bool:
        return self._forecasts

    @property
    def names(self) -> tuple[str, ...]:
        """The statistics of a forecast."""
        return self._names

    @property
    def prior(self) -> Mapping[str, float]:
        """Measured / forecast of earlier studies, by statistic."""
        return self._prior

    @property
    def lists_all(self) -> bool:
        """Whether ``listed`` is the whole branch."""
        return self._branch.num_points <= MAX_CANDIDATES

    @cached_property
    def listed(self) -> Sequence[tuple[Config, Mapping[str, float]]]:
        """Configurations to choose from, with what is expected of each. Where nothing is forecast
        some of them may be foreseen to fail: asking of each would cost more than asking of those
        that are chosen."""
        if self._forecasts:
            return [(config, expected) for config, expected in self._fitting if expected]
        return [(config, {}) for config in candidates(self._branch, self._seed)]

    def forecast(self, config: Config) -> Mapping[str, float]:
        """By the arithmetic itself; empty where it says nothing."""
        found = self._predict(config) if self._forecasts else {}
        return {} if isinstance(found, str) else found

    @property
    def num_looked_at(self) -> int:
        """All configurations of the branch, or of a large one a sample."""
        return len(self._looked_at)

    @property
    def num_candidates(self) -> int:
        """Those of them that may run."""
        return len(self._fitting)

    @cached_property
    def why_not(self) -> str:
        """Why the first of those that cannot run cannot, or ""."""
        return next((why for config in self._looked_at if (why := self.foreseen(config))), "")

    def foreseen(self, config: Config) -> str:
        """Why it cannot run, or ""."""
        found = self._predict(config)
        return found if isinstance(found, str) else ""

    def propose(
        self, measured: Sequence[tuple[Config, Reading]], taken: Sequence[Config] = ()
    ) -> Config | None:
        """The next configuration to measure: none that was measured or is ``taken``, nor its equal
        by the forecast; None where nothing is left."""
        if not self._forecasts:
            return None
        known = {key(config) for config in (*(c for c, _ in measured), *taken)}
        # Configurations that the forecast cannot tell apart are one seed: the second would only
        # say how noisy the first was.
        likely = [(c, predicted) for c, predicted in self._fitting if predicted]
        alike = {_rounded(predicted) for c, predicted in likely if key(c) in known}
        factors = self._factors(measured)
        best: tuple[tuple[float, float], Config] | None = None
        for config, predicted in likely:
            if key(config) in known or _rounded(predicted) in alike:
                continue
            score = self._score({n: v * factors[n] for n, v in predicted.items()})
            if best is None or score > best[0]:
                best = (score, config)
        return best[1] if best else None

    def _score(self, values: Mapping[str, float]) -> tuple[float, float]:
        """Keeping the bounds first (0, or by how much they are broken), then the goals."""
        broken = sum(max(0.0, b.slack(values[b.name])) for b in self._wish.bounds)
        return -broken, self._wish.score(values)

    def _factors(self, measured: Sequence[tuple[Config, Reading]]) -> dict[str, float]:
        """Measured / forecast of each name: the median over the trials and the prior; 1 without
        any. Of the forecast itself, also where an expectation has replaced it."""
        logs: dict[str, list[float]] = {
            name: [math.log(self._prior[name])] * PRIOR_TRIALS if name in self._prior else []
            for name in self._names
        }
        for config, reading in measured:
            if not self._branch.holds(config):
                continue  # the baseline, which is of no branch
            predicted = self._predict(config)
            if isinstance(predicted, str) or not predicted:
                continue
            for name, value in {**reading.bounds, **reading.goals}.items():
                if value > 0 and predicted[name] > 0:
                    logs[name].append(math.log(value / predicted[name]))
        return {
            name: math.exp(float(np.median(found))) if found else 1.0
            for name, found in logs.items()
        }


def _rounded(predicted: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{name}={value:.3e}" for name, value in sorted(predicted.items()))


def candidates(branch: Branch, seed: int, most: int = MAX_CANDIDATES) -> list[Config]:
    """Every configuration of a small branch; of a large one a sample of ``most``."""
    if branch.num_points <= most:
        return list(branch.grid())
    generator = np.random.default_rng([seed, 0x5EED])
    return [
        {**branch.fixed, **{k.path: _draw(k.domain, generator) for k in branch.knobs}}
        for _ in range(most)
    ]


def _draw(domain: Domain, generator: np.random.Generator) -> Value:
    if isinstance(domain, Reals | Integers) and domain.log:
        drawn = math.exp(generator.uniform(math.log(domain.low), math.log(domain.high)))
        return round(drawn) if isinstance(domain, Integers) else drawn
    if isinstance(domain, Reals):
        return float(generator.uniform(domain.low, domain.high))
    if isinstance(domain, Integers):
        steps = (domain.high - domain.low) // domain.step
        return domain.low + int(generator.integers(steps + 1)) * domain.step
    return domain.values[int(generator.integers(int(num_values(domain))))]


def key(config: Config) -> tuple[tuple[str, str, Value], ...]:
    """One configuration, whatever the order of its knobs; true is not 1."""
    return tuple(sorted((path, type(value).__name__, value) for path, value in config.items()))
