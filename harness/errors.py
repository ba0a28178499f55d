"""Errors of ``harness``. Each says what was asked, what was found and what to do.

HarnessError                  exit code 3 unless said otherwise
├── SpecError                 the spec cannot be read as one                    (exit code 2)
├── PlanRefused               no pool, or no file, is what the spec asks         (exit code 3)
├── RayUnavailable            the Ray cluster cannot be started or reached
├── EndpointUnreachable       nobody answers at a URL as a server should
├── SourceAbsent              a source of telemetry is not there; ends no run
├── SourceFailed              a source of telemetry did not answer; ends no run
└── DeploymentError           carries stage, error and the last log lines
    ├── PlacementTimedOut     every rung was waited for in vain
    ├── EngineDied            the engine's process ended before it was asked to
    ├── DeadlineExceeded      a phase took longer than its deadline
    ├── LossNotFinite         a training's loss is not a number any more
    ├── OutOfMemory           a training asked for more memory than its device has
    ├── CompileFailed         a training's model cannot be compiled
    ├── CheckpointUnusable    a training's checkpoint cannot be written or read
    ├── DataUnusable          a training's files of tokens are not what they should be
    ├── TrainingHung          no rank of a training made a step for too long
    ├── NodeLost              a node of the deployment went away
    ├── WorkerDied            a process that sends the load ended before the load did
    └── ClientTooSlow         the load client cannot send what is asked with a margin (exit code 4)

Constructors take positional arguments only, so that each survives pickling.
"""

from __future__ import annotations


class HarnessError(Exception):
    pass


class SpecError(HarnessError):
    pass


class PlanRefused(HarnessError):
    pass


class RayUnavailable(HarnessError):
    pass


class EndpointUnreachable(HarnessError):
    pass


class SourceAbsent(HarnessError):
    pass


class SourceFailed(HarnessError):
    pass


class DeploymentError(HarnessError):
    """``stage`` and ``error`` become those of the record's ``Failed``."""

    error = "deployment_error"

    def __init__(self, stage: str, message: str, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(stage, message, log_tail)
        self.stage = stage
        self.message = message
        self.log_tail = log_tail

    def __str__(self) -> str:
        return self.message


class PlacementTimedOut(DeploymentError):
    """``rungs`` are the rungs tried, as ``results.record.RungTried`` values."""

    error = "placement_timed_out"

    def __init__(self, stage: str, message: str, rungs: tuple[object, ...] = ()) -> None:
        super().__init__(stage, message)
        self.rungs = rungs

    def __reduce__(self) -> tuple[type[PlacementTimedOut], tuple[object, ...]]:
        return type(self), (self.stage, self.message, self.rungs)


class EngineDied(DeploymentError):
    error = "engine_died"


class DeadlineExceeded(DeploymentError):
    error = "deadline_exceeded"


class LossNotFinite(DeploymentError):
    error = "nan_loss"


class OutOfMemory(DeploymentError):
    error = "out_of_memory"


class CompileFailed(DeploymentError):
    error = "compile_failure"


class CheckpointUnusable(DeploymentError):
    error = "checkpoint_unusable"


class DataUnusable(DeploymentError):
    error = "data_unusable"


class TrainingHung(DeploymentError):
    error = "hang"


class NodeLost(DeploymentError):
    error = "node_lost"


class WorkerDied(DeploymentError):
    error = "load_worker_died"


class ClientTooSlow(DeploymentError):
    error = "client_too_slow"
