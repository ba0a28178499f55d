"""A profile: what one deployment configuration did on one hardware at one load point.

It is made from records and from nothing else (``build``), so all profiles can be made again from
the store. The run is the unit: a value is the mean over runs, its interval comes from repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal

# The statistic of a figure whose source does not say which one it is: mean, median or another.
UNSTATED = "unstated"


class EvidenceKind(StrEnum):
    """How a profile's numbers came to be, best first."""

    MEASURED = "measured"
    IMPORTED = "imported"  # another tool's figures
    TRANSFERRED = "transferred"  # from other hardware, re-scored
    ANALYTIC = "analytic"  # a model's
    SIMULATED = "simulated"  # never answered unless asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One statistic of one metric (``results.metrics``, in its unit) at one load point.

    ``statistic`` is ``value``, ``mean``, ``p50`` … ``p99.9``, or ``unstated``. ``value`` is the
    mean over the runs that have it; None exactly when none has, and ``reason`` says why.
    ``low``/``high``: 95 % interval of that mean (Student's t over runs); None below two runs, and
    ``reason`` says so. ``num_runs`` runs have it.

    ``log_mean`` and ``log_spread``: mean and standard deviation of the runs' natural logarithms,
    from which the probability that the next run keeps a limit follows; None where a run is not
    above 0, and the spread also below two runs.
    """

    metric: str
    statistic: str
    value: float | None
    low: float | None = None
    high: float | None = None
    num_runs: int = 0
    log_mean: float | None = None
    log_spread: float | None = None
    method: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one replica runs on. ``num_chips`` 0: a CPU deployment, or not known (``accelerator``
    then is ``cpu``, or empty). ``zone`` and ``region`` are where it was measured."""

    accelerator: str  # Ray's accelerator type: H100, TPU-V6E; "cpu"; "" not known
    num_chips: int
    topology: str = ""  # of a TPU slice: 2x4
    machine_type: str = ""  # the cloud's: a3-highgpu-1g; "" not known
    capacity: str = ""  # reservation, on-demand, spot, flex-start; "" not known
    region: str = ""
    zone: str = ""
    virtual: bool = False
    num_nodes: int = 1  # that were used; what whole machines without chips are counted by


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that is needed to deploy it again.

    ``engine_args`` are those given (``--name value``; true: a bare flag, false: ``--no-name``);
    what is not given the engine decides, and ``resolved`` is what it said it runs with.
    ``parallelism``: tensor, pipeline, data, expert, …; 1 where not named.

    Of a training ``model_server`` is what computes it, ``engine_args`` are the workload's knobs by
    their names in a spec, and ``parallelism`` is how its devices share the work.
    """

    model: str
    model_server: str  # vllm, sglang, trtllm, simulated; torch, jax
    model_server_version: str = ""  # "" not known
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    parallelism: Mapping[str, int] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """The traffic of *one replica*. None: not known.

    ``rate_rps``: requests per second that it answered in full. ``concurrency``: requests in flight,
    as asked of a closed loop, else the mean by Little's law; ``derived`` names those of the two
    that were not measured and how they were found. Lengths are means in tokens.
    """

    input_tokens: float | None
    output_tokens: float | None
    rate_rps: float | None
    concurrency: float | None
    prefix_share: float | None = None  # of prompt tokens, taken from the prefix cache
    use_case: str = ""
    arrivals: str = ""  # constant, poisson, closed, …
    derived: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """What one optimizer step of a training is, whatever computes it: the load of a training.

    ``sequences_per_step`` are those of all ranks and all micro batches. ``num_steps`` (warm-up
    included) is how long the newest run was; it is no part of what makes runs repeats.
    """

    sequence_length: int
    sequences_per_step: int
    data: str = "synthetic"  # or parquet, arrow: files of tokens
    num_steps: int = 0
    num_warmup_steps: int = 0

    @property
    def tokens_per_step(self) -> int:
        return self.sequence_length * self.sequences_per_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """How figures were made that nobody measured, and how far they may be off.

    ``margin``: the share by which every figure is already worse than the estimate itself.
    ``transferred_from``: the accelerator on which the evidence's runs were made; "": the figures
    are arithmetic alone. ``calibrated_on``: whose ratios of measured to forecast the arithmetic was
    multiplied with, found over ``num_calibrating`` configurations; "": none, it is the bare bound
    of the hardware times a usual efficiency. ``num_checked``: estimates of this kind that could be
    held against a measurement; intervals come from these, and too few of them give none.
    """

    made_at: datetime
    margin: float
    transferred_from: str = ""
    calibrated_on: str = ""
    num_calibrating: int = 0
    num_checked: int = 0
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What stands behind a profile. ``repeats`` valid runs; ``num_invalid`` and ``num_failed`` of
    the same configuration and load point count against nothing and are told: ``failures`` maps the
    error (``oom_at_load``, ``engine_died``) to how many. ``run_ids``: oldest first.

    ``stale`` is decided when profiles are built, by a newer engine version or a flag on the
    evidence; age is the question's business (``age_days``). ``seconds_per_run``: asked → sealed,
    mean; None for imports.

    Of an estimate (``estimated``) ``run_ids`` are the runs it rests on, made on other hardware or
    with other settings; ``repeats`` is 0, for it was never measured itself.
    """

    kind: EvidenceKind
    run_ids: tuple[str, ...]
    repeats: int
    first_measured: datetime
    last_measured: datetime
    num_invalid: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    environment_hash: str = ""
    environment: str = ""  # in words: driver, kernel, CPU
    driver: str = ""
    git_sha: str = ""
    source: str = ""  # of imports: the tool and the file
    seconds_per_run: float | None = None
    stale: bool = False
    why_stale: str = ""
    estimated: Estimated | None = None  # None: these are figures of runs of this very deployment

    def age_days(self, now: datetime) -> float:
        """Days since the last run, never below 0."""
        return max((now - self.last_measured).total_seconds() / 86400.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """Against the baseline of the same load point and hardware: ``ratio`` of ``metric`` (profile /
    baseline), its 95 % interval where both have two runs or more."""

    baseline_profile_id: str
    metric: str
    ratio: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """``profile_id``: 16 hex digits, the same for the same configuration, hardware, environment
    and load point, however many runs are behind it. ``configuration_id`` leaves the load point out:
    the profiles that share it are one deployment's curve.

    ``superseded_by``: the profile of the same configuration, hardware and load point under a newer
    engine or environment; such a profile is history and answers only a question that names its
    version. ``doubts``: codes of what to trust less.
    """

    profile_id: str
    configuration_id: str
    configuration: Configuration
    machine: Machine
    load: LoadPoint
    statistics: tuple[Statistic, ...]
    evidence: Evidence
    improvement: Improvement | None = None
    supersedes: str = ""
    superseded_by: str = ""
    study: str = ""
    doubts: tuple[str, ...] = ()
    training: TrainingStep | None = None  # None: it serves requests

    def statistic(self, metric: str, statistic: str = "value") -> Statistic | None:
        """None where the profile does not speak of it."""
        for one in self.statistics:
            if one.metric == metric and one.statistic == statistic:
                return one
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a replica is paid by, and who says so: ``num_units`` chips, or whole machines."""

    usd_per_unit_hour: float
    unit: Literal["chip", "machine"]
    num_units: int
    capacity: str
    region: str  # "" a price of every region
    as_of: date  # the day it was looked up
    source: str

    @property
    def usd_per_hour(self) -> float:
        """Of one replica."""
        return self.usd_per_unit_hour * self.num_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """US dollars. None: not known, and ``reason`` says why; never 0 for that.

    The two prices per million tokens are of a replica at its load point (GKE Inference
    Quickstart's rule: $ of an output token = $/s ÷ (input tokens/s ÷ ratio + output tokens/s), an
    input token costs 1/ratio of it). ``usd_per_million_output_tokens_asked`` divides the same way
    all replicas by the traffic that was asked: replica rounding makes it dearer.

    ``usd_per_hour`` is of all replicas; ``usd_idle_per_hour`` the part of it that the asked rate
    leaves unused; ``usd_startup`` what one start of all replicas costs before the first token.
    """

    price: Price | None
    usd_per_hour: float | None = None
    usd_per_million_output_tokens: float | None = None
    usd_per_million_input_tokens: float | None = None
    usd_per_million_output_tokens_asked: float | None = None
    usd_idle_per_hour: float | None = None
    usd_startup: float | None = None
    output_input_cost_ratio: float = 4.0
    reason: str = ""
