"""A study as a file says it: the run to vary, the knobs, what is wanted, and what it may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.spec_checks import NAME, NAME_WORDS
from harness.spec_errors import Problem, found
from results.errors import InvalidSlo, UnknownMetric
from results.measurement import statistic_named
from results.metrics import Direction, Unit, metric
from results.slo import parse_slo
from tuners.errors import SpaceError, StudyError
from tuners.goals import Bound, Goal, Wish
from tuners.load_spec import LoadSpec, wrong_loads
from tuners.race_spec import RaceSpec, wrong_race
from tuners.search import SAMPLERS
from tuners.space import Categorical, Domain, Integers, Knob, Ordinal, Reals, Space, Value
from tuners.space_files import KnobSpec, joined, read_space

# A sampler's is 32 bits wide, and a sitting that goes on adds the number of its runs.
MAX_SEED = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyBudget:
    """What ends the search: whichever is reached first. 0: no such limit."""

    num_trials: int = 30
    wall_s: float = 0.0
    chip_hours: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpec:
    """A bound on any metric, with a statistic in its name where it has several
    (``step_time_p99``). One of: ``at_most`` (where lower is better) or ``at_least`` (where higher
    is), in the metric's own unit; or ``of_baseline``: so many times what the run as it stands
    shows. ``margin``: None: the study's."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None
    of_baseline: float | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """``spec``: the file of the run that is varied, beside this one. ``space``: search spaces by
    name or file; ``knobs`` of the study's own replace theirs or come beside them, and ``without``
    takes some out.

    ``slo``: limits with their units, such as ``ttft_p99=500ms,tpot_p99=50ms``; ``limits``: on any
    metric. ``margin`` of each is kept free while searching.

    The ``top`` candidates are measured again, up to ``max_repeats`` times each, until one keeps
    every limit in its next run with ``probability``.
    """

    name: str
    spec: str
    space: tuple[str, ...] = ()
    knobs: tuple[KnobSpec, ...] = ()
    without: tuple[str, ...] = ()
    goals: tuple[str, ...] = ("output_throughput",)
    slo: str = ""
    limits: tuple[LimitSpec, ...] = ()
    margin: float = 0.05
    budget: StudyBudget = field(default_factory=StudyBudget)
    sampler: str = "auto"
    seed: int = 0
    top: int = 3
    max_repeats: int = 5
    probability: float = 0.95
    max_attempts: int = 2  # of a trial that infrastructure ended
    parallel: int = 1  # trials at once
    # Of them, so many are loaded at once; the others start, or wait for their turn. 0: all.
    loads_at_once: int = 0
    share_cores: bool = False  # they may measure each other on CPUs that they share
    load: LoadSpec | None = None  # several load points of each server start
    keep_caches: bool = True  # what an engine compiled for one trial serves the next
    # A probe stops trials that are not worth their window; {} takes the defaults, null: none does.
    race: RaceSpec | None = None


def loads_in_turns(study: StudySpec) -> int:
    """How many of the trials at once are loaded together; 0 where none has to wait for that."""
    return study.loads_at_once if study.loads_at_once < study.parallel else 0


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
            if int(spec.low) != spec.low or int(spec.high) != spec.high:
                raise SpaceError(
                    f"step makes whole numbers; found {spec.low} … {spec.high}: leave step out for "
                    "a continuous range"
                )
            return Integers(low=int(spec.low), high=int(spec.high), step=spec.step, log=spec.log)
        return Reals(low=float(spec.low), high=float(spec.high), log=spec.log)
    except SpaceError as error:
        raise SpaceError(f"{spec.path}: {error}") from None


def expanded(study: StudySpec, beside: Path | None = None) -> StudySpec:
    """The study with the knobs of its spaces written out. Raises SpaceError."""
    spaces = [read_space(name, beside) for name in study.space]
    return replace(study, space=(), without=(), knobs=joined(spaces, study.knobs, study.without))


def space_of(study: StudySpec) -> Space:
    """Of a study whose spaces are written out. Raises SpaceError."""
    return Space(knobs=tuple(knob_of(knob) for knob in study.knobs))


def knob_of(spec: KnobSpec) -> Knob:
    """Raises SpaceError."""
    when: dict[str, tuple[Value, ...]] = {path: tuple(v) for path, v in spec.when.items()}
    return Knob(path=spec.path, domain=domain_of(spec), when=when)


def wish_of(study: StudySpec) -> Wish:
    """Raises StudyError, InvalidSlo or UnknownMetric."""
    goals = []
    for text in study.goals:
        name, statistic = statistic_named(text)
        goals.append(Goal(metric=name, statistic=statistic or _only_statistic(name)))
    limits = tuple(_bound(limit, study.margin) for limit in study.limits)
    return Wish(goals=tuple(goals), bounds=(*bounds_of(study.slo, study.margin), *limits))


def _bound(limit: LimitSpec, margin: float) -> Bound:
    """Raises StudyError."""
    try:
        name, statistic = statistic_named(limit.metric)
        lower = metric(name).direction is Direction.LOWER
        wrong_side = limit.at_least if lower else limit.at_most
        given = [v for v in (limit.at_most, limit.at_least, limit.of_baseline) if v is not None]
        if len(given) != 1 or wrong_side is not None:
            side = "at_most" if lower else "at_least"
            raise StudyError(
                f"{limit.metric}: give {side} or of_baseline, and nothing else "
                f"({'lower' if lower else 'higher'} is better)"
            )
        return Bound(
            metric=name,
            statistic=statistic or _only_statistic(name),
            limit=limit.at_most if lower else limit.at_least,
            of_baseline=limit.of_baseline,
            margin=margin if limit.margin is None else limit.margin,
        )
    except (StudyError, UnknownMetric) as error:
        raise StudyError(f"limits: {error}") from None


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


# Durations of which a run has one, and so no percentiles.
_ONE_A_RUN = frozenset({"startup_s", "startup_unattributed_s"})


def _only_statistic(name: str) -> str:
    """A duration without a statistic is its median; everything else has one value in a run."""
    many = metric(name).unit is Unit.SECONDS and name not in _ONE_A_RUN
    return "p50" if many else "value"


def check_study(study: StudySpec, beside: Path | None = None) -> Sequence[Problem]:
    """What types cannot tell. ``beside``: the folder of the study's file."""
    problems: list[Problem] = []

    def wrong(path: str, message: str) -> None:
        problems.append(Problem(path=tuple(path.split(".")), message=message))

    if not NAME.fullmatch(study.name):
        wrong("name", f"found {found(study.name)}; accepted: {NAME_WORDS}")
    try:
        space_of(expanded(study, beside))
    except SpaceError as error:
        wrong("space" if study.space else "knobs", str(error))
    # One after the other: the first that is refused is to blame.
    for place, asked in (
        ("goals", replace(study, slo="", limits=())),
        ("slo", replace(study, limits=())),
        ("limits", study),
    ):
        try:
            wish_of(asked)
        except (StudyError, InvalidSlo, UnknownMetric) as error:
            wrong(place, str(error).removeprefix("limits: "))
            break
    if study.sampler not in SAMPLERS:
        wrong("sampler", f"found {study.sampler!r}; accepted: {', '.join(SAMPLERS)}")
    if study.budget.num_trials < 1:
        wrong("budget.num_trials", f"found {study.budget.num_trials}; at least 1 trial is made")
    for name in ("wall_s", "chip_hours", "usd"):
        limit = getattr(study.budget, name)
        if limit < 0:
            wrong(f"budget.{name}", f"found {limit:g}; above 0, or 0 for no such limit")
    if not 0 <= study.seed <= MAX_SEED:
        wrong("seed", f"found {study.seed}; a whole number from 0 to {MAX_SEED}")
    if not 0.5 <= study.probability < 1:
        wrong("probability", f"found {study.probability:g}; from 0.5 to below 1")
    if not 0 <= study.margin < 1:
        wrong("margin", f"found {study.margin:g}; a share from 0 to below 1")
    if study.top < 1 or study.max_repeats < 1 or study.max_attempts < 1:
        wrong("top", "top, max_repeats and max_attempts are at least 1")
    if study.parallel < 1:
        wrong("parallel", f"found {study.parallel}; at least 1 trial is made at a time")
    if study.loads_at_once < 0:
        wrong("loads_at_once", f"found {study.loads_at_once}; at least 1, or 0 for all of parallel")
    if study.load is not None:
        for path, message in wrong_loads(study.load, study.slo):
            wrong(path, message)
    if study.race is not None:
        for path, message in wrong_race(study.race):
            wrong(path, message)
    return problems
