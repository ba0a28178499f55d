"""When a bench began: taken before the load, for the record that is made after it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The beginning on both clocks, and how busy this host was (``provenance.host_load``)."""

    at: datetime
    at_s: float
    load: tuple[float, float | None]
