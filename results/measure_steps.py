"""A training's steps in, its measurements out: the definitions, in one place. Pure.

Warm-up steps are never measured. What the ranks could not tell is a measurement without a value,
with the reason; MFU is never guessed from an unknown peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from results.distributions import distribution, single
from results.measurement import Measurement
from results.samples import LOSS_NOT_TOLD, BoolColumn, FloatColumn, IntColumn, StepSamples

_NO_STEP = "no step was measured"
_NO_TOKENS = "the training does not say how many tokens a step has"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What has to be known of a training beside its steps. ``num_chips``: 0 without accelerator.

    ``flops_per_token``: of the model, forward and backward, by the rule the record states; None:
    not known. ``peak_flops_per_chip``: per second, of the arithmetic that was used; None with
    ``why_no_peak`` where no table has it. The other reasons are said where the columns are not
    known. ``checkpoint_restore_s``: of each restore that was made.
    """

    num_chips: int
    flops_per_token: float | None = None
    peak_flops_per_chip: float | None = None
    why_no_peak: str = "no accelerator chips"
    why_no_communication: str = "the communication was not timed"
    why_no_optimizer: str = "the optimizer was not timed"
    checkpoint_restore_s: tuple[float, ...] = ()


def measure_steps(samples: StepSamples, context: StepContext) -> tuple[Measurement, ...]:
    """All training measurements of one run. A step is as long as its slowest rank; throughput is
    all ranks' tokens over the longest rank's span, so that pauses between steps count."""
    keep = ~samples.is_warmup
    steps = np.unique(samples.step[keep])
    n = len(steps)
    slowest = np.array([samples.duration_s[keep & (samples.step == s)].max() for s in steps])
    ranks = np.unique(samples.rank[keep])
    longest_s = max((_span_s(samples, keep & (samples.rank == r)) for r in ranks), default=0.0)
    counted = not np.any(samples.num_tokens[keep] < 0)
    total = float(samples.num_tokens[keep].sum())
    rate = total / longest_s if longest_s > 0 and counted else None
    num_chips = context.num_chips
    per_chip = rate / num_chips if rate is not None and num_chips else None
    why = "" if rate is not None else _NO_STEP if counted else _NO_TOKENS
    known = samples.memory_bytes[samples.memory_bytes >= 0]
    return (
        *distribution("step_time_s", slowest, _NO_STEP),
        single("training_throughput", rate, n, why),
        single(
            "training_throughput_per_chip",
            per_chip,
            n,
            why if num_chips else "no accelerator chips",
        ),
        _mfu(per_chip, n, context),
        *_parts(samples, keep, n, context),
        _final_loss(samples, keep, steps),
        single(
            "peak_memory_bytes",
            float(known.max()) if len(known) else None,
            n,
            "" if len(known) else "no rank could tell its memory",
        ),
        *_checkpoints(samples, context),
    )


def _span_s(samples: StepSamples, rows: BoolColumn) -> float:
    start = samples.start_s[rows]
    return float((start + samples.duration_s[rows]).max() - start.min()) if len(start) else 0.0


def _mfu(per_chip: float | None, n: int, context: StepContext) -> Measurement:
    """(tokens/s/chip × FLOPs/token) / peak FLOPs/s of a chip."""
    flops, peak = context.flops_per_token, context.peak_flops_per_chip
    if peak is None:
        return single("mfu", None, n, context.why_no_peak)
    if flops is None:
        return single("mfu", None, n, "the workload does not state its FLOPs per token")
    if per_chip is None:
        return single("mfu", None, n, _NO_STEP)
    share = per_chip * flops / peak
    if share > 1.0:
        return single("mfu", None, n, f"{share:.3g} of the peak: the peak or the FLOPs are wrong")
    return single("mfu", share, n)


def _parts(
    samples: StepSamples, keep: BoolColumn, n: int, context: StepContext
) -> tuple[Measurement, ...]:
    """Where a step's time goes: shares of all ranks' step time, and the optimizer's own time."""
    total = float(samples.duration_s[keep].sum())

    def part(metric: str, column: FloatColumn, unknown: str) -> Measurement:
        values = column[keep]
        if total <= 0:
            return single(metric, None, n, _NO_STEP)
        if np.any(np.isnan(values)):
            return single(metric, None, n, unknown)
        return single(metric, min(1.0, float(values.sum()) / total), n)

    optimizer = samples.optimizer_s[keep]
    return (
        part("data_stall_share", samples.data_wait_s, "the waits for data were not timed"),
        part("communication_share", samples.comm_s, context.why_no_communication),
        *distribution("optimizer_time_s", optimizer, context.why_no_optimizer),
    )


def _final_loss(samples: StepSamples, keep: BoolColumn, steps: IntColumn) -> Measurement:
    n = len(steps)
    if not n:
        return single("final_loss", None, n, _NO_STEP)
    loss = float(samples.loss[keep & (samples.step == steps[-1])].mean())
    if not np.isfinite(loss):
        return single("final_loss", None, n, "the loss is not a finite number")
    if loss == LOSS_NOT_TOLD:
        return single("final_loss", None, n, "the training does not tell its loss")
    if loss < 0:
        return single("final_loss", None, n, f"the loss is {loss:.3g}, which no cross-entropy is")
    return single("final_loss", loss, n)


def _checkpoints(samples: StepSamples, context: StepContext) -> tuple[Measurement, ...]:
    """The slowest rank's save of each checkpoint; none of both where none was made."""
    saved = samples.checkpoint_s > 0
    found: tuple[Measurement, ...] = ()
    if np.any(saved):
        steps = np.unique(samples.step[saved])
        slowest = [samples.checkpoint_s[saved & (samples.step == s)].max() for s in steps]
        found = distribution("checkpoint_save_s", np.array(slowest))
    if context.checkpoint_restore_s:
        restored = np.array(context.checkpoint_restore_s)
        found = (*found, *distribution("checkpoint_restore_s", restored))
    return found
