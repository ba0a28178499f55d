"""The contracts of a ``Searcher`` and of a ``Crew`` as suites to subclass.

``SearcherContract`` wants a fixture ``made``, a fresh searcher over the branch and the wish of the
tests (a goal ``output_throughput``, a bound ``ttft_s`` p99). ``CrewContract`` wants a fixture
``crew``, whose jobs end with the outcome that ``evaluated`` makes of their configuration.
"""

from __future__ import annotations

import pytest

from tuners.crew import Crew, Job
from tuners.errors import StudyError
from tuners.goals import Reading
from tuners.outcome import Crashed, FailureKind, Measured
from tuners.search import Searcher
from tuners.seeds import key
from tuners.space import Branch
from tuners.trial import Phase

_MEASURED = Measured(reading=Reading(goals={"output_throughput": 10.0}, bounds={"ttft_s_p99": 0.2}))
_CRASHED = Crashed(kind=FailureKind.HANG, message="no answer", severity=0.5)


class SearcherContract:
    def test_what_is_asked_is_of_the_branch_and_open(self, made: Searcher, branch: Branch) -> None:
        asked = [made.ask() for _ in range(3)]
        assert len({a.number for a in asked}) == 3
        assert all(branch.holds(a.config) for a in asked)
        assert made.open_trials() == {a.number: a.config for a in asked}

    def test_an_answer_closes_a_trial(self, made: Searcher) -> None:
        first, second, third = made.ask(), made.ask(), made.ask()
        made.tell(first.number, _MEASURED)
        made.tell(second.number, _CRASHED)
        made.forget(third.number, "the node went away")
        assert made.open_trials() == {}

    @pytest.mark.parametrize("answer", ["measured", "crashed", "forgotten"])
    def test_a_second_answer_is_refused(self, made: Searcher, answer: str) -> None:
        asked = made.ask()
        if answer == "measured":
            made.tell(asked.number, _MEASURED)
        elif answer == "crashed":
            made.tell(asked.number, _CRASHED)
        else:
            made.forget(asked.number, "no reason")
        with pytest.raises(StudyError):
            made.tell(asked.number, _MEASURED)

    def test_a_number_that_was_never_asked_is_refused(self, made: Searcher) -> None:
        with pytest.raises(StudyError):
            made.forget(7, "no reason")

    def test_what_is_wanted_comes_first(self, made: Searcher, branch: Branch) -> None:
        wanted = list(branch.grid())[5:8]
        made.want(wanted)
        assert [key(made.ask().config) for _ in range(3)] == [key(config) for config in wanted]

    def test_what_was_wanted_before_is_not_handed_out_again(
        self, made: Searcher, branch: Branch
    ) -> None:
        config = next(iter(branch.grid()))
        made.want([config])
        made.tell(made.ask().number, _MEASURED)
        made.want([config])
        other = list(branch.grid())[9]
        made.want([other])
        assert key(made.ask().config) == key(other)

    def test_a_configuration_of_another_space_is_refused(self, made: Searcher) -> None:
        with pytest.raises(StudyError):
            made.want([{"seqs": 3, "chunked": True}])

    def test_a_living_process_keeps_its_trials(self, made: Searcher) -> None:
        asked = made.ask()
        made.beat()
        assert made.reclaim() == 0
        assert asked.number in made.open_trials()


class CrewContract:
    def test_every_job_ends_once(self, crew: Crew) -> None:
        ended: list[int] = []
        jobs = [Job(ticket=i, config={"seqs": i}, phase=Phase.SEARCH) for i in range(1, 6)]
        under_way = 0
        for job in jobs:
            while not crew.has_room():
                done = crew.wait()
                ended += [d.job.ticket for d in done]
                under_way -= len(done)
            crew.begin(job)
            under_way += 1
            assert under_way <= crew.size
        while under_way:
            done = crew.wait()
            assert all(d.job.config == {"seqs": d.job.ticket} for d in done)
            ended += [d.job.ticket for d in done]
            under_way -= len(done)
        assert sorted(ended) == [1, 2, 3, 4, 5]
        assert crew.has_room()
