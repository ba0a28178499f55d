"""The next configuration to measure, from all that was measured and forecast. Pure.

Proposed is the configuration with the largest expected improvement over the best that is believed
to keep the limits, times the probability that it runs and keeps them with their margin (Gardner et
al., Bayesian Optimization with Inequality Constraints, ICML 2014). Of a branch that can be listed
every configuration is looked at; of a larger one a sample, and the neighbours of the best.

Trials under way are imagined to end in DRAWS ways, each with what it would teach, and the
improvement is the mean over them (Snoek et al., Practical Bayesian Optimization of Machine
Learning Algorithms, NIPS 2012, section 3.2): what runs already is not asked again in other words.
Of several goals one mixture is taken for each proposal (Knowles, ParEGO, IEEE Trans. Evol. Comput.
10(1), 2006).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special
from scipy.stats import qmc

from tuners.beliefs import Beliefs, Believed, Points
from tuners.encoding import encoded, neighbours, owners, placed
from tuners.goals import Reading, Wish
from tuners.seeds import Seeder, key
from tuners.space import Branch, Config
from tuners.surrogate import Array, rows_of

NUM_STARTUP = 5  # trials that spread over the branch, where nothing is forecast
DRAWS = 16
LIKELY = 0.7  # a candidate keeps its limits in its next run with at least this probability
MAX_TRIALS = 300  # beyond them a process costs more time than it saves trials
_NEIGHBOURS_OF = 5
_MISLED = 2  # failures before the first measurement, after which a forecast is not believed blindly
_MAX_REFUSED = 2_000  # foreseen to fail, in one proposal
_FAR_BELOW = -5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Of one branch. ``taken``: all that was asked, whatever came of it. ``ruled_out``: the best
    that can be of what a probe ended; it is believed as if it had been read, and never ranked."""

    measured: Sequence[tuple[Config, Reading]] = ()
    ruled_out: Sequence[tuple[Config, Reading]] = ()
    failed: Sequence[Config] = ()
    running: Sequence[Config] = ()
    taken: Sequence[Config] = ()


def is_guided(sampler: str, num_trials: int) -> bool:
    """Whether a study of this sampler and budget has a guide; else the sampler proposes itself."""
    return sampler == "auto" and num_trials <= MAX_TRIALS


class Guide:
    """Proposes from one branch, and says what it believes of it. ``seeder``: what is forecast, and
    what is foreseen to fail."""

    def __init__(
        self,
        branch: Branch,
        wish: Wish,
        seeder: Seeder,
        *,
        seed: int = 0,
        num_startup: int = NUM_STARTUP,
    ) -> None:
        self._branch, self._wish, self._seeder = branch, wish, seeder
        self._seed, self._num_startup = seed, num_startup
        self._owners = owners(branch)
        self._thetas: Mapping[str, Array] = {}

    @property
    def has_forecasts(self) -> bool:
        return self._seeder.has_forecasts

    def propose(self, known: Known) -> Config | None:
        """None where nothing is left that may run."""
        taken = {key(config) for config in (*known.taken, *known.running)}
        if self._is_blind(known, len(taken)):
            spread = self._spread(taken)
            if spread is not None:
                return spread
        configs, points = self._pool(known)
        promise = self._promise(known, points)
        num_refused = 0
        for at in np.argsort(-promise, kind="stable"):
            config = configs[int(at)]
            if key(config) in taken:
                continue
            if not self._seeder.foreseen(config):
                return config
            num_refused += 1
            if num_refused >= _MAX_REFUSED:
                break
        return None

    def ranked(self, known: Known) -> list[tuple[float, Config, Reading]]:
        """What was measured and is believed to keep its limits when it is measured again, with its
        score as believed, the best first: one lucky reading is no more than one reading."""
        if not known.measured:
            return []
        points = self._points([config for config, _ in known.measured])
        found = self._beliefs(known, None).at(
            points, self._points([]), np.zeros((1, 1 + len(self._wish.bounds), 0)), of_reading=True
        )
        likely = np.flatnonzero(found.keeps[0] >= np.log(LIKELY))
        order = likely[np.argsort(-found.score[0][likely], kind="stable")]
        return [(float(found.score[0][at]), *known.measured[at]) for at in order]

    # ---- what is looked at ----

    @cached_property
    def _listed(self) -> list[Config]:
        return [config for config, _ in self._seeder.listed]

    @cached_property
    def _listed_points(self) -> Points:
        forecasts = [predicted for _, predicted in self._seeder.listed]
        return self._of(self._listed, forecasts)

    def _pool(self, known: Known) -> tuple[list[Config], Points]:
        if self._seeder.lists_all:
            return self._listed, self._listed_points
        there = {key(config) for config in self._listed}
        best = [config for _, config, _ in self.ranked(known)[:_NEIGHBOURS_OF]]
        near = {key(c): c for config in best for c in neighbours(self._branch, config)}
        new = [config for name, config in near.items() if name not in there]
        new = [config for config in new if not self._seeder.foreseen(config)]
        if not new:
            return self._listed, self._listed_points
        more, listed = self._points(new), self._listed_points
        names = listed.forecast.keys() & more.forecast.keys()
        both = {n: np.append(listed.forecast[n], more.forecast[n]) for n in names}
        return [*self._listed, *new], self._placed(np.vstack([listed.x, more.x]), both)

    def _points(self, configs: Sequence[Config]) -> Points:
        return self._of(configs, [self._seeder.forecast(config) for config in configs])

    def _of(self, configs: Sequence[Config], forecasts: Sequence[Mapping[str, float]]) -> Points:
        """Without the forecast of any there is none of all: they would not be comparable."""
        x = encoded(self._branch, configs)
        names = set(forecasts[0]) if forecasts else set()
        usable = all(
            set(found) == names and min(found.values()) > 0 for found in forecasts if names
        )
        if not forecasts:
            names = set(self._seeder.names) if self._seeder.has_forecasts else set()
        told = {n: np.array([f[n] for f in forecasts]) for n in sorted(names)} if usable else {}
        return self._placed(x, told)

    def _placed(self, x: Array, forecast: Mapping[str, Array]) -> Points:
        return Points(x=x, rows=rows_of(x, self._owners), forecast=forecast)

    def _is_blind(self, known: Known, num_taken: int) -> bool:
        """Whether nothing is known that a proposal could stand on: the first trials without a
        forecast, or a forecast of whose first picks several fail and none keeps its limits."""
        if not self._seeder.has_forecasts:
            return num_taken < self._num_startup
        if any(reading.keeps(self._wish, margin=0.0) for _, reading in known.measured):
            return False
        return len(known.failed) >= _MISLED and num_taken < _MISLED + self._num_startup

    def _spread(self, taken: Collection[object]) -> Config | None:
        """The next of a scrambled Sobol sequence that is new and may run."""
        sequence = qmc.Sobol(len(self._branch.knobs), seed=self._seed)
        for shares in sequence.random(64):
            config = placed(self._branch, shares.tolist())
            if key(config) not in taken and not self._seeder.foreseen(config):
                return config
        return None

    # ---- what is promised ----

    def _beliefs(self, known: Known, weights: Array | None) -> Beliefs:
        read = [*known.measured, *known.ruled_out]
        found = Beliefs(
            self._wish,
            self._owners,
            self._points([config for config, _ in read]),
            [reading for _, reading in read],
            encoded(self._branch, known.failed),
            weights=weights,
            usual=self._seeder.prior,
            starts=self._thetas,
        )
        self._thetas = found.thetas
        return found

    def _generator(self, known: Known) -> np.random.Generator:
        return np.random.default_rng([self._seed, len(known.taken), len(known.running)])

    def _promise(self, known: Known, pool: Points) -> Array:
        """(m,): the logarithm of the expected improvement times the probability to count."""
        generator = self._generator(known)
        weights = self._mixture(known, generator)
        beliefs, running = self._beliefs(known, weights), self._points(known.running)
        draws = generator.standard_normal(
            (DRAWS if len(running) else 1, beliefs.num_statistics, len(running))
        )
        found = beliefs.at(pool, running, draws)
        seen = self._points([*(c for c, _ in known.measured), *known.running])
        best = _best(beliefs.at(seen, running, draws), found)
        improved = _log_improvement(found.score, found.spread, best[:, None])
        promise: Array = special.logsumexp(improved + found.keeps, axis=0)
        return promise

    def _mixture(self, known: Known, generator: np.random.Generator) -> Array | None:
        """Of several goals: in turn the score that winners are ranked by, and any other mixture."""
        many, turn = len(self._wish.goals), len(known.taken) + len(known.running)
        return generator.dirichlet(np.ones(many)) if many > 1 and turn % 2 else None


def _best(seen: Believed, pool: Believed) -> Array:
    """(s,): the best score that is believed to count; where none is, the worst that there may be,
    so that the probability to count decides first and the score second."""
    if not seen.score.shape[1]:
        return np.asarray(pool.score.min(axis=1))
    counts = seen.keeps >= np.log(0.5)
    best = np.where(counts, seen.score, -np.inf).max(axis=1)
    found: Array = np.where(np.isfinite(best), best, pool.score.min(axis=1))
    return found


def _log_improvement(mean: Array, spread: Array, best: Array) -> Array:
    """log E[max(0, score − best)]; far below the best by its asymptote, which has no underflow."""
    z = (mean - best) / spread
    near = np.maximum(z, _FAR_BELOW)
    density = np.exp(-0.5 * near**2) / np.sqrt(2.0 * np.pi)
    inside = np.log(near * special.ndtr(near) + density)
    tail = np.minimum(z, _FAR_BELOW)
    outside = -0.5 * tail**2 - 0.5 * np.log(2.0 * np.pi) - 2.0 * np.log(-tail)
    found: Array = np.where(z > _FAR_BELOW, inside, outside) + np.log(spread)
    return found
