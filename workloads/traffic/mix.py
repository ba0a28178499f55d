"""Which of several models, or adapters of one, a request names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from results.samples import IntColumn
from workloads.traffic.randomness import Stream, uniforms


def model_names(models: Mapping[str, float]) -> tuple[str, ...]:
    """In the order that numbers mean; a file's order of names changes nothing."""
    return tuple(sorted(models))


def drawn_models(models: Mapping[str, float], seed: int, start: int, count: int) -> IntColumn:
    """(count,) numbers of the models of the requests from ``start`` on, by weight; −1: no mix."""
    if not models:
        return np.full(count, -1, dtype=np.int64)
    cumulative = np.cumsum([float(models[name]) for name in model_names(models)])
    u = uniforms(seed, Stream.MODEL, start, count)
    at = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    numbers: IntColumn = np.minimum(at, len(cumulative) - 1)
    return numbers
