"""How good the tuners are, where the best is known: regret over trials, crashes, infeasible picks.

    python -m benchmarks.tuners --seeds 20 --strategies random,tpe,gp,shipped

Every strategy answers the same question on the same grid (see ``benchmarks.replay``) with the same
noise. The regret of a pick is 1 − its true value / the best feasible one's; a pick that truly
breaks a bound counts 1. A strategy without re-measurement picks the best it saw; ``shipped`` (what
`windtunnel tune` does: memory filter, seeds from the forecast, GP, winners measured again) says
what that costs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.replay import Grid, Question, Together
from results.clock import SystemClock
from tuners.crew import InTurn
from tuners.loop import Budget, Part, Phase, Search, Trial
from tuners.optuna_study import OptunaSearcher, sampler_named
from tuners.outcome import Crashed, Measured
from tuners.remeasure import Candidate
from tuners.seeds import Seeder
from tuners.space import Config, values_of

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "grid_h200_q32.jsonl"
AT = (10, 15, 30, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One seed of one strategy. ``regret`` at each of AT; ``foreseen``: refused before it was paid
    for; ``remeasured``: runs beside the trials."""

    strategy: str
    seed: int
    regret: tuple[float, ...]
    crashes: int
    foreseen: int
    remeasured: tuple[int, ...]
    cpu_s: float


def sampled(name: str, grid: Grid, seed: int, num_trials: int) -> Row:
    """A sampler alone: no filter, no seeds, crashes told as violated constraints."""
    return _searched(name, grid, seed, num_trials, sampler=name, ships=False)


def shipped(grid: Grid, seed: int, num_trials: int) -> Row:
    return _searched("shipped", grid, seed, num_trials, sampler="gp", ships=True)


def shipped_at_once(grid: Grid, seed: int, num_trials: int) -> Row:
    """Four trials at once: each is asked for without the three that are under way."""
    return _searched("shipped, 4 at once", grid, seed, num_trials, sampler="gp", ships=True, at=4)


def _searched(
    name: str, grid: Grid, seed: int, num_trials: int, *, sampler: str, ships: bool, at: int = 1
) -> Row:
    begun_s = time.process_time()
    evaluate = grid.evaluator(seed)
    seeder = Seeder(grid.branch, grid.wish, grid.predict, seed=seed) if ships else None
    part = Part(
        branch=grid.branch,
        searcher=OptunaSearcher(
            grid.branch,
            grid.wish,
            name="replay",
            sampler=sampler_named(
                sampler, seed=seed, num_trials=num_trials, num_startup=8 if ships else 10
            ),
        ),
        seeder=seeder,
    )
    crew = InTurn(evaluate) if at == 1 else Together(evaluate, at)
    search = Search([part], grid.wish, crew, Budget(num_trials=num_trials), SystemClock())
    search.search()
    crashes, trials = evaluate.num_crashes, list(search.trials)
    regret, runs = [], []
    for seen in (n for n in AT if n <= num_trials):
        search.trials = trials[:seen]
        if ships:
            before = evaluate.num_runs
            pick, _ = search.remeasure(search.candidates(), top=3, probability=0.95, max_repeats=5)
            runs.append(evaluate.num_runs - before)
            regret.append(grid.regret(pick.config if pick else None))
        else:
            found = _best(search.trials, grid)
            runs.append(0)
            regret.append(grid.regret(found.config if found else None))
    return Row(
        strategy=name,
        seed=seed,
        regret=tuple(regret),
        crashes=crashes,
        foreseen=search.num_foreseen,
        remeasured=tuple(runs),
        cpu_s=time.process_time() - begun_s,
    )


def _best(trials: Sequence[Trial], grid: Grid) -> Candidate | None:
    """The best that was seen to keep the bounds themselves: no margin, no second look."""
    seen = [
        Candidate(config=t.config, searched=t.evaluated.outcome.reading)
        for t in trials
        if isinstance(t.evaluated.outcome, Measured)
        and t.evaluated.outcome.reading.keeps(grid.wish, margin=0.0)
    ]
    return max(seen, key=lambda c: grid.wish.score(c.searched.goals), default=None)


def auto_tune(grid: Grid, seed: int, num_trials: int) -> Row:
    """As vLLM's ``auto_tune`` searches: every ``max_num_seqs`` by every ``max_num_batched_tokens``,
    the rest as it stands (the smallest tensor parallelism that runs, no quantisation)."""
    evaluate = grid.evaluator(seed)
    trials: list[Trial] = []
    for config in _auto_tune_grid(grid):
        if len(trials) == num_trials:
            break
        evaluated = evaluate(config, Phase.SEARCH, 0)
        trials.append(
            Trial(
                number=len(trials) + 1,
                branch="",
                phase=Phase.SEARCH,
                config=config,
                evaluated=evaluated,
            )
        )
    picks = [_best(trials[:at], grid) for at in AT if at <= num_trials]
    return Row(
        strategy="auto_tune",
        seed=seed,
        regret=tuple(grid.regret(pick.config if pick else None) for pick in picks),
        crashes=sum(isinstance(t.evaluated.outcome, Crashed) for t in trials),
        foreseen=0,
        remeasured=tuple(0 for _ in picks),
        cpu_s=0.0,
    )


def _auto_tune_grid(grid: Grid) -> Iterator[Config]:
    fixed = {"pp": 1, "quant": "bfloat16", "kv": "bfloat16"}
    sizes = {knob.path: values_of(knob.domain) for knob in grid.branch.knobs}
    smallest = {"max_num_seqs": sizes["max_num_seqs"][0], **fixed}
    smallest["max_num_batched_tokens"] = sizes["max_num_batched_tokens"][0]
    tp = next(tp for tp in sizes["tp"] if not grid.crashes({**smallest, "tp": tp}))
    for seqs in sizes["max_num_seqs"]:
        for tokens in sizes["max_num_batched_tokens"]:
            yield {**fixed, "tp": tp, "max_num_seqs": seqs, "max_num_batched_tokens": tokens}


STRATEGIES: dict[str, Callable[[Grid, int, int], Row]] = {
    **{
        name: lambda grid, seed, n, name=name: sampled(name, grid, seed, n)  # type: ignore[misc]
        for name in ("random", "sobol", "nsga2", "tpe", "gp")
    },
    "auto_tune": auto_tune,
    "shipped": shipped,
    "shipped-4": shipped_at_once,
}


def table(rows: Sequence[Row]) -> str:
    """Markdown: medians over the seeds, and in how many seeds the last pick was no answer."""
    at = AT[: max(len(row.regret) for row in rows)]
    head = ["strategy", "seeds", *(f"regret @{n}" for n in at), "no answer", "crashes", "foreseen"]
    lines = [[*head, "re-measured", "CPU s"]]
    for name in dict.fromkeys(row.strategy for row in rows):
        mine = [row for row in rows if row.strategy == name]
        regret = np.array([row.regret for row in mine])
        lines.append(
            [
                name,
                str(len(mine)),
                *(f"{median:.3f} ({mean:.3f})" for median, mean in _middles(regret)),
                f"{int((regret[:, -1] >= 1.0).sum())} of {len(mine)}",
                f"{np.mean([row.crashes for row in mine]):.1f}",
                f"{np.mean([row.foreseen for row in mine]):.1f}",
                f"{np.mean([row.remeasured[-1] for row in mine]):.1f}",
                f"{np.mean([row.cpu_s for row in mine]):.1f}",
            ]
        )
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _middles(regret: np.ndarray) -> Iterator[tuple[float, float]]:
    yield from zip(np.median(regret, axis=0), regret.mean(axis=0), strict=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuners", description=__doc__)
    parser.add_argument("--grid", type=Path, default=SHARED, help="a JSON-lines grid")
    parser.add_argument("--model", default="qwen3-32b")
    parser.add_argument("--chip", default="H200")
    parser.add_argument("--input-tokens", type=int, default=2048)
    parser.add_argument("--output-tokens", type=int, default=512)
    parser.add_argument("--ttft-ms", type=float, default=500.0)
    parser.add_argument("--tpot-ms", type=float, default=25.0)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=30, choices=AT)
    parser.add_argument("--out", type=Path, help="each seed as a JSON line")
    given = parser.parse_args(argv)
    question = Question(
        grid=given.grid,
        model=given.model,
        chip=given.chip,
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
        ttft_s=given.ttft_ms / 1e3,
        tpot_s=given.tpot_ms / 1e3,
    )
    if not question.grid.is_file():
        print(f"there is no grid {question.grid}; name one with --grid", file=sys.stderr)  # noqa: T201
        return 2
    grid = Grid(question)
    rows = []
    for seed in range(given.seeds):  # every strategy meets a seed before the next begins
        for name in given.strategies.split(","):
            rows.append(STRATEGIES[name](grid, seed, given.trials))
            print(f"{name} seed {seed}: {rows[-1].regret}", file=sys.stderr)  # noqa: T201
            if given.out:
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(rows[-1])) + "\n")
    print(table(rows))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
