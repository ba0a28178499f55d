"""The metrics of a training as a whole, its scaling, energy and goodput under failure, as rows of
the registry in ``results.metrics``.

``results.goodput`` says what the parts mean; together they are the wall time of the run.
"""

from __future__ import annotations

from typing import Final

from results.metrics_server import ServerMetric as Row

GOODPUT_METRICS: Final = (
    Row(
        "scaling_efficiency",
        "ratio",
        "higher",
        "throughput per chip at n chips / throughput per chip at n₀; the record says which n₀",
    ),
    Row(
        "energy_per_token_j",
        "J/token",
        "lower",
        "device_energy_j / tokens of a training's measured steps; idle power included",
    ),
    Row(
        "training_goodput",
        "ratio",
        "higher",
        "time of the steps whose result was kept, without their waits for data / wall time of the "
        "run, from asked for to ended, restarts included",
        high=1.0,
    ),
    Row("goodput_productive_s", "s", "neither", "time of steps kept, without their data waits"),
    Row(
        "badput_startup_s",
        "s",
        "lower",
        "asked for → the first step of the first attempt begins",
        quiet_at_zero=True,
    ),
    Row(
        "badput_first_step_s",
        "s",
        "lower",
        "what the first step of each attempt took beyond a usual one (compiling, warming up)",
        quiet_at_zero=True,
    ),
    Row(
        "badput_data_wait_s",
        "s",
        "lower",
        "steps kept: waiting for their input, mean of ranks",
        quiet_at_zero=True,
    ),
    Row(
        "badput_checkpoint_save_s",
        "s",
        "lower",
        "training stopped while a checkpoint was saved",
        quiet_at_zero=True,
    ),
    Row(
        "badput_checkpoint_restore_s",
        "s",
        "lower",
        "restoring checkpoints before a first step",
        quiet_at_zero=True,
    ),
    Row(
        "badput_wasted_progress_s",
        "s",
        "lower",
        "steps, whole or begun, that a failure undid and that had to be made again",
        quiet_at_zero=True,
    ),
    Row(
        "badput_recovery_s",
        "s",
        "lower",
        "failure → the loop steps again, less the restore",
        quiet_at_zero=True,
    ),
    Row(
        "badput_hardware_wait_s",
        "s",
        "lower",
        "waiting for a machine to replace a lost one",
        quiet_at_zero=True,
    ),
    Row(
        "badput_other_s",
        "s",
        "lower",
        "between steps and after the last; claimed by no cause",
        quiet_at_zero=True,
    ),
    Row(
        "num_restarts",
        "count",
        "lower",
        "how often the job was started again after a failure",
        quiet_at_zero=True,
    ),
    Row(
        "num_steps_lost",
        "count",
        "lower",
        "steps made, undone by a failure, and made again",
        quiet_at_zero=True,
    ),
    Row(
        "time_to_recover_s",
        "s",
        "lower",
        "a failure strikes (or is noticed, where that is not known) → end of the first new step",
    ),
)
