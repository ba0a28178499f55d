"""Weeks of training as events: work, save, be struck, notice, wait for hardware, restart, restore.

The clock jumps from failure to failure; what lies between two of them is arithmetic, so that a
campaign costs what its failures cost and not what its steps do. A stretch of many steps takes their
number times the mean step: the step's own noise, one part in √(steps), is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from results.goodput import Goodput, Part
from workloads.simulated.training.failures import FailureTrace
from workloads.simulated.training.model import FailureModel, Recovery


def run_campaign(
    trace: FailureTrace,
    failures: FailureModel,
    recovery: Recovery,
    *,
    step_s: float,
    interval_s: float,
    horizon_s: float,
) -> Goodput:
    """``interval_s``: work between two checkpoints, rounded to whole steps of ``step_s``, one at
    least. The job runs from the first second; work that no checkpoint holds counts as kept at the
    end of the horizon. The parts add up to ``horizon_s``."""
    campaign = _Campaign(
        struck_s=trace.at_s.tolist(),
        takes_unit=trace.takes_unit.tolist(),
        failures=failures,
        recovery=recovery,
        work_s=max(1, round(interval_s / step_s)) * step_s,
        horizon_s=horizon_s,
    )
    campaign.run(step_s)
    return Goodput(
        wall_s=horizon_s,
        seconds=campaign.seconds,
        num_restarts=campaign.next_strike,
        num_steps_kept=int(campaign.seconds[Part.PRODUCTIVE] / step_s),
        num_steps_lost=int(campaign.seconds[Part.WASTED_PROGRESS] / step_s),
        recoveries_s=tuple(campaign.recoveries_s),
    )


@dataclass(slots=True, kw_only=True)
class _Campaign:
    struck_s: list[float]
    takes_unit: list[bool]
    failures: FailureModel
    recovery: Recovery
    work_s: float
    horizon_s: float
    next_strike: int = 0
    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(Part, 0.0))
    # When each unit that is away comes back, soonest first: repairs take all the same time.
    back_s: list[float] = field(default_factory=list)
    recoveries_s: list[float] = field(default_factory=list)

    def run(self, step_s: float) -> None:
        up_from_s = 0.0
        while up_from_s < self.horizon_s:
            if self.next_strike == len(self.struck_s):
                saved_s, unsaved_s = self._work(self.horizon_s - up_from_s)
                self.seconds[Part.PRODUCTIVE] += saved_s + unsaved_s
                return
            struck_s = self.struck_s[self.next_strike]
            saved_s, unsaved_s = self._work(struck_s - up_from_s)
            self.seconds[Part.PRODUCTIVE] += saved_s
            self.seconds[Part.WASTED_PROGRESS] += unsaved_s
            up_from_s = self._come_back()
            if up_from_s < self.horizon_s:
                self.recoveries_s.append(up_from_s + step_s - struck_s)

    def _work(self, up_s: float) -> tuple[float, float]:
        """Of ``up_s`` of running: the work that checkpoints hold and the work that none does yet.
        Saves are entered here: whole ones, and the one going on when the stretch ended."""
        cycle_s = self.work_s + self.recovery.save_s
        cycles = int(up_s // cycle_s)
        rest_s = up_s - cycles * cycle_s
        unsaved_s = min(rest_s, self.work_s)
        self.seconds[Part.CHECKPOINT_SAVE] += cycles * self.recovery.save_s + rest_s - unsaved_s
        return cycles * self.work_s, unsaved_s

    def _come_back(self) -> float:
        """When the loop runs again after the next strike. Another one on the way back begins it
        anew, and may take another unit."""
        while True:
            now_s = self.struck_s[self.next_strike]
            whole_s = self._whole_again_s(now_s, self.takes_unit[self.next_strike])
            self.next_strike += 1
            noticed_s = now_s + self.recovery.detect_s
            ready_s = max(noticed_s, whole_s)
            begun_s = ready_s + self.recovery.restart_s
            up_s = begun_s + self.recovery.restore_s
            again_s = (
                self.struck_s[self.next_strike]
                if self.next_strike < len(self.struck_s)
                else self.horizon_s
            )
            until_s = min(up_s, again_s)
            for part, end_s in (
                (Part.RECOVERY, noticed_s),
                (Part.HARDWARE_WAIT, ready_s),
                (Part.RECOVERY, begun_s),
                (Part.CHECKPOINT_RESTORE, up_s),
            ):
                reached_s = min(end_s, until_s)
                self.seconds[part] += max(0.0, reached_s - now_s)
                now_s = max(now_s, reached_s)
            if again_s >= up_s or again_s >= self.horizon_s:
                return up_s

    def _whole_again_s(self, now_s: float, takes_unit: bool) -> float:
        """When the job has all its units: at once with a spare, else when enough are back."""
        while self.back_s and self.back_s[0] <= now_s:
            self.back_s.pop(0)
        if takes_unit:
            self.back_s.append(now_s + self.failures.repair_s)
        missing = len(self.back_s) - self.failures.num_spares
        return now_s if missing <= 0 else self.back_s[missing - 1]
