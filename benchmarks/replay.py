"""A tuner's world with a known best: every configuration's answer stands in a table. Named replay,
and nothing of it is ever a measurement of ours.

A grid is a JSON-lines file, one configuration a line: the knobs ``tp, pp, max_num_seqs,
max_num_batched_tokens, quant, kv``; ``ok`` and ``warn`` (whether it fits); ``ttft`` and ``tpot`` in
milliseconds; ``tpsg``, tokens/s a GPU. The noise is that of a good and a bad day: each reading is
multiplied by a log-normal of 2 %, one in ten by one of 10 %.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuners.analytic import forecast
from tuners.crew import Done, Job
from tuners.goals import Bound, Goal, Reading, Wish
from tuners.memory_fit import memory_fit
from tuners.outcome import SEVERITY, Crashed, FailureKind, Measured
from tuners.serving import Load, Serving
from tuners.space import Branch, Categorical, Config, Knob, Ordinal, Space
from tuners.trial import Evaluate, Evaluated, Phase
from workloads.simulated.accelerators import accelerator_named, model_named

KNOBS = ("tp", "pp", "max_num_seqs", "max_num_batched_tokens", "quant", "kv")
_CATEGORICAL = ("quant", "kv")
GOAL = "output_throughput_per_chip"
MAX_GPUS = 8
# The estimator behind the grids fills the memory to this share and says what does not fit.
_USABLE = 0.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which grid, what it was made for, and what is asked of it."""

    grid: Path
    model: str = "qwen3-32b"
    chip: str = "H200"
    input_tokens: int = 2048
    output_tokens: int = 512
    ttft_s: float = 0.5
    tpot_s: float = 0.025
    margin: float = 0.05


class Grid:
    """The table, its true best, and what a forecast knows of it without having seen it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        with question.grid.open(encoding="utf-8") as lines:
            self._rows = {_place(row): row for row in map(json.loads, lines)}
        self.branch: Branch = Space(knobs=tuple(self._knobs())).branches()[0]
        self.wish = Wish(
            goals=(Goal(metric=GOAL),),
            bounds=(
                Bound(
                    metric="ttft_s", statistic="p99", limit=question.ttft_s, margin=question.margin
                ),
                Bound(
                    metric="tpot_s", statistic="p99", limit=question.tpot_s, margin=question.margin
                ),
            ),
        )
        self.best = max(row["tpsg"] for row in self._rows.values() if self._feasible(row))

    def crashes(self, config: Config) -> bool:
        return _crashes(self._rows[_place(config)])

    def regret(self, config: Config | None) -> float:
        """Of the true value against the best feasible; 1 where it is truly infeasible, or none."""
        if config is None:
            return 1.0
        row = self._rows[_place(config)]
        return 1.0 - row["tpsg"] / self.best if self._feasible(row) else 1.0

    def evaluator(self, seed: int) -> Evaluator:
        return Evaluator(self, np.random.default_rng([seed, 0xBAD]))

    def true_reading(self, config: Config) -> Reading | None:
        row = self._rows[_place(config)]
        return None if _crashes(row) else _reading(row, 1.0, 1.0, 1.0)

    def predict(self, config: Config) -> Mapping[str, float] | str:
        """What the shipped forecast says; it has never seen the table."""
        q = self.question
        parallel: Any = config["tp"], config["pp"]
        if parallel[0] * parallel[1] > MAX_GPUS:
            return f"{parallel[0] * parallel[1]} GPUs are asked; a node has {MAX_GPUS}"
        eight_bit = config["quant"] != "bfloat16"
        seqs: Any = config["max_num_seqs"]
        serving = Serving(
            model=model_named(q.model),
            chip=accelerator_named(q.chip),
            tensor_parallel_size=parallel[0],
            pipeline_parallel_size=parallel[1],
            max_num_seqs=seqs * parallel[1],  # the grid counts those of one stage
            max_num_batched_tokens=int(str(config["max_num_batched_tokens"])),
            max_model_len=q.input_tokens + q.output_tokens,
            gpu_memory_utilization=_USABLE,
            weight_bytes=1.0 if eight_bit else None,
            kv_bytes=1 if config["kv"] == "fp8" else None,
            flops_factor=2.0 if eight_bit else 1.0,
        )
        # The grid calls a cache that cannot hold every sequence at full length a failure.
        needed = serving.max_num_seqs * serving.max_model_len
        fit = memory_fit(serving, needed_tokens=needed)
        load = Load(
            input_tokens=q.input_tokens,
            output_tokens=q.output_tokens,
            concurrency=serving.max_num_seqs,
        )
        seen = forecast(serving, load) if fit.fits else None
        if seen is None:
            return fit.describe()
        return {
            GOAL: seen.output_throughput_per_chip,
            "ttft_s_p99": seen.ttft_s,
            "tpot_s_p99": seen.tpot_s,
        }

    def configs(self) -> Iterator[Config]:
        yield from self.branch.grid()

    def row(self, config: Config) -> Mapping[str, Any]:
        return self._rows[_place(config)]

    def _knobs(self) -> Iterator[Knob]:
        for name in KNOBS:
            values = tuple(sorted({row[name] for row in self._rows.values()}))
            domain = Categorical if name in _CATEGORICAL else Ordinal
            yield Knob(path=name, domain=domain(values=values))

    def _feasible(self, row: Mapping[str, Any]) -> bool:
        q = self.question
        return not _crashes(row) and row["ttft"] <= q.ttft_s * 1e3 and row["tpot"] <= q.tpot_s * 1e3


class Evaluator:
    """A noisy answer to each call, in order. An ``Evaluate`` of ``tuners.trial``."""

    def __init__(self, grid: Grid, generator: np.random.Generator) -> None:
        self._grid, self._generator = grid, generator
        self.num_runs = self.num_crashes = 0

    def __call__(self, config: Config, phase: Phase, repeat: int) -> Evaluated:
        self.num_runs += 1
        row = self._grid.row(config)
        if _crashes(row):
            self.num_crashes += 1
            kind = FailureKind.OOM_AT_LOAD
            crash = Crashed(kind=kind, message="does not fit", severity=SEVERITY[kind])
            return Evaluated(outcome=crash)
        noise = [self._noise() for _ in range(3)]
        return Evaluated(outcome=Measured(reading=_reading(row, *noise)))

    def _noise(self) -> float:
        spread = 0.1 if self._generator.random() < 0.1 else 0.02
        return float(np.exp(self._generator.normal(0.0, spread)))


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


def _place(source: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(source[name] for name in KNOBS)


def _crashes(row: Mapping[str, Any]) -> bool:
    return not row["ok"] or bool(row.get("warn")) or row["tp"] * row["pp"] > MAX_GPUS


def _reading(row: Mapping[str, Any], goal: float, ttft: float, tpot: float) -> Reading:
    return Reading(
        goals={GOAL: row["tpsg"] * goal},
        bounds={"ttft_s_p99": row["ttft"] * ttft / 1e3, "tpot_s_p99": row["tpot"] * tpot / 1e3},
    )
