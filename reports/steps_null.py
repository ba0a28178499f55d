"""How often the evidence of ``reports.steps`` comes about when nothing happens.

Tabulated once, by simulation: white, autocorrelated, drifting, heavy-tailed, skewed, two-mooded
and loud noise, each family counting alike (``reports.null_table`` makes it anew). Beyond the table
its last stretch goes on: the share falls as a power of Bayes' factor.
"""

from __future__ import annotations

import numpy as np

from reports.steps import Ints
from results.pairs import Floats

# Bins of how many nights the spread was learned from: from each to below the next.
EDGES = (14, 20, 30, 45, 60, 90, 1 << 30)
SHARES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
# Evidence that these shares of null nights exceed, one row per bin.
EVIDENCE = (
    (1.65, 2.64, 3.51, 4.51, 5.54, 6.84, 8.39),
    (1.65, 2.64, 3.51, 4.51, 5.54, 6.84, 8.39),
    (1.65, 2.64, 3.51, 4.51, 5.54, 6.84, 8.39),
    (1.5, 2.47, 3.34, 4.41, 5.44, 6.75, 8.39),
    (1.38, 2.33, 3.17, 4.18, 5.23, 6.75, 8.39),
    (1.28, 2.27, 3.17, 4.18, 5.23, 6.75, 8.39),
)
# A series alarms at this share a night: in 90 nights less than 5 % of null series, in the worst of
# the promised families. Neighbouring nights say much the same, so it is more than a 90th of that.
ALPHA = 8e-4


def p_values(evidence: Floats, noise: Ints) -> Floats:
    """Any one shape; ``noise``: nights behind the evidence. 1 where none was judged."""
    made = np.ones(evidence.shape)
    logs = np.log(np.array(SHARES))
    for low, high, row in zip(EDGES[:-1], EDGES[1:], EVIDENCE, strict=True):
        here = (noise >= low) & (noise < high)
        at, known = evidence[here], np.array(row)
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
