"""A plan as rows and sentences: what ``windtunnel plan`` prints. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.plan import Rung, RunPlan
from harness.pools import Inventory, NodePool
from harness.traffic_words import traffic_sentence
from results.prices import PriceTable, chips_of_machine, region_of
from workloads.registry import Role, role_of
from workloads.traffic.expect import expected_requests
from workloads.traffic.spec import (
    ConstantArrivals,
    GammaArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    Traffic,
)

SECONDS_PER_HOUR = 3600.0
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RungRow:
    """One row of the rungs' table. ``usd_at_most`` is of all repeats up to every deadline; it is
    None where there is no price, and ``no_price`` says why."""

    order: int
    pool: str
    accelerator: str
    capacity: str
    topology: str
    zone: str
    virtual: bool
    num_chips: int
    num_nodes: int
    bundles: str  # "2 × (1 CPU)", "1 × (8 chips, 16 CPUs, 64 GiB)"
    strategy: str
    max_wait_s: float
    usd_per_chip_hour: float | None
    usd_at_most: float | None
    no_price: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDescription:
    """``measuring_s`` is of one run; ``at_most_s`` bounds all repeats, startups and teardowns
    included, and holds because each deadline ends its part."""

    name: str
    workload: str
    workload_hash: str
    what: str  # the load, in a sentence
    num_repeats: int
    num_deployments: int
    measuring_s: float | None
    expected_requests: float | None
    at_most_s: float
    duration: str  # all of that, in a sentence
    rungs: tuple[RungRow, ...]
    doubts: tuple[str, ...]


def priced(inventory: Inventory, prices: PriceTable) -> Inventory:
    """The inventory with the table's price on every pool that has none of its own. Virtual pools
    are never priced."""
    return Inventory(
        pools=tuple(
            replace(
                pool,
                usd_per_chip_hour=_usd_per_chip_hour(pool, prices),
            )
            if pool.usd_per_chip_hour is None and not pool.virtual and pool.num_chips
            else pool
            for pool in inventory.pools
        )
    )


def _usd_per_chip_hour(pool: NodePool, prices: PriceTable) -> float | None:
    """A machine's price before its chips', shared out evenly among them."""
    region = region_of(pool.zone)
    if pool.machine_type:
        usd = prices.machine_price(pool.machine_type, pool.capacity, region)
        chips = chips_of_machine(pool.machine_type) or pool.chips_per_node
        if usd is not None and chips:
            return usd / chips
    return prices.price(pool.accelerator, pool.capacity, region)


def describe_plan(plan: RunPlan) -> PlanDescription:
    """What would run, where, for how long and at what price, without running it."""
    spec = plan.spec
    deployments = spec.num_repeats if spec.redeploy else 1
    at_most_s = _at_most_s(plan, deployments)
    return PlanDescription(
        name=spec.name,
        workload=spec.workload.kind,
        workload_hash=plan.workload_hash,
        what=_what(plan),
        num_repeats=spec.num_repeats,
        num_deployments=deployments if plan.rungs else 0,
        measuring_s=plan.measuring_s,
        expected_requests=expected_requests(spec.traffic) if spec.traffic else None,
        at_most_s=at_most_s,
        duration=_duration(plan, at_most_s),
        rungs=tuple(_row(i, rung, at_most_s) for i, rung in enumerate(plan.rungs, start=1)),
        doubts=plan.doubts,
    )


def _at_most_s(plan: RunPlan, deployments: int) -> float:
    """Every deadline used up. Waiting for a rung is not in it: it costs time and no chips."""
    spec = plan.spec
    load_s = spec.num_repeats * spec.deadlines.load_s
    if not plan.rungs:
        return load_s
    return deployments * (spec.deadlines.startup_s + spec.deadlines.teardown_s) + load_s


def _duration(plan: RunPlan, at_most_s: float) -> str:
    spec = plan.spec
    runs = f"{spec.num_repeats} runs of" if spec.num_repeats > 1 else "one run of"
    if plan.measuring_s is not None:
        measuring = f"{runs} {plan.measuring_s:g} s"
    elif spec.traffic is not None:
        measuring = f"{runs} {_ends(spec.traffic)}"
    else:
        measuring = f"{runs} {getattr(spec.workload, 'num_steps', '?')} steps"
    if not plan.rungs:
        return f"{measuring}; nothing is started; {at_most_s:g} s at most"
    wait_s = sum(rung.max_wait_s for rung in plan.rungs)
    return (
        f"{measuring}, after a startup of unknown length (that is what is measured); "
        f"{at_most_s:g} s at most once placed; waits up to {wait_s:g} s for a place"
    )


def _ends(traffic: Traffic) -> str:
    """What ends traffic that has no duration_s."""
    arrivals = traffic.arrivals
    if traffic.num_requests is not None:
        return f"{traffic.num_requests} requests"
    if isinstance(arrivals, PiecewiseArrivals):
        return f"{sum(segment.duration_s for segment in arrivals.segments):g} s"
    return "the whole trace"


def _what(plan: RunPlan) -> str:
    spec = plan.spec
    if role_of(spec.workload) is Role.TRAINING:
        return "training"
    assert spec.traffic is not None  # require_valid said so
    expected = expected_requests(spec.traffic)
    told = traffic_sentence(spec.traffic)
    if expected is None or not _needs_sum(spec.traffic):
        return told
    return f"{told}; about {expected:.0f} requests"


def _needs_sum(traffic: Traffic) -> bool:
    """Whether the number of requests is more than a rate times a duration, or a number given."""
    steady = isinstance(traffic.arrivals, ConstantArrivals | PoissonArrivals | GammaArrivals)
    return traffic.num_requests is None and (not steady or traffic.sessions is not None)


def _row(order: int, rung: Rung, at_most_s: float) -> RungRow:
    pool = rung.pool
    usd, no_price = _price(rung, at_most_s)
    return RungRow(
        order=order,
        pool=pool.name,
        accelerator=rung.device.accelerator,
        capacity=str(rung.capacity),
        topology=rung.device.topology,
        zone=pool.zone,
        virtual=pool.virtual,
        num_chips=rung.device.num_chips,
        num_nodes=rung.device.num_nodes,
        bundles=_bundles(rung),
        strategy=rung.strategy,
        max_wait_s=rung.max_wait_s,
        usd_per_chip_hour=None if pool.virtual else pool.usd_per_chip_hour,
        usd_at_most=usd,
        no_price=no_price,
    )


def _price(rung: Rung, at_most_s: float) -> tuple[float | None, str]:
    if rung.pool.virtual:
        return None, "the pool is virtual"
    if not rung.device.num_chips:
        return None, "no chips are used, and CPUs have no price"
    if rung.pool.usd_per_chip_hour is None:
        return None, "the pool has no price"
    hours = at_most_s / SECONDS_PER_HOUR
    return rung.device.num_chips * rung.pool.usd_per_chip_hour * hours, ""


def _bundles(rung: Rung) -> str:
    if not rung.bundles:
        return "none"
    one = rung.bundles[0]
    parts: Sequence[str] = (
        f"{one.chips} chip{'s' if one.chips != 1 else ''}" if one.chips else "",
        f"{one.cpus:g} CPU{'s' if one.cpus != 1 else ''}",
        f"{one.memory_bytes / GIB:g} GiB" if one.memory_bytes else "",
    )
    return f"{len(rung.bundles)} × ({', '.join(filter(None, parts))})"
