"""What a chip-hour or a machine-hour costs, as the user's own tables say. No price is known to the
program itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Final

from results.recommendation.profile import Machine, Price

# Ways to pay beyond the capacity types that a pool can have: commitments, priced like on-demand
# machines that are always paid for.
COMMITMENTS: Final = ("1-year-cud", "3-year-cud")

# Google Cloud's names end with the accelerators of one machine: a3-highgpu-8g, ct6e-standard-4t.
_CHIPS_OF_MACHINE = re.compile(r"-(\d+)[gt]$")

Rates = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionalPrices:
    """Prices that hold in one region and come before those of every region."""

    usd_per_chip_hour: Rates = field(default_factory=dict)
    usd_per_machine_hour: Rates = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """``usd_per_chip_hour[accelerator][capacity type]``, as looked up on ``as_of`` in ``source``;
    ``usd_per_machine_hour[machine type]`` likewise, and ``regions[name]`` for one region.

    A combination that is not in the table has no price: None, never 0.
    """

    as_of: date
    source: str
    usd_per_chip_hour: Rates = field(default_factory=dict)
    usd_per_machine_hour: Rates = field(default_factory=dict)
    regions: Mapping[str, RegionalPrices] = field(default_factory=dict)

    def price(self, accelerator: str, capacity: str, region: str = "") -> float | None:
        """US dollars per chip-hour, or None. ``tpu_v6e`` and ``TPU-V6E`` are the same."""
        for rates in self._by_region(region, "usd_per_chip_hour"):
            found = _rate(rates, accelerator, capacity)
            if found is not None:
                return found
        return None

    def machine_price(self, machine_type: str, capacity: str, region: str = "") -> float | None:
        """US dollars per machine-hour, or None."""
        for rates in self._by_region(region, "usd_per_machine_hour"):
            found = _rate(rates, machine_type, capacity)
            if found is not None:
                return found
        return None

    def _by_region(self, region: str, what: str) -> list[Rates]:
        """The region's own first."""
        own = self.regions.get(region)
        return [*([getattr(own, what)] if own is not None else []), getattr(self, what)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Several tables; a later one comes before an earlier one: list prices first, then the user's
    own contract. In one table a machine's price comes before its chips'."""

    tables: tuple[PriceTable, ...] = ()

    def find(self, machine: Machine, capacity: str, region: str = "") -> Price | str:
        """The price of one replica, or why there is none."""
        if machine.virtual:
            return "virtual pools are never priced"
        for table in reversed(self.tables):
            found = _of_table(table, machine, capacity, region)
            if found is not None:
                return found
        return self._why_none(machine, capacity, region)

    def _why_none(self, machine: Machine, capacity: str, region: str) -> str:
        what = machine.accelerator or machine.machine_type or "hardware that is not known"
        if machine.num_chips == 0 and not machine.machine_type:
            return f"{what}: no chips to pay for, and its machine type is not known"
        where = f" in {region}" if region else ""
        if not self.tables:
            return "no price table was given"
        names = machine.machine_type and f" or {machine.machine_type}"
        return f"no table has a price of {what}{names} as {capacity}{where}"


def _of_table(table: PriceTable, machine: Machine, capacity: str, region: str) -> Price | None:
    told = table.regions.get(region)
    if machine.machine_type:
        usd = table.machine_price(machine.machine_type, capacity, region)
        num = machines_needed(machine)
        if usd is not None and num is not None:
            own = told and _rate(told.usd_per_machine_hour, machine.machine_type, capacity)
            return _price(table, usd, "machine", num, capacity, region if own is not None else "")
    if machine.num_chips:
        usd = table.price(machine.accelerator, capacity, region)
        if usd is not None:
            own = told and _rate(told.usd_per_chip_hour, machine.accelerator, capacity)
            where = region if own is not None else ""
            return _price(table, usd, "chip", machine.num_chips, capacity, where)
    return None


def _price(table: PriceTable, usd: float, unit: str, num: int, capacity: str, region: str) -> Price:
    return Price(
        usd_per_unit_hour=usd,
        unit="machine" if unit == "machine" else "chip",
        num_units=num,
        capacity=capacity,
        region=region,
        as_of=table.as_of,
        source=table.source,
    )


def machines_needed(machine: Machine) -> int | None:
    """Whole machines that one replica takes: its chips over those of its machine type, or the
    nodes of a CPU deployment; None where the type does not say how many chips it has."""
    if not machine.num_chips:
        return machine.num_nodes
    each = chips_of_machine(machine.machine_type)
    return -(-machine.num_chips // each) if each else None


def chips_of_machine(machine_type: str) -> int | None:
    """Accelerators of one machine, where the name of its type says so."""
    found = _CHIPS_OF_MACHINE.search(machine_type)
    return int(found[1]) or None if found else None


def region_of(zone: str) -> str:
    """``us-central1-a`` → ``us-central1``; "" for what is no zone's name."""
    region, dash, letter = zone.rpartition("-")
    return region if dash and len(letter) == 1 and letter.isalpha() else ""


def _rate(rates: Rates, wanted: str, capacity: str) -> float | None:
    for name, by_capacity in rates.items():
        if plain_name(name) == plain_name(wanted):
            return by_capacity.get(str(capacity))
    return None


@lru_cache(1024)
def plain_name(accelerator: str) -> str:
    """The spelling by which two names of an accelerator are compared."""
    return accelerator.casefold().replace("_", "-")
