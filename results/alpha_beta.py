"""α and β of a collective, fitted to its times over sizes. Pure.

The model is Hockney's (Parallel Computing 20, 1994) for a ring: t(S) = m·α + f·S·β, with m messages
one after the other and f·S bytes that each rank sends. The line t = a + b·S is fitted by least
squares weighted by 1/t², so that a small size counts as much as a large one; then α = a/m, β = b/f.

The interval is that of a weighted regression whose variance is taken from the residuals, so that a
line that does not fit has a wide one. Transports change protocol with the size (eager, then
rendezvous; LL, LL128, Simple in NCCL): where two lines fit significantly better than one, the size
at which the second begins is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from results.intervals import t_quantile
from results.samples import FloatColumn

MIN_SIZES = 4
# Two lines and the size between them are five numbers; two more leave something to judge them by.
_MIN_SIZES_OF_TWO_LINES = 7
_MIN_SIZES_OF_A_LINE = 3
_SIGNIFICANT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaBeta:
    """``alpha`` in seconds per message, ``beta`` in seconds per byte that a rank sends.

    ``largest_residual`` is a share of the time there; ``second_from_bytes`` where another line
    begins, None where one line is enough or the sizes are too few to tell.
    """

    alpha: Fitted
    beta: Fitted
    num_sizes: int
    num_messages: int
    share_sent: float
    largest_residual: float
    second_from_bytes: int | None

    def told(self) -> str:
        """The method in a sentence, for the record."""
        change = (
            f"; another line fits better from {self.second_from_bytes} bytes on: the transport "
            "changes its protocol there"
            if self.second_from_bytes is not None
            else ""
        )
        return (
            f"t = {self.num_messages}·α + {self.share_sent:.4g}·S·β, weighted least squares over "
            f"the medians of {self.num_sizes} sizes; largest residual "
            f"{100 * self.largest_residual:.0f} % of the time{change}"
        )


def fit_alpha_beta(
    sizes: FloatColumn,
    times_s: FloatColumn,
    *,
    num_messages: int,
    share_sent: float,
    confidence: float = 0.95,
) -> AlphaBeta | str:
    """``sizes`` in bytes and ``times_s`` > 0, both (k,); or the reason why there is no fit."""
    order = np.argsort(sizes)
    sizes, times_s = sizes[order], times_s[order]
    distinct = len(np.unique(sizes))
    if distinct < MIN_SIZES:
        return f"{distinct} sizes; a line with an interval needs at least {MIN_SIZES}"
    if not np.all(times_s > 0):
        return "a time of zero cannot be weighted"
    beta, covariance, residuals = _line(sizes, times_s)
    half = t_quantile(len(sizes) - 2, 0.5 + confidence / 2.0) * np.sqrt(np.diag(covariance))
    scale = np.array([num_messages, share_sent], dtype=np.float64)
    value, half = beta / scale, half / scale
    alpha, per_byte = (
        Fitted(value=float(v), low=float(v - h), high=float(v + h))
        for v, h in zip(value, half, strict=True)
    )
    return AlphaBeta(
        alpha=alpha,
        beta=per_byte,
        num_sizes=len(sizes),
        num_messages=num_messages,
        share_sent=share_sent,
        largest_residual=float(np.abs(residuals).max()),
        second_from_bytes=_second_line(sizes, times_s),
    )


def _line(sizes: FloatColumn, times_s: FloatColumn) -> tuple[FloatColumn, FloatColumn, FloatColumn]:
    """Coefficients (2,), their covariance (2, 2), and residuals (k,) as shares of the times."""
    design = np.column_stack([np.ones(len(sizes)), sizes]) / times_s[:, None]
    # Bytes are large and times are small: without scaling the columns, one of them is rounded away.
    norms = np.linalg.norm(design, axis=0)
    scaled = design / norms
    solution = np.linalg.lstsq(scaled, np.ones(len(sizes)), rcond=None)[0]
    residuals = 1.0 - scaled @ solution
    freedom = len(sizes) - 2
    variance = float(residuals @ residuals) / freedom if freedom > 0 else 0.0
    covariance = np.linalg.pinv(scaled.T @ scaled) * variance / np.outer(norms, norms)
    return solution / norms, covariance, residuals


def _second_line(sizes: FloatColumn, times_s: FloatColumn) -> int | None:
    """The size from which another line fits, by an F test that pays for having searched."""
    k = len(sizes)
    if k < _MIN_SIZES_OF_TWO_LINES:
        return None
    one = float(np.sum(_line(sizes, times_s)[2] ** 2))
    cuts = range(_MIN_SIZES_OF_A_LINE, k - _MIN_SIZES_OF_A_LINE + 1)
    two = {
        cut: float(
            np.sum(_line(sizes[:cut], times_s[:cut])[2] ** 2)
            + np.sum(_line(sizes[cut:], times_s[cut:])[2] ** 2)
        )
        for cut in cuts
    }
    best = min(two, key=lambda cut: two[cut])
    freedom = k - 5
    if two[best] <= 0.0:
        return int(sizes[best]) if one > 0.0 and not math.isclose(one, 0.0, abs_tol=1e-18) else None
    statistic = ((one - two[best]) / 3.0) / (two[best] / freedom)
    p = float(special.fdtrc(3, freedom, statistic)) * len(cuts)
    return int(sizes[best]) if p < _SIGNIFICANT else None
