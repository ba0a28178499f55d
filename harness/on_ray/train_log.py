"""What the ranks of a training job have said so far, put together. Pure: no Ray, no clock.

A rank stamps its news on its own clock, which starts when its loop is entered; the driver stamps
their arrival on its own. No message arrives before it is sent, so the smallest difference seen over
a rank's messages is where the rank's zero lies on the driver's clock, late by the fastest message's
way at most. That bound is half of a round trip and is kept as the phases' resolution.

A job that is restarted has attempts; ``train_attempt`` keeps what was said in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_type_hints

import numpy as np

from harness.on_ray.train_attempt import AttemptLog
from harness.on_ray.train_news import AttemptBegan, AttemptEnded, News, RankNews, Struck
from results.goodput import Goodput, goodput_of
from results.samples import StepSamples
from results.startup import PhaseSource, StartupPhase
from results.telemetry import Telemetry
from workloads.base import TrainStep

# A step's fields are the columns of StepSamples, less the rank.
_COLUMNS = get_type_hints(TrainStep)


class TrainLog:
    """``zero_s`` is the ask, on the driver's clock: phases and attempts count from it."""

    def __init__(self, num_ranks: int, zero_s: float, num_reporting: int = 0) -> None:
        self._num_ranks, self._zero_s = num_ranks, zero_s
        self._num_reporting = num_reporting  # ranks that tell of steps; 0: all
        self._attempts = [AttemptLog(0, num_ranks, num_reporting)]
        self.processes: dict[int, tuple[str, int]] = {}  # node id and pid of each rank heard of
        self.facts: dict[int, dict[str, Any]] = {rank: {} for rank in range(num_ranks)}
        self.observed: dict[str, Any] = {}  # what rank 0 said after its first step
        self.num_messages = 0

    def add(self, messages: Sequence[News], arrived_at_s: float) -> None:
        for news in messages:
            self.num_messages += 1
            at_s = arrived_at_s - self._zero_s
            attempt = self._attempt(news.attempt)
            match news:
                case RankNews():
                    self._hear(attempt, news, at_s)
                case AttemptBegan():
                    attempt.num_ranks = news.num_workers
                    attempt.waited_s = news.waited_s
                case Struck():
                    attempt.struck_s = at_s if attempt.struck_s is None else attempt.struck_s
                    attempt.struck_by.append(news.what)
                case AttemptEnded():
                    attempt.end(at_s, news.cause, news.message)

    def end(self, cause: str, message: str, at_s: float) -> None:
        """The job is over; ``cause`` "": every rank has returned. ``at_s``: driver's clock."""
        self._attempts[-1].end(at_s - self._zero_s, cause, message)

    def _attempt(self, index: int) -> AttemptLog:
        while len(self._attempts) <= index:
            self._attempts.append(
                AttemptLog(len(self._attempts), self._num_ranks, self._num_reporting)
            )
        return self._attempts[max(index, 0)]

    def _hear(self, attempt: AttemptLog, news: RankNews, at_s: float) -> None:
        attempt.hear(news, at_s)
        if attempt is self._attempts[-1]:
            self.processes[news.rank] = (news.node_id, news.pid)
            self.facts.setdefault(news.rank, {}).update(attempt.facts.get(news.rank, {}))
            self.observed.update(attempt.observed if news.rank == 0 else {})

    @property
    def num_steps_done(self) -> int:
        """Up to which step every rank has reported: what was lost counts until it is made again."""
        stepped = [attempt for attempt in self._attempts if attempt.all_ranks_stepped()]
        return stepped[-1].num_steps_done if stepped else 0

    @property
    def num_steps_total(self) -> int:
        """As the ranks say themselves; 0 while none has."""
        return int(self.facts[0].get("num_steps", 0))

    @property
    def num_restarts(self) -> int:
        return len(self._attempts) - 1

    def all_ranks_stepped(self) -> bool:
        return any(attempt.all_ranks_stepped() for attempt in self._attempts)

    def phases(self, workers_asked_s: float, read_resolution_s: float) -> tuple[StartupPhase, ...]:
        """One phase per name over all ranks of the attempt that made the first step: the first
        rank's start to the last one's end."""
        attempt = next((a for a in self._attempts if a.all_ranks_stepped()), self._attempts[-1])
        resolution_s = attempt.round_trip_s + read_resolution_s
        worker = StartupPhase(
            name="worker start",
            start_s=workers_asked_s,
            end_s=max(workers_asked_s, attempt.last_entered_s),
            source=PhaseSource.RAY,
            resolution_s=resolution_s,
            detail=f"Ray Train's worker group, {attempt.num_ranks} processes",
        )
        return (worker, *attempt.startup_phases(resolution_s))

    def samples(self) -> StepSamples:
        """One row per (step, rank) and attempt, in that order; times of later attempts go on from
        those of the first, on each rank's own axis."""
        rows = sorted(
            (
                (step, rank, attempt)
                for attempt in self._attempts
                for rank, steps in attempt.steps.items()
                for step in steps
            ),
            key=lambda row: (row[0].step, row[1], row[2].index),
        )
        columns = {
            name: np.array([getattr(step, name) for step, _, _ in rows], dtype=dtype)
            for name, dtype in _COLUMNS.items()
        }
        columns["attempt"] = np.array([a.index for _, _, a in rows], dtype=np.int64)
        later_s = [a.entered_after_s(self._attempts[0], rank) for _, rank, a in rows]
        columns["start_s"] = columns["start_s"] + np.array(later_s, dtype=np.float64)
        # Some ranks can tell only after their last step what each of them spent on communication.
        told = [self.facts.get(rank, {}).get("comm_s_per_step", np.nan) for _, rank, _ in rows]
        columns["comm_s"] = np.where(np.isnan(columns["comm_s"]), told, columns["comm_s"])
        return StepSamples(rank=np.array([rank for _, rank, _ in rows], dtype=np.int64), **columns)

    def telemetry(self) -> Telemetry | None:
        """What the ranks read of their own devices, each under its number, on the axis of its
        steps; None where none read any."""
        parts = [
            told.moved(attempt.entered_after_s(self._attempts[0], rank)).as_replica(str(rank))
            for attempt in self._attempts
            for rank, told in attempt.telemetry.items()
        ]
        return Telemetry.joined(parts) if parts else None

    def goodput(self, wall_s: float) -> Goodput:
        return goodput_of([attempt.told() for attempt in self._attempts], wall_s)

    def attempts_told(self) -> list[dict[str, Any]]:
        """The attempts as JSON-like data, for the record."""
        return [attempt.as_mapping() for attempt in self._attempts]

    def incomplete(self) -> str:
        """Which ranks of the last attempt did not report each of its steps exactly once; "" when
        all did. What a rank that was killed had not said yet is lost, and no fault of the job."""
        last = self._attempts[-1]
        total = self.num_steps_total or max(len(steps) for steps in last.steps.values())
        first = last.first_step if last.index else int(self.facts[0].get("first_step", 0))
        asked = list(range(first, total))
        said = {rank: sorted(s.step for s in last.steps[rank]) for rank in last.reporting}
        return "; ".join(
            f"rank {rank} reported {len(steps)} of {len(asked)} steps"
            for rank, steps in said.items()
            if steps != asked
        )

    def where_ranks_are(self) -> str:
        """``rank 0 is after imports; rank 1 has not started``."""
        return self._attempts[-1].where_ranks_are()

    def phase_lines(self) -> list[str]:
        """One line per phase of a rank, in order of arrival: for the person who waits."""
        return [line for attempt in self._attempts for line in attempt.phase_lines()]

    def lines(self, num_last_steps: int = 5) -> tuple[str, ...]:
        """The job's log as a person reads it: all phases, the last steps of each rank, and what the
        processes of the ranks printed last."""
        return tuple(
            line
            for attempt in self._attempts
            for line in (
                *attempt.phase_lines(),
                *attempt.step_lines(num_last_steps),
                *attempt.ending_lines(),
            )
        ) + tuple(
            f"rank {rank} | {line}"
            for rank, facts in self.facts.items()
            for line in facts.get("log_tail", ())
        )
