"""What a tuner refuses.

TunerError
├── SpaceError      the search space is not one
├── StudyError      the study cannot be made or gone on with
│   └── StorageLost what keeps it does not answer, or no longer
└── NoSampler       a sampler was asked for that cannot run here
"""

from __future__ import annotations


class TunerError(Exception):
    """The root."""


class SpaceError(TunerError):
    """The search space contradicts itself."""


class StudyError(TunerError):
    """The study cannot be made, or what was kept of it does not fit what is asked now."""


class StorageLost(StudyError):
    """What keeps the study does not answer, or no longer: nothing is wrong with what was asked."""


class NoSampler(TunerError):
    """The sampler asked for needs what is not installed."""
