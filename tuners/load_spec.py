"""The cheap inner axis as a study's file says it: load points of one server start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

UNTIL = ("slo", "end")
# A probe is this share of a window, unless the file says otherwise, and at least so long; where
# the window is not several times as long, there is none.
PROBE_SHARE, SHORTEST_PROBE_S, WINDOW_OF_PROBES = 0.2, 2.0, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """Exactly one of ``rates`` (requests/s) and ``concurrency`` (users), rising. ``until``: slo
    ends at the first load that breaks the limits, end measures all. ``duration_s`` 0: the
    traffic's own.
    ``probe_s``: of the short look before each full window; null: by itself; 0: none."""

    rates: tuple[float, ...] = ()
    concurrency: tuple[int, ...] = ()
    until: str = "slo"
    duration_s: float = 0.0
    probe_s: float | None = None
    think_time_s: float = 0.0

    def probe_of(self, window_s: float) -> float:
        """Seconds of each probe before windows of ``window_s``; 0: none is made."""
        if self.probe_s is not None:
            return self.probe_s
        probe_s = max(PROBE_SHARE * window_s, SHORTEST_PROBE_S)
        return probe_s if window_s >= WINDOW_OF_PROBES * probe_s else 0.0


def wrong_loads(load: LoadSpec, slo: str) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)."""
    if bool(load.rates) == bool(load.concurrency):
        yield "load", "give one of: rates (requests/s), or concurrency (users)"
    for name, loads in (("rates", load.rates), ("concurrency", load.concurrency)):
        if list(loads) != sorted(set(loads)) or any(x <= 0 for x in loads):
            yield f"load.{name}", f"found {list(loads)}; loads are above 0 and rise"
    if load.until not in UNTIL:
        yield "load.until", f"found {load.until!r}; accepted: {', '.join(UNTIL)}"
    elif load.until == "slo" and not slo:
        yield "load.until", "slo ends at broken limits, and the study has none: give slo, or end"
    if load.duration_s < 0 or (load.probe_s or 0.0) < 0 or load.think_time_s < 0:
        yield "load", "duration_s, probe_s and think_time_s are seconds, 0 or more"
    if load.think_time_s and not load.concurrency:
        yield "load.think_time_s", "is of users, who are asked for with concurrency"
