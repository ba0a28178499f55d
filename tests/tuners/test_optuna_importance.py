"""Importances of knobs whose effect is known."""

from __future__ import annotations

import numpy as np

from tuners.goals import Reading, Wish
from tuners.optuna_importance import MIN_TRIALS, Importance, importances
from tuners.space import Config


def trials(n: int, seed: int = 0, ttft_s: float = 0.1) -> list[tuple[Config, Reading]]:
    """``seqs`` decides, ``chunked`` adds a hundredth of it, ``idle`` nothing, ``fixed`` cannot."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        seqs = [None, 2, 4, 8, 16][int(rng.integers(5))]
        chunked, idle = bool(rng.integers(2)), ["a", "b"][int(rng.integers(2))]
        value = 100.0 * (seqs or 1) + chunked
        reading = Reading(goals={"output_throughput": value}, bounds={"ttft_s_p99": ttft_s})
        config = {"seqs": seqs, "chunked": chunked, "idle": idle, "fixed": 1}
        made.append((config, reading))
    return made


def test_the_knob_that_decides_comes_first_and_the_shares_are_whole(wish: Wish) -> None:
    found = importances(trials(60), wish)
    assert not isinstance(found, str)
    assert found[0].path == "seqs"
    assert {i.path for i in found} == {"seqs", "chunked", "idle"}
    assert abs(sum(i.share for i in found) - 1) < 1e-9
    assert found[0].share > 0.6
    assert all(0 <= i.low <= i.high <= 1 for i in found)
    assert importances(trials(60), wish) == found  # the same trials, the same page


def test_a_trial_that_breaks_a_limit_is_worse_than_any_that_keeps_them(wish: Wish) -> None:
    """A knob that only makes trials late, and costs no speed, matters all the same."""
    made = [
        (
            config,
            Reading(goals=r.goals, bounds={"ttft_s_p99": 0.9 if config["idle"] == "a" else 0.1}),
        )
        for config, r in trials(60)
    ]
    found = importances(made, wish)
    assert not isinstance(found, str)
    free = importances(trials(60), wish)
    assert not isinstance(free, str)
    share = {i.path: i.share for i in found}
    assert share["idle"] > 2 * {i.path: i.share for i in free}["idle"]
    assert share["idle"] > share["chunked"]


def test_there_is_a_reason_where_there_is_no_number(wish: Wish) -> None:
    assert "no knob had two values" in str(importances([], wish))
    assert "no knob had two values" in str(importances(trials(1) * 20, wish))
    assert f"at least {MIN_TRIALS}" in str(importances(trials(4), wish))
    flat = [
        (c, Reading(goals={"output_throughput": 5.0}, bounds={"ttft_s_p99": 0.1}))
        for c, _ in trials(20)
    ]
    assert importances(flat, wish) == "every trial measured the same"


def test_knobs_that_some_trials_do_not_have_are_left_out(wish: Wish) -> None:
    made = trials(30)
    made[0] = ({k: v for k, v in made[0][0].items() if k != "idle"}, made[0][1])
    found = importances(made, wish)
    assert not isinstance(found, str)
    assert isinstance(found[0], Importance)
    assert "idle" not in {i.path for i in found}
