"""A user's price file in, price tables out, as strictly as a spec is read.

::

    as_of: 2026-10-01          # the day these prices were looked up
    source: our contract       # where they come from
    usd_per_chip_hour:
      L4:   {on-demand: 0.70, spot: 0.28}
      H100: {reservation: 3.10, 3-year-cud: 2.40}
    usd_per_machine_hour:
      a3-highgpu-8g: {on-demand: 88.25}
    regions:                   # what holds in one region comes first there
      europe-west4:
        usd_per_chip_hour: {H100: {spot: 2.25}}

or a CSV file with a line for each price (``CSV_COLUMNS``), which may hold several tables.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

from harness.pools import Capacity
from harness.spec_errors import Problem, found, refuse, unknown
from harness.specfile import read_yaml_as
from results.prices import COMMITMENTS, PriceBook, PriceTable, Rates, RegionalPrices, plain_name

CSV_COLUMNS = (
    "as_of",
    "source",
    "region",
    "machine_type",
    "accelerator",
    "capacity",
    "usd_per_hour",
)
# What can be paid for: how a pool's capacity is had, or a commitment to pay anyway.
WAYS_TO_PAY = (*(str(one) for one in Capacity), *COMMITMENTS)
_CHIP, _MACHINE = "usd_per_chip_hour", "usd_per_machine_hour"


def read_prices(path: str | Path) -> PriceTable:
    """The one table of a YAML file. Raises SpecError, with file, line, and everything wrong."""
    return read_yaml_as(str(path), PriceTable, lambda table: tuple(_problems(table)))


def read_price_book(paths: Iterable[str | Path]) -> PriceBook:
    """Of several files, YAML or CSV: the prices of a later one come first. Raises SpecError."""
    tables: list[PriceTable] = []
    for path in paths:
        if Path(path).suffix.lower() == ".csv":
            tables += _read_csv(Path(path))
        else:
            tables.append(read_prices(path))
    return PriceBook(tables=tuple(tables))


def _problems(table: PriceTable) -> Iterator[Problem]:
    if not table.source.strip():
        yield Problem(path=("source",), message="is empty; say where the prices come from")
    yield from _rate_problems(table.usd_per_chip_hour, (_CHIP,))
    yield from _rate_problems(table.usd_per_machine_hour, (_MACHINE,))
    for region, own in table.regions.items():
        yield from _rate_problems(own.usd_per_chip_hour, ("regions", region, _CHIP))
        yield from _rate_problems(own.usd_per_machine_hour, ("regions", region, _MACHINE))


def _rate_problems(rates: Rates, path: tuple[str, ...]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, by_capacity in rates.items():
        here = (*path, name)
        twin = seen.setdefault(plain_name(name), name)
        if twin != name:
            yield Problem(path=here, message=f"is there already, as {twin}")
        for capacity, usd in by_capacity.items():
            if capacity not in WAYS_TO_PAY:
                message = unknown(capacity, list(WAYS_TO_PAY), "no capacity type")
                yield Problem(path=(*here, capacity), message=message)
            elif usd < 0:
                message = f"found {found(usd)}; accepted: 0 or more"
                yield Problem(path=(*here, capacity), message=message)


def _read_csv(path: Path) -> Sequence[PriceTable]:
    """One table for each ``as_of`` and ``source``, in the order they first appear."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [c for c in CSV_COLUMNS if c not in (rows.fieldnames or ())]
            if missing:
                refuse(
                    [
                        f"{path}:1: no column {', '.join(missing)}; accepted: "
                        f"{', '.join(CSV_COLUMNS)}"
                    ]
                )
            told = [(rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        refuse([f"{path}: cannot be read as CSV: {error}"])
    wrong = [f"{path}:{line}: {words}" for line, row in told for words in _wrong_in(row)]
    if wrong:
        refuse(wrong)
    return _tables([row for _, row in told])


def _wrong_in(row: dict[str, str]) -> Iterator[str]:
    if None in row.values() or None in row:
        yield f"has not as many columns as the first line; accepted: {', '.join(CSV_COLUMNS)}"
        return
    try:
        date.fromisoformat(row["as_of"].strip())
    except ValueError:
        yield f'as_of: found text "{row["as_of"]}"; accepted: a date such as 2026-10-01'
    if not row["source"].strip():
        yield "source: is empty; say where the prices come from"
    if bool(row["machine_type"].strip()) == bool(row["accelerator"].strip()):
        yield "machine_type, accelerator: one of them, and not both, says what is priced"
    if row["capacity"].strip() not in WAYS_TO_PAY:
        yield "capacity: " + unknown(row["capacity"], list(WAYS_TO_PAY), "no capacity type")
    try:
        usd = float(row["usd_per_hour"])
    except ValueError:
        usd = math.nan
    if not 0 <= usd < math.inf:
        yield f'usd_per_hour: found text "{row["usd_per_hour"]}"; accepted: a number, 0 or more'


def _tables(rows: Iterable[dict[str, str]]) -> Sequence[PriceTable]:
    made: dict[tuple[str, str], dict[str, dict[str, dict[str, dict[str, float]]]]] = {}
    for row in rows:
        clean = {name: text.strip() for name, text in row.items()}
        by_region = made.setdefault((clean["as_of"], clean["source"]), {})
        rates = by_region.setdefault(clean["region"], {_CHIP: {}, _MACHINE: {}})
        machine = clean["machine_type"]
        prices = rates[_MACHINE if machine else _CHIP]
        of_one = prices.setdefault(machine or clean["accelerator"], {})
        of_one[clean["capacity"]] = float(clean["usd_per_hour"])
    return [
        PriceTable(
            as_of=date.fromisoformat(as_of),
            source=source,
            **by_region.get("", {}),
            regions={r: RegionalPrices(**rates) for r, rates in by_region.items() if r},
        )
        for (as_of, source), by_region in made.items()
    ]
