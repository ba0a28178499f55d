"""One training step, event by event: every chip computes, its domain waits for the slowest, domains
exchange gradients, and the step ends with the last of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from results.collective_time import ring_all_reduce_s
from results.samples import FloatColumn
from workloads.simulated.training.collectives import all_reduce_done_s
from workloads.simulated.training.model import StepModel
from workloads.simulated.training.noise import lognormal

_CHIPS_AT_ONCE = 4_000_000  # drawn together: 32 MB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedSteps:
    """All (S,), seconds. ``step_s`` = the chip alone + ``wait_s`` (for the slowest) +
    ``communication_s`` (what is not hidden behind computing)."""

    step_s: FloatColumn
    wait_s: FloatColumn
    communication_s: FloatColumn


def simulate_steps(
    model: StepModel,
    num_domains: int,
    chips_per_domain: int,
    num_steps: int,
    rng: np.random.Generator,
) -> SimulatedSteps:
    ready = _domains_ready_s(model, num_domains, chips_per_domain, num_steps, rng)  # (S, m)
    inner_s = ring_all_reduce_s(chips_per_domain, model.gradient_bytes, model.inner)
    share_bytes = model.gradient_bytes / chips_per_domain
    # Reduce-scatter is half of an all-reduce, all-gather the other: around the outer exchange.
    ended = all_reduce_done_s(
        ready + inner_s / 2.0,
        exposed_bytes(model, num_domains, share_bytes),
        model.outer,
        model.algorithm,
        model.message_cv,
        rng,
    )
    step_s = ended + inner_s / 2.0 + (model.leaving_s if num_domains > 1 else 0.0)
    latest = ready.max(axis=1)
    return SimulatedSteps(
        step_s=step_s, wait_s=latest - model.compute_s, communication_s=step_s - latest
    )


def exposed_bytes(model: StepModel, num_domains: int, share_bytes: float) -> float:
    """What of a chip's share still has to travel when its backward pass has ended: the part that
    does not overlap, and what of the rest found no time to hide in."""
    paid = 2.0 * (num_domains - 1) / num_domains if model.algorithm == "ring" else 2.0
    per_byte_s = paid * model.outer.beta_s_per_byte
    if per_byte_s == 0.0:
        return share_bytes
    room_bytes = model.overlap_room_share * model.compute_s / per_byte_s
    return share_bytes - min(model.overlap_share * share_bytes, room_bytes)


def _domains_ready_s(
    model: StepModel,
    num_domains: int,
    chips_per_domain: int,
    num_steps: int,
    rng: np.random.Generator,
) -> FloatColumn:
    """(S, m): when the slowest chip of each domain has computed, from the step's start."""
    n = num_domains * chips_per_domain
    own = lognormal(model.chip_spread_cv, (n,), rng)
    ready = np.empty((num_steps, num_domains))
    if model.chip_cv == 0.0:
        ready[:] = own.reshape(num_domains, chips_per_domain).max(axis=1)
    else:
        at_once = max(1, _CHIPS_AT_ONCE // n)
        for first in range(0, num_steps, at_once):
            count = min(at_once, num_steps - first)
            chips = own * lognormal(model.chip_cv, (count, n), rng)
            ready[first : first + count] = chips.reshape(count, num_domains, chips_per_domain).max(
                axis=2
            )
    ready *= lognormal(model.domain_cv, ready.shape, rng)
    return model.compute_s * ready
