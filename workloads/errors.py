"""Errors of ``workloads``. Each says what was asked, what was found and what to do.

WorkloadError
├── LaunchRefused             the parameters cannot become a launch
├── SimulatedServerDied       a simulated server ended before it could serve
├── SimulationRefused         what is asked cannot be simulated, or not in reasonable time
├── TrainingFailed            a training cannot go on; ``error`` names how in its record
│   ├── LossNotFinite         the loss is not a number
│   ├── OutOfDeviceMemory     a device has not the memory that was asked of it
│   ├── CompileFailed         torch.compile has no compiler, or fails
│   ├── CheckpointUnusable    a checkpoint cannot be written or read
│   └── TrainingDataUnusable  files of tokens are not what they should be
├── TrafficFileUnusable       a trace, a file of prompts or a tokenizer is not what it should be
└── ModelError                a model cannot be made or found
    ├── UnknownPreset         no preset of that name
    ├── ModelMissing          a local folder that is not there, or that holds no model
    ├── ModelFolderTaken      the folder to write already holds something else
    ├── ModelUnwritable       read-only, full, or not a folder
    └── ModelLibrariesMissing the libraries that write a model are not installed

Constructors take positional arguments only, so that each survives pickling.
"""

from __future__ import annotations


class WorkloadError(Exception):
    pass


class LaunchRefused(WorkloadError):
    pass


class SimulatedServerDied(WorkloadError):
    pass


class SimulationRefused(WorkloadError):
    pass


class TrainingFailed(WorkloadError):
    error = "training_failed"


class LossNotFinite(TrainingFailed):
    error = "nan_loss"


class OutOfDeviceMemory(TrainingFailed):
    error = "out_of_memory"


class CompileFailed(TrainingFailed):
    error = "compile_failure"


class CheckpointUnusable(TrainingFailed):
    error = "checkpoint_unusable"


class TrainingDataUnusable(TrainingFailed):
    error = "data_unusable"


class TrafficFileUnusable(WorkloadError):
    pass


class ModelError(WorkloadError):
    pass


class UnknownPreset(ModelError):
    pass


class ModelMissing(ModelError):
    pass


class ModelFolderTaken(ModelError):
    pass


class ModelUnwritable(ModelError):
    pass


class ModelLibrariesMissing(ModelError):
    pass
