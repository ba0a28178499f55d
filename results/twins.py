"""Metrics that a run cannot tell apart: their rows would be one row, said twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from results.measurement import Measurement

# What the second adds over the first needs something of the run: reasoning before the answer,
# several tokens in a chunk.
_PAIRS = (("ttft_s", "ttfa_s"), ("itl_s", "inter_chunk_s"))


def twins(measurements: Iterable[Measurement]) -> Mapping[str, str]:
    """Metric → the one that has the same samples in this run: equal in every statistic and in n."""
    told: dict[str, dict[tuple[str, str], tuple[float | None, int]]] = {}
    for m in measurements:
        told.setdefault(m.metric, {})[m.group, m.statistic] = (m.value, m.n)
    return {
        first: second
        for first, second in _PAIRS
        if first in told and told[first] == told.get(second)
    }
