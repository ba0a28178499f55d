"""The probability that the next run keeps a limit, from runs that were made. Pure.

The predictive distribution of a normal sample with unknown mean and variance, on logarithms:
Student's t with n − 1 degrees of freedom, scaled by s·√(1 + 1/n) (Gelman et al., Bayesian Data
Analysis, 3rd ed., section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

# Runs of one deployment that agree to the last digit are no proof that the next will: a floor for
# the standard deviation of a metric's logarithm.
MIN_SPREAD = 0.005


def at_most(
    log_limit: float,
    log_mean: npt.NDArray[np.float64],
    log_spread: npt.NDArray[np.float64],
    num_runs: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """P(next run ≤ limit) elementwise; NaN where there are fewer than two runs or no spread."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.maximum(log_spread, MIN_SPREAD) * np.sqrt(1.0 + 1.0 / num_runs)
        found = special.stdtr(num_runs - 1.0, (log_limit - log_mean) / scale)
    known = (num_runs >= 2) & np.isfinite(log_spread) & np.isfinite(log_mean)
    return np.where(known, found, np.nan)


def at_most_one(log_limit: float, log_mean: float, log_spread: float, num_runs: int) -> float:
    """The same for one; ``num_runs`` ≥ 2."""
    return at_most_each([(log_limit, log_mean, log_spread, num_runs)])[0]


def at_most_each(asked: Sequence[tuple[float, float, float, int]]) -> list[float]:
    """The same for each (log limit, mean, spread, runs ≥ 2), whatever their limits."""
    if not asked:
        return []
    freedom = [runs - 1.0 for *_, runs in asked]
    over = [
        (limit - mean) / (max(spread, MIN_SPREAD) * math.sqrt(1.0 + 1.0 / runs))
        for limit, mean, spread, runs in asked
    ]
    return [float(one) for one in special.stdtr(freedom, over)]


def together(probabilities: Sequence[float]) -> float:
    """That all hold, from below: 1 − Σ(1 − p), because misses may never fall together
    (Bonferroni's inequality)."""
    return max(0.0, 1.0 - sum([1.0 - p for p in probabilities]))
