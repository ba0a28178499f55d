"""How often to save a checkpoint when failures come at random: closed forms.

``save_s`` (δ in the papers) is how long a save stops the training, ``mtbf_s`` (M) the mean time
between failures of the whole job, ``restart_s`` (R) what passes between a failure and the first
new work. Intervals are the work between two saves, the save itself left out.

Young: Communications of the ACM 17 (9), 1974. Daly: Future Generation Computer Systems 22, 2006,
equations 20 (time to solution) and 37 (higher-order interval). Both assume exponential failures.
"""

from __future__ import annotations

import math


def young_interval_s(save_s: float, mtbf_s: float) -> float:
    """√(2·δ·M)."""
    return math.sqrt(2.0 * save_s * mtbf_s)


def daly_interval_s(save_s: float, mtbf_s: float) -> float:
    """√(2δM)·[1 + ⅓·√(δ/2M) + ⅑·δ/2M] − δ for δ < 2M, and M beyond: saving so often that it is
    hopeless anyway."""
    if save_s >= 2.0 * mtbf_s:
        return mtbf_s
    ratio = save_s / (2.0 * mtbf_s)
    return young_interval_s(save_s, mtbf_s) * (1.0 + math.sqrt(ratio) / 3.0 + ratio / 9.0) - save_s


def goodput_share(interval_s: float, save_s: float, mtbf_s: float, restart_s: float) -> float:
    """Work kept / wall time in the long run: τ / [M·e^(R/M)·(e^((τ+δ)/M) − 1)].

    Exact for exponential failures that also strike while saving and restarting; a restart that is
    struck begins again.
    """
    exponent = (interval_s + save_s) / mtbf_s
    if exponent + restart_s / mtbf_s > 700.0:  # beyond what a float's exponential holds
        return 0.0
    return interval_s / (mtbf_s * math.exp(restart_s / mtbf_s) * math.expm1(exponent))
