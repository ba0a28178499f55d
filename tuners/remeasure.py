"""Whether a winner is one: fresh runs, other seeds, and the probability that the next keeps its
bounds.

The best of many noisy trials looks better than it is, and constrained search drives its picks onto
the boundary. What a search found is therefore only a list of candidates. Each is measured again;
the first of the list that keeps every bound with the probability asked is the answer, unless a
candidate with fewer overrides is as good within the noise. Pure: decisions only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import stats

from results.metrics import Direction, metric
from results.predictive import MIN_SPREAD, at_most_one, together
from tuners.goals import Bound, Reading, Wish
from tuners.space import Config

_TINY = 1e-12  # a share of errors may be 0, which has no logarithm
MIN_RUNS = 3
TIE = 0.01  # a difference nobody would deploy for
TIE_CONFIDENCE = 0.9


class Verdict(StrEnum):
    PASSED = "passed"
    REJECTED = "rejected"
    MEASURE = "measure"  # once more
    INVALID = "invalid"  # its fresh runs could not be used: no word against it, and none for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """``searched``: the reading that made it one, never counted. ``fresh``: those made since.
    ``num_failed``: fresh runs that crashed. ``believed``: its score as the search believes it to
    be; None where nothing is believed."""

    config: Config
    searched: Reading
    believed: float | None = None
    fresh: tuple[Reading, ...] = ()
    num_failed: int = 0

    @property
    def num_overrides(self) -> int:
        return sum(value is not None for value in self.config.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """``probability``: that the next run keeps every bound, from below; ``by_bound``: of each."""

    verdict: Verdict
    probability: float
    by_bound: Mapping[str, float]


def judge(candidate: Candidate, wish: Wish, probability: float, max_runs: int) -> Judged:
    """Runs until MIN_RUNS, then decides as soon as it can; at ``max_runs`` what is undecided is
    rejected. A crash under fresh conditions rejects at once."""
    runs = candidate.fresh
    if candidate.num_failed:
        return Judged(verdict=Verdict.REJECTED, probability=0.0, by_bound={})
    if len(runs) < min(MIN_RUNS, max_runs):
        hopeless = len(runs) >= 2 and not any(r.keeps(wish, margin=0.0) for r in runs)
        verdict = Verdict.REJECTED if hopeless else Verdict.MEASURE
        return Judged(verdict=verdict, probability=math.nan, by_bound={})
    by_bound = {b.name: keeps_next(b, [r.bounds[b.name] for r in runs]) for b in wish.bounds}
    all_kept = together(list(by_bound.values()))
    if all_kept >= probability:
        verdict = Verdict.PASSED
    elif len(runs) >= max_runs or all_kept < 0.5:
        verdict = Verdict.REJECTED
    else:
        verdict = Verdict.MEASURE
    return Judged(verdict=verdict, probability=all_kept, by_bound=by_bound)


def keeps_next(bound: Bound, values: Sequence[float]) -> float:
    """The probability that the next run keeps ``bound`` itself, without its margin (see
    ``results.predictive``). One value says only on which side it lies."""
    if bound.limit is None:
        return 1.0
    if len(values) < 2:
        return 0.5
    logs = np.log(np.maximum(np.asarray(values, dtype=np.float64), _TINY))
    # At least L is what −log at most −log L is.
    side = -1.0 if metric(bound.metric).direction is Direction.HIGHER else 1.0
    return at_most_one(
        side * math.log(bound.limit),
        side * float(logs.mean()),
        float(logs.std(ddof=1)),
        len(values),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How much better by the wish's score than the baseline: a ratio, with its 95 % interval where
    there are two pairs or more (Student's t on the logarithms of the ratios)."""

    ratio: float
    low: float | None
    high: float | None
    num_pairs: int


def gain(candidate: Candidate, baseline: Candidate, wish: Wish) -> Gain | None:
    """Over pairs of fresh runs with the same seeds, made one after the other, so that a slow hour
    the machine meets both sides. None without a pair."""
    pairs = min(len(candidate.fresh), len(baseline.fresh))
    if not pairs:
        return None
    ratios = _scores(candidate, wish)[:pairs] - _scores(baseline, wish)[:pairs]
    mean = float(ratios.mean())
    if pairs < 2:
        return Gain(ratio=math.exp(mean), low=None, high=None, num_pairs=pairs)
    spread = max(float(ratios.std(ddof=1)), MIN_SPREAD) / math.sqrt(pairs)
    reach = float(stats.t.ppf(0.975, pairs - 1)) * spread
    return Gain(
        ratio=math.exp(mean),
        low=math.exp(mean - reach),
        high=math.exp(mean + reach),
        num_pairs=pairs,
    )


def choose(passed: Sequence[Candidate], wish: Wish) -> Candidate | None:
    """Among those that passed, the best by the mean of their fresh runs; of those as good within
    the noise the one with the fewest overrides, the first of them where several have as few."""
    if not passed:
        return None
    best = max(passed, key=lambda c: score(c, wish))
    equals = [c for c in passed if c is best or as_good(c, best, wish)]
    return min(equals, key=lambda c: (c.num_overrides, -score(c, wish)))


def score(candidate: Candidate, wish: Wish) -> float:
    """The mean of the goals' logarithms over the fresh runs, each the way it is better."""
    return float(np.mean(_scores(candidate, wish)))


def may_beat(candidate: Candidate, again: Sequence[Candidate], best: Candidate, wish: Wish) -> bool:
    """Whether it is believed to be better than ``best`` was found to be, by more than TIE.
    ``again``: all that were measured again; by what they differ from what was believed of them, in
    the median, an hour of the machine differs from others."""
    if candidate.believed is None:
        return False
    off = [score(c, wish) - c.believed for c in again if c.believed is not None and c.fresh]
    expected = candidate.believed + (float(np.median(off)) if off else 0.0)
    return expected > score(best, wish) + TIE


def as_good(candidate: Candidate, best: Candidate, wish: Wish) -> bool:
    """Not worse by more than TIE, as far as the runs can tell: by the point, or because the
    interval of the difference (Welch's, at TIE_CONFIDENCE) reaches that near."""
    a, b = _scores(candidate, wish), _scores(best, wish)
    worse_by = float(b.mean() - a.mean())
    if worse_by <= TIE:
        return True
    if min(len(a), len(b)) < 2:
        return False
    # Welch's interval with Satterthwaite's degrees of freedom; a spread is never taken as zero.
    parts = [max(float(x.std(ddof=1)), MIN_SPREAD) ** 2 / len(x) for x in (a, b)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True)
    )
    reach = float(stats.t.ppf((1 + TIE_CONFIDENCE) / 2, freedom)) * math.sqrt(sum(parts))
    return worse_by - reach <= 0.0


def _scores(candidate: Candidate, wish: Wish) -> npt.NDArray[np.float64]:
    return np.array([wish.score(reading.goals) for reading in candidate.fresh])
