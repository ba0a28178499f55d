"""Log-normal noise with mean 1: never negative, and now and then much slower than usual."""

from __future__ import annotations

import numpy as np

from results.samples import FloatColumn
from results.stragglers import lognormal_sigma


def lognormal(cv: float, shape: tuple[int, ...], rng: np.random.Generator) -> FloatColumn:
    """``cv``: coefficient of variation; 0: all ones, and nothing is drawn."""
    if cv == 0.0:
        return np.ones(shape)
    sigma = lognormal_sigma(cv)
    found: FloatColumn = np.exp(sigma * rng.standard_normal(shape) - 0.5 * sigma * sigma)
    return found
