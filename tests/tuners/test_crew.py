"""Several at once: never more than there is room for, nothing twice, transient failures again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from results.clock import SystemClock
from tuners.crew import Attempts, Crew, Done, InTurn, Job
from tuners.errors import StudyError
from tuners.goals import Reading, Wish
from tuners.loop import Budget, Part, Search
from tuners.optuna_study import OptunaSearcher, sampler_named
from tuners.outcome import Measured, Outcome, Transient
from tuners.remeasure import Verdict
from tuners.seeds import Seeder, key
from tuners.space import Branch, Config
from tuners.testing import CrewContract
from tuners.trial import Evaluated, Phase, Spent, Trial

GONE = Transient(message="the spot node went away")


def reading(config: Config, repeat: int = 0) -> Outcome:
    seqs = config.get("seqs") or 2
    assert isinstance(seqs, int)
    goals = {"output_throughput": 10.0 * seqs}
    bounds = {"ttft_s_p99": (0.2 + 0.02 * seqs) * (1 + 0.01 * repeat)}
    return Measured(reading=Reading(goals=goals, bounds=bounds))


def evaluated(config: Config, phase: Phase, repeat: int) -> Evaluated:
    return Evaluated(outcome=reading(config, repeat), spent=Spent(wall_s=1.0))


class Side:
    """A crew of several in which the one begun last ends first. ``lost``: so many jobs end with a
    transient failure first."""

    def __init__(self, size: int, lost: int = 0) -> None:
        self.size, self.lost = size, lost
        self.under_way: list[Job] = []
        self.begun: list[Job] = []
        self.most = 0

    def has_room(self) -> bool:
        return len(self.under_way) < self.size

    def begin(self, job: Job) -> None:
        self.under_way.append(job)
        self.begun.append(job)
        self.most = max(self.most, len(self.under_way))

    def wait(self) -> Sequence[Done]:
        job = self.under_way.pop()
        if self.lost:
            self.lost -= 1
            return [Done(job=job, evaluated=Evaluated(outcome=GONE, spent=Spent(wall_s=0.5)))]
        return [Done(job=job, evaluated=evaluated(job.config, job.phase, job.repeat))]


class TestInTurn(CrewContract):
    @pytest.fixture
    def crew(self) -> Crew:
        return InTurn(evaluated)


class TestSide(CrewContract):
    @pytest.fixture
    def crew(self) -> Crew:
        return Side(3)


def test_a_crew_of_one_takes_one() -> None:
    crew = InTurn(evaluated)
    with pytest.raises(StudyError):
        crew.wait()
    crew.begin(Job(ticket=1, config={}, phase=Phase.SEARCH))
    with pytest.raises(StudyError):
        crew.begin(Job(ticket=2, config={}, phase=Phase.SEARCH))


def test_attempts_are_summed_and_end() -> None:
    (done,) = Attempts(Side(2, lost=1), 2).run([({"seqs": 4}, Phase.SEARCH, 0)])
    assert isinstance(done.evaluated.outcome, Measured)
    assert done.evaluated.spent.wall_s == 1.5
    (done,) = Attempts(Side(2, lost=2), 2).run([({"seqs": 4}, Phase.SEARCH, 0)])
    assert isinstance(done.evaluated.outcome, Transient)
    assert done.evaluated.spent.wall_s == 1.0


def test_run_answers_in_the_order_asked() -> None:
    crew = Side(3)
    done = Attempts(crew, 1).run([({"seqs": n}, Phase.REMEASURE, n) for n in (1, 2, 4, 8, 16)])
    assert [d.job.repeat for d in done] == [1, 2, 4, 8, 16]
    assert crew.most == 3


def a_search(
    branch: Branch,
    wish: Wish,
    crew: Crew,
    num_trials: int,
    others: Callable[[], list[Trial]] = list,
) -> tuple[Search, OptunaSearcher]:
    def predict(config: Config) -> dict[str, float]:
        seqs = config["seqs"] or 2
        assert isinstance(seqs, int)
        return {"output_throughput": 4.0 * seqs, "ttft_s_p99": 0.1 + 0.01 * seqs}

    searcher = OptunaSearcher(
        branch, wish, name="all", sampler=sampler_named("random", seed=0, num_trials=20)
    )
    part = Part(branch=branch, searcher=searcher, seeder=Seeder(branch, wish, predict), num_seeds=3)
    budget = Budget(num_trials=num_trials)
    return Search([part], wish, crew, budget, SystemClock(), others=others), searcher


@pytest.mark.parametrize("size", [2, 4, 9])
def test_nothing_is_measured_twice_and_the_budget_holds(
    branch: Branch, wish: Wish, size: int
) -> None:
    crew = Side(size)
    ours, searcher = a_search(branch, wish, crew, 10)
    assert ours.search() == "10 trials"
    assert crew.most == size
    assert len(ours.trials) == len(crew.begun) == 10
    assert len({key(job.config) for job in crew.begun}) == 10
    assert searcher.open_trials() == {}
    phases = [job.phase for job in crew.begun]
    assert phases[:3] == [Phase.SEED] * 3
    assert set(phases[3:]) == {Phase.SEARCH}


def test_a_small_space_ends_with_every_trial_told(branch: Branch, wish: Wish) -> None:
    """What is asked while its twin is under way is told with it."""
    crew = Side(5)
    ours, searcher = a_search(branch, wish, crew, 500)
    assert "known or foreseen" in ours.search()
    assert len(crew.begun) <= branch.num_points
    assert searcher.open_trials() == {}


def test_winners_are_measured_again_side_by_side(branch: Branch, wish: Wish) -> None:
    crew = Side(3)
    ours, _ = a_search(branch, wish, crew, 500)
    ours.run_baseline({})
    ours.search()
    before = len(crew.begun)
    winner, judged = ours.remeasure(ours.candidates(), top=3, probability=0.9, max_repeats=5)
    assert winner is not None
    assert winner.config["seqs"] == 8
    assert len(judged) == 3
    assert {j.verdict for _, j in judged} == {Verdict.PASSED}
    again = crew.begun[before:]
    first = [(bool(job.config), job.repeat) for job in again[:4]]
    assert first == [(False, 1), (True, 1), (True, 1), (True, 1)]  # the baseline, then all three
    gained = ours.gain_of(winner)
    assert gained is not None
    assert gained.ratio == pytest.approx(4.0)


def test_the_baseline_is_measured_again_beside_the_best_and_each_is_told_once(
    branch: Branch, wish: Wish
) -> None:
    crew = Side(3)
    ours, _ = a_search(branch, wish, crew, 500)
    ours.run_baseline({})
    ours.search()
    crew.most, before_s, before = 0, ours.spent.wall_s, len(crew.begun)
    ours.remeasure(ours.candidates(), top=2, probability=0.9, max_repeats=5)
    assert crew.most == 3
    assert ours.spent.wall_s - before_s == len(crew.begun) - before  # a second each


def test_what_another_process_measured_is_adopted(branch: Branch, wish: Wish) -> None:
    theirs, _ = a_search(branch, wish, Side(1), 4)
    theirs.search()
    news = [list(theirs.trials), []]
    crew = Side(2)
    ours, _ = a_search(branch, wish, crew, 9, others=lambda: news.pop(0) if news else [])
    ours.search()
    assert len(ours.trials) == 9
    assert len(crew.begun) == 5
    assert not {key(j.config) for j in crew.begun} & {key(t.config) for t in theirs.trials}
