"""What a night would take: its runs, how long, how many chip-hours, and what they would cost.

Where a series has run before, its own runs say how long one takes; where it has not, only what its
spec asks is known, and the outlook says that the startup is not in it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.errors import PlanRefused
from harness.nightly.order import Slot
from harness.pools import Inventory, NodePool
from harness.runner import bind
from harness.spec import RunSpec
from results.prices import PriceTable
from results.record import RunRecord, Succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOutlook:
    """``run_s``: of one run; None: nobody knows. ``from_runs``: on how many earlier runs that
    rests; 0: on the spec's sending time alone, without a startup. ``usd``: None: no price."""

    series: str
    role: str
    num_runs: int
    pool: str
    num_chips: int
    run_s: float | None
    from_runs: int
    chip_hours: float | None
    usd: float | None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """``wall_s``: of the longest lane. Sums leave out what nobody knows; ``unknown`` names it."""

    series: tuple[SeriesOutlook, ...]
    num_runs: int
    num_lanes: int
    wall_s: float
    chip_hours: float
    usd: float | None
    unknown: tuple[str, ...]


def outlook_of(
    lanes: Sequence[Sequence[Slot]],
    past: Mapping[str, Sequence[RunRecord]],
    inventory: Inventory,
    prices: PriceTable | None,
) -> Outlook:
    """``past``: earlier records of each series, by name."""
    slots = [slot for lane in lanes for slot in lane]
    names = dict.fromkeys(slot.series.name for slot in slots)
    found = {
        name: _series([s for s in slots if s.series.name == name], past, inventory, prices)
        for name in names
    }
    known = [one.usd for one in found.values() if one.usd is not None]
    return Outlook(
        series=tuple(found.values()),
        num_runs=len(slots),
        num_lanes=len(lanes),
        wall_s=max(
            (sum(found[s.series.name].run_s or 0.0 for s in lane) for lane in lanes), default=0.0
        ),
        chip_hours=sum(one.chip_hours or 0.0 for one in found.values()),
        usd=sum(known) if known else None,
        unknown=tuple(n for n, one in found.items() if not one.from_runs and not one.refused),
    )


def _series(
    slots: Sequence[Slot],
    past: Mapping[str, Sequence[RunRecord]],
    inventory: Inventory,
    prices: PriceTable | None,
) -> SeriesOutlook:
    series, spec = slots[0].series, slots[0].series.spec
    ended = [r for r in past.get(series.name, ()) if isinstance(r.outcome, Succeeded)]
    run_s = median(r.duration_s for r in ended) if ended else _asked_s(spec)
    pool, chips, refused = _place(spec, inventory, prices)
    hours = None if run_s is None else run_s / 3600.0 * chips * len(slots)
    price = pool.usd_per_chip_hour if pool else None
    return SeriesOutlook(
        series=series.name,
        role=str(slots[0].role),
        num_runs=len(slots),
        pool=pool.name if pool else "",
        num_chips=chips,
        run_s=run_s,
        from_runs=len(ended),
        chip_hours=hours,
        usd=None if hours is None or price is None else hours * price,
        refused=refused,
    )


def _asked_s(spec: RunSpec) -> float | None:
    return spec.traffic.duration_s if spec.traffic else None


def _place(
    spec: RunSpec, inventory: Inventory, prices: PriceTable | None
) -> tuple[NodePool | None, int, str]:
    """The first pool of its ladder, and the chips it takes there."""
    try:
        plan = bind(spec, inventory, prices)
    except PlanRefused as refused:
        return None, 0, str(refused)
    if not plan.rungs:
        return None, 0, ""
    rung = plan.rungs[0]
    return rung.pool, sum(bundle.chips for bundle in rung.bundles), ""
