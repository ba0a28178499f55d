"""The first trials of a study, from a forecast instead of from chance. Pure.

A forecast that is wrong by a common factor still ranks: what it needs is that factor. Each seed is
therefore the best configuration by the forecast as calibrated with all trials measured so far, with
the bounds kept by the forecast with their margins; the first has the forecast alone. Winners of
other hardware never enter as they are: they can only be among the candidates that are scored here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tuners.goals import Reading, Wish
from tuners.space import Branch, Config, Domain, Integers, Reals, Value, num_values

MAX_CANDIDATES = 20_000

# A configuration's forecast: a value for each goal and bound of the wish, by name; or, as a
# sentence, why it cannot run: then it is never proposed, and never paid for.
Predict = Callable[[Config], Mapping[str, float] | str]


class Seeder:
    """Proposes from one branch. ``candidates`` are all its configurations, or a seeded sample."""

    def __init__(self, branch: Branch, wish: Wish, predict: Predict, *, seed: int = 0) -> None:
        self._wish, self._predict = wish, predict
        self._names = (*(g.name for g in wish.goals), *(b.name for b in wish.bounds))
        self._candidates: list[tuple[Config, Mapping[str, float]]] = []
        for config in candidates(branch, seed):
            found = predict(config)
            if not isinstance(found, str):
                self._candidates.append((config, found))

    @property
    def num_candidates(self) -> int:
        """Those that fit."""
        return len(self._candidates)

    def foreseen(self, config: Config) -> str:
        """Why it cannot run, or ""."""
        found = self._predict(config)
        return found if isinstance(found, str) else ""

    def propose(
        self, measured: Sequence[tuple[Config, Reading]], taken: Sequence[Config] = ()
    ) -> Config | None:
        """The next configuration to measure: none that was measured or is ``taken``, nor its equal
        by the forecast; None where nothing is left."""
        known = {key(config) for config in (*(c for c, _ in measured), *taken)}
        # Configurations that the forecast cannot tell apart are one seed: the second would only
        # say how noisy the first was.
        alike = {_rounded(predicted) for c, predicted in self._candidates if key(c) in known}
        factors = self._factors(measured)
        best: tuple[tuple[float, float], Config] | None = None
        for config, predicted in self._candidates:
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
        """Measured / forecast of each name: the median over the trials, 1 without any."""
        by_key = {key(config): predicted for config, predicted in self._candidates}
        logs: dict[str, list[float]] = {name: [] for name in self._names}
        for config, reading in measured:
            predicted = by_key.get(key(config))
            if predicted is None:
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


def candidates(branch: Branch, seed: int) -> list[Config]:
    """Every configuration of a small branch; of a large one a sample of MAX_CANDIDATES."""
    if branch.num_points <= MAX_CANDIDATES:
        return list(branch.grid())
    generator = np.random.default_rng([seed, 0x5EED])
    return [
        {**branch.fixed, **{k.path: _draw(k.domain, generator) for k in branch.knobs}}
        for _ in range(MAX_CANDIDATES)
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
