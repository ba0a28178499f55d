"""One attempt of a training job: what its ranks said between one start of the workers and the next.

Pure. Times are seconds from the ask, on the driver's clock.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from harness.on_ray.train_news import RankNews
from results.goodput import Attempt, StepSpan
from results.startup import PhaseSource, StartupPhase
from results.telemetry import Telemetry
from workloads.base import TrainFacts, TrainPhase, TrainStep

RESTORE_FACT = "checkpoint_restore_s"


class AttemptLog:
    """Filled by ``hear`` and closed by ``end``."""

    def __init__(self, index: int, num_ranks: int, num_reporting: int = 0) -> None:
        self.index, self.num_ranks, self._num_reporting = index, num_ranks, num_reporting
        self.entered_s: dict[int, float] = {}  # each rank's zero
        self.round_trip_s = 0.0
        self.phases: list[tuple[int, TrainPhase]] = []
        self.steps: defaultdict[int, list[TrainStep]] = defaultdict(list)
        self.facts: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        self.observed: dict[str, Any] = {}  # what rank 0 said after its first step
        self.restored_s: dict[int, float] = {}  # before its first step; later ones are trials
        self.who: dict[int, str] = {}
        self.waited_s = 0.0  # for room, before it began
        self.telemetry: dict[int, Telemetry] = {}  # of each rank that returned, on its own clock
        self.struck_s: float | None = None
        self.struck_by: list[str] = []
        self.ended_s = math.inf
        self.cause = self.message = ""

    def hear(self, news: RankNews, at_s: float) -> None:
        rank = news.rank
        self.who[rank] = f"rank {rank} (pid {news.pid} on node {news.node_id[:8]})"
        self.entered_s[rank] = min(self.entered_s.get(rank, math.inf), at_s - news.sent_s)
        self.round_trip_s = max(self.round_trip_s, news.round_trip_s)
        if news.telemetry is not None:
            self.telemetry[rank] = news.telemetry
        for event in news.events:
            match event:
                case TrainPhase():
                    self.phases.append((rank, event))
                case TrainStep():
                    self.steps[rank].append(event)
                case TrainFacts():
                    self.facts[rank].update(event.values)
                    if rank == 0 and self.steps[rank]:
                        self.observed.update(event.values)
                    if RESTORE_FACT in event.values and not self.steps[rank]:
                        self.restored_s[rank] = _total(event.values[RESTORE_FACT])

    def end(self, at_s: float, cause: str, message: str) -> None:
        self.ended_s, self.cause, self.message = at_s, cause, message

    # --- where it stands --------------------------------------------------------------------------

    @property
    def last_entered_s(self) -> float:
        return max(self.entered_s.values(), default=math.inf)

    @property
    def reporting(self) -> range:
        """The ranks that tell of steps."""
        return range(self._num_reporting or self.num_ranks)

    def all_ranks_stepped(self) -> bool:
        return all(self.steps[rank] for rank in self.reporting)

    @property
    def first_step(self) -> int:
        """The earliest step that any rank made; 0 where none was made."""
        return min((s.step for steps in self.steps.values() for s in steps), default=0)

    @property
    def num_steps_done(self) -> int:
        return self.first_step + min(len(self.steps[rank]) for rank in self.reporting)

    def entered_after_s(self, first: AttemptLog, rank: int) -> float:
        """How long after the first attempt's this rank's zero lies; a rank that the first attempt
        did not have counts from its earliest one."""
        if first is self or rank not in self.entered_s:
            return 0.0
        zero_s = first.entered_s.get(rank, min(first.entered_s.values(), default=0.0))
        return self.entered_s[rank] - zero_s

    # --- for goodput and the record ---------------------------------------------------------------

    def told(self) -> Attempt:
        return Attempt(
            spans=tuple(self._spans()),
            ended_s=self.ended_s,
            restore_s=max(self.restored_s.values(), default=0.0),
            struck_s=self.struck_s,
            cause=self.cause,
            num_workers=self.num_ranks,
            hardware_wait_s=self.waited_s,
        )

    def _spans(self) -> Iterable[StepSpan]:
        """Each step from its first rank's start to its last rank's end, as far as they said."""
        by_step: defaultdict[int, list[tuple[int, TrainStep]]] = defaultdict(list)
        for rank, steps in self.steps.items():
            for step in steps:
                by_step[step.step].append((rank, step))
        for number in sorted(by_step):
            said = by_step[number]
            starts_s = [self.entered_s[rank] + s.start_s for rank, s in said]
            ends_s = [
                start_s + s.duration_s for start_s, (_, s) in zip(starts_s, said, strict=True)
            ]
            waits_s = [s.data_wait_s for _, s in said if not math.isnan(s.data_wait_s)]
            saves_s = [s.checkpoint_s for _, s in said if not math.isnan(s.checkpoint_s)]
            yield StepSpan(
                step=number,
                start_s=min(starts_s),
                end_s=max(ends_s),
                data_wait_s=sum(waits_s) / len(waits_s) if waits_s else 0.0,
                checkpoint_s=max(saves_s, default=0.0),
            )

    def as_mapping(self) -> dict[str, Any]:
        spans = list(self._spans())
        return {
            "attempt": self.index,
            "num_workers": self.num_ranks,
            "hardware_wait_s": self.waited_s,
            "first_step": spans[0].step if spans else None,
            "last_step": spans[-1].step if spans else None,
            "first_step_at_s": spans[0].start_s if spans else None,
            "ended_at_s": None if math.isinf(self.ended_s) else self.ended_s,
            "struck_at_s": self.struck_s,
            "struck_by": list(self.struck_by),
            "cause": self.cause,
            "message": self.message,
        }

    # --- for people -------------------------------------------------------------------------------

    def startup_phases(self, resolution_s: float) -> Iterable[StartupPhase]:
        for name in dict.fromkeys(phase.name for _, phase in self.phases):
            spans = [
                (self.entered_s[rank] + p.start_s, self.entered_s[rank] + p.end_s, rank)
                for rank, p in self.phases
                if p.name == name
            ]
            took = {rank: end_s - start_s for start_s, end_s, rank in spans}
            slowest = max(took, key=lambda rank: took[rank])
            yield StartupPhase(
                name=name,
                start_s=min(start_s for start_s, _, _ in spans),
                end_s=max(end_s for _, end_s, _ in spans),
                source=PhaseSource.STEP,
                resolution_s=resolution_s,
                detail=f"timed by {len(took)} ranks themselves: {min(took.values()):.3f} to "
                f"{took[slowest]:.3f} s, longest on rank {slowest}",
            )

    def where_ranks_are(self) -> str:
        last = {rank: phase.name for rank, phase in self.phases}
        return "; ".join(
            f"rank {rank} is after {last[rank]!r}"
            if rank in last
            else f"rank {rank} has started"
            if rank in self.who
            else f"rank {rank} has not started"
            for rank in range(self.num_ranks)
        )

    def phase_lines(self) -> list[str]:
        return [
            f"{self.who[rank]}: {phase.name} in {phase.end_s - phase.start_s:.2f} s"
            for rank, phase in self.phases
        ]

    def step_lines(self, num_last_steps: int) -> list[str]:
        return [
            f"{self.who[rank]}: step {s.step} took {s.duration_s:.4f} s, loss {s.loss:.4f}"
            for rank in sorted(self.steps)
            for s in self.steps[rank][-num_last_steps:]
        ]

    def ending_lines(self) -> list[str]:
        struck = [f"attempt {self.index} was struck by {what}" for what in self.struck_by]
        if not self.cause:
            return struck
        return [*struck, f"attempt {self.index} ended, {self.cause}: {self.message}"]


def _total(value: Any) -> float:
    """A loop says one number or several."""
    return float(sum(value)) if isinstance(value, list | tuple) else float(value)
