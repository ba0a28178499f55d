"""What the recommendation database answers: a ranked list, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from results.recommendation.profile import Cost, Profile
from results.recommendation.question import Question


class Flag(StrEnum):
    """Something to know before a recommendation is followed. ``FLAG_WORDS`` has each in words."""

    LENGTHS_BELOW_MEASURED = "lengths_below_measured"
    LENGTHS_UNKNOWN = "lengths_unknown"
    LOAD_BELOW_MEASURED = "load_below_measured"
    RATE_DERIVED = "rate_derived"
    REPLICAS_ASSUMED_ALIKE = "replicas_assumed_alike"
    STATISTIC_UNSTATED = "statistic_unstated"
    SINGLE_RUN = "single_run"
    STALE = "stale"
    SUPERSEDED = "superseded"
    NO_PRICE = "no_price"
    PRICED_FOR_OTHER_CAPACITY = "priced_for_other_capacity"
    RUNS_FAILED = "runs_failed"
    TRANSFERRED = "transferred"
    ANALYTIC = "analytic"
    NO_INTERVAL = "no_interval"
    STARTUP_UNKNOWN = "startup_unknown"


FLAG_WORDS: Mapping[Flag, str] = {
    Flag.LENGTHS_BELOW_MEASURED: "extrapolated: the asked lengths are shorter than the measured "
    "ones; its latencies are upper bounds",
    Flag.LENGTHS_UNKNOWN: "its request lengths are not known",
    Flag.LOAD_BELOW_MEASURED: "extrapolated: each replica gets less than half of the measured "
    "load; its latencies are upper bounds",
    Flag.RATE_DERIVED: "its request rate was not measured but follows from its concurrency and "
    "latencies by Little's law",
    Flag.REPLICAS_ASSUMED_ALIKE: "one replica was measured; several are taken to share the load "
    "evenly and not to disturb each other",
    Flag.STATISTIC_UNSTATED: "the source does not say whether its latencies are means or medians",
    Flag.SINGLE_RUN: "one run: no interval and no probability",
    Flag.STALE: "its evidence is stale",
    Flag.SUPERSEDED: "a newer engine or environment has been measured since",
    Flag.NO_PRICE: "no price is known",
    Flag.PRICED_FOR_OTHER_CAPACITY: "priced for another capacity type than it was measured on",
    Flag.RUNS_FAILED: "some runs of this very configuration failed",
    Flag.TRANSFERRED: "NOT MEASURED: measured on other hardware and scored again for this one, "
    "with a margin; measure it before you rely on it",
    Flag.ANALYTIC: "NOT MEASURED: arithmetic of the hardware's peaks, with a margin; measure it "
    "before you rely on it",
    Flag.NO_INTERVAL: "nothing says how far this estimate may be off",
    Flag.STARTUP_UNKNOWN: "its startup was not measured and is not in the time and cost of a run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """A target (``target``: ``Target.name``) against the profile.

    ``statistic`` is the one that was compared; ``value_s`` its mean over runs. ``headroom``: share
    of the limit left over, negative where it is missed. ``probability``: that the next run keeps
    the limit (Student's predictive distribution over runs); None, with ``reason``, below two runs.
    ``is_bound``: the value is an upper bound, see the flags.
    """

    target: str
    statistic: str
    limit_s: float
    value_s: float
    headroom: float
    met: bool
    probability: float | None
    reason: str = ""
    is_bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A figure and its 95 % interval. ``low`` and ``high`` are both None where one run says nothing
    of the next; ``high`` alone is None where the interval has no upper end."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFigures:
    """What a training gets for its time and money; None: not known (the profile's statistics say
    why), or nothing was asked that it could be of.

    Intervals are those of the throughput over runs, carried through. ``num_steps``, ``hours`` and
    ``usd`` are of the asked tokens: one startup (where one was measured, see the flags) and steps
    at the measured rate, pauses between steps included. Failures and restarts are in none of them.
    """

    tokens_per_step: int
    step_time_s: Between | None
    tokens_per_s: Between | None
    tokens_per_s_per_chip: Between | None
    mfu: Between | None
    peak_memory_bytes: Between | None
    startup_s: Between | None
    goodput: Between | None
    final_loss: Between | None
    usd_per_million_tokens: Between | None
    num_steps: int | None = None
    hours: Between | None = None
    usd: Between | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One deployment for the question. ``rank`` counts from 1 in the order of the objective.

    ``num_chips`` are those of all ``replicas``. ``rate_rps`` and ``output_tokens_per_s`` are what
    the replicas can do together at the load point of the profile; ``utilisation`` is the asked load
    / that, None where no load was asked. ``pareto_rank``: 1 + how many feasible deployments are
    better in cost, end-to-end latency and throughput per chip at once; 1 is on the front.
    ``probability``: that the next run keeps all targets, at least (1 − Σ of each one's misses);
    None where it is not known, 1 without a target. ``e2e_s``: for the asked lengths, typical.

    A training has ``training``, one replica, and nothing of what is said of requests: its tokens
    per second stand in ``training`` alone, and ``pareto_rank`` goes by cost, time and throughput
    per chip in the same way.
    """

    rank: int
    profile: Profile
    replicas: int
    num_chips: int
    rate_rps: float | None
    output_tokens_per_s: float | None
    output_tokens_per_s_per_chip: float | None
    e2e_s: float | None
    utilisation: float | None
    cost: Cost
    targets: tuple[TargetResult, ...]
    probability: float | None
    pareto_rank: int
    flags: tuple[Flag, ...] = ()
    notes: tuple[str, ...] = ()  # sentences: "2 of 5 runs failed: oom_at_load"
    training: TrainingFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNot:
    """One constraint that a near miss breaks. ``constraint`` is a name (``ttft_s_p99``, ``cost``);
    ``asked`` and ``found`` in its unit; ``found`` None: the evidence does not state it.
    ``excess``: by which share it is broken, 0.2 is 20 % over."""

    constraint: str
    asked: float
    found: float | None
    excess: float | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """What comes nearest, as it would have been recommended, and every constraint that it breaks,
    the gravest first."""

    recommendation: Recommendation
    why_not: tuple[WhyNot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureNext:
    """A measurement that could change the answer. ``chip_hours`` and ``usd`` are of all ``runs``;
    ``usd`` None: no price is known. ``basis`` says what the duration was taken from."""

    what: str
    why: str
    profile_id: str  # whose configuration it is; "" for one not measured yet
    rate_rps: float | None
    runs: int
    chip_hours: float
    usd: float | None
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """A step from all profiles to those that could answer: how many were left after ``filter``."""

    filter: str
    num_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """``binding``: the constraint that stands in the way, by name; relaxing it alone far enough
    (``relax_to``, in its unit, where a number would do) gives an answer. ``words`` says it."""

    binding: str
    words: str
    relax_to: float | None = None
    nearest: tuple[NearMiss, ...] = ()
    measure_next: tuple[MeasureNext, ...] = ()
    did_you_mean: tuple[str, ...] = ()  # names near to one that is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Either ``recommendations``, best first, or ``no_answer``.

    ``num_feasible`` deployments would do, of ``num_considered`` that fit the filters. ``failures``:
    runs that failed among what fits model and hardware, by error. ``comments``: sentences on what
    was assumed. ``snapshot_id``: the state of the database that answered.
    """

    question: Question
    answered_at: datetime
    snapshot_id: str
    recommendations: tuple[Recommendation, ...] = ()
    no_answer: NoAnswer | None = None
    num_considered: int = 0
    num_feasible: int = 0
    narrowing: tuple[Narrowing, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    comments: tuple[str, ...] = ()
