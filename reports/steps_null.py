"""How often a quotient of ``reports.steps`` comes about when nothing happens.

Tabulated once, by simulation: white, autocorrelated, drifting, heavy-tailed, skewed and two-mooded
noise, each family counting alike (``reports.null_table`` makes it anew). Beyond the table its last
stretch goes on as a power law, for that is how quotients with an estimated spread fall off.
"""

from __future__ import annotations

import numpy as np

from reports.steps import Floats, Ints

# Bins of how many nights the spread was learned from: from each to below the next.
EDGES = (14, 20, 30, 45, 60, 90, 1 << 30)
SHARES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
# Quotients that these shares of null nights exceed, one row per bin.
QUOTIENTS = (
    (2.46, 3.09, 4.04, 5.5, 7.33, 9.61, 12.65),
    (2.46, 3.09, 3.91, 5.06, 6.61, 9.14, 12.65),
    (2.46, 3.06, 3.71, 4.57, 5.48, 6.57, 9.09),
    (2.46, 3.06, 3.61, 4.29, 5.03, 6.43, 9.09),
    (2.46, 3.05, 3.59, 4.24, 4.94, 5.91, 7.07),
    (2.46, 3.01, 3.48, 4.02, 4.56, 5.21, 5.88),
)
# A series alarms at this share a night: 5 % of null series in 90 nights, in the worst family.
ALPHA = 5e-4


def p_values(z: Floats, noise: Ints) -> Floats:
    """Of quotients with the nights of noise behind them, any one shape; 1 where none was judged."""
    made = np.ones(z.shape)
    logs = np.log(np.array(SHARES))
    for low, high, row in zip(EDGES[:-1], EDGES[1:], QUOTIENTS, strict=True):
        here = (noise >= low) & (noise < high)
        at, known = np.log(np.maximum(z[here], 1e-6)), np.log(np.array(row))
        slope = (logs[-1] - logs[-3]) / (known[-1] - known[-3])
        beyond = logs[-1] + slope * (at - known[-1])
        p = np.exp(np.where(at > known[-1], beyond, np.interp(at, known, logs)))
        # Below the table nothing is said but that it is common.
        made[here] = np.where(at < known[0], 1.0, p)
    return made


def highest_called(p: Floats, rate: float) -> float:
    """Benjamini & Hochberg (JRSS B 57, 1995) over one night's family (n,): p-values up to this are
    called; rate/n where none is.

    Metrics of one run move together, some up, some down. For two-sided tests the rate holds under
    such dependence too (Reiner-Benaim, Biometrical Journal 49, 2007).
    """
    n = len(p)
    if n == 0:
        return 0.0
    fits = np.flatnonzero(np.sort(p) <= rate * np.arange(1, n + 1) / n)
    return float(rate * (fits[-1] + 1 if len(fits) else 1) / n)
