"""What the ranks of a training job have said so far, put together. Pure: no Ray, no clock.

A rank stamps its news on its own clock, which starts when its loop is entered; the driver stamps
their arrival on its own. No message arrives before it is sent, so the smallest difference seen over
a rank's messages is where the rank's zero lies on the driver's clock, late by the fastest message's
way at most. That bound is half of a round trip and is kept as the phases' resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_type_hints

import numpy as np

from harness.on_ray.train_news import RankNews
from results.samples import StepSamples
from results.startup import PhaseSource, StartupPhase
from workloads.base import TrainFacts, TrainPhase, TrainStep

# A step's fields are the columns of StepSamples, less the rank.
_COLUMNS = get_type_hints(TrainStep)


class TrainLog:
    """``zero_s`` is the ask, on the driver's clock: phases count from it."""

    def __init__(self, num_ranks: int, zero_s: float) -> None:
        self._num_ranks, self._zero_s = num_ranks, zero_s
        self._entered_s = [math.inf] * num_ranks  # each rank's zero, from the ask
        self._round_trip_s = [0.0] * num_ranks
        self._phases: list[tuple[int, TrainPhase]] = []
        self._steps: list[list[TrainStep]] = [[] for _ in range(num_ranks)]
        self.processes: dict[int, tuple[str, int]] = {}  # node id and pid of each rank heard of
        self.facts: dict[int, dict[str, Any]] = {rank: {} for rank in range(num_ranks)}
        self.num_messages = 0

    def add(self, messages: Sequence[RankNews], arrived_at_s: float) -> None:
        for news in messages:
            rank = news.rank
            self.num_messages += 1
            self.processes[rank] = (news.node_id, news.pid)
            entered_s = arrived_at_s - self._zero_s - news.sent_s
            self._entered_s[rank] = min(self._entered_s[rank], entered_s)
            self._round_trip_s[rank] = max(self._round_trip_s[rank], news.round_trip_s)
            for event in news.events:
                match event:
                    case TrainPhase():
                        self._phases.append((rank, event))
                    case TrainStep():
                        self._steps[rank].append(event)
                    case TrainFacts():
                        self.facts[rank].update(event.values)

    @property
    def num_steps_done(self) -> int:
        """Steps that every rank has reported."""
        return min(len(steps) for steps in self._steps)

    @property
    def num_steps_total(self) -> int:
        """As the ranks say themselves; 0 while none has."""
        return int(self.facts[0].get("num_steps", 0))

    def all_ranks_stepped(self) -> bool:
        return self.num_steps_done > 0

    def phases(self, workers_asked_s: float, read_resolution_s: float) -> tuple[StartupPhase, ...]:
        """One phase per name over all ranks: the first rank's start to the last one's end."""
        resolution_s = max(self._round_trip_s) + read_resolution_s
        merged = [
            StartupPhase(
                name="worker start",
                start_s=workers_asked_s,
                end_s=max(workers_asked_s, *self._entered_s),
                source=PhaseSource.RAY,
                resolution_s=resolution_s,
                detail=f"Ray Train's worker group, {self._num_ranks} processes",
            )
        ]
        for name in dict.fromkeys(phase.name for _, phase in self._phases):
            spans = [
                (self._entered_s[rank] + p.start_s, self._entered_s[rank] + p.end_s, rank)
                for rank, p in self._phases
                if p.name == name
            ]
            took = {rank: end_s - start_s for start_s, end_s, rank in spans}
            slowest = max(took, key=lambda rank: took[rank])
            merged.append(
                StartupPhase(
                    name=name,
                    start_s=min(start_s for start_s, _, _ in spans),
                    end_s=max(end_s for _, end_s, _ in spans),
                    source=PhaseSource.STEP,
                    resolution_s=resolution_s,
                    detail=f"timed by {len(took)} ranks themselves: {min(took.values()):.3f} to "
                    f"{took[slowest]:.3f} s, longest on rank {slowest}",
                )
            )
        return tuple(merged)

    def samples(self) -> StepSamples:
        """One row per (step, rank), in that order."""
        rows = sorted(
            ((step, rank) for rank, steps in enumerate(self._steps) for step in steps),
            key=lambda row: (row[0].step, row[1]),
        )
        columns = {
            name: np.array([getattr(step, name) for step, _ in rows], dtype=dtype)
            for name, dtype in _COLUMNS.items()
        }
        return StepSamples(rank=np.array([rank for _, rank in rows], dtype=np.int64), **columns)

    def incomplete(self) -> str:
        """Which ranks did not report each of their steps exactly once; "" when all did."""
        total = self.num_steps_total or max(len(steps) for steps in self._steps)
        return "; ".join(
            f"rank {rank} reported {len(steps)} of {total} steps"
            for rank, steps in enumerate(self._steps)
            if sorted(step.step for step in steps) != list(range(total))
        )

    def where_ranks_are(self) -> str:
        """``rank 0 is after imports; rank 1 has not started``."""
        last = {rank: phase.name for rank, phase in self._phases}
        return "; ".join(
            f"rank {rank} is after {last[rank]!r}"
            if rank in last
            else f"rank {rank} has started"
            if rank in self.processes
            else f"rank {rank} has not started"
            for rank in range(self._num_ranks)
        )

    def _who(self, rank: int) -> str:
        node_id, pid = self.processes[rank]
        return f"rank {rank} (pid {pid} on node {node_id[:8]})"

    def phase_lines(self) -> list[str]:
        """One line per phase of a rank, in order of arrival: for the person who waits."""
        return [
            f"{self._who(rank)}: {phase.name} in {phase.end_s - phase.start_s:.2f} s"
            for rank, phase in self._phases
        ]

    def lines(self, num_last_steps: int = 5) -> tuple[str, ...]:
        """The job's log as a person reads it: all phases, then the last steps of each rank."""
        return (
            *self.phase_lines(),
            *(
                f"{self._who(rank)}: step {s.step} took {s.duration_s:.4f} s, loss {s.loss:.4f}"
                for rank, steps in enumerate(self._steps)
                for s in steps[-num_last_steps:]
            ),
        )
