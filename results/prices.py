"""What a chip-hour costs, as the user's own table says. No price is known to the program itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """``usd_per_chip_hour[accelerator][capacity type]``, as looked up on ``as_of`` in ``source``.

    A combination that is not in the table has no price: None, never 0.
    """

    as_of: date
    source: str
    usd_per_chip_hour: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def price(self, accelerator: str, capacity: str) -> float | None:
        """US dollars per chip-hour, or None. ``tpu_v6e`` and ``TPU-V6E`` are the same."""
        wanted = plain_name(accelerator)
        for name, by_capacity in self.usd_per_chip_hour.items():
            if plain_name(name) == wanted:
                return by_capacity.get(str(capacity))
        return None


def plain_name(accelerator: str) -> str:
    """The spelling by which two names of an accelerator are compared."""
    return accelerator.casefold().replace("_", "-")
