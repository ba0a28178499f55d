"""A tuner's world with a known best: every configuration's answer stands in a table. Named replay,
and nothing of it is ever a measurement of ours.

What a grid's file looks like: ``benchmarks.grid_file``. The noise is that of a good and a bad day:
unless the file says otherwise each reading is multiplied by a log-normal of 2 %, one in ten by one
of 10 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from benchmarks.grid_file import FORECAST, Column, Table, WrongGrid, column_named
from benchmarks.grid_forecast import Forecaster, forecaster
from results.metrics import Direction, metric
from tuners.crew import Done, Job
from tuners.errors import StudyError
from tuners.goals import Bound, Goal, Reading, Wish
from tuners.outcome import SEVERITY, Crashed, FailureKind, Measured
from tuners.pareto import hypervolume, points_of
from tuners.space import Branch, Config, Space
from tuners.trial import Evaluate, Evaluated, Phase

MAX_GPUS = 8
NOISE = (0.02, 0.10, 0.1)
LIMITS = {"ttft": 500.0, "tpot": 25.0}
ABSENT = "the grid has no such configuration: the engine is taken to refuse it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a grid. ``goals``: columns; ``limits``: by column, in the column's unit.
    ``model``, ``chip``: empty where nothing shall be forecast."""

    goals: tuple[str, ...]
    limits: Mapping[str, float]
    model: str = ""
    chip: str = ""
    input_tokens: int = 2048
    output_tokens: int = 512
    margin: float = 0.05
    noise: tuple[float, float, float] = NOISE
    max_gpus: int = MAX_GPUS


def question_of(
    table: Table,
    *,
    goals: tuple[str, ...] | None = None,
    limits: Mapping[str, float] | None = None,
    model: str | None = None,
    chip: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    noise: tuple[float, float, float] | None = None,
) -> Question:
    """What is given, else what the file's header says; of a file without one the question that the
    grids of the notes were made for, as far as it has their columns."""
    said = table.header
    asked = LIMITS if not said and set(LIMITS) <= set(table.results) else {}
    has_goal = "tpsg" in table.results
    found = goals or tuple(said.get("goals", ("tpsg",) if has_goal else ()))
    if not found:
        raise WrongGrid(
            f"{table.source} does not say what to push: name columns with --goals, of "
            f"{', '.join(table.results)}"
        )
    return Question(
        goals=found,
        limits=dict(said.get("limits", asked) if limits is None else limits),
        model=model or str(said.get("model", "" if said else "qwen3-32b")),
        chip=chip or str(said.get("chip", "" if said else "H200")),
        input_tokens=input_tokens or int(said.get("input_tokens", 2048)),
        output_tokens=output_tokens or int(said.get("output_tokens", 512)),
        noise=noise or tuple(said.get("noise", NOISE)),
        max_gpus=int(said.get("max_gpus", MAX_GPUS)),
    )


class Grid:
    """The table, its true best, and what a forecast knows of it without having seen it."""

    def __init__(self, table: Table, question: Question) -> None:
        self.table, self.question = table, question
        asked = (*question.goals, *question.limits)
        self._columns = {name: self._column(name) for name in asked}
        self.branch: Branch = Space(knobs=table.knobs).branches()[0]
        self.wish = _wish(self._columns, question)
        self._forecast: Forecaster = self._forecaster()
        self._predicted: dict[tuple[Any, ...], Mapping[str, float] | str] = {}
        kept = {p: row for p, row in table.rows.items() if self._keeps(row)}
        if not kept:
            raise WrongGrid(self._none_keeps())
        self._scores = {p: self.wish.score(self._goals(row)) for p, row in kept.items()}
        self._best = max(self._scores.values())
        self._front_volume = self._volume(list(kept.values()), list(kept.values()))
        self._kept = list(kept.values())

    @property
    def best(self) -> float:
        """The best feasible value; of a goal where less is better its inverse, of several goals
        their geometric mean."""
        return math.exp(self._best)

    @property
    def num_feasible(self) -> int:
        return len(self._kept)

    @property
    def why_no_forecast(self) -> str:
        return self._forecast.why_none

    def crashes(self, config: Config) -> bool:
        row = self._row(config)
        return row is None or self._crashed(row)

    def regret(self, config: Config | None) -> float:
        """Of the true value against the best feasible: 1 - its share, of several goals that of
        their geometric mean; 1 where it is truly infeasible, or none."""
        score = None if config is None else self._scores.get(self.table.place(config))
        return 1.0 if score is None else 1.0 - math.exp(score - self._best)

    def is_feasible(self, config: Config) -> bool:
        return self.table.place(config) in self._scores

    def floor(self, probability: float = 0.95) -> float:
        """The regret of the best configuration whose next run keeps every limit with
        ``probability``, by the replay's own noise: a loop that asks for that cannot do better."""
        usual, rare, share = self.question.noise
        sure = []
        for place, score in self._scores.items():
            seen = self.reading(self.table.rows[place]).bounds
            kept = 1.0
            for bound in self.wish.bounds:
                room = abs(math.log(bound.limit / seen[bound.name])) if bound.limit else math.inf
                normal = (1 - share) * ndtr(room / usual) + share * ndtr(room / rare)
                kept *= float(normal)
            if kept >= probability:
                sure.append(score)
        return 1.0 - math.exp(max(sure) - self._best) if sure else 1.0

    def volume(self, configs: Sequence[Config]) -> float:
        """The share of the feasible front's hypervolume that the feasible ones of these cover."""
        rows = [self.table.rows[self.table.place(c)] for c in configs if self.is_feasible(c)]
        return self._volume(rows, self._kept) / self._front_volume

    def evaluator(self, seed: int) -> Evaluator:
        return Evaluator(self, np.random.default_rng([seed, 0xBAD]))

    def true_reading(self, config: Config) -> Reading | None:
        row = self._row(config)
        return None if row is None or self._crashed(row) else self.reading(row)

    def predict(self, config: Config) -> Mapping[str, float] | str:
        """What is known of it without having run it: nothing, a forecast, or why it cannot."""
        place = self.table.place(config)
        if place not in self._predicted:
            row = self._row(config)
            self._predicted[place] = (
                ABSENT
                if row is None
                else self._forecast.predict({**self.table.constants, **config}, row)
            )
        return self._predicted[place]

    def reading(self, row: Mapping[str, Any], noise: Mapping[str, float] | None = None) -> Reading:
        def value(name: str) -> float:
            return float(row[name]) * self._columns[name].scale * (noise or {}).get(name, 1.0)

        return Reading(
            goals={self._columns[n].name: value(n) for n in self.question.goals},
            bounds={self._columns[n].name: value(n) for n in self.question.limits},
        )

    def noisy(self, row: Mapping[str, Any], generator: np.random.Generator) -> Reading:
        usual, rare, share = self.question.noise
        noise = {
            name: math.exp(generator.normal(0.0, rare if generator.random() < share else usual))
            for name in self._columns
        }
        return self.reading(row, noise)

    def _row(self, config: Config) -> Mapping[str, Any] | None:
        return self.table.rows.get(self.table.place(config))

    def _crashed(self, row: Mapping[str, Any]) -> bool:
        gpus = row.get("tp", 1) * row.get("pp", 1)
        missing = any(row.get(name) is None for name in self._columns)
        return (
            not row.get("ok", True)
            or bool(row.get("warn"))
            or missing
            or gpus > self.question.max_gpus
        )

    def _keeps(self, row: Mapping[str, Any]) -> bool:
        return not self._crashed(row) and self.reading(row).keeps(self.wish, margin=0.0)

    def _goals(self, row: Mapping[str, Any]) -> Mapping[str, float]:
        return self.reading(row).goals

    def _volume(
        self, rows: Sequence[Mapping[str, Any]], among: Sequence[Mapping[str, Any]]
    ) -> float:
        """In the box of the goals of ``among``, its lower edge a tenth below the worst."""
        if not rows:
            return 0.0
        every = points_of([self._goals(row) for row in among], self.wish.goals)
        low, width = every.min(axis=0), np.ptp(every, axis=0)
        width = np.where(width > 0, width, 1.0)
        points = (points_of([self._goals(row) for row in rows], self.wish.goals) - low) / width
        return hypervolume(points, np.full(len(width), -0.1))

    def _column(self, name: str) -> Column:
        found = column_named(name)
        if found is None or name not in self.table.results:
            raise WrongGrid(
                f"{self.table.source} has no result {name!r}; it has "
                f"{', '.join(self.table.results)}"
            )
        if metric(found.metric).direction is Direction.NEITHER:
            raise WrongGrid(f"{name} is {found.metric}, of which neither way is better")
        return found

    def _forecaster(self) -> Forecaster:
        names = {name: column.name for name, column in self._columns.items()}
        own = [n for n in names if all(FORECAST + n in row for row in self.table.rows.values())]
        if len(own) == len(names):
            return Forecaster(
                predict=lambda _, row: {
                    names[n]: float(row[FORECAST + n]) * self._columns[n].scale for n in own
                }
            )
        return forecaster(self.table, self.question, self._columns)

    def _none_keeps(self) -> str:
        ran = [row for row in self.table.rows.values() if not self._crashed(row)]
        said = []
        for name, limit in self.question.limits.items():
            values = [row[name] for row in ran]
            lower = metric(self._columns[name].metric).direction is Direction.LOWER
            best = (min if lower else max)(values, default=math.nan)
            said.append(f"{name} {limit:g} (the best is {best:g})")
        return (
            f"{self.table.source}: of {len(self.table.rows)} configurations {len(ran)} run, and "
            f"none of them keeps {' and '.join(said) or 'anything'}"
        )


def _wish(columns: Mapping[str, Column], question: Question) -> Wish:
    try:
        goals = tuple(
            Goal(metric=columns[n].metric, statistic=columns[n].statistic) for n in question.goals
        )
        bounds = tuple(
            Bound(
                metric=columns[name].metric,
                statistic=columns[name].statistic,
                limit=limit * columns[name].scale,
                margin=question.margin,
            )
            for name, limit in question.limits.items()
        )
        return Wish(goals=goals, bounds=bounds)
    except StudyError as error:
        raise WrongGrid(str(error)) from error


class Evaluator:
    """A noisy answer to each call, in order. An ``Evaluate`` of ``tuners.trial``."""

    def __init__(self, grid: Grid, generator: np.random.Generator) -> None:
        self._grid, self._generator = grid, generator
        self.num_runs = self.num_crashes = 0

    def __call__(self, config: Config, phase: Phase, repeat: int) -> Evaluated:
        self.num_runs += 1
        if self._grid.crashes(config):
            self.num_crashes += 1
            kind = FailureKind.OOM_AT_LOAD
            crash = Crashed(kind=kind, message="does not fit", severity=SEVERITY[kind])
            return Evaluated(outcome=crash)
        row = self._grid.table.rows[self._grid.table.place(config)]
        return Evaluated(outcome=Measured(reading=self._grid.noisy(row, self._generator)))


class Together:
    """A crew of several on a grid: whoever began first ends first, while the others run."""

    def __init__(self, evaluate: Evaluate, size: int) -> None:
        self.size, self._evaluate = size, evaluate
        self._under_way: list[Job] = []

    def has_room(self) -> bool:
        return len(self._under_way) < self.size

    def begin(self, job: Job) -> None:
        self._under_way.append(job)

    def wait(self) -> Sequence[Done]:
        job = self._under_way.pop(0)
        return [Done(job=job, evaluated=self._evaluate(job.config, job.phase, job.repeat))]


def configs_of(grid: Grid) -> Iterator[Config]:
    """Those of which the grid says something."""
    for place in grid.table.rows:
        yield dict(zip((k.path for k in grid.branch.knobs), place, strict=True))
