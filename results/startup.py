"""The startup timeline: workload asked for → first token or first training step, phase by phase.

Phases may overlap and may leave gaps; both are shown as they are. What no phase covers is
``unattributed_s``, never spread over its neighbours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupParts:
    """A start by what it was spent on; the parts add up to it. ``rest_s``: no phase that is known
    says what happened then."""

    place_s: float = 0.0  # until the engine's process runs
    imports_s: float = 0.0
    load_s: float = 0.0  # the model is built, its weights read
    compile_s: float = 0.0  # graphs compiled, captured, or read from a cache
    warmup_s: float = 0.0  # profiling, the KV cache, the first token or step
    rest_s: float = 0.0

    def plus(self, other: StartupParts) -> StartupParts:
        return StartupParts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


# Beginnings of phases' names, by part; the longest that fits decides. Phases overlap, and a moment
# counts once: for the first part here that has it, because graphs are compiled within loading, and
# all is done within warming up.
_PARTS: Final = (
    ("compile_s", ("compile", "load compiled", "capture")),
    ("imports_s", ("imports", "inspect model")),
    ("load_s", ("load", "build and load", "initialize model", "download", "quantize", "restore")),
    (
        "warmup_s",
        (
            "warm-up",
            "profile",
            "compile and first run",
            "first run",
            "allocate KV cache",
            "first token",
            "first step",
        ),
    ),
    ("place_s", ("placed", "launch prepared", "actor start", "port retry", "process start")),
)


def parts_of(timeline: StartupTimeline) -> StartupParts:
    """Where the seconds of a start went, by the phases that are known."""
    spans: list[tuple[int, float, float]] = []
    for phase in timeline.phases:
        rank = _part_of(phase.name)
        if rank is not None:
            start_s, end_s = max(phase.start_s, 0.0), min(phase.end_s, timeline.ready_s)
            spans.append((rank, start_s, end_s))
    edges = sorted({0.0, timeline.ready_s, *(s for _, *ends in spans for s in ends)})
    seconds = dict.fromkeys((name for name, _ in _PARTS), 0.0)
    seconds["rest_s"] = 0.0
    for start_s, end_s in itertools.pairwise(edges):
        if end_s > timeline.ready_s:
            break
        ranks = [rank for rank, begin, end in spans if begin <= start_s and end_s <= end]
        seconds[_PARTS[min(ranks)][0] if ranks else "rest_s"] += end_s - start_s
    return StartupParts(**seconds)


def _part_of(name: str) -> int | None:
    """Its place in ``_PARTS``; None for a phase that holds others, or is not known."""
    fits = [
        (len(beginning), rank)
        for rank, (_, beginnings) in enumerate(_PARTS)
        for beginning in beginnings
        if name.startswith(beginning)
    ]
    return max(fits)[1] if fits else None
