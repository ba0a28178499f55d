"""How much slower the slowest of n is: the expected maximum of independent draws.

A synchronous step ends with its slowest member, so what a large job pays for noise is not the
noise's mean but its maximum (Petrini, Kerbyson & Pakin, SC 2003).
"""

from __future__ import annotations

import math

import numpy as np

# Not scipy.stats: it takes a second to import.
from scipy import special

_POINTS = 4001


def lognormal_sigma(cv: float) -> float:
    """Standard deviation of the logarithm of a log-normal with coefficient of variation ``cv``."""
    return math.sqrt(math.log1p(cv * cv))


def expected_max_lognormal(n: int, cv: float) -> float:
    """E[max of n] of a log-normal with mean 1: ∫ x(z)·n·φ(z)·Φ(z)^(n−1) dz over the standard
    normal's z, by the trapezoid rule."""
    if cv == 0.0:
        return 1.0
    sigma = lognormal_sigma(cv)
    z = np.linspace(-9.0, 12.0, _POINTS)
    log_density = math.log(n) - 0.5 * z * z + (n - 1) * special.log_ndtr(z)
    density = np.exp(log_density) / math.sqrt(2.0 * math.pi)
    return float(np.trapezoid(density * np.exp(sigma * z - 0.5 * sigma * sigma), z))
