"""A number of the client's beside the truth, and whether they are near enough. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from results.metrics import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``measured`` is the client's, ``truth`` the server's own or a closed form's. ``tolerance`` is
    in the same unit: they may differ by so much. None: there is no such number; ``why`` says more.
    """

    name: str
    unit: Unit
    measured: float | None
    truth: float | None
    tolerance: float
    why: str = ""

    @property
    def passed(self) -> bool:
        if self.measured is None or self.truth is None:
            return False
        return abs(self.measured - self.truth) <= self.tolerance


def near(
    name: str,
    measured: float,
    truth: float,
    *,
    rel: float,
    floor: float = 0.0,
    unit: Unit = Unit.SECONDS,
    why: str = "",
) -> Check:
    """Within ``rel`` of the truth, or within ``floor`` where that is more. NaN: no such number."""
    known = math.isfinite(truth)
    return Check(
        name=name,
        unit=unit,
        measured=measured if math.isfinite(measured) else None,
        truth=truth if known else None,
        tolerance=max(rel * abs(truth), floor) if known else floor,
        why=why,
    )


def equal(
    name: str, measured: float, truth: float, unit: Unit = Unit.COUNT, why: str = ""
) -> Check:
    return near(name, measured, truth, rel=0.0, unit=unit, why=why)


def at_most(
    name: str, measured: float, limit: float, unit: Unit = Unit.SECONDS, why: str = ""
) -> Check:
    """The truth is zero, and the number must be no further from it than ``limit``."""
    return near(name, measured, 0.0, rel=0.0, floor=limit, unit=unit, why=why)
