"""A suite: which runs make a night, beside which canaries, what may be spent, and what is tested.

A file in, a ``Suite`` out with every spec read. Each run of a suite is a *series*: its statistics
over the nights are what is watched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import SpecError
from harness.spec import RunSpec
from harness.spec_checks import NAME, NAME_WORDS
from harness.spec_errors import Problem
from harness.spec_errors import found as found_words
from harness.specfile import read_specs, read_yaml_as
from results.errors import UnknownMetric
from results.measurement import one_statistic
from workloads.registry import Role, role_of

MAX_REPEATS = 1000  # of one series in a night: more would not end by the next one

# What matters of a run where the suite does not say it.
SERVING_METRICS = (
    "output_throughput",
    "ttft_p50",
    "ttft_p99",
    "itl_p50",
    "itl_p99",
    "startup",
)
TRAINING_METRICS = ("training_throughput", "step_time_p50", "final_loss", "startup")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRun:
    """``spec``: a file beside the suite, of one or more specs. ``metrics``: such as ``ttft_p99``;
    none given: those that matter for its kind of workload."""

    spec: str
    repeats: int = 3
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectSpec:
    """What changes from night to night, so that two versions of it can be measured side by side.

    ``into`` is the field of each spec that names the version. With ``git`` (a repository's folder)
    a version is a commit, and the field gets the folder of its checkout; otherwise a version is the
    field's value itself, and ``values`` lists them from old to new, for ``bisect``.
    """

    into: str
    git: str = ""
    values: tuple[str | int | float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NightBudget:
    """What a night may cost, confirmation included. 0: no such limit."""

    wall_s: float = 0.0
    chip_hours: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSpec:
    """``pairs`` good/new runs are made for a suspicion, then one by one up to ``max_pairs`` while
    they do not decide. ``max_suspects``: the largest so many are confirmed, the rest are told."""

    pairs: int = 5
    max_pairs: int = 8
    max_suspects: int = 5

    @property
    def most_pairs(self) -> int:
        """With those that are made again because a run of theirs was invalid."""
        return self.max_pairs + self.pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSpec:
    name: str
    runs: tuple[SuiteRun, ...]
    canaries: tuple[SuiteRun, ...] = ()
    subject: SubjectSpec | None = None
    budget: NightBudget = field(default_factory=NightBudget)
    confirm: ConfirmSpec = field(default_factory=ConfirmSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One run of the suite, read. ``spec`` makes one run: repeats are the night's to order."""

    name: str
    spec: RunSpec
    repeats: int
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    spec: SuiteSpec
    folder: Path  # paths in the suite are beside it
    series: tuple[Series, ...]
    canaries: tuple[Series, ...]

    @property
    def name(self) -> str:
        return self.spec.name

    def named(self, series: str) -> Series:
        """Raises SpecError with the names there are."""
        for one in (*self.series, *self.canaries):
            if one.name == series:
                return one
        names = ", ".join(one.name for one in self.series)
        raise SpecError(f"the suite {self.name} has no series {series}; it has {names}")


def read_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """The suite of a file with all its specs. Raises SpecError, which names every wrong line."""
    spec = read_yaml_as(str(path), SuiteSpec, _problems)
    series = [one for run in spec.runs for one in _series(path.parent, run, overrides)]
    canaries = [one for run in spec.canaries for one in _series(path.parent, run, ())]
    names = [one.name for one in (*series, *canaries)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(
            f"{path}: {', '.join(twice)}: several specs of that name; a name is what a series is "
            "known by over the nights, so each needs one of its own"
        )
    return Suite(spec=spec, folder=path.parent, series=tuple(series), canaries=tuple(canaries))


def _series(folder: Path, run: SuiteRun, overrides: Sequence[str]) -> list[Series]:
    return [
        Series(
            name=spec.name,
            spec=replace(spec, num_repeats=1, redeploy=True),
            repeats=run.repeats,
            metrics=run.metrics or default_metrics(spec),
        )
        for spec in read_specs(str(folder / run.spec), overrides)
    ]


def default_metrics(spec: RunSpec) -> tuple[str, ...]:
    return TRAINING_METRICS if role_of(spec.workload) is Role.TRAINING else SERVING_METRICS


def _problems(suite: SuiteSpec) -> list[Problem]:
    found: list[Problem] = []
    if not NAME.fullmatch(suite.name):
        message = f"found {found_words(suite.name)}; accepted: {NAME_WORDS}"
        found.append(Problem(path=("name",), message=message))
    for kind, group in (("runs", suite.runs), ("canaries", suite.canaries)):
        for index, run in enumerate(group):
            if not 1 <= run.repeats <= MAX_REPEATS:
                message = f"found {run.repeats}; at least 1 and at most {MAX_REPEATS}"
                found.append(Problem(path=(kind, index, "repeats"), message=message))
            for text in run.metrics:
                try:
                    one_statistic(text)
                except UnknownMetric as error:
                    found.append(Problem(path=(kind, index, "metrics"), message=str(error)))
    if not suite.runs:
        found.append(Problem(path=("runs",), message="is empty; a night needs a run"))
    confirm = suite.confirm
    if not 2 <= confirm.pairs <= confirm.max_pairs:
        message = f"found {confirm.pairs} of {confirm.max_pairs}; 2 ≤ pairs ≤ max_pairs"
        found.append(Problem(path=("confirm", "pairs"), message=message))
    if confirm.max_suspects < 0:
        message = f"found {confirm.max_suspects}; 0 or more"
        found.append(Problem(path=("confirm", "max_suspects"), message=message))
    for name in ("wall_s", "chip_hours", "usd"):
        limit = getattr(suite.budget, name)
        if limit < 0:
            message = f"found {limit:g}; above 0, or 0 for no such limit"
            found.append(Problem(path=("budget", name), message=message))
    subject = suite.subject
    if subject and subject.git and subject.values:
        message = "a git subject has its commits for values; give one of git and values"
        found.append(Problem(path=("subject", "values"), message=message))
    return found
