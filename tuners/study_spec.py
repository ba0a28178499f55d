"""A study as a file says it: the run to vary, the knobs, what is wanted, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.spec_errors import Problem
from results.errors import InvalidSlo, UnknownMetric
from results.measurement import statistic_named
from results.metrics import Unit, metric
from results.slo import parse_slo
from tuners.errors import SpaceError, StudyError
from tuners.goals import Bound, Goal, Wish
from tuners.search import SAMPLERS
from tuners.space import Categorical, Domain, Integers, Knob, Ordinal, Reals, Space, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobSpec:
    """``path`` in the run's spec, and exactly one of: ``values`` (numbers that rise; null first for
    the engine's own default), ``choices`` (no order), or ``low`` with ``high`` (``step``: whole
    numbers; ``log``: by ratio). ``when``: other knobs and their values beside which this exists."""

    path: str
    values: tuple[int | float | None, ...] = ()
    choices: tuple[str | int | float | bool | None, ...] = ()
    low: int | float | None = None
    high: int | float | None = None
    step: int | None = None
    log: bool = False
    when: Mapping[str, tuple[str | int | float | bool | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyBudget:
    """What ends the search: whichever is reached first. 0: no such limit."""

    num_trials: int = 30
    wall_s: float = 0.0
    chip_hours: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """``spec``: the file of the run that is varied, beside this one. ``slo``: limits with their
    units, such as ``ttft_p99=500ms,tpot_p99=50ms``; ``margin`` of each is kept free while
    searching.

    The ``top`` candidates are measured again, up to ``max_repeats`` times each, until one keeps
    every limit in its next run with ``probability``.
    """

    name: str
    spec: str
    knobs: tuple[KnobSpec, ...]
    goals: tuple[str, ...] = ("output_throughput",)
    slo: str = ""
    margin: float = 0.05
    budget: StudyBudget = field(default_factory=StudyBudget)
    sampler: str = "auto"
    seed: int = 0
    top: int = 3
    max_repeats: int = 5
    probability: float = 0.95
    max_attempts: int = 2  # of a trial that infrastructure ended


def domain_of(spec: KnobSpec) -> Domain:
    """Raises SpaceError, which names the knob."""
    given = [bool(spec.values), bool(spec.choices), spec.low is not None or spec.high is not None]
    try:
        if sum(given) != 1:
            raise SpaceError("give one of: values, choices, or low with high")
        if spec.values:
            return Ordinal(values=spec.values)
        if spec.choices:
            return Categorical(values=spec.choices)
        if spec.low is None or spec.high is None:
            raise SpaceError("a range has both a low and a high")
        if spec.step is not None:
            return Integers(low=int(spec.low), high=int(spec.high), step=spec.step, log=spec.log)
        return Reals(low=float(spec.low), high=float(spec.high), log=spec.log)
    except SpaceError as error:
        raise SpaceError(f"{spec.path}: {error}") from None


def space_of(study: StudySpec) -> Space:
    return Space(
        knobs=tuple(
            Knob(path=k.path, domain=domain_of(k), when={p: _values(v) for p, v in k.when.items()})
            for k in study.knobs
        )
    )


def _values(given: Sequence[Value]) -> tuple[Value, ...]:
    return tuple(given)


def wish_of(study: StudySpec) -> Wish:
    """Raises StudyError, InvalidSlo or UnknownMetric."""
    goals = []
    for text in study.goals:
        name, statistic = statistic_named(text)
        goals.append(Goal(metric=name, statistic=statistic or _only_statistic(name)))
    return Wish(goals=tuple(goals), bounds=bounds_of(study.slo, study.margin))


def bounds_of(slo: str, margin: float) -> tuple[Bound, ...]:
    """Limits on a statistic as they are; one for each request becomes one on the share that met it:
    the attainment."""
    if not slo:
        return ()
    parsed = parse_slo(slo)
    bounds = [
        Bound(metric=x.metric, statistic=x.statistic, limit=x.limit_s, margin=margin)
        for x in parsed.of_run
    ]
    if any(not limit.statistic for limit in parsed.limits):
        # A share cannot be exceeded by a margin of its own beyond 1.
        spare = min(margin, (1.0 / parsed.attainment - 1.0) / 2)
        bounds.append(Bound(metric="slo_attainment", limit=parsed.attainment, margin=spare))
    return tuple(bounds)


def _only_statistic(name: str) -> str:
    """A duration without a statistic is its median; everything else has one value in a run."""
    return "p50" if metric(name).unit is Unit.SECONDS else "value"


def check_study(study: StudySpec) -> Sequence[Problem]:
    """What types cannot tell."""
    problems: list[Problem] = []

    def wrong(path: str, message: str) -> None:
        problems.append(Problem(path=tuple(path.split(".")), message=message))

    try:
        space_of(study)
    except SpaceError as error:
        wrong("knobs", str(error))
    try:
        wish_of(study)
    except (StudyError, InvalidSlo, UnknownMetric) as error:
        wrong("goals" if "goal" in str(error) else "slo", str(error))
    if study.sampler not in SAMPLERS:
        wrong("sampler", f"found {study.sampler!r}; accepted: {', '.join(SAMPLERS)}")
    if study.budget.num_trials < 1:
        wrong("budget.num_trials", f"found {study.budget.num_trials}; at least 1 trial is made")
    if not 0.5 <= study.probability < 1:
        wrong("probability", f"found {study.probability:g}; from 0.5 to below 1")
    if study.top < 1 or study.max_repeats < 1 or study.max_attempts < 1:
        wrong("top", "top, max_repeats and max_attempts are at least 1")
    return problems
