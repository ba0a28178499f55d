"""What the simulation is of, as values: a machine, a step on it, what fails, and what is done then.

A *domain* is a set of chips between which gradients cross only the inner network (a TPU slice on
ICI, a node or rack on NVLink); between domains they cross the outer one (DCN, InfiniBand).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma, inf

from results.collective_time import Algorithm, Link
from workloads.errors import SimulationRefused

NO_LINK = Link(alpha_s=0.0, beta_s_per_byte=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepModel:
    """One training step of one chip, and what holds it up.

    ``compute_s``: the chip alone; where it was taken from a step of one whole domain, the inner
    network's time is already in it and ``inner`` is NO_LINK. ``gradient_bytes``: what each domain
    reduces in a step. ``overlap_share``: of the outer network's bytes, how many travel while the
    chip computes; ``overlap_room_share``: of ``compute_s``, how much there is to hide them behind.
    ``leaving_s``: what a step takes longer once it has more than one domain, however many.

    The noise is log-normal with mean 1, given by its coefficient of variation: ``chip_cv`` anew for
    each chip and step, ``chip_spread_cv`` once for each chip (slow silicon stays slow),
    ``domain_cv`` anew for each domain and step (its hosts, its input, its way out), ``message_cv``
    anew for each message between domains.
    """

    compute_s: float
    gradient_bytes: float
    inner: Link = NO_LINK
    outer: Link = NO_LINK
    algorithm: Algorithm = "ring"
    overlap_share: float = 0.0
    overlap_room_share: float = 2.0 / 3.0  # a backward pass is two thirds of the multiplications
    chip_cv: float = 0.0
    chip_spread_cv: float = 0.0
    domain_cv: float = 0.0
    message_cv: float = 0.0
    leaving_s: float = 0.0

    def __post_init__(self) -> None:
        if self.compute_s <= 0:
            raise SimulationRefused(f"compute_s is {self.compute_s}; a step takes some time")
        for name in ("overlap_share", "overlap_room_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SimulationRefused(f"{name} is {getattr(self, name)}; a share is 0 to 1")
        none_negative = ("gradient_bytes", "chip_cv", "chip_spread_cv", "domain_cv", "message_cv")
        for name in (*none_negative, "leaving_s"):
            if getattr(self, name) < 0:
                raise SimulationRefused(f"{name} is {getattr(self, name)}; it must be ≥ 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureModel:
    """What interrupts the job, and how it comes back.

    ``mtbf_chip_hours``: chip-hours per interruption by a chip or its host. ``weibull_shape``: of a
    chip's life; 1: no memory (exponential); below 1: early deaths. All chips are new at the start.
    ``link_mtbf_hours``: hours per interruption by one domain's way out; nothing is replaced then.
    ``replace_share``: of the chips' interruptions, how many take a unit of hardware away for
    ``repair_s``. ``num_spares``: units that stand by.
    """

    mtbf_chip_hours: float
    weibull_shape: float = 1.0
    link_mtbf_hours: float = inf
    replace_share: float = 0.5
    num_spares: int = 0
    repair_s: float = 86_400.0

    def __post_init__(self) -> None:
        for name in ("mtbf_chip_hours", "weibull_shape", "link_mtbf_hours"):
            if not getattr(self, name) > 0:
                raise SimulationRefused(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0.0 <= self.replace_share <= 1.0:
            raise SimulationRefused(f"replace_share is {self.replace_share}; a share is 0 to 1")
        if self.num_spares < 0 or self.repair_s < 0:
            raise SimulationRefused("spares and repair_s must be ≥ 0")

    @property
    def weibull_scale_hours(self) -> float:
        """The mean of a Weibull law is scale·Γ(1 + 1/shape)."""
        return self.mtbf_chip_hours / gamma(1.0 + 1.0 / self.weibull_shape)

    def mtbf_s(self, num_chips: int, num_domains: int) -> float:
        """Of the whole job, in the long run."""
        per_hour = num_chips / self.mtbf_chip_hours + num_domains / self.link_mtbf_hours
        return 3600.0 / per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """``save_s``: a checkpoint stops the training for so long. After a failure: ``detect_s`` until
    it is noticed, ``restart_s`` until the processes run and have compiled, ``restore_s`` to read
    the checkpoint back. A failure in between begins it again."""

    save_s: float
    detect_s: float
    restart_s: float
    restore_s: float

    def __post_init__(self) -> None:
        for name in ("save_s", "detect_s", "restart_s", "restore_s"):
            if getattr(self, name) < 0:
                raise SimulationRefused(f"{name} is {getattr(self, name)}; it must be ≥ 0")

    @property
    def down_s(self) -> float:
        return self.detect_s + self.restart_s + self.restore_s


def num_domains_of(num_chips: int, chips_per_domain: int) -> int:
    """Raises SimulationRefused where the chips are no whole number of domains."""
    if num_chips < 1 or chips_per_domain < 1:
        raise SimulationRefused(
            f"{num_chips} chips in domains of {chips_per_domain}: both must be ≥ 1"
        )
    whole, rest = divmod(num_chips, chips_per_domain)
    if rest:
        near = f"{whole * chips_per_domain} or " if whole else ""
        raise SimulationRefused(
            f"{num_chips} chips are no whole number of domains of {chips_per_domain}: "
            f"ask for {near}{(whole + 1) * chips_per_domain}, or for another --chips-per-domain"
        )
    return whole
