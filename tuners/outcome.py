"""What came of a trial, as data: a failure teaches the search as much as a measurement does.

A permanent failure is a fact about the configuration: it is told, and shared by every study. A
transient one is a fact about the day: the trial is made again, and nothing is told. A measurement
that its own gate calls invalid is neither: it is never told. A trial that its probe stopped was not
measured: what is told of it are bounds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from results.measurement import Measurement
from results.record import Failed, Invalid, RunRecord
from tuners.goals import Reading, Wish, read


class FailureKind(StrEnum):
    CONFIG_INVALID = "config_invalid"  # the engine refuses the configuration
    DOES_NOT_FIT = "does_not_fit"  # weights and cache do not fit the memory, said before it ran out
    OOM_AT_LOAD = "oom_at_load"  # memory ran out while the engine started
    OOM_UNDER_LOAD = "oom_under_load"  # memory ran out while it worked
    COMPILE_FAILURE = "compile_failure"
    HANG = "hang"  # neither ready nor dead by its deadline
    ENGINE_DIED = "engine_died"  # for a reason that its log does not name
    INFRASTRUCTURE = "infrastructure"  # a node, a spot pool, the store, the user


# How far from working, as the value of a violated constraint (0 is the boundary). The order is what
# matters: what dies under load is nearer to a working configuration than what cannot be parsed.
SEVERITY = {
    FailureKind.OOM_UNDER_LOAD: 0.25,
    FailureKind.HANG: 0.5,
    FailureKind.OOM_AT_LOAD: 0.5,
    FailureKind.ENGINE_DIED: 0.5,
    FailureKind.DOES_NOT_FIT: 0.75,
    FailureKind.COMPILE_FAILURE: 0.75,
    FailureKind.CONFIG_INVALID: 1.0,
}

_TRANSIENT_STAGES = {"placement", "teardown", "store", "interrupted", "lost"}
_TRANSIENT_ERRORS = {"node_lost", "load_worker_died", "client_too_slow", "placement_timed_out"}

# Sentences of engines, read in their sources (vLLM 0.32, PyTorch 2.13, JAX 0.10); the first that
# matches decides.
_SAID = (
    (
        FailureKind.DOES_NOT_FIT,
        r"No available memory for the cache blocks"
        r"|larger than the maximum number of tokens that can be stored in KV cache"
        r"|larger than the available KV cache memory"
        r"|leaves no room for a KV cache",
    ),
    (
        FailureKind.OOM_AT_LOAD,
        r"out of memory|OutOfMemoryError|MemoryError|can't allocate memory|RESOURCE_EXHAUSTED"
        r"|Free memory on device .* is less than desired",
    ),
    (
        FailureKind.COMPILE_FAILURE,
        r"InductorError|BackendCompilerFailed|torch\._dynamo\.exc|CompilationError"
        r"|(Xla|Jax)RuntimeError: INTERNAL.*[Cc]ompil",
    ),
    (
        FailureKind.CONFIG_INVALID,
        r"error: (unrecognized arguments|argument )|ValidationError|validation error"
        r"|LaunchRefused|UnknownPreset|is not supported|must be divisible|ValueError: ",
    ),
)
_SIGKILL = re.compile(r"signal 9|SIGKILL|status -9|exit(ed with)? (code|status) (137|-9)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """A permanent failure. ``severity`` > 0 grades it; see ``SEVERITY``."""

    kind: FailureKind
    message: str
    severity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transient:
    """Make it again; tell nobody."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """It ran, and its numbers cannot be used; ``reasons`` are doubt codes or missing statistics."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A probe ruled it out, and no full window was measured. ``rule``: goal or limits.

    ``goals`` and ``bounds``: the best that each can be, by the probe at the race's error. What is
    missing there the probe did not tell. ``saved_s``: the load of the window that was not made.
    """

    rule: str
    why: str
    goals: Mapping[str, float]
    bounds: Mapping[str, float]
    saved_s: float = 0.0

    def reading(self, wish: Wish) -> Reading | None:
        """As a run would show it at its best; None where the probe left anything open."""
        names = {goal.name for goal in wish.goals}, {bound.name for bound in wish.bounds}
        if not (names[0] <= self.goals.keys() and names[1] <= self.bounds.keys()):
            return None
        return Reading(goals=self.goals, bounds=self.bounds)


Outcome = Measured | Crashed | Stopped | Transient | Unusable
# What a search learns from; the others are told to nobody.
Told = Measured | Crashed | Stopped


def outcome_of(record: RunRecord, wish: Wish) -> Outcome:
    """What a run's record means for the search."""
    match record.outcome:
        case Failed() as failed:
            return _failure(failed)
        case Invalid(reasons=reasons):
            return Unusable(reasons=reasons)
    return measured(record.measurements, wish)


def measured(measurements: tuple[Measurement, ...], wish: Wish) -> Outcome:
    found = read(measurements, wish)
    return Measured(reading=found) if isinstance(found, Reading) else Unusable(reasons=found)


def _failure(failed: Failed) -> Outcome:
    if failed.stage in _TRANSIENT_STAGES or failed.error in _TRANSIENT_ERRORS:
        return Transient(message=f"{failed.stage}: {failed.message}")
    kind = failure_kind(failed)
    return Crashed(kind=kind, message=failed.message, severity=SEVERITY[kind])


def failure_kind(failed: Failed) -> FailureKind:
    """By the record's own error first, then by what the engine said last."""
    if failed.stage == "plan":
        return FailureKind.CONFIG_INVALID
    said = "\n".join((failed.message, *failed.log_tail))
    if failed.error == "out_of_memory":
        return _oom(failed)
    if failed.error == "compile_failure":
        return FailureKind.COMPILE_FAILURE
    if failed.error in ("deadline_exceeded", "hang"):
        return FailureKind.HANG
    for kind, pattern in _SAID:
        if re.search(pattern, said):
            return _oom(failed) if kind is FailureKind.OOM_AT_LOAD else kind
    # The kernel's own answer to memory that ran out is a SIGKILL without a word.
    return _oom(failed) if _SIGKILL.search(said) else FailureKind.ENGINE_DIED


def _oom(failed: Failed) -> FailureKind:
    return FailureKind.OOM_UNDER_LOAD if failed.stage == "load" else FailureKind.OOM_AT_LOAD
