"""How the load client itself did: what a reader must know before believing a latency.

Every number here is the client's own. None means "was not measured", never zero.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """One sender: one process with one event loop.

    ``clock_offset_s`` was added to its times to bring them onto the driver's monotonic clock;
    ``clock_resolution_s`` bounds the error of that (0 where both share one clock). ``node_id`` is
    Ray's, "" for a sender without Ray.
    """

    worker: int
    host: str
    num_requests: int
    cpu_share: float  # CPU time of the sending process / wall time; near 1: it was the limit
    max_loop_stall_s: float  # the longest the event loop was late
    mean_loop_stall_s: float
    clock_offset_s: float = 0.0
    clock_resolution_s: float = 0.0
    node_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAudit:
    """How late user space saw data that the kernel had already time-stamped, over sampled reads."""

    num_reads: int
    lag_p50_s: float | None
    lag_p99_s: float | None
    lag_max_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The same client against a server that does nothing, on the same nodes, before the run.

    ``asked_rps`` is the schedule's highest rate over any second; ``ceiling_rps`` the highest rate
    at which this client kept its own schedule; the floors are what it reports for no wait at all.
    ``busy_share`` is the share of this machine's CPU time that others took just before.
    """

    asked_rps: float
    ceiling_rps: float
    ceiling_is_bound: bool  # false: the search stopped before the client did; it is "at least"
    floor_ttft_p50_s: float | None
    floor_ttft_p99_s: float | None
    duration_s: float
    num_workers: int
    busy_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientReport:
    """``origin_s`` is the load's zero on the driver's monotonic clock."""

    dialect: str  # which request fields the server took: full, plain or bare
    max_in_flight: int
    workers: tuple[WorkerReport, ...]
    origin_s: float | None = None
    audit: ClockAudit | None = None
    calibration: Calibration | None = None
