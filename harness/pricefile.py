"""A user's price file in, a ``PriceTable`` out, as strictly as a spec is read.

::

    as_of: 2026-10-01          # the day these prices were looked up
    source: our contract       # where they come from
    usd_per_chip_hour:
      L4:   {on-demand: 0.70, spot: 0.28}
      H100: {reservation: 3.10}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.pools import Capacity
from harness.spec_errors import Problem, found, unknown
from harness.specfile import read_yaml_as
from results.prices import PriceTable, plain_name


def read_prices(path: str | Path) -> PriceTable:
    """The table of a file. Raises SpecError, with file, line, and everything wrong in it."""
    return read_yaml_as(str(path), PriceTable, lambda table: tuple(_problems(table)))


def _problems(table: PriceTable) -> Iterator[Problem]:
    if not table.source.strip():
        yield Problem(path=("source",), message="is empty; say where the prices come from")
    seen: dict[str, str] = {}
    for accelerator, by_capacity in table.usd_per_chip_hour.items():
        here = ("usd_per_chip_hour", accelerator)
        twin = seen.setdefault(plain_name(accelerator), accelerator)
        if twin != accelerator:
            yield Problem(path=here, message=f"is there already, as {twin}")
        for capacity, usd in by_capacity.items():
            if capacity not in list(Capacity):
                names = [str(one) for one in Capacity]
                message = unknown(capacity, names, "no capacity type")
                yield Problem(path=(*here, capacity), message=message)
            elif usd < 0:
                message = f"found {found(usd)}; accepted: 0 or more"
                yield Problem(path=(*here, capacity), message=message)
