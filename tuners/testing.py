"""The contract of a ``Searcher`` as a suite: subclass it and give a fixture ``made``, a fresh
searcher over the branch and the wish of the tests (a goal ``output_throughput``, a bound ``ttft_s``
p99)."""

from __future__ import annotations

import pytest

from tuners.errors import StudyError
from tuners.goals import Reading
from tuners.outcome import Crashed, FailureKind, Measured
from tuners.search import Searcher
from tuners.seeds import key
from tuners.space import Branch

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
