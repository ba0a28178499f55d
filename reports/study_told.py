"""A study as its page needs it: everything found and computed, nothing left to ask. Plain data.

Whoever knows the runs fills it in; here are only values, so that the page needs neither a store nor
an optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from results.metrics import Direction, Unit, metric
from results.units import format_value, metric_label

Value = str | int | float | bool | None


class TrialState(StrEnum):
    KEEPS = "keeps its limits"
    BREAKS = "breaks a limit"
    FAILED = "failed"
    INVALID = "invalid"  # ran, and its numbers cannot be used
    STOPPED = "stopped"  # its probe ruled it out: no full window was measured
    INFRASTRUCTURE = "infrastructure"  # says nothing about the configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalTold:
    """``name`` is the key in every mapping of values."""

    name: str
    metric: str
    statistic: str

    @property
    def label(self) -> str:
        return metric_label(self.metric, self.statistic)

    @property
    def unit(self) -> Unit:
        return metric(self.metric).unit

    @property
    def maximize(self) -> bool:
        return metric(self.metric).direction is Direction.HIGHER

    def words(self, value: float | None) -> str:
        return format_value(value, self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTold(GoalTold):
    """At most ``limit`` where lower is better, at least where higher is; None: not known yet.
    ``margin``: a share of it that is kept free while searching."""

    limit: float | None
    margin: float

    @property
    def limit_words(self) -> str:
        if self.limit is None:
            return "not known yet"
        return f"{'≥' if self.maximize else '≤'} {self.words(self.limit)}"

    def keeps(self, value: float) -> bool:
        if self.limit is None:
            return True
        return value >= self.limit if self.maximize else value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobTold:
    """``values``: as tried, numbers in order, None (the engine's own default) first."""

    path: str
    label: str
    values: tuple[Value, ...]


class SpanPart(StrEnum):
    START = "start"
    WAIT = "wait"  # ready, until it is its turn to be loaded
    LOAD = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanTold:
    """Of a trial: what it did from when to when, in seconds since the study's first run."""

    part: SpanPart
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTold:
    """``number`` counts from 1 in the order they were made. ``goals`` and ``bounds`` are empty
    unless it was measured; ``kind`` and ``message`` say why not."""

    number: int
    branch: str
    phase: str  # baseline, seed, search, remeasure
    config: Mapping[str, Value]
    state: TrialState
    goals: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""
    message: str = ""
    run_id: str = ""
    started_at: datetime | None = None
    wall_s: float = 0.0
    startup_s: float | None = None  # None where nothing was started
    startup_parts: Mapping[str, float] = field(default_factory=dict)  # in words → seconds
    waited_s: float = 0.0  # ready, for its turn to be loaded
    spans: tuple[SpanTold, ...] = ()  # none where it was remembered, or its times are not known
    probe_s: float = 0.0
    saved_s: float = 0.0  # the load that a trial stopped after its probe was spared
    chip_hours: float = 0.0
    usd: float | None = None
    from_memory: bool = False  # a run of before answered it

    @property
    def is_search(self) -> bool:
        return self.phase in ("seed", "search")


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTold:
    """A configuration measured again. ``probability``: that its next run keeps every limit; None
    where it was not decided or there is no limit. ``low`` … ``high``: of the mean, 95 %."""

    config: Mapping[str, Value]
    verdict: str
    why: str
    probability: float | None
    by_bound: Mapping[str, float]
    num_runs: int
    num_failed: int
    goals: Mapping[str, float]
    bounds: Mapping[str, float]
    goal_bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GainTold:
    """Over the baseline measured beside it: a ratio, more is better; bounds are of 95 %."""

    ratio: float
    low: float | None
    high: float | None
    num_pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceTold:
    path: str
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressPoint:
    """After trial ``number``: the best that keeps the limits by the only goal, or, of several
    goals, the share of the space between worst and best that was covered."""

    number: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeseenTold:
    config: Mapping[str, Value]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTold:
    """``baseline``: the run as its file says it, by the mean of its re-measured runs where there
    are any. ``front``: numbers of the trials that keep the limits and that no other beats.
    ``why_none``: why there is no winner yet, or none at all."""

    name: str
    state: str
    state_words: str
    evidence: str
    workload: str
    model: str
    goals: tuple[GoalTold, ...]
    bounds: tuple[BoundTold, ...]
    knobs: tuple[KnobTold, ...]
    trials: tuple[TrialTold, ...]
    probability_wanted: float
    num_trials_asked: int | None = None
    baseline: CandidateTold | None = None
    remeasured: tuple[CandidateTold, ...] = ()
    winner: CandidateTold | None = None
    gain: GainTold | None = None
    why_none: str = ""
    front: tuple[int, ...] = ()
    progress: tuple[ProgressPoint, ...] = ()
    importances: tuple[ImportanceTold, ...] = ()
    why_no_importances: str = ""
    num_foreseen: int = 0
    foreseen: tuple[ForeseenTold, ...] = ()
    baseline_config: Mapping[str, str] = field(default_factory=dict)  # of the knobs, in words
    resolved_baseline: Mapping[str, str] = field(default_factory=dict)
    resolved_winner: Mapping[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    chip_hours: float = 0.0
    usd: float | None = None
    why_no_usd: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    command: str = ""  # makes the study again
    deploy: str = ""  # runs the winner
    winner_spec: str = ""  # the winner's run as a file

    @property
    def searched(self) -> tuple[TrialTold, ...]:
        """The trials of the search itself, without the baseline and what was measured again."""
        return tuple(t for t in self.trials if t.is_search)


def config_words(config: Mapping[str, Value], default: str = "the engine's own defaults") -> str:
    """Knobs by their last word; those left to the engine are not named."""
    words = [f"{p.rpartition('.')[2]}={value_words(v)}" for p, v in config.items() if v is not None]
    return " ".join(words) or default


def value_words(value: Value) -> str:
    if value is None:
        return "default"
    return str(value).lower() if isinstance(value, bool) else str(value)
