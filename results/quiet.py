"""Which single numbers a table has a row for."""

from __future__ import annotations

from results.measurement import Measurement
from results.metrics import metric


def is_told(measurement: Measurement) -> bool:
    """Not where it says that something did not happen: a training that nothing struck needs no row
    for each kind of time that it did not lose. The record keeps them."""
    return not (measurement.value == 0.0 and metric(measurement.metric).quiet_at_zero)
