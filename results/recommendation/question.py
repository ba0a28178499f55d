"""What somebody asks of the recommendation database."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Literal

from results.errors import InvalidQuestion


class Objective(StrEnum):
    # $ per hour for the asked load; $ per million output tokens without one. Of a training $ for
    # the asked tokens, startup included; $ per million tokens without any.
    CHEAPEST = "cheapest"
    FASTEST = "fastest"  # seconds from send to last token for the asked lengths; a training's time
    THROUGHPUT = "throughput"  # output tokens (of a training: tokens) per second per chip
    PARETO = "pareto"  # nothing else is better in all three; the front first, cheapest first


# Latencies that may have a target (``results.metrics``).
TARGET_METRICS = ("ttft_s", "itl_s", "tpot_s", "ntpot_s", "e2e_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """Mean lengths in tokens, and where they come from."""

    input_tokens: int
    output_tokens: int
    source: str


_INFERENCEX = "the shapes that InferenceX measures: "
USE_CASES: Mapping[str, UseCase] = {
    "chat": UseCase(input_tokens=1024, output_tokens=1024, source=f"{_INFERENCEX}1k/1k"),
    "reasoning": UseCase(input_tokens=1024, output_tokens=8192, source=f"{_INFERENCEX}1k/8k"),
    "summarisation": UseCase(input_tokens=8192, output_tokens=1024, source=f"{_INFERENCEX}8k/1k"),
}
# The use case that asks for a training: it has no requests, and so no lengths of them.
TRAINING = "training"

# Evidence that nobody measured, accepted only where it is asked for.
Allowed = Literal["transferred", "analytic"]
ALLOWED: tuple[Allowed, ...] = ("transferred", "analytic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``metric`` at ``percentile`` is to be at most ``limit_s`` seconds.

    ``percentile`` None asks for the typical value: the median, else the mean, else the figure of a
    source that does not say which it is. A number asks for that percentile: only evidence that
    states it (or a higher one, which bounds it) can meet the target.
    """

    metric: str
    limit_s: float
    percentile: float | None = None

    def __post_init__(self) -> None:
        if self.metric not in TARGET_METRICS:
            raise InvalidQuestion(
                f"a target on {self.metric}; there are targets on {', '.join(TARGET_METRICS)}"
            )
        if not 0 < self.limit_s < math.inf:
            raise InvalidQuestion(f"target {self.metric} ≤ {self.limit_s} s: a limit is above 0")
        if self.percentile is not None and not 50 <= self.percentile < 100:
            raise InvalidQuestion(
                f"percentile {self.percentile:g}; from 50 to below 100, or none for the typical"
            )

    @property
    def name(self) -> str:
        """``ttft_s_p99``, ``ttft_s``."""
        at = "" if self.percentile is None else f"_p{self.percentile:g}"
        return f"{self.metric}{at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Empty and None: not asked. Raises InvalidQuestion for what cannot be meant.

    Load: ``rate_rps`` (requests per second) or ``concurrency`` (requests in flight), of *all*
    replicas together; without either a single replica at its best load point is answered.
    ``use_case`` stands for lengths (``USE_CASES``); lengths given beside it win.

    ``capacity`` and ``region`` are those to *price* for: they change no measurement. Empty: what
    each profile was measured on. ``max_cost_usd_per_million_output_tokens`` is compared with the
    cost at the asked load where there is one. ``max_accelerators`` counts chips of all replicas;
    ``min_throughput`` is output tokens per second of all replicas.

    ``probability``: of meeting each target in the next run; None: the mean over runs must meet it,
    and the probability is only told. ``allow``: kinds of estimates that are accepted beside what
    was measured or imported; they are marked, and never have a probability. ``fresh_only``: nothing
    stale. ``model_server_version`` also brings back what is superseded.

    ``use_case`` ``training`` asks for a training instead: ``model`` is then the preset that is
    trained and ``model_server`` what computes it. ``sequence_length`` and ``sequences_per_step``
    (of all ranks together) say what a step is; evidence for another step is not taken for it.
    ``training_tokens``: of the whole training, which its time, its cost and their limits
    (``max_hours``, ``max_cost_usd``) are of. ``min_throughput`` is tokens per second.
    """

    model: str = ""
    model_server: str = ""
    model_server_version: str = ""
    use_case: str = ""
    input_tokens: float | None = None
    output_tokens: float | None = None
    rate_rps: float | None = None
    concurrency: float | None = None
    targets: tuple[Target, ...] = ()
    probability: float | None = None
    max_error_share: float | None = None
    max_cost_usd_per_million_output_tokens: float | None = None
    max_cost_usd_per_hour: float | None = None
    max_accelerators: int | None = None
    min_throughput: float | None = None
    accelerators: tuple[str, ...] = ()
    machine_types: tuple[str, ...] = ()
    topology: str = ""
    region: str = ""
    capacity: str = ""
    output_input_cost_ratio: float = 4.0
    objective: Objective = Objective.CHEAPEST
    measured_only: bool = False
    with_simulated: bool = False
    max_age_days: float | None = None
    min_repeats: int = 1
    fresh_only: bool = False
    allow: tuple[Allowed, ...] = ()
    sequence_length: int | None = None
    sequences_per_step: int | None = None
    precision: str = ""
    training_tokens: float | None = None
    max_hours: float | None = None
    max_cost_usd: float | None = None
    max_cost_usd_per_million_training_tokens: float | None = None
    max_final_loss: float | None = None
    limit: int = 10

    def __post_init__(self) -> None:
        self._check_use_case()
        if self.rate_rps is not None and self.concurrency is not None:
            raise InvalidQuestion("a rate and a concurrency; ask for one of them")
        for name, value in zip(_ABOVE_ZERO, _above_zero(self), strict=True):
            if value is not None and not 0 < value < math.inf:
                raise InvalidQuestion(f"{name} = {value}; above 0 is asked for")
        for name, high in (("probability", 1.0), ("max_error_share", 1.0)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= high:
                raise InvalidQuestion(f"{name} = {value}; from 0 to {high:g}")
        if self.probability == 1.0:
            raise InvalidQuestion("probability = 1; nothing is certain, ask for less")
        if self.min_repeats < 1 or not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidQuestion(f"min_repeats is at least 1, and limit from 1 to {MAX_LIMIT}")
        names = [target.name for target in self.targets] if len(self.targets) > 1 else []
        if len(set(names)) < len(names):
            raise InvalidQuestion(f"a target is given twice: {', '.join(sorted(names))}")

    def _check_use_case(self) -> None:
        if self.use_case and self.use_case not in (*USE_CASES, TRAINING):
            raise InvalidQuestion(
                f"no use case {self.use_case!r}; there are {', '.join((*USE_CASES, TRAINING))}, or "
                "give lengths"
            )
        strange = _OF_SERVING if self.is_training else _OF_TRAINING
        values = (_of_serving if self.is_training else _of_training)(self)
        if values != (_NO_SERVING if self.is_training else _NO_TRAINING):
            none = (None, (), "")
            given = [n for n, value in zip(strange, values, strict=True) if value not in none]
            what = "a serving, and a training was asked for" if self.is_training else "a training"
            ask = "leave it out" if self.is_training else f"ask with use_case {TRAINING}"
            raise InvalidQuestion(f"{', '.join(given)}: of {what}; {ask}")
        of_whole = (self.max_hours, self.max_cost_usd)
        if self.training_tokens is None and any(limit is not None for limit in of_whole):
            raise InvalidQuestion(
                "max_hours and max_cost_usd are of a whole training; give its training_tokens"
            )

    @property
    def is_training(self) -> bool:
        return self.use_case == TRAINING

    @property
    def lengths(self) -> tuple[float | None, float | None]:
        """(input, output) tokens asked for, the use case's where none are given."""
        case = USE_CASES.get(self.use_case)
        return (
            self.input_tokens or (case.input_tokens if case else None),
            self.output_tokens or (case.output_tokens if case else None),
        )


MAX_LIMIT = 1000
_ABOVE_ZERO = (
    "input_tokens",
    "output_tokens",
    "rate_rps",
    "concurrency",
    "max_cost_usd_per_million_output_tokens",
    "max_cost_usd_per_hour",
    "max_accelerators",
    "min_throughput",
    "output_input_cost_ratio",
    "max_age_days",
    "sequence_length",
    "sequences_per_step",
    "training_tokens",
    "max_hours",
    "max_cost_usd",
    "max_cost_usd_per_million_training_tokens",
    "max_final_loss",
)
_OF_SERVING = (
    "input_tokens",
    "output_tokens",
    "rate_rps",
    "concurrency",
    "targets",
    "probability",
    "max_error_share",
    "max_cost_usd_per_million_output_tokens",
)
_OF_TRAINING = (
    "sequence_length",
    "sequences_per_step",
    "precision",
    "training_tokens",
    "max_hours",
    "max_cost_usd",
    "max_cost_usd_per_million_training_tokens",
    "max_final_loss",
)
_NO_SERVING = (None, None, None, None, (), None, None, None)
_NO_TRAINING = (None, None, "", None, None, None, None, None)
# One call each for all of them: every question is checked.
_above_zero = attrgetter(*_ABOVE_ZERO)
_of_serving = attrgetter(*_OF_SERVING)
_of_training = attrgetter(*_OF_TRAINING)
