"""How good the tuners are, where the best is known: regret over trials, crashes, infeasible picks.

    python -m benchmarks.tuners --seeds 20 --strategies random,tpe,gp,shipped
    python -m benchmarks.tuners --grid other.jsonl --limit ttft=800 --limit tpot=40
    python -m benchmarks.tuners --held-out all --strategies shipped,random

Every strategy (``benchmarks.strategies``) answers the same question on the same grid with the same
noise. A grid is a file (``benchmarks.grid_file`` says how it looks) or one of those that
``benchmarks.held_out`` makes. The regret of a pick is 1 − its true value / the best feasible one's;
a pick that truly breaks a limit counts 1, and so does none. Exit 2: the file is no grid, or cannot
answer the question.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.grid_file import WrongGrid, read_grid
from benchmarks.held_out import HELD_OUT, held_out
from benchmarks.replay import Grid, configs_of, question_of
from benchmarks.strategies import AT, STRATEGIES, Row

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
GOAL_REGRET = {15: 0.02, 30: 0.01}  # what the shipped loop is to reach, by trials, in the median


def describe(grid: Grid) -> str:
    """What a grid is like, in a line; with what its filter and its forecast know of it."""
    configs = list(configs_of(grid))
    crashing = [config for config in configs if grid.crashes(config)]
    refused = [config for config in configs if isinstance(grid.predict(config), str)]
    wrongly = sum(not grid.crashes(config) for config in refused)
    said = [
        f"{grid.table.source}: {len(configs)} configurations of {len(grid.branch.knobs)} knobs, "
        f"{len(crashing) / len(configs):.0%} crash, {grid.num_feasible / len(configs):.1%} keep "
        f"the limits; the filter refuses {len(refused)}"
    ]
    if wrongly:
        said.append(f"({wrongly} of which would run)")
    if grid.table.num_absent:
        said.append(f"; {grid.table.num_absent} combinations are absent, and taken for refused")
    if grid.table.num_repeated:
        said.append(f"; {grid.table.num_repeated} rows repeat others: their median counts")
    if grid.floor():
        said.append(f"; the best that keeps them in 95 % of its runs has regret {grid.floor():.3f}")
    why, asked = grid.why_no_forecast, grid.question
    said.append(
        f"; no forecast: {why}" if why else f"; forecast {asked.model} {asked.chip}".rstrip()
    )
    return " ".join(said).replace(" ;", ";")


def table(rows: Sequence[Row]) -> str:
    """Markdown: medians over the seeds (the mean in brackets), and what went wrong in how many."""
    at = AT[: max(len(row.regret) for row in rows)]
    head = ["strategy", "seeds", *(f"regret @{n}" for n in at), "volume", "infeasible", "no answer"]
    head += ["crashes", "foreseeable", "re-measured", "CPU s a trial"]
    lines = []
    for name in dict.fromkeys(row.strategy for row in rows):
        mine = [row for row in rows if row.strategy == name]
        regret = np.array([row.regret for row in mine])
        none = [row.regret[-1] >= 1.0 and not row.infeasible[-1] for row in mine]
        lines.append(
            [
                name,
                str(len(mine)),
                *(f"{median:.3f} ({mean:.3f})" for median, mean in _middles(regret)),
                f"{np.mean([row.volume[-1] for row in mine]):.2f}",
                f"{sum(row.infeasible[-1] for row in mine)} of {len(mine)}",
                f"{sum(none)} of {len(mine)}",
                f"{np.mean([row.crashes for row in mine]):.1f}",
                f"{np.mean([row.crashes_foreseen for row in mine]):.1f}",
                f"{np.mean([row.remeasured[-1] for row in mine]):.1f}",
                f"{np.mean([row.cpu_s / max(1, row.num_trials) for row in mine]):.2f}",
            ]
        )
    return _markdown(head, lines)


def summary(rows: Sequence[Row]) -> str:
    """Over several grids: of each strategy the median and the worst of the grids' medians, on how
    many grids it reaches the goals, and what went wrong in all seeds of all grids."""
    at = AT[: max(len(row.regret) for row in rows)]
    head = ["strategy", "grids", *(f"regret @{n}: middle, worst" for n in at)]
    head += [f"≤ {goal:.0%} @{n}" for n, goal in GOAL_REGRET.items() if n in at]
    head += ["infeasible picks", "no answer", "crashes", "CPU s a trial"]
    lines = []
    for name in dict.fromkeys(row.strategy for row in rows):
        mine = [row for row in rows if row.strategy == name]
        grids = list(dict.fromkeys(row.grid for row in mine))
        medians = np.array(
            [np.median([row.regret for row in mine if row.grid == g], axis=0) for g in grids]
        )
        reached = [
            f"{int((medians[:, at.index(n)] <= goal + 5e-4).sum())} of {len(grids)}"
            for n, goal in GOAL_REGRET.items()
            if n in at
        ]
        none = [row.regret[-1] >= 1.0 and not row.infeasible[-1] for row in mine]
        lines.append(
            [
                name,
                str(len(grids)),
                *(f"{np.median(col):.3f}, {col.max():.3f}" for col in medians.T),
                *reached,
                f"{sum(any(row.infeasible) for row in mine)} of {len(mine)}",
                f"{sum(none)} of {len(mine)}",
                f"{np.mean([row.crashes for row in mine]):.1f}",
                f"{np.mean([row.cpu_s / max(1, row.num_trials) for row in mine]):.2f}",
            ]
        )
    return _markdown(head, lines)


def by_grid(rows: Sequence[Row], floors: Mapping[str, float]) -> str:
    """Median regret of each grid and strategy at each stop; ``floors``: ``Grid.floor`` of each."""
    at = AT[: max(len(row.regret) for row in rows)]
    names = list(dict.fromkeys(row.strategy for row in rows))
    stops = " / ".join(f"@{n}" for n in at)
    lines = []
    for grid in dict.fromkeys(row.grid for row in rows):
        cells = []
        for name in names:
            mine = [row.regret for row in rows if (row.grid, row.strategy) == (grid, name)]
            cells.append(" / ".join(f"{m:.3f}" for m in np.median(mine, axis=0)) if mine else "")
        lines.append([grid, f"{floors[grid]:.3f}", *cells])
    return _markdown(["grid", "floor", *(f"{name} {stops}" for name in names)], lines)


def _middles(regret: np.ndarray) -> Iterator[tuple[float, float]]:
    yield from zip(np.median(regret, axis=0), regret.mean(axis=0), strict=True)


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tuners",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--grid", type=Path, help="a JSON-lines grid; grid_h200_q32.jsonl of --data without it")
    add("--data", type=Path, default=SHARED, help="where the shared data lies")
    add("--held-out", help=f"instead of a file: all, or some of {','.join(HELD_OUT)}")
    add("--goals", help="columns, the best first; the file's, or tpsg")
    add("--limit", action="append", metavar="COLUMN=VALUE", help="in the column's unit; repeatable")
    add("--no-limits", action="store_true", help="whatever the file says")
    add("--model", help="whose shape the forecast takes; the file's, or qwen3-32b")
    add("--chip", help="whose data sheet it takes; the file's, or H200")
    add("--input-tokens", type=int)
    add("--output-tokens", type=int)
    add("--ttft-ms", type=float, help="the same as --limit ttft=…")
    add("--tpot-ms", type=float, help="the same as --limit tpot=…")
    add("--noise", type=float, help="of every reading, instead of 2 %%, one in ten 10 %%")
    add("--strategies", default="random,sobol,nsga2,tpe,tpe-fail,auto_tune,shipped")
    add("--seeds", type=int, default=20)
    add("--first-seed", type=int, default=0)
    add("--trials", type=int, default=30, choices=AT)
    add("--out", type=Path, help="each seed as a JSON line")
    return parser


def _grids(given: argparse.Namespace) -> list[Grid]:
    if given.held_out:
        names = list(HELD_OUT) if given.held_out == "all" else given.held_out.split(",")
        return [held_out(name, given.data) for name in names]
    limits = dict(_limit(text) for text in given.limit or ())
    named = {"ttft": given.ttft_ms, "tpot": given.tpot_ms}
    limits |= {column: value for column, value in named.items() if value is not None}
    found = read_grid(given.grid or given.data / "grid_h200_q32.jsonl")
    return [
        Grid(
            found,
            question_of(
                found,
                goals=tuple(given.goals.split(",")) if given.goals else None,
                limits={} if given.no_limits else limits or None,
                model=given.model,
                chip=given.chip,
                input_tokens=given.input_tokens,
                output_tokens=given.output_tokens,
                noise=(given.noise, given.noise, 0.0) if given.noise is not None else None,
            ),
        )
    ]


def _limit(text: str) -> tuple[str, float]:
    column, _, value = text.partition("=")
    try:
        return column, float(value)
    except ValueError as error:
        raise WrongGrid(f"--limit {text}: a limit is COLUMN=NUMBER, such as ttft=500") from error


def main(argv: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    names = given.strategies.split(",")
    strange = [name for name in names if name not in STRATEGIES]
    if strange:
        return _refused(f"no strategy is called {strange[0]}; there are: {', '.join(STRATEGIES)}")
    try:
        grids = _grids(given)
    except WrongGrid as error:
        return _refused(str(error))
    rows: list[Row] = []
    for grid in grids:
        print(describe(grid), file=sys.stderr)  # noqa: T201
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for name in names:  # every strategy meets a seed before the next begins
                rows.append(STRATEGIES[name](grid, seed, given.trials))
                said = " ".join(f"{regret:.3f}" for regret in rows[-1].regret)
                print(f"{name} seed {seed}: {said}", file=sys.stderr)  # noqa: T201
                if given.out:
                    with given.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(rows[-1])) + "\n")
    floors = {grid.table.source: grid.floor() for grid in grids}
    several = f"{summary(rows)}\n\n{by_grid(rows, floors)}"
    print(table(rows) if len(grids) == 1 else several)  # noqa: T201
    return 0


def _refused(why: str) -> int:
    print(why, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
