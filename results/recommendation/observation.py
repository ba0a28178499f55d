"""One run, as the recommendation database sees it: who answered, under which load, how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from results.recommendation.profile import Configuration, EvidenceKind, Machine, TrainingStep

Key = tuple[str, str]  # metric, statistic

# The study's phases that matter here (``tuners.loop.Phase``, as the runs' tags have them).
BASELINE, SEARCHED, REMEASURED = "baseline", ("seed", "search"), "remeasure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What was asked of the server. ``key``: the same for the same load, whatever seed, length of
    run or warm-up. ``num_users``: of a closed loop."""

    key: str
    arrivals: str = ""
    input_tokens: float | None = None
    output_tokens: float | None = None
    num_users: float | None = None
    use_case: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """``error`` empty: it succeeded; ``invalid``: its numbers must not be used; else what failed.

    ``setting``: the same for the same configuration on the same hardware in the same environment;
    ``lineage``: that without version, image and environment. ``model_key`` tells models of one
    name apart (two folders). ``values`` holds what could be estimated, ``reasons`` why the rest
    could not.
    """

    run_id: str
    kind: EvidenceKind
    started_at: datetime
    ended_at: datetime
    duration_s: float
    configuration: Configuration
    machine: Machine
    traffic: Traffic
    setting: str
    lineage: str
    error: str = ""
    environment_hash: str = ""
    environment: str = ""
    driver: str = ""
    git_sha: str = ""
    source: str = ""
    study: str = ""
    phase: str = ""
    goal: Key | None = None  # the study's first
    values: Mapping[str, float] = field(default_factory=dict)  # "ttft_s p99"
    reasons: Mapping[str, str] = field(default_factory=dict)
    derived: str = ""  # which of its load figures were not measured
    doubts: tuple[str, ...] = ()
    training: TrainingStep | None = None  # None: it serves requests

    @property
    def counts(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A record that is no evidence for a deployment, and why."""

    run_id: str
    reason: str


# What is taken over of a run's measurements; the rest stays in the record.
LATENCIES = ("ttft_s", "itl_s", "tpot_s", "ntpot_s", "e2e_s")
STATISTICS = ("p50", "p90", "p95", "p99", "p99.9", "mean", "unstated")
SINGLES = (
    "achieved_rate",
    "offered_rate",
    "output_throughput",
    "prompt_throughput",
    "output_throughput_per_chip",
    "goodput_rate",
    "slo_attainment",
    "error_share",
    "prompt_cache_hit_share",
    "startup_s",
)
# The same of a training.
TRAINING_SPREADS = ("step_time_s", "optimizer_time_s", "checkpoint_save_s")
TRAINING_SINGLES = (
    "training_throughput",
    "training_throughput_per_chip",
    "mfu",
    "data_stall_share",
    "communication_share",
    "training_goodput",
    "final_loss",
    "peak_memory_bytes",
    "energy_per_token_j",
    "cost_per_million_training_tokens_usd",
)
