"""The strategies that the tuners' bench compares, each on one grid with one seed.

Every strategy meets the same noise. One without re-measurement picks the best it saw; those that
ship a loop (``shipped``: what `windtunnel tune` does; ``seeded-gp``: seeds from the forecast, then
Optuna's Gaussian process) measure their best again, and say what that costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import optuna

from benchmarks.replay import Evaluator, Grid, Together
from results.clock import SystemClock
from tuners.crew import Crew, InTurn
from tuners.guide import Guide
from tuners.loop import Budget, Part, Phase, Search, Trial
from tuners.optuna_study import OptunaSearcher, sampler_named
from tuners.outcome import Crashed, Measured, Told
from tuners.remeasure import Candidate
from tuners.seeds import Seeder
from tuners.space import Config, values_of

AT = (10, 15, 30, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One seed of one strategy. ``regret`` and ``volume`` (the share of the feasible front's
    hypervolume that the trials cover) at each of AT; ``infeasible``: whether the pick there was one
    that truly breaks a limit; ``foreseen``: refused before it was paid for; ``crashes_foreseen``:
    paid for although the filter refuses them; ``remeasured``: runs beside the trials; ``cpu_s``: of
    the search alone, without the replay's own re-measurements."""

    grid: str
    strategy: str
    seed: int
    regret: tuple[float, ...]
    volume: tuple[float, ...]
    infeasible: tuple[bool, ...]
    crashes: int
    crashes_foreseen: int
    foreseen: int
    remeasured: tuple[int, ...]
    num_trials: int
    cpu_s: float


class _FailTold(OptunaSearcher):
    """A crash is told as Optuna's own failure, which its samplers do not see."""

    def tell(self, number: int, outcome: Told) -> None:
        if isinstance(outcome, Crashed):
            self.forget(number, outcome.message)
        else:
            super().tell(number, outcome)


def sampled(name: str, grid: Grid, seed: int, num_trials: int) -> Row:
    """A sampler alone: no filter, no seeds, crashes told as violated constraints."""
    sampler = sampler_named(name, seed=seed, num_trials=num_trials, num_startup=10)
    searcher = OptunaSearcher(grid.branch, grid.wish, name="replay", sampler=sampler)
    return _searched(name, grid, seed, num_trials, Part(branch=grid.branch, searcher=searcher))


def univariate(grid: Grid, seed: int, num_trials: int) -> Row:
    """Optuna's TPE as it was before version 5, and crashes told as failures: what auto-tune-vllm
    does, with the limits told to it all the same."""
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=10, multivariate=False)
    searcher = _FailTold(grid.branch, grid.wish, name="replay", sampler=sampler)
    part = Part(branch=grid.branch, searcher=searcher)
    return _searched("tpe-fail", grid, seed, num_trials, part)


def shipped(grid: Grid, seed: int, num_trials: int, at: int = 1) -> Row:
    """``at``: trials at once, each asked for without those that are under way."""
    seeder = _seeder(grid, seed)
    sampler = sampler_named("random", seed=seed, num_trials=num_trials)
    part = Part(
        branch=grid.branch,
        searcher=OptunaSearcher(grid.branch, grid.wish, name="replay", sampler=sampler),
        seeder=seeder,
        guide=Guide(grid.branch, grid.wish, seeder, seed=seed),
    )
    name = "shipped" if at == 1 else f"shipped-{at}"
    return _searched(name, grid, seed, num_trials, part, at=at, ships=True)


def seeded_gp(grid: Grid, seed: int, num_trials: int, at: int = 1) -> Row:
    seeder = _seeder(grid, seed)
    startup = 8 if seeder.has_forecasts else 10
    sampler = sampler_named("gp", seed=seed, num_trials=num_trials, num_startup=startup)
    part = Part(
        branch=grid.branch,
        searcher=OptunaSearcher(grid.branch, grid.wish, name="replay", sampler=sampler),
        seeder=seeder,
    )
    name = "seeded-gp" if at == 1 else f"seeded-gp-{at}"
    return _searched(name, grid, seed, num_trials, part, at=at, ships=True)


def _seeder(grid: Grid, seed: int) -> Seeder:
    forecasts = not grid.why_no_forecast
    return Seeder(grid.branch, grid.wish, grid.predict, seed=seed, forecasts=forecasts)


def _searched(
    name: str,
    grid: Grid,
    seed: int,
    num_trials: int,
    part: Part,
    *,
    at: int = 1,
    ships: bool = False,
) -> Row:
    begun_s = time.process_time()
    evaluate = grid.evaluator(seed)
    crew: Crew = InTurn(evaluate) if at == 1 else Together(evaluate, at)
    search = Search([part], grid.wish, crew, Budget(num_trials=num_trials), SystemClock())
    search.search()
    cpu_s = time.process_time() - begun_s
    trials = list(search.trials)
    picks: list[Config | None] = []
    runs = []
    for seen in _stops(num_trials):
        search.trials = trials[:seen]
        before = evaluate.num_runs
        picks.append(_again(search) if ships else _best(search.trials, grid))
        runs.append(evaluate.num_runs - before)
    return _row(
        name, grid, seed, trials, picks, foreseen=search.num_foreseen, runs=runs, cpu_s=cpu_s
    )


def _stops(num_trials: int) -> list[int]:
    return [n for n in AT if n <= num_trials]


def _row(
    name: str,
    grid: Grid,
    seed: int,
    trials: Sequence[Trial],
    picks: Sequence[Config | None],
    *,
    foreseen: int = 0,
    runs: Sequence[int] = (),
    cpu_s: float = 0.0,
) -> Row:
    crashed = [t.config for t in trials if isinstance(t.evaluated.outcome, Crashed)]
    at = _stops(AT[len(picks) - 1])
    return Row(
        grid=grid.table.source,
        strategy=name,
        seed=seed,
        regret=tuple(grid.regret(pick) for pick in picks),
        volume=tuple(grid.volume([t.config for t in trials[:n]]) for n in at),
        infeasible=tuple(pick is not None and not grid.is_feasible(pick) for pick in picks),
        crashes=len(crashed),
        crashes_foreseen=sum(isinstance(grid.predict(config), str) for config in crashed),
        foreseen=foreseen,
        remeasured=tuple(runs) or tuple(0 for _ in picks),
        num_trials=len(trials),
        cpu_s=cpu_s,
    )


def _again(search: Search) -> Config | None:
    pick, _ = search.remeasure(search.candidates(), top=3, probability=0.95, max_repeats=5)
    return pick.config if pick else None


def _best(trials: Sequence[Trial], grid: Grid) -> Config | None:
    """The best that was seen to keep the bounds themselves: no margin, no second look."""
    seen = [
        Candidate(config=t.config, searched=t.evaluated.outcome.reading)
        for t in trials
        if isinstance(t.evaluated.outcome, Measured)
        and t.evaluated.outcome.reading.keeps(grid.wish, margin=0.0)
    ]
    best = max(seen, key=lambda c: grid.wish.score(c.searched.goals), default=None)
    return best.config if best else None


def auto_tune(grid: Grid, seed: int, num_trials: int) -> Row:
    """As vLLM's ``auto_tune`` searches: every ``max_num_seqs`` by every ``max_num_batched_tokens``,
    the rest as it stands (the smallest tensor parallelism that runs, no quantisation). A grid of
    other knobs: every value of its two longest ordinals, the rest at their first value."""
    evaluate = grid.evaluator(seed)
    trials: list[Trial] = []
    for config in _auto_tune_grid(grid):
        if len(trials) == num_trials:
            break
        trials.append(_trial(len(trials) + 1, config, evaluate))
    picks = [_best(trials[:at], grid) for at in _stops(num_trials)]
    return _row("auto_tune", grid, seed, trials, picks)


def _trial(number: int, config: Config, evaluate: Evaluator) -> Trial:
    evaluated = evaluate(config, Phase.SEARCH, 0)
    return Trial(number=number, branch="", phase=Phase.SEARCH, config=config, evaluated=evaluated)


def _auto_tune_grid(grid: Grid) -> Iterator[Config]:
    sizes = {knob.path: values_of(knob.domain) for knob in grid.branch.knobs}
    plain = {name: "bfloat16" if "bfloat16" in of else of[0] for name, of in sizes.items()}
    two = [name for name in ("max_num_seqs", "max_num_batched_tokens") if name in sizes]
    if len(two) < 2:
        two = sorted(sizes, key=lambda name: -len(sizes[name]))[:2]
    if "tp" in sizes:
        runs = [tp for tp in sizes["tp"] if not grid.crashes({**plain, "tp": tp})]
        plain["tp"] = (runs or sizes["tp"])[0]
    for first in sizes[two[0]]:
        for second in sizes[two[-1]] if len(two) > 1 else (None,):
            yield {**plain, two[0]: first, **({two[1]: second} if len(two) > 1 else {})}


STRATEGIES: dict[str, Callable[[Grid, int, int], Row]] = {
    **{
        name: lambda grid, seed, n, name=name: sampled(name, grid, seed, n)  # type: ignore[misc]
        for name in ("random", "sobol", "nsga2", "tpe", "gp")
    },
    "tpe-fail": univariate,
    "auto_tune": auto_tune,
    "seeded-gp": seeded_gp,
    "seeded-gp-4": lambda grid, seed, n: seeded_gp(grid, seed, n, at=4),
    "shipped": shipped,
    "shipped-4": lambda grid, seed, n: shipped(grid, seed, n, at=4),
}
