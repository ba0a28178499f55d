"""Lines about steps become steps: numbered, timed, their tokens shared out. Pure.

Steps count from the job's first, whatever the script calls that one. A script that is started again
and says which step it makes goes on where it is; one that does not begins at 0 again.

A step lasts from the end of the step before it, unless its line says how long it took. The first
one begins where the callback was imported, or the process began: it is a warm-up step always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from results.samples import LOSS_NOT_TOLD
from workloads.base import TrainStep
from workloads.errors import LossNotFinite, TrainingFailed
from workloads.step_lines import Imported, Said


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """How tokens are counted. ``tokens_per_step``: of all ranks; 0: the lines say, or nobody does.

    The tokens of the steps of all ranks that report add up to the tokens of the job.
    """

    num_ranks: int
    num_reporting: int
    tokens_per_step: int = 0

    def of_row(self, said: Said, duration_s: float) -> int:
        """Tokens of one rank's step; −1: not known."""
        job: float | None = self.tokens_per_step or said.job_tokens
        if job is None and said.job_tokens_per_s is not None:
            job = said.job_tokens_per_s * duration_s
        if job is None:
            mine = said.tokens
            if mine is None and said.tokens_per_s is not None:
                mine = said.tokens_per_s * duration_s
            job = None if mine is None else mine * self.num_ranks
        return -1 if job is None else round(job / self.num_reporting)


class StepSeries:
    """The steps of one rank so far. ``began_s`` is on the rank's clock, as all times are.

    ``job_first``: what the script calls the job's first step, as an earlier attempt told; None: it
    is the next one.
    """

    def __init__(
        self, rule: TokenRule, num_warmup_steps: int, began_s: float, job_first: int | None = None
    ) -> None:
        self._rule, self._num_warmup_steps = rule, num_warmup_steps
        self._end_s = began_s
        self.job_first = job_first
        self.num_here = 0  # steps that this process has made
        self.num_steps = 0  # steps that the job has made, those of earlier attempts included

    def imported(self, said: Imported, offset_s: float) -> None:
        if not self.num_here:
            self._end_s = said.at_s - offset_s

    def add(self, said: Said, seen_s: float, offset_s: float) -> TrainStep | None:
        """``seen_s``: when we read the line. ``offset_s``: the host's monotonic clock less the
        rank's. None where the line says again what is known.

        Raises TrainingFailed where steps are missing, LossNotFinite where the loss is no number.
        """
        index = said.step - (self._base if self.num_here else self._begin_at(said))
        if self.num_here and index == self.num_steps - 1:
            return None  # another rank's line about the same step
        if self.num_here and index != self.num_steps:
            raise TrainingFailed(
                f"the script told of step {said.step} after step {self._base + self.num_steps - 1}"
                "; every step must be told, once and in order: let the script log each step "
                "(torchtitan: metrics.log_freq=1, nanoGPT: log_interval=1)"
            )
        if said.loss is not None and not math.isfinite(said.loss):
            raise LossNotFinite(f"step {said.step}: the loss is {said.loss}")
        end_s = seen_s if said.at_s is None else said.at_s - offset_s
        gap_s = max(end_s - self._end_s, 0.0)
        duration_s = gap_s if said.step_time_s is None else said.step_time_s
        self._end_s = end_s
        self.num_steps = index + 1
        self.num_here += 1
        return TrainStep(
            step=index,
            start_s=end_s - duration_s,
            duration_s=duration_s,
            data_wait_s=math.nan if said.data_wait_s is None else said.data_wait_s,
            num_tokens=self._rule.of_row(said, duration_s),
            loss=LOSS_NOT_TOLD if said.loss is None else said.loss,
            memory_bytes=-1 if said.memory_bytes is None else said.memory_bytes,
            is_warmup=self.num_here <= self._num_warmup_steps,
        )

    @property
    def _base(self) -> int:
        return self.job_first or 0

    def _begin_at(self, said: Said) -> int:
        """What the script calls the job's first step, once it has told of one of its own."""
        if self.job_first is None or not said.is_own_number:
            self.job_first = said.step
        if said.step < self.job_first:
            raise TrainingFailed(
                f"the script went on with step {said.step} after a restart, and the job had begun "
                f"with step {self.job_first}: let it start from the same checkpoint, or a later one"
            )
        return self.job_first
