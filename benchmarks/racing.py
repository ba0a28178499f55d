"""What stopping trials after a probe costs and saves, where the truth is known. A replay, named so.

    python -m benchmarks.racing --seeds 20
    python -m benchmarks.racing --errors-only

Two questions. *Errors*: a configuration whose true goal is so many times the rival's is probed; how
often is it stopped, by the noise between two starts? *Studies*: the shipped search on a grid whose
best is known (see ``benchmarks.replay``), with the race and without: regret, what was stopped
wrongly, and the seconds that the race saves.

A probe is made request by request: arrivals at the throughput that the grid says, times that are
log-normal about its latencies and depend on their neighbours (first-order autoregression), the same
draw for every configuration as far as they send the same requests, and noise of each start on top.
The decision is the shipped code's own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.grid_file import read_grid
from benchmarks.replay import Grid, question_of
from benchmarks.strategies import AT
from benchmarks.tuners import SHARED
from harness.capacity.judge import conditions_of
from harness.capacity.paired import Probe
from harness.capacity.race import Race, raced
from harness.capacity.slo import slo_of
from results.clock import SystemClock
from results.samples import FloatColumn
from results.testing import make_requests
from tuners.crew import InTurn
from tuners.goals import Reading
from tuners.loop import Budget, Part, Phase, Search
from tuners.optuna_study import OptunaSearcher, sampler_named
from tuners.outcome import Measured, Stopped
from tuners.seeds import Seeder
from tuners.space import Config
from tuners.trial import Evaluated

WINDOW_S, PROBE_S = 60.0, 12.0
START_S = 45.0  # what a start of vLLM on a CPU takes when it has the machine to itself
GOAL = "output_throughput_per_chip"  # of the grid
BEST_RPS = 8.0  # requests/s at the throughput of the grid's best
OUTPUT_TOKENS = 32
_ALIKE = 0.6  # of neighbours: the coefficient of the autoregression
_SPREAD = 0.25  # of requests' times, about their own configuration's
_OWN = 0.1  # of each request in each start
# The p99 of a log-normal of that spread, over its median.
_P99 = float(np.exp(2.3263 * np.hypot(_SPREAD, _OWN)))


def probe_of(
    rate_rps: float, ttft_p99_s: float, tpot_p99_s: float, rng: np.random.Generator
) -> Probe:
    n = max(int(rate_rps * PROBE_S), 1)
    common = np.random.default_rng(11).normal(0.0, 1.0, 4096)[:n]  # the requests themselves
    draws = _SPREAD * _neighbours(common) + _OWN * _neighbours(rng.normal(0.0, 1.0, n))
    intended = np.arange(n) / rate_rps
    first = intended + ttft_p99_s / _P99 * np.exp(draws)
    own = _SPREAD * common + _OWN * rng.normal(0.0, 1.0, n)
    done = first + tpot_p99_s / _P99 * np.exp(own) * (OUTPUT_TOKENS - 1)
    made = make_requests(n)
    events = np.linspace(first, done, 4, axis=1)
    samples = replace(
        made,
        intended_s=intended,
        dispatched_s=intended,
        written_s=intended,
        first_byte_s=first,
        first_token_s=first,
        first_answer_s=first,
        done_s=done,
        output_tokens=np.full(n, OUTPUT_TOKENS, dtype=np.int64),
        event_s=events.reshape(-1),
    )
    return Probe(samples=samples, duration_s=PROBE_S)


def _neighbours(drawn: FloatColumn) -> FloatColumn:
    found = np.empty_like(drawn)
    last = 0.0
    for i, value in enumerate(drawn):
        last = _ALIKE * last + np.sqrt(1.0 - _ALIKE**2) * value
        found[i] = last
    return found


# ---- errors ----


def stopped_share(race: Race, ratio: float, noise: float, num: int, seed: int) -> float:
    """How often a configuration of ``ratio`` times the rival's true goal is stopped. The goal is
    the TTFT (p50) or the throughput; ``noise`` between two starts, log-normal."""
    rng = np.random.default_rng([seed, int(1000 * ratio), int(1000 * noise)])
    stops = 0
    for _ in range(num):
        both = []
        for value in (ratio, 1.0):
            good = value * float(np.exp(rng.normal(0.0, noise)))
            rate = BEST_RPS * (good if race.metric == "output_throughput" else 1.0)
            ttft = 0.2 / (good if race.metric == "ttft_s" else 1.0)
            both.append(probe_of(rate, ttft, 0.01, rng))
        stops += raced(race, both[0], both[1]).stop != ""
    return stops / num


def errors_table(num: int, margin: float, error: float) -> str:
    ratios = (1.1, 1.0, 0.97, 0.95, 0.9, 0.8, 0.6)
    lines = [
        ["goal", "noise of a start", *(f"× {ratio:g}" for ratio in ratios)],
        ["---"] * (len(ratios) + 2),
    ]
    for metric, statistic in (("ttft_s", "p50"), ("output_throughput", "value")):
        race = Race(metric=metric, statistic=statistic, margin=margin, error=error, rival="r")
        for noise in (0.0, 0.02, 0.05):
            shares = [stopped_share(race, ratio, noise, num, 1) for ratio in ratios]
            lines.append([metric, f"{noise:.0%}", *(f"{share:.3f}" for share in shares)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---- studies ----


class Racer:
    """An ``Evaluate`` on a grid: the noise of its evaluator, a probe first, the shipped decision.
    ``race`` None: every trial gets its window. ``wrong`` counts stops of what keeps its limits and
    is not worse than the best so far by the margin."""

    def __init__(self, grid: Grid, race: Race | None, seed: int) -> None:
        self._grid, self._race = grid, race
        self._plain = grid.evaluator(seed)
        self._rng = np.random.default_rng([seed, 0xACE])
        self._best: tuple[float, Config, Probe] | None = None
        self.stopped = self.wrong = self.best_stopped = 0
        self.seconds = 0.0

    def __call__(self, config: Config, phase: Phase, repeat: int) -> Evaluated:
        made = self._plain(config, phase, repeat)
        self.seconds += START_S
        outcome = made.outcome
        if not isinstance(outcome, Measured):
            return made
        if self._race is None or phase is Phase.REMEASURE:
            self.seconds += WINDOW_S
            return made
        self.seconds += PROBE_S
        mine = self._probe(outcome.reading)
        race = self._race
        theirs = None
        if self._best is not None:
            race = replace(race, rival="best", value=self._best[0])
            theirs = self._best[2]
        found = raced(race, mine, theirs)
        if found.stop:
            stopped = self._stopped(found.stop, found.why, found.compared.at_most, found.slowest)
            self._count(config, stopped)
            return Evaluated(outcome=stopped)
        self.seconds += WINDOW_S
        value = outcome.reading.goals[GOAL]
        if outcome.reading.keeps(self._grid.wish) and (self._best is None or value > self._best[0]):
            self._best = (value, config, mine)
        return made

    def _probe(self, reading: Reading) -> Probe:
        rate = BEST_RPS * reading.goals[GOAL] / self._grid.best
        bounds = reading.bounds
        return probe_of(rate, bounds["ttft_s_p99"], bounds["tpot_s_p99"], self._rng)

    def _stopped(
        self, rule: str, why: str, at_most: float | None, slowest: Mapping[str, float]
    ) -> Stopped:
        goals = {} if at_most is None or self._best is None else {GOAL: self._best[0] * at_most}
        limits = {bound.name: bound.limit for bound in self._grid.wish.bounds if bound.limit}
        bounds = {
            f"{condition.limits[0].metric}_p99": slowest[condition.name]
            * limits[f"{condition.limits[0].metric}_p99"]
            for condition in (self._race.conditions if self._race else ())
            if condition.name in slowest
        }
        return Stopped(rule=rule, why=why, goals=goals, bounds=bounds, saved_s=WINDOW_S)

    def _count(self, config: Config, stopped: Stopped) -> None:
        assert self._race is not None
        self.stopped += 1
        regret = self._grid.regret(config)
        self.best_stopped += regret == 0.0
        if regret >= 1.0:
            return
        rival = self._grid.regret(self._best[1]) if self._best else 1.0
        self.wrong += stopped.rule == "limits" or (1.0 - regret) > (1.0 - rival) * (
            1.0 - self._race.margin
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    raced: bool
    seed: int
    regret: tuple[float, ...]
    stopped: int
    wrong: int
    best_stopped: int
    search_s: float


def study(grid: Grid, seed: int, num_trials: int, race: Race | None) -> Row:
    evaluate = Racer(grid, race, seed)
    searcher = OptunaSearcher(
        grid.branch,
        grid.wish,
        name="replay",
        sampler=sampler_named("gp", seed=seed, num_trials=num_trials, num_startup=8),
    )
    seeder = Seeder(grid.branch, grid.wish, grid.predict, seed=seed)
    part = Part(branch=grid.branch, searcher=searcher, seeder=seeder)
    budget = Budget(num_trials=num_trials)
    search = Search([part], grid.wish, InTurn(evaluate), budget, SystemClock())
    search.search()
    took_s, trials = evaluate.seconds, list(search.trials)
    regret = []
    for seen in (n for n in AT if n <= num_trials):
        search.trials = trials[:seen]
        pick, _ = search.remeasure(search.candidates(), top=3, probability=0.95, max_repeats=5)
        regret.append(grid.regret(pick.config if pick else None))
    return Row(
        raced=race is not None,
        seed=seed,
        regret=tuple(regret),
        stopped=evaluate.stopped,
        wrong=evaluate.wrong,
        best_stopped=evaluate.best_stopped,
        search_s=took_s,
    )


def studies_table(rows: Sequence[Row]) -> str:
    at = AT[: len(rows[0].regret)]
    heads = ["race", "seeds", *(f"regret @{n}" for n in at), "stopped", "wrongly", "the best"]
    lines = [[*heads, "search, s"], ["---"] * (len(heads) + 1)]
    for is_raced in (False, True):
        mine = [row for row in rows if row.raced is is_raced]
        regret = np.array([row.regret for row in mine])
        middles = zip(np.median(regret, axis=0), regret.mean(axis=0), strict=True)
        lines.append(
            [
                "on" if is_raced else "off",
                str(len(mine)),
                *(f"{median:.3f} ({mean:.3f})" for median, mean in middles),
                f"{np.mean([row.stopped for row in mine]):.1f}",
                f"{sum(row.wrong for row in mine)}",
                f"{sum(row.best_stopped for row in mine)}",
                f"{np.mean([row.search_s for row in mine]):.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.racing", description=__doc__)
    parser.add_argument("--grid", type=Path, default=SHARED / "grid_h200_q32.jsonl", help="a grid")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=30, choices=AT)
    parser.add_argument("--probes", type=int, default=400, help="of each cell of the errors")
    parser.add_argument("--margin", type=float, default=0.1)
    parser.add_argument("--error", type=float, default=0.05)
    parser.add_argument("--errors-only", action="store_true")
    parser.add_argument("--out", type=Path, help="each study as a JSON line")
    given = parser.parse_args(argv)
    print(errors_table(given.probes, given.margin, given.error), flush=True)  # noqa: T201
    if given.errors_only:
        return 0
    if not given.grid.is_file():
        print(f"there is no grid {given.grid}; name one with --grid", file=sys.stderr)  # noqa: T201
        return 2
    table = read_grid(given.grid)
    grid = Grid(table, question_of(table))
    slo = slo_of("ttft_p99=500ms,tpot_p99=25ms")
    race = Race(
        metric="output_throughput",
        conditions=conditions_of(slo.limits, slo.attainment),
        margin=given.margin,
        error=given.error,
    )
    rows = []
    for seed in range(given.seeds):
        for one in (None, race):
            rows.append(study(grid, seed, given.trials, one))
            print(rows[-1], file=sys.stderr)  # noqa: T201
            if given.out:
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(rows[-1])) + "\n")
    print(studies_table(rows))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
