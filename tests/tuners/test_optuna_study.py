"""The Optuna searcher under the seam's contract, in memory and on a journal file."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tuners.errors import NoSampler, StudyError
from tuners.goals import Bound, Goal, Reading, Wish
from tuners.optuna_study import WORKS, OptunaSearcher, sampler_named
from tuners.outcome import Crashed, FailureKind, Measured, Stopped
from tuners.search import SAMPLERS, Searcher
from tuners.space import Branch
from tuners.study_storage import storage_at
from tuners.testing import SearcherContract


def searcher(
    branch: Branch, wish: Wish, storage: optuna.storages.BaseStorage | None = None
) -> OptunaSearcher:
    sampler = sampler_named("random", seed=1, num_trials=20)
    return OptunaSearcher(branch, wish, name="s", sampler=sampler, storage=storage)


class TestInMemory(SearcherContract):
    @pytest.fixture
    def made(self, branch: Branch, wish: Wish) -> Searcher:
        return searcher(branch, wish)


class TestOnAFile(SearcherContract):
    @pytest.fixture
    def made(self, branch: Branch, wish: Wish, tmp_path: Path) -> Searcher:
        return searcher(branch, wish, storage_at(str(tmp_path / "studies" / "s.journal")))


def measured(goal: float, ttft_s: float) -> Measured:
    reading = Reading(goals={"output_throughput": goal}, bounds={"ttft_s_p99": ttft_s})
    return Measured(reading=reading)


CRASH = Crashed(kind=FailureKind.OOM_AT_LOAD, message="out of memory", severity=0.5)


def test_a_crash_is_a_completed_trial_that_violates_what_it_violated(
    branch: Branch, wish: Wish
) -> None:
    storage = optuna.storages.InMemoryStorage()
    ours = searcher(branch, wish, storage)
    first, good, bad = ours.ask(), ours.ask(), ours.ask()
    ours.tell(first.number, CRASH)  # before anything was measured: it waits
    assert _states(storage) == ["RUNNING", "RUNNING", "RUNNING"]
    ours.tell(good.number, measured(100.0, 0.4))
    ours.tell(bad.number, measured(40.0, 0.9))
    crash = optuna.load_study(study_name="s", storage=storage).trials[first.number]
    assert crash.state is TrialState.COMPLETE
    assert crash.constraints[WORKS] == 0.5
    assert crash.values == [100.0]  # the worst that was seen when it could be told
    assert crash.user_attrs["why"]["kind"] == "oom_at_load"
    study = optuna.load_study(study_name="s", storage=storage)
    assert study.best_trial.number == good.number  # the crash and the violation are not feasible
    names = [list(trial.constraints) for trial in study.trials]
    assert names == [["ttft_s_p99", WORKS]] * 3  # a Gaussian process needs one order


def _states(storage: optuna.storages.BaseStorage) -> list[str]:
    return [t.state.name for t in optuna.load_study(study_name="s", storage=storage).trials]


def test_another_process_sees_what_a_dead_one_left_open(
    branch: Branch, wish: Wish, tmp_path: Path
) -> None:
    path = str(tmp_path / "s.journal")
    first = searcher(branch, wish, storage_at(path))
    left = first.ask()
    first.tell(first.ask().number, measured(1.0, 0.1))
    second = searcher(branch, wish, storage_at(path))
    assert second.open_trials() == {left.number: left.config}
    second.tell(left.number, measured(2.0, 0.1))
    assert searcher(branch, wish, storage_at(path)).open_trials() == {}


def test_another_question_under_the_same_name_is_refused(
    branch: Branch, wish: Wish, tmp_path: Path
) -> None:
    path = str(tmp_path / "s.journal")
    searcher(branch, wish, storage_at(path))
    other = Wish(goals=wish.goals, bounds=(Bound(metric="ttft_s", statistic="p99", limit=9.0),))
    with pytest.raises(StudyError, match="another name"):
        searcher(branch, other, storage_at(path))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_proposes_from_the_branch(name: str, branch: Branch, wish: Wish) -> None:
    if name in ("auto", "gp"):
        pytest.importorskip("torch")
    sampler = sampler_named(name, seed=0, num_trials=30, num_startup=3)
    ours = OptunaSearcher(branch, wish, name="s", sampler=sampler)
    for i in range(6):
        asked = ours.ask()
        assert branch.holds(asked.config)
        ours.tell(asked.number, CRASH if i == 4 else measured(100.0 + i, 0.4))


def test_auto_leaves_the_gaussian_process_where_it_is_too_slow() -> None:
    assert isinstance(sampler_named("auto", seed=0, num_trials=1000), optuna.samplers.TPESampler)
    with pytest.raises(NoSampler, match="grid"):
        sampler_named("grid", seed=0, num_trials=10)


def test_a_storage_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(StudyError, match="no study storage at nosuchdb://nowhere") as refused:
        storage_at("nosuchdb://user:secret@nowhere/db")
    assert "secret" not in str(refused.value)


def test_two_goals_and_limits_go_to_the_gaussian_process_together(branch: Branch) -> None:
    """Optuna's front holds what keeps the limit alone: 16 at once are faster and too late."""
    wish = Wish(
        goals=(
            Goal(metric="output_throughput_per_chip"),
            Goal(metric="cost_per_million_output_tokens_usd"),
        ),
        bounds=(Bound(metric="ttft_s", statistic="p99", limit=0.5, margin=0.0),),
    )
    sampler = sampler_named("gp", seed=0, num_trials=12, num_startup=4)
    made = OptunaSearcher(branch, wish, name="two", sampler=sampler)
    for _ in range(8):
        asked = made.ask()
        seqs = int(str(asked.config["seqs"] or 2))
        reading = Reading(
            goals={
                "output_throughput_per_chip": 10.0 * seqs,
                "cost_per_million_output_tokens_usd": 1.0 + (0.2 if asked.config["chunked"] else 0),
            },
            bounds={"ttft_s_p99": 0.1 + 0.04 * seqs},
        )
        made.tell(asked.number, Measured(reading=reading))
    front = made._study.best_trials
    assert front
    assert all(trial.constraints["ttft_s_p99"] <= 0 for trial in front)
    told = made._study.get_trials()
    assert any(trial.constraints["ttft_s_p99"] > 0 for trial in told)


def test_a_stopped_trial_is_told_at_its_bounds_and_wins_nothing(branch: Branch, wish: Wish) -> None:
    """The goal at the best that it can be, the limit by how much it is broken at least; what its
    probe did not tell is the median of what was measured."""
    storage = optuna.storages.InMemoryStorage()
    ours = searcher(branch, wish, storage)
    early, good, fair, by_goal, by_limit = (ours.ask() for _ in range(5))
    goals, bounds = {"output_throughput": 80.0}, {"ttft_s_p99": 0.9}
    ours.tell(early.number, Stopped(rule="limits", why="", goals={}, bounds=bounds))
    assert _states(storage)[early.number] == "RUNNING"  # nothing is typical yet: it waits
    ours.tell(good.number, measured(100.0, 0.4))
    ours.tell(fair.number, measured(90.0, 0.2))
    ours.tell(by_goal.number, Stopped(rule="goal", why="worse", goals=goals, bounds={}))
    ours.tell(by_limit.number, Stopped(rule="limits", why="slow", goals={}, bounds=bounds))
    assert ours.open_trials() == {}
    study = optuna.load_study(study_name="s", storage=storage)
    trials = study.trials
    assert trials[by_goal.number].values == [80.0]
    slacks = [wish.bounds[0].slack(seen) for seen in (0.4, 0.2)]
    assert trials[by_goal.number].constraints["ttft_s_p99"] == pytest.approx(sum(slacks) / 2)
    assert trials[by_limit.number].values == [95.0]
    assert trials[by_limit.number].constraints["ttft_s_p99"] == wish.bounds[0].slack(0.9) > 0
    assert trials[early.number].constraints["ttft_s_p99"] > 0
    assert all(t.state is TrialState.COMPLETE for t in trials)
    assert all(t.constraints[WORKS] < 0 for t in trials)
    assert study.best_trial.number == good.number
    assert trials[by_goal.number].user_attrs["stopped"] == "goal"
    # A crash is as bad as the worst that was measured, not as a bound that is lower.
    crashed = ours.ask()
    ours.tell(crashed.number, CRASH)
    assert optuna.load_study(study_name="s", storage=storage).trials[crashed.number].values == [
        90.0
    ]
