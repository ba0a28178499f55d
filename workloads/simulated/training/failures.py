"""When a job is struck, and by what: one trace of interruptions over a campaign."""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf

import numpy as np

from results.samples import BoolColumn, FloatColumn
from workloads.errors import SimulationRefused
from workloads.simulated.training.model import FailureModel

MAX_FAILURES = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FailureTrace:
    """All (F,), in order of time. ``takes_unit``: a unit of hardware is gone until repaired."""

    at_s: FloatColumn
    takes_unit: BoolColumn

    @property
    def num_failures(self) -> int:
        return len(self.at_s)


def draw_failures(
    model: FailureModel,
    num_chips: int,
    num_domains: int,
    horizon_s: float,
    rng: np.random.Generator,
) -> FailureTrace:
    """Raises SimulationRefused where there would be more failures than are worth simulating."""
    expected = horizon_s / model.mtbf_s(num_chips, num_domains)
    if expected > MAX_FAILURES:
        raise SimulationRefused(
            f"{expected:.3g} failures are to be expected in {horizon_s / 86_400:.3g} days; at most "
            f"{MAX_FAILURES:.0e} are simulated: fewer days, or a longer mtbf_chip_hours"
        )
    chips_s = _chip_failures_s(model, num_chips, horizon_s, rng)
    links_s = _poisson_s(num_domains, model.link_mtbf_hours, horizon_s, rng)
    takes = rng.random(len(chips_s)) < model.replace_share
    at_s = np.concatenate([chips_s, links_s])
    takes = np.concatenate([takes, np.zeros(len(links_s), dtype=np.bool_)])
    order = np.argsort(at_s, kind="stable")
    return FailureTrace(at_s=at_s[order], takes_unit=takes[order])


def _chip_failures_s(
    model: FailureModel, num_chips: int, horizon_s: float, rng: np.random.Generator
) -> FloatColumn:
    """Each chip is a renewal process: when it has failed, a new life begins in its place."""
    if model.weibull_shape == 1.0:
        return _poisson_s(num_chips, model.mtbf_chip_hours, horizon_s, rng)
    scale_s = 3600.0 * model.weibull_scale_hours
    found: list[FloatColumn] = []
    alive_from_s = np.zeros(num_chips)
    while len(alive_from_s):
        died_s = alive_from_s + scale_s * rng.weibull(model.weibull_shape, len(alive_from_s))
        alive_from_s = died_s[died_s < horizon_s]
        found.append(alive_from_s)
    return np.concatenate(found)


def _poisson_s(
    num_parts: int, mtbf_hours: float, horizon_s: float, rng: np.random.Generator
) -> FloatColumn:
    """Many parts without memory are one Poisson process."""
    if isinf(mtbf_hours):
        return np.empty(0)
    count = rng.poisson(num_parts * horizon_s / (3600.0 * mtbf_hours))
    return rng.uniform(0.0, horizon_s, count)
