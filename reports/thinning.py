"""Fewer points without a different picture: what a page can hold of a long run.

A page says so wherever it shows less than was seen. Extremes are always kept: they are what a
reader looks for, and what an even sample loses first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from results.samples import FloatColumn, IntColumn

# Of the rows a sample may hold, this share goes to the extremes; the rest is even.
_EXTREME_SHARE = 0.1


def even_with_extremes(
    values: FloatColumn, limit: int, always: npt.NDArray[np.bool_] | None = None
) -> IntColumn:
    """Rows to keep of ``values`` (n,), ascending, at most ``limit`` of them (limit ≥ 3).

    Rows stand in order of time. Kept are the largest and smallest values, as many of ``always``
    (failures, say) as fit into half of the limit, and rows at even distances for the rest.
    """
    n = len(values)
    if n <= limit:
        return np.arange(n, dtype=np.int64)
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(values[finite], kind="stable")]
    each = max(int(limit * _EXTREME_SHARE) // 2, 1)
    kept = set(order[:each].tolist()) | set(order[-each:].tolist())
    if always is not None:
        kept |= set(_evenly(np.flatnonzero(always), limit // 2 - 1).tolist())
    kept = set(_evenly(np.array(sorted(kept), dtype=np.int64), limit).tolist())
    others = np.setdiff1d(np.arange(n), np.fromiter(kept, dtype=np.int64))
    kept |= set(_evenly(others, limit - len(kept)).tolist())
    return np.array(sorted(kept), dtype=np.int64)


def _evenly(rows: IntColumn, limit: int) -> IntColumn:
    if len(rows) <= limit:
        return rows
    at = np.unique(np.round(np.linspace(0, len(rows) - 1, max(limit, 1))).astype(np.int64))
    picked: IntColumn = rows[at]
    return picked


def ecdf(values: FloatColumn, limit: int) -> tuple[FloatColumn, FloatColumn]:
    """(x, share of values ≤ x) of the finite ``values``, at most about ``limit`` points.

    Every point is a value that was seen with its true share; the smallest, the largest and the
    tail's last ranks stay, where a percentile is read.
    """
    seen = np.sort(values[np.isfinite(values)])
    n = len(seen)
    if n == 0:
        return np.empty(0), np.empty(0)
    if n <= limit:
        ranks = np.arange(1, n + 1)
    else:
        half = limit // 2
        body = np.linspace(1, n, half)
        # As many ranks again, ever closer together towards the largest.
        tail = n + 1 - np.geomspace(1, n, limit - half)
        ranks = np.unique(np.round(np.concatenate([body, tail])).astype(np.int64))
    x = seen[ranks - 1]
    # Equal values are one step, as high as the last of them.
    last = np.append(x[1:] != x[:-1], True)
    share = np.searchsorted(seen, x[last], side="right") / n
    return x[last], share


def is_wide(values: FloatColumn, factor: float = 30.0) -> bool:
    """Whether the positive values spread over more than ``factor``: a log axis then."""
    positive = values[np.isfinite(values) & (values > 0)]
    if len(positive) < 2:
        return False
    low, high = np.quantile(positive, [0.001, 1.0])
    return bool(high / low > factor)


def rates(events_s: FloatColumn, weights: FloatColumn, edges: FloatColumn) -> FloatColumn:
    """Weight per second in each bin between ``edges`` (k + 1,), the last edge inclusive; (k,)."""
    total, _ = np.histogram(events_s, bins=edges, weights=weights)
    per_s: FloatColumn = total / np.diff(edges)
    return per_s


def even_edges(start_s: float, end_s: float, num_bins: int) -> FloatColumn:
    """Equal bins that end where the window ends, so that no last bin is only partly filled."""
    return np.linspace(start_s, end_s, num_bins + 1)
