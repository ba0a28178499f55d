"""Seeds from a forecast: calibrated by a common factor, within the bounds, never twice."""

from __future__ import annotations

from collections.abc import Mapping

from tuners.goals import Reading, Wish
from tuners.seeds import MAX_CANDIDATES, Seeder, candidates
from tuners.space import Branch, Config, Integers, Knob, Reals, Space, legal


def predict(config: Config) -> Mapping[str, float] | str:
    seqs = config["seqs"] or 2
    assert isinstance(seqs, int)
    if seqs == 16:
        return "90 of 80 GiB"
    return {"output_throughput": 10.0 * seqs, "ttft_s_p99": 0.1 * seqs}


def test_the_first_seed_is_the_best_by_the_forecast_within_the_bounds(
    branch: Branch, wish: Wish
) -> None:
    seeder = Seeder(branch, wish, predict)
    assert seeder.num_candidates == branch.num_points - 2
    first = seeder.propose([])
    assert first is not None
    assert first["seqs"] == 4  # 0.4 ≤ 0.45; 8 would be 0.8
    assert seeder.foreseen({"seqs": 16, "chunked": True}) == "90 of 80 GiB"


def test_what_was_measured_moves_all_forecasts(branch: Branch, wish: Wish) -> None:
    seeder = Seeder(branch, wish, predict)
    first = seeder.propose([])
    assert first is not None
    twice_as_late = Reading(goals={"output_throughput": 30.0}, bounds={"ttft_s_p99": 0.8})
    second = seeder.propose([(first, twice_as_late)])
    assert second is not None
    assert second["seqs"] in (None, 2)  # 0.2 · 2 ≤ 0.45
    half_as_late = Reading(goals={"output_throughput": 50.0}, bounds={"ttft_s_p99": 0.2})
    other = seeder.propose([(first, half_as_late)])
    assert other is not None
    assert other["seqs"] == 8  # 0.8 / 2 ≤ 0.45


def test_nothing_is_proposed_twice_and_all_of_it_once(branch: Branch, wish: Wish) -> None:
    seeder = Seeder(branch, wish, predict)
    taken: list[Config] = []
    while (config := seeder.propose([], taken)) is not None:
        taken.append(config)
    # chunked or not, and the default for 2: the forecast knows no difference between those.
    assert sorted(str(config["seqs"] or 2) for config in taken) == ["1", "2", "4", "8"]


def test_a_large_branch_is_sampled_by_its_seed() -> None:
    knobs = (
        Knob(path="a", domain=Reals(low=0.1, high=0.9)),
        Knob(path="b", domain=Integers(low=1, high=4096, log=True)),
    )
    (branch,) = Space(knobs=knobs).branches()
    drawn = candidates(branch, seed=3)
    assert len(drawn) == MAX_CANDIDATES
    assert drawn[:5] == candidates(branch, seed=3)[:5] != candidates(branch, seed=4)[:5]
    assert all(legal(k.domain, config[k.path]) for config in drawn[:200] for k in knobs)
