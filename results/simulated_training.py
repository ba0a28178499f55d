"""What a simulation of training at scale predicts, as a value: for the record, the report, JSON.

Every number here is of a model. A ``Range`` runs over the seeds, each of which is one plausible
world: its own costs, its own slow chips, its own failures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from results.goodput import Part
from results.samples import FloatColumn

RANGE_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """``value``: mean over the seeds. ``low``/``high``: where one more seed would fall with
    probability RANGE_SHARE at least; None where there are too few seeds for it."""

    value: float
    low: float | None = None
    high: float | None = None


def range_of(values: FloatColumn) -> Range:
    """A distribution-free prediction interval: the r-th smallest and r-th largest of n hold the
    next value with probability (n + 1 − 2r)/(n + 1); it takes 19 seeds for 90 %."""
    n = len(values)
    r = math.floor(round((1.0 - RANGE_SHARE) / 2.0 * (n + 1), 9))
    value = float(np.mean(values))
    if r < 1:
        return Range(value=value)
    ordered = np.sort(values)
    # The mean of a skewed few may lie outside; an interval never excludes its own value.
    return Range(
        value=value,
        low=min(float(ordered[r - 1]), value),
        high=max(float(ordered[n - r]), value),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePredicted:
    """``efficiency``: throughput per chip / that of one domain, failures left out."""

    num_chips: int
    num_domains: int
    efficiency: Range
    goodput: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePublished:
    """What somebody measured, to be seen beside the prediction."""

    num_chips: int
    efficiency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalTried:
    interval_s: float
    goodput: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePredicted:
    """``useful``: efficiency × goodput, the share of what as many lone domains would do.

    ``wait_share`` and ``communication_share`` are of a step. ``interval_s`` is the one used;
    ``best_interval_s`` the simulated optimum. ``closed_form_goodput``: Daly's, for the same
    interval, without waits for hardware. ``parts``: shares of the wall time.
    """

    name: str
    num_chips: int
    chips_per_domain: int
    num_seeds: int
    seed: int
    days: float
    efficiency: Range
    goodput: Range
    useful: Range
    step_s: Range
    wait_share: Range
    communication_share: Range
    failures_per_day: Range
    time_to_recover_s: Range | None
    steps_lost_per_day: Range
    mtbf_s: float
    save_s: float
    down_s: float
    interval_s: float
    best_interval_s: Range
    young_interval_s: float
    daly_interval_s: float
    closed_form_goodput: float
    parts: Mapping[Part, Range]
    sizes: tuple[SizePredicted, ...]
    intervals: tuple[IntervalTried, ...]
    published: tuple[SizePublished, ...] = ()
    assumptions: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def num_domains(self) -> int:
        return self.num_chips // self.chips_per_domain

    @property
    def largest_seen(self) -> int:
        """Chips of the largest size that the prediction was calibrated with; 0: none."""
        return max((p.num_chips for p in self.published), default=0)
