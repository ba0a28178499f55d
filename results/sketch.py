"""A mergeable sketch of positive values: logarithmic buckets of a stated relative error.

For what is looked at while it grows: the answers that each worker of a load has had so far. A value
x falls in bucket ⌈log_γ x⌉ with γ = (1 + α)/(1 − α), and a bucket answers with the one number that
is within α of all it holds (Masson, Rim & Lee, DDSketch, VLDB 2019). Buckets are never merged, so
two sketches of the same α add up to exactly the sketch of all values, in any order.

Own code: the published Python package takes values one by one, and merges in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from results.samples import FloatColumn, IntColumn

DEFAULT_ALPHA = 0.005
# Values are binned at some tens of megabytes a time.
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sketch:
    """``counts[i]`` values fell in bucket ``keys[i]`` (ascending, none empty); ``num_zeros`` were
    zero. ``minimum`` and ``maximum`` are exact, and infinite while there is no value."""

    alpha: float
    keys: IntColumn
    counts: IntColumn
    num_zeros: int
    minimum: float
    maximum: float

    @property
    def num_values(self) -> int:
        return self.num_zeros + int(self.counts.sum())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return (
            (self.alpha, self.num_zeros, self.minimum, self.maximum)
            == (other.alpha, other.num_zeros, other.minimum, other.maximum)
            and np.array_equal(self.keys, other.keys)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]

    def added(self, values: npt.ArrayLike) -> Sketch:
        """This sketch and ``values`` (n,) besides; NaN is left out.

        Raises ValueError for a value below zero or infinite: a latency is neither.
        """
        column = np.asarray(values, dtype=np.float64).ravel()
        parts = [
            _sketched(self.alpha, column[start : start + _BLOCK])
            for start in range(0, len(column), _BLOCK)
        ]
        return reduce(Sketch.merged, parts, self)

    def merged(self, other: Sketch) -> Sketch:
        """The sketch of both's values. Raises ValueError unless both have one α."""
        if self.alpha != other.alpha:
            raise ValueError(
                f"a sketch of relative error {self.alpha} and one of {other.alpha} do not add up"
            )
        keys = np.union1d(self.keys, other.keys)
        counts = np.zeros(len(keys), dtype=np.int64)
        for part in (self, other):
            counts[np.searchsorted(keys, part.keys)] += part.counts
        return Sketch(
            alpha=self.alpha,
            keys=keys,
            counts=counts,
            num_zeros=self.num_zeros + other.num_zeros,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
        )

    def quantile(self, q: float) -> float:
        """Within α of the ⌊q(n − 1)⌋-th smallest value, counted from 0; NaN if empty."""
        n = self.num_values
        if n == 0:
            return math.nan
        rank = math.floor(q * (n - 1))
        if rank < self.num_zeros:
            return 0.0
        at = int(np.searchsorted(np.cumsum(self.counts), rank - self.num_zeros, side="right"))
        middle = (
            2.0 * math.exp(int(self.keys[at]) * _log_gamma(self.alpha)) / (_gamma(self.alpha) + 1.0)
        )
        return min(max(middle, self.minimum), self.maximum)


def empty_sketch(alpha: float = DEFAULT_ALPHA) -> Sketch:
    """Raises ValueError unless 0 < alpha < 1."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"relative error {alpha}: it lies between 0 and 1")
    none = np.empty(0, dtype=np.int64)
    return Sketch(
        alpha=alpha, keys=none, counts=none, num_zeros=0, minimum=math.inf, maximum=-math.inf
    )


def _gamma(alpha: float) -> float:
    return (1.0 + alpha) / (1.0 - alpha)


def _log_gamma(alpha: float) -> float:
    return math.log1p(alpha) - math.log1p(-alpha)


def _sketched(alpha: float, values: FloatColumn) -> Sketch:
    values = values[~np.isnan(values)]
    if not len(values):
        return empty_sketch(alpha)
    minimum, maximum = float(values.min()), float(values.max())
    if minimum < 0.0 or math.isinf(maximum):
        raise ValueError(f"values from {minimum} to {maximum}: a sketch holds finite ones from 0")
    positive = values[values > 0.0]
    keys = np.ceil(np.log(positive) / _log_gamma(alpha)).astype(np.int64)
    first = int(keys.min()) if len(keys) else 0
    counts = np.bincount(keys - first)
    filled = np.flatnonzero(counts)
    return Sketch(
        alpha=alpha,
        keys=filled + first,
        counts=counts[filled],
        num_zeros=len(values) - len(positive),
        minimum=minimum,
        maximum=maximum,
    )
