"""Where the wall time of a training went: goodput, and badput by its cause. Pure.

The parts are those of Google's ml-goodput-measurement, under our own names, and always add up to
the wall time: each second of it belongs to exactly one part, and what no part claims is ``other``.

=====================  ===========================================================================
here                   its name in ml-goodput-measurement
=====================  ===========================================================================
productive             (goodput) steps whose result was kept, less their waits for data
startup                TPU_INITIALIZATION, TRAINING_PREP: asked for → the first step begins
first_step             PROGRAM_STARTUP: what an attempt's first step takes beyond a usual one
data_wait              DATA_LOADING_SYNC
checkpoint_save        UNPRODUCTIVE_CHECKPOINT_SAVE_TIME
checkpoint_restore     UNPRODUCTIVE_CHECKPOINT_RESTORE_TIME
wasted_progress        WASTED_PROGRESS_FROM_DISRUPTION: steps that a failure undid, whole or begun
recovery               INFRASTRUCTURE_RECOVERY_FROM_DISRUPTION: failure → the loop steps again
hardware_wait          the part of it spent waiting for a machine in place of the lost one
other                  OTHER: between steps, and after the last
=====================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import NamedTuple

import numpy as np

from results.distributions import distribution, single
from results.measurement import Measurement
from results.samples import StepSamples


class Part(StrEnum):
    PRODUCTIVE = "productive"
    STARTUP = "startup"
    FIRST_STEP = "first_step"
    DATA_WAIT = "data_wait"
    CHECKPOINT_SAVE = "checkpoint_save"
    CHECKPOINT_RESTORE = "checkpoint_restore"
    WASTED_PROGRESS = "wasted_progress"
    RECOVERY = "recovery"
    HARDWARE_WAIT = "hardware_wait"
    OTHER = "other"


BADPUT = tuple(part for part in Part if part is not Part.PRODUCTIVE)


class StepSpan(NamedTuple):
    """One step of the whole job: from its first rank's start to its last rank's end, in seconds
    since the run was asked for. ``checkpoint_s``: the save after it."""

    step: int
    start_s: float
    end_s: float
    data_wait_s: float = 0.0
    checkpoint_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of the job; times as in ``StepSpan``. ``spans`` are in order of step.

    ``hardware_wait_s``: for how long there had been no room for it, after the attempt before it.
    ``restore_s``: how long its restore took; 0: there was nothing to restore. ``ended_s``: every
    rank had returned, or the failure was noticed. ``struck_s``: when it was struck, where that is
    known; None for an attempt that ended well, or that failed nobody knows when.
    """

    spans: tuple[StepSpan, ...]
    ended_s: float
    restore_s: float = 0.0
    struck_s: float | None = None
    cause: str = ""  # "" for the attempt that ended well
    num_workers: int = 0
    hardware_wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """``seconds`` has every part and adds up to ``wall_s``. ``recoveries_s``: for each failure that
    was recovered from, from when it struck (or was noticed) to the end of the first new step."""

    wall_s: float
    seconds: Mapping[Part, float]
    num_restarts: int = 0
    num_steps_kept: int = 0
    num_steps_lost: int = 0
    recoveries_s: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        return min(1.0, self.seconds[Part.PRODUCTIVE] / self.wall_s) if self.wall_s > 0 else 0.0


class _Painter:
    """Gives each second of [0, wall] away once, from left to right."""

    def __init__(self, wall_s: float) -> None:
        self.wall_s, self.reached_s = wall_s, 0.0
        self.seconds = dict.fromkeys(Part, 0.0)

    def until(self, part: Part, end_s: float) -> None:
        end_s = min(max(end_s, self.reached_s), self.wall_s)
        self.seconds[part] += end_s - self.reached_s
        self.reached_s = end_s

    def for_at_most(self, part: Part, seconds: float, end_s: float) -> None:
        self.until(part, min(self.reached_s + max(seconds, 0.0), end_s))


def goodput_of(attempts: Sequence[Attempt], wall_s: float) -> Goodput:
    """``attempts`` in order of time. A step that a later attempt made again, or went on before, was
    lost. What lies between a failed attempt's last step and the moment it was struck is a step
    begun and lost; where that moment is not known, it is counted as recovery."""
    usual_s = _usual_step_s(attempts)
    resumed_at = _resumed_at(attempts)
    painter = _Painter(wall_s)
    num_kept = num_lost = 0
    for index, attempt in enumerate(attempts):
        first_s = attempt.spans[0].start_s if attempt.spans else attempt.ended_s
        before = Part.RECOVERY if index else Part.STARTUP
        begins_s = first_s - attempt.restore_s
        if index:
            painter.for_at_most(Part.HARDWARE_WAIT, attempt.hardware_wait_s, begins_s)
        painter.until(before, begins_s)
        painter.until(Part.CHECKPOINT_RESTORE if attempt.spans else before, first_s)
        for span in attempt.spans:
            lost = span.step >= resumed_at[index]
            excess_s = span.end_s - span.start_s - usual_s if span is attempt.spans[0] else 0.0
            painter.until(Part.OTHER, span.start_s)
            _paint_step(painter, span, lost, excess_s)
            num_kept, num_lost = num_kept + (not lost), num_lost + lost
        if attempt.cause:
            painter.until(
                Part.WASTED_PROGRESS,
                painter.reached_s if attempt.struck_s is None else attempt.struck_s,
            )
            painter.until(Part.RECOVERY, attempt.ended_s)
    painter.until(Part.OTHER, wall_s)
    return Goodput(
        wall_s=wall_s,
        seconds=painter.seconds,
        num_restarts=max(0, len(attempts) - 1),
        num_steps_kept=num_kept,
        num_steps_lost=num_lost,
        recoveries_s=_recoveries_s(attempts),
    )


def _paint_step(painter: _Painter, span: StepSpan, lost: bool, excess_s: float) -> None:
    if lost:
        painter.until(Part.WASTED_PROGRESS, span.end_s + span.checkpoint_s)
        return
    painter.for_at_most(Part.DATA_WAIT, span.data_wait_s, span.end_s)
    painter.for_at_most(Part.FIRST_STEP, excess_s, span.end_s)
    painter.until(Part.PRODUCTIVE, span.end_s)
    painter.until(Part.CHECKPOINT_SAVE, span.end_s + span.checkpoint_s)


def _usual_step_s(attempts: Sequence[Attempt]) -> float:
    """The median of all steps but each attempt's first; with none of these no step is unusual."""
    usual = [s.end_s - s.start_s for a in attempts for s in a.spans[1:]]
    return median(usual) if usual else float("inf")


def _resumed_at(attempts: Sequence[Attempt]) -> list[float]:
    """For each attempt the earliest step that a later one began with; infinity: none did."""
    found, earliest = [], float("inf")
    for attempt in reversed(attempts):
        found.append(earliest)
        if attempt.spans:
            earliest = min(earliest, attempt.spans[0].step)
    return found[::-1]


def _recoveries_s(attempts: Sequence[Attempt]) -> tuple[float, ...]:
    """A failure whose next attempt made no step is part of the one after it."""
    found, since_s = [], None
    for attempt in attempts:
        if attempt.spans and since_s is not None:
            found.append(max(0.0, attempt.spans[0].end_s - since_s))
            since_s = None
        if attempt.cause and since_s is None:
            since_s = attempt.ended_s if attempt.struck_s is None else attempt.struck_s
    return tuple(found)


def kept(samples: StepSamples) -> StepSamples:
    """The rows of steps whose result was kept: of a step made twice, the later attempt's."""
    if not np.any(samples.attempt):
        return samples
    first_step = {
        int(a): int(samples.step[samples.attempt == a].min()) for a in np.unique(samples.attempt)
    }
    resumed = np.array(
        [
            min((s for later, s in first_step.items() if later > a), default=np.iinfo(np.int64).max)
            for a in samples.attempt
        ]
    )
    rows = samples.step < resumed
    return StepSamples.from_table(samples.to_table().filter(rows))


def measure_goodput(goodput: Goodput) -> tuple[Measurement, ...]:
    """The share, the seconds of every part, and how each failure was recovered from."""
    n = goodput.num_steps_kept
    share = goodput.share if goodput.wall_s > 0 else None
    found = [
        single("training_goodput", share, n, "" if share is not None else "no time passed"),
        single("goodput_productive_s", goodput.seconds[Part.PRODUCTIVE], n),
        *(single(f"badput_{part.value}_s", goodput.seconds[part], n) for part in BADPUT),
        single("num_restarts", float(goodput.num_restarts), n),
        single("num_steps_lost", float(goodput.num_steps_lost), n),
    ]
    if goodput.num_restarts:
        recoveries = np.array(goodput.recoveries_s)
        found += distribution("time_to_recover_s", recoveries, "no failure was recovered from")
    return tuple(found)
