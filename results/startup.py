"""The startup timeline: workload asked for → first token or first training step, phase by phase.

Phases may overlap and may leave gaps; both are shown as they are. What no phase covers is
``unattributed_s``, never spread over its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PhaseSource(StrEnum):
    """Where a phase's two instants come from."""

    DRIVER = "driver"  # our own calls, on our own clock
    RAY = "ray"  # Ray's scheduling, seen by us
    PROCESS = "process"  # the operating system
    LOG = "log"  # a line of the engine's log, stamped when it reached us
    HTTP = "http"  # our own probe
    OTEL = "otel"  # a span the engine sent
    CLIENT = "client"  # the load client's first token
    STEP = "step"  # a training step that reported


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupPhase:
    """``start_s``/``end_s`` count from the ask; ``resolution_s`` bounds the error of each."""

    name: str
    start_s: float
    end_s: float
    source: PhaseSource
    resolution_s: float
    detail: str = ""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupTimeline:
    """``ready_s`` is the instant of the first token or step, counted from the ask.

    ``page_cache`` is the share of the model's bytes that lay in the page cache when the ask was
    made (0 cold … 1 warm), or None where it could not be told.
    """

    phases: tuple[StartupPhase, ...]
    ready_s: float
    page_cache: float | None = None

    @property
    def unattributed_s(self) -> float:
        """``ready_s`` less the union of all phases within it."""
        covered, reached = 0.0, 0.0
        for phase in sorted(self.phases, key=lambda p: p.start_s):
            start, end = max(phase.start_s, reached), min(phase.end_s, self.ready_s)
            if end > start:
                covered += end - start
                reached = end
        return max(self.ready_s - covered, 0.0)
