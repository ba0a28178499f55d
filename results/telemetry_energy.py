"""What devices drew in a window of time, and between which bounds that is known. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from results.telemetry import Series, Telemetry

DEVICE_POWER = "device_power_w"
DEVICE_ENERGY = "device_energy_j"

Window = tuple[float, float]  # start, end

BY_COUNTERS = (
    "the devices' own energy counters, interpolated at both ends of the window; the bounds are "
    "their readings just inside and just outside of it"
)
BY_POWER = (
    "the integral of the devices' power over its readings (trapezoids); what was drawn between two "
    "of them is not known, so there are no bounds"
)


class Energy(NamedTuple):
    """``low`` and ``high`` are hard bounds, as good as the devices' own meters; None: there are
    none."""

    joules: float
    low: float | None
    high: float | None
    method: str


def energy_in(telemetry: Telemetry, window: Window) -> Energy | None:
    """Of all devices: from their own energy counters where every device has one, else the
    trapezoidal integral of their power. None where the readings do not cover the window."""
    power = telemetry.series(DEVICE_POWER)
    counters = telemetry.series(DEVICE_ENERGY)
    if counters and len(counters) >= len(power):
        found = [_counted(series, window) for series in counters.values()]
        if all(one is not None for one in found):
            return together(one for one in found if one is not None)
    total = telemetry.total(DEVICE_POWER)
    start, end = window
    if total is None or end <= start or total.t_s[0] > start or total.t_s[-1] < end:
        return None
    inside = (total.t_s > start) & (total.t_s < end)
    times = np.concatenate([[start], total.t_s[inside], [end]])
    joules = float(np.trapezoid(np.interp(times, total.t_s, total.value), times))
    return Energy(joules, None, None, BY_POWER)


def together(parts: Iterable[Energy]) -> Energy:
    """The sum of one or more."""
    found = list(parts)
    bounded = [(e.low, e.high) for e in found if e.low is not None and e.high is not None]
    is_bounded = len(bounded) == len(found)
    return Energy(
        sum(e.joules for e in found),
        sum(low for low, _ in bounded) if is_bounded else None,
        sum(high for _, high in bounded) if is_bounded else None,
        "; ".join(dict.fromkeys(e.method for e in found)),
    )


def grown_in(series: Series | None, window: Window) -> float | None:
    """How much a counter grew in the window, interpolated at both ends; None where the readings do
    not cover it or the counter went back."""
    if series is None or len(series.t_s) < 2 or np.any(np.diff(series.value) < 0):
        return None
    start, end = window
    if end <= start or series.t_s[0] > start or series.t_s[-1] < end:
        return None
    at = np.interp([start, end], series.t_s, series.value)
    return float(at[1] - at[0])


def _counted(series: Series, window: Window) -> Energy | None:
    """A counter never goes back: whatever it did between two readings, its growth in the window is
    at least that between the outermost readings within, at most that of the next ones without."""
    grown = grown_in(series, window)
    if grown is None:
        return None
    start, end = window
    times, values = series.t_s, series.value
    within = values[(times >= start) & (times <= end)]
    low = float(within[-1] - within[0]) if len(within) else 0.0
    before = np.searchsorted(times, start, side="right") - 1
    after = np.searchsorted(times, end, side="left")
    high = float(values[after] - values[before])
    # Interpolation rounds.
    return Energy(grown, min(low, grown), max(high, grown), BY_COUNTERS)
