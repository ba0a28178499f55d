"""The table of ``reports.steps_null``, made anew: ``python -m reports.null_table``, a minute.

Every family of ``reports.noise`` counts alike, each with as many series. A night's share of series
above some evidence is what that evidence's p-value is.
"""

from __future__ import annotations

import sys

import numpy as np

from reports.noise import OTHERS, PROMISED
from reports.steps import judge
from reports.steps_null import EDGES, SHARES

NUM_SERIES, NUM_NIGHTS, SEED = 500, 200, 11
_AT_ONCE = 500  # series, so that it fits in memory


def null_table(num_series: int = NUM_SERIES, seed: int = SEED) -> tuple[tuple[float, ...], ...]:
    """One row per bin of EDGES, one evidence per share of SHARES. A longer history never asks for
    more than a shorter one."""
    rng = np.random.default_rng(seed)
    pools: list[list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = [[] for _ in EDGES[:-1]]
    for made in (*PROMISED.values(), *OTHERS.values()):
        for begun in range(0, num_series, _AT_ONCE):
            values = made(rng, min(_AT_ONCE, num_series - begun), NUM_NIGHTS)
            panel = judge(values, np.zeros(values.shape, np.int64))
            for pool, low, high in zip(pools, EDGES[:-1], EDGES[1:], strict=True):
                pool.append(panel.evidence[(panel.noise >= low) & (panel.noise < high)])
    raw = [np.quantile(np.concatenate(pool), 1.0 - np.array(SHARES)) for pool in pools]
    falling = np.maximum.accumulate(np.array(raw)[::-1], axis=0)[::-1]
    return tuple(tuple(round(float(z), 2) for z in row) for row in falling)


if __name__ == "__main__":
    sys.stdout.write("".join(f"    {row},\n" for row in null_table()))
