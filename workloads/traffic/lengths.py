"""How long prompts and answers are in tokens, and how long users think.

Every value is the inverse of its distribution at one number of the request's own, so that the
length of request 7 is known without those of requests 0 to 6. scipy is imported where a normal
distribution is asked for, because it takes a third of a second before the first request.
"""

from __future__ import annotations

import math

import numpy as np

from results.samples import FloatColumn, IntColumn
from workloads.traffic.randomness import Stream, uniforms
from workloads.traffic.spec import (
    EmpiricalLength,
    ExponentialTime,
    FixedLength,
    Length,
    LognormalLength,
    LognormalTime,
    NormalLength,
    ThinkTime,
    UniformLength,
    UniformTime,
)

# Points at which a mean is taken that has no closed form.
_MEAN_POINTS = 4096
# A range with less of the distribution in it is a slip, and the inverse would be inexact there.
MIN_MASS = 1e-6


def lengths(length: Length, seed: int, stream: Stream, start: int, count: int) -> IntColumn:
    """(count,) token counts of the requests from index ``start`` on; a function of the index."""
    if isinstance(length, FixedLength):
        return np.full(count, length.tokens, dtype=np.int64)
    return quantiles(length, uniforms(seed, stream, start, count))


def quantiles(length: Length, u: FloatColumn) -> IntColumn:
    """(n,) the token counts at ``u`` (n,) in [0, 1): the inverse of the distribution."""
    match length:
        case FixedLength():
            return np.full(len(u), length.tokens, dtype=np.int64)
        case UniformLength():
            return length.low + np.floor(u * (length.high - length.low + 1)).astype(np.int64)
        case NormalLength() | LognormalLength():
            from scipy.special import ndtr, ndtri

            low, high = (float(ndtr(z)) for z in _ends(length))
            z = ndtri(low + u * (high - low))
            tokens = np.floor(_from_z(length, z) + 0.5)
            # Only rounding in the last place can leave the range.
            return np.clip(tokens, length.low, length.high).astype(np.int64)
        case EmpiricalLength():
            cumulative = np.cumsum(_weights(length))
            at = np.searchsorted(cumulative, u * cumulative[-1], side="right")
            values: IntColumn = np.array(length.values, dtype=np.int64)
            drawn: IntColumn = values[np.minimum(at, len(cumulative) - 1)]
            return drawn


def mass(length: NormalLength | LognormalLength) -> float:
    """The share of the distribution that ``low`` to ``high`` leaves."""
    from scipy.special import ndtr

    low, high = _ends(length)
    return float(ndtr(high) - ndtr(low))


def _ends(length: NormalLength | LognormalLength) -> tuple[float, float]:
    """The range in standard deviations; a count k stands for everything from k − ½ to k + ½."""
    edges = (length.low - 0.5, length.high + 0.5)
    if isinstance(length, NormalLength):
        return tuple((edge - length.mean) / length.std for edge in edges)  # type: ignore[return-value]
    mu, sigma = log_moments(length.mean, length.std)
    return tuple((math.log(edge) - mu) / sigma for edge in edges)  # type: ignore[return-value]


def _from_z(length: NormalLength | LognormalLength, z: FloatColumn) -> FloatColumn:
    if isinstance(length, NormalLength):
        return length.mean + length.std * z
    mu, sigma = log_moments(length.mean, length.std)
    return np.exp(mu + sigma * z)


def log_moments(mean: float, std: float) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of a log-normal variable, from its own."""
    variance = math.log1p((std / mean) ** 2)
    return math.log(mean) - variance / 2, math.sqrt(variance)


def _weights(length: EmpiricalLength) -> FloatColumn:
    return np.array(length.weights or (1.0,) * len(length.values), dtype=np.float64)


def longest(length: Length | int) -> int:
    """The most tokens (or turns) there can be."""
    if isinstance(length, int):
        return length
    if isinstance(length, FixedLength):
        return length.tokens
    return max(length.values) if isinstance(length, EmpiricalLength) else length.high


def mean_length(length: Length | int) -> float:
    """The mean of what is really drawn, truncation included; to about 0.1 % for the normals."""
    match length:
        case int():
            return float(length)
        case FixedLength():
            return float(length.tokens)
        case UniformLength():
            return (length.low + length.high) / 2
        case EmpiricalLength():
            return float(np.average(length.values, weights=_weights(length)))
        case _:
            middles = (np.arange(_MEAN_POINTS) + 0.5) / _MEAN_POINTS
            return float(np.mean(quantiles(length, middles)))


def think_times(think: float | ThinkTime, seed: int, start: int, count: int) -> FloatColumn:
    """(count,) seconds before the requests from index ``start`` on, as far as they are later turns
    of a session."""
    if not isinstance(think, UniformTime | ExponentialTime | LognormalTime):
        return np.full(count, float(think))
    u = uniforms(seed, Stream.THINK_TIME, start, count)
    match think:
        case UniformTime():
            return think.low_s + u * (think.high_s - think.low_s)
        case ExponentialTime():
            return -np.log1p(-u) * think.mean_s
        case LognormalTime():
            from scipy.special import ndtri

            mu, sigma = log_moments(think.mean_s, think.std_s)
            return np.exp(mu + sigma * ndtri(u))
