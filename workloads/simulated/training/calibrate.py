"""From what was seen at small sizes to the parameters of a step: plausible worlds, not one fit.

A few sizes do not tell *why* a step grows: leaving the domain at all (paid once, and the same for
two domains as for many: the copies through the hosts, the outer network's first latency, what no
longer overlaps), bytes on the outer network (flat after a few domains), messages one after the
other (growing with the domains in a ring, with their logarithm in a tree), or waiting for the
slowest of ever more domains. Each draw therefore perturbs the observations by their noise, picks
ring or tree in proportion to how well it explains them, and fits the four costs anew, none below
zero. What the small sizes leave open is then seen as spread at the large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from results.collective_time import Algorithm, Link, ring_hops, tree_hops
from results.samples import FloatColumn
from results.stragglers import expected_max_lognormal
from workloads.errors import SimulationRefused
from workloads.simulated.training.model import StepModel

# Published throughputs come without their spread. Repeats of one setting differ by about so much.
TABLE_NOISE_CV = 0.01
_ALGORITHMS: tuple[Algorithm, ...] = ("ring", "tree")
_SMALL_CV = 0.01  # where the mean of the maximum is still proportional to the noise


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSeen:
    """``rate``: throughput per chip, in any unit, at ``num_domains`` domains."""

    num_domains: int
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Shares of the one-domain step: of leaving the domain, of the bytes once around the outer
    network, of one hop; and the noise of a domain (its coefficient of variation)."""

    algorithm: Algorithm
    bytes_share: float
    hop_share: float
    domain_cv: float
    leaving_share: float = 0.0


def draw_costs(
    seen: Sequence[SizeSeen], rng: np.random.Generator, noise_cv: float = TABLE_NOISE_CV
) -> Costs:
    """One plausible world. Raises SimulationRefused without one domain and two larger sizes."""
    domains, rates = _sorted(seen)
    noisy = rates * (1.0 + noise_cv * rng.standard_normal(len(rates)))
    weights = _weights(domains, rates, noise_cv)
    algorithm = _ALGORITHMS[int(rng.choice(len(_ALGORITHMS), p=weights))]
    costs, _ = _fit(domains, noisy, algorithm)
    return costs


def with_costs(model: StepModel, chips_per_domain: int, costs: Costs) -> StepModel:
    """``model``, whose ``compute_s`` is the one-domain step, with these costs of the outer network.
    Its overlap is in them: what was hidden was not seen."""
    share_bytes = model.gradient_bytes / chips_per_domain
    return replace(
        model,
        outer=Link(
            alpha_s=costs.hop_share * model.compute_s,
            beta_s_per_byte=costs.bytes_share * model.compute_s / share_bytes,
        ),
        algorithm=costs.algorithm,
        overlap_share=0.0,
        domain_cv=costs.domain_cv,
        leaving_s=costs.leaving_share * model.compute_s,
    )


def _sorted(seen: Sequence[SizeSeen]) -> tuple[list[int], FloatColumn]:
    ordered = sorted(seen, key=lambda s: s.num_domains)
    domains = [s.num_domains for s in ordered]
    if len(domains) < 3 or domains[0] != 1 or len(set(domains)) < len(domains):
        raise SimulationRefused(
            f"a table of {domains} domains cannot calibrate the outer network: it takes the rate "
            "of one domain and of at least two larger, different sizes"
        )
    return domains, np.array([s.rate for s in ordered])


def _basis(domains: Sequence[int], algorithm: Algorithm) -> FloatColumn:
    """(sizes, 4): what each cost of 1 adds to a step at each size."""
    hops = ring_hops if algorithm == "ring" else tree_hops
    rows = []
    for m in domains:
        paid = 2.0 * (m - 1) / m if algorithm == "ring" else 2.0 * (m > 1)
        waited = (expected_max_lognormal(m, _SMALL_CV) - 1.0) / _SMALL_CV
        # A tree's bytes are paid once and alike at every size: nothing could tell the two apart.
        leaving = float(m > 1 and algorithm == "ring")
        rows.append((paid, float(hops(m)), waited, leaving))
    return np.array(rows)


def _fit(domains: Sequence[int], rates: FloatColumn, algorithm: Algorithm) -> tuple[Costs, float]:
    """The costs, and the sum of squares that they leave of rate(1)/rate(m) − 1."""
    grown = rates[0] / rates[1:] - 1.0
    found, left = optimize.nnls(_basis(domains[1:], algorithm), grown)
    costs = Costs(
        algorithm=algorithm,
        bytes_share=float(found[0]),
        hop_share=float(found[1]),
        domain_cv=float(found[2]),
        leaving_share=float(found[3]),
    )
    return costs, float(left) ** 2


def _weights(domains: Sequence[int], rates: FloatColumn, noise_cv: float) -> FloatColumn:
    """Likelihoods of ring and tree, normal noise of the ratio of two noisy rates."""
    left = np.array([_fit(domains, rates, algorithm)[1] for algorithm in _ALGORITHMS])
    variance = max(2.0 * noise_cv**2, 1e-12)
    weights: FloatColumn = np.exp(-(left - left.min()) / (2.0 * variance))
    return np.asarray(weights / weights.sum())
