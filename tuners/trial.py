"""One trial as values: what was asked, what came of it, what it cost, and what a study may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from results.startup import StartupParts
from tuners.outcome import Crashed, FailureKind, Outcome, Transient, Unusable
from tuners.space import Config


class Phase(StrEnum):
    BASELINE = "baseline"  # the run as its file says it
    SEED = "seed"  # proposed by the forecast
    SEARCH = "search"
    REMEASURE = "remeasure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """``wall_s`` is of the runs, which may stand beside each other; ``startup_s`` is the part of it
    until a server answered or a step was made, by its ``startup_parts``; ``waited_s`` until it was
    the turn of what was ready to be loaded; ``probe_s`` went into probes. ``usd``: None where no
    price is known."""

    wall_s: float = 0.0
    chip_hours: float = 0.0
    usd: float | None = None
    startup_s: float = 0.0
    num_starts: int = 0
    startup_parts: StartupParts = field(default_factory=StartupParts)
    waited_s: float = 0.0
    probe_s: float = 0.0

    def plus(self, other: Spent) -> Spent:
        known = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Spent(
            wall_s=self.wall_s + other.wall_s,
            chip_hours=self.chip_hours + other.chip_hours,
            usd=sum(known) if known else None,
            startup_s=self.startup_s + other.startup_s,
            num_starts=self.num_starts + other.num_starts,
            startup_parts=self.startup_parts.plus(other.startup_parts),
            waited_s=self.waited_s + other.waited_s,
            probe_s=self.probe_s + other.probe_s,
        )

    @property
    def startup_share(self) -> float | None:
        """Of the runs' time; None where nothing was run."""
        return self.startup_s / self.wall_s if self.wall_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """``run_ids``: the records behind it. ``from_memory``: nothing was run, it was known. ``at``:
    which load point the reading is of, where a trial has several: ``8/s``, ``16 users``."""

    outcome: Outcome
    run_ids: tuple[str, ...] = ()
    spent: Spent = field(default_factory=Spent)
    from_memory: bool = False
    at: str = ""


class Evaluate(Protocol):
    """Run one configuration. ``repeat``: 0 for the search, so that all its trials send the same
    requests and differ by their configuration alone; 1, 2 … have seeds of their own."""

    def __call__(self, config: Config, phase: Phase, repeat: int) -> Evaluated: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration's turn. ``number`` counts those that cost something, from 1."""

    number: int
    branch: str
    phase: Phase
    config: Config
    evaluated: Evaluated


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What ends the search: whichever is reached first. None: no such limit."""

    num_trials: int
    wall_s: float | None = None
    chip_hours: float | None = None
    usd: float | None = None

    def spent_by(self, num_trials: int, spent: Spent) -> str:
        """Which limit is reached, or ""."""
        if num_trials >= self.num_trials:
            return f"{num_trials} trials"
        for name, limit, value in (
            ("s", self.wall_s, spent.wall_s),
            ("chip-hours", self.chip_hours, spent.chip_hours),
            ("USD", self.usd, spent.usd or 0.0),
        ):
            if limit is not None and value >= limit:
                return f"{value:.4g} of {limit:g} {name}"
        return ""


def failures_by_kind(trials: Sequence[Trial]) -> Mapping[str, int]:
    """How many trials failed for which reason, the most frequent first."""
    counts: dict[str, int] = {}
    for trial in trials:
        match trial.evaluated.outcome:
            case Crashed(kind=kind):
                counts[str(kind)] = counts.get(str(kind), 0) + 1
            case Transient():
                name = str(FailureKind.INFRASTRUCTURE)
                counts[name] = counts.get(name, 0) + 1
            case Unusable():
                counts["invalid"] = counts.get("invalid", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
