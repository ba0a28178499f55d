"""Faults as words, as parts of a spec, and when they are due. Nothing is struck here."""

from __future__ import annotations

import threading

import pytest

from harness.errors import SpecError
from harness.faults import Fault, Restarts, parse_fault
from harness.on_ray.train_coach import Care, TrainCoach
from harness.on_ray.train_faults import FaultSchedule, aimed, kill_this_node, kill_this_process
from harness.on_ray.train_news import AttemptEnded, Ending, RankNews
from harness.plan import workload_hash
from harness.spec import RunSpec
from harness.spec_checks import check_spec
from harness.specfile import spec_from_mapping, spec_to_mapping
from workloads.base import TrainStep
from workloads.params import EndpointWorkload, TorchWorkload


@pytest.mark.parametrize(
    "text",
    ["kill_worker@step=10,rank=1", "kill_node@s=30", "preempt_pool@step=0", "kill_worker@s=0.5"],
)
def test_words_and_back(text: str) -> None:
    assert parse_fault(text).words == text


@pytest.mark.parametrize(
    "text",
    ["kill_worker", "kill_all@step=3", "kill_worker@step=x", "kill_worker@at=3", "kill_node@s=1,2"],
)
def test_other_words_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(SpecError, match="for example kill_worker@step=10,rank=1"):
        parse_fault(text)


def spec(**changes: object) -> RunSpec:
    return RunSpec(name="t", workload=TorchWorkload(num_workers=2), **changes)  # type: ignore[arg-type]


def test_a_spec_keeps_its_faults() -> None:
    asked = spec(
        faults=(Fault(kind="kill_worker", at_step=10, rank=1), Fault(kind="kill_node", at_s=30.0)),
        restarts=Restarts(max_restarts=2, min_workers=1),
    )
    assert check_spec(asked) == ()
    assert spec_from_mapping(spec_to_mapping(asked)) == asked
    # What was struck is compared with its like alone; what was not is what it always was.
    assert workload_hash(asked, None) != workload_hash(spec(), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"faults": (Fault(kind="kill_worker"),)}, "say when"),
        ({"faults": (Fault(kind="kill_worker", at_step=1, at_s=1.0),)}, "say when"),
        ({"faults": (Fault(kind="kill_worker", at_step=1, rank=2),)}, "ranks 0 to 1"),
        ({"faults": (Fault(kind="kill_worker", at_step=-1),)}, "count from 0"),
        ({"restarts": Restarts(min_workers=3)}, "0 to 2"),
        ({"restarts": Restarts(max_restarts=-1)}, "-1"),
    ],
)
def test_what_cannot_be_meant_is_told(changes: dict[str, object], said: str) -> None:
    (problem,) = check_spec(spec(**changes))
    assert said in problem.message


def test_faults_are_for_trainings() -> None:
    served = RunSpec(
        name="s",
        workload=EndpointWorkload(url="http://127.0.0.1:1", model="m"),
        faults=(Fault(kind="kill_node", at_s=1.0),),
    )
    assert any("is no training" in p.message for p in check_spec(served))


def said(step: int) -> RankNews:
    event = TrainStep(step, 0.0, 0.1, 0.0, 1, 1.0, -1, False)
    return RankNews(0, "node", 1, 0.0, 0.0, (event,))


def test_each_fault_is_struck_once_and_when_due() -> None:
    struck: list[str] = []
    blow = threading.Semaphore(0)

    def strike(fault: Fault) -> None:
        struck.append(fault.words)
        blow.release()

    schedule = FaultSchedule(
        (Fault(kind="kill_worker", at_step=3), Fault(kind="kill_node", at_s=0.0)), strike
    )
    schedule.hear(RankNews(0, "node", 1, 0.0, 0.0, ()))  # no step yet: nothing begins
    schedule.hear(said(2))
    assert blow.acquire(timeout=10)
    assert struck == ["kill_node@s=0"]
    schedule.hear(said(4))
    assert blow.acquire(timeout=10)
    schedule.hear(said(3))  # made again after the restart
    assert not blow.acquire(timeout=0.1)
    assert struck == ["kill_node@s=0", "kill_worker@step=3"]


def test_where_a_blow_falls() -> None:
    workers, nodes = ["w0", "w1", "w2"], ["a", "a", "b"]
    worker = Fault(kind="kill_worker", at_step=1, rank=1)
    assert aimed(worker, workers, nodes) == [("w1", kill_this_process)]
    node = Fault(kind="kill_node", at_step=1, rank=2)
    assert aimed(node, workers, nodes) == [("w2", kill_this_node)]
    pool = Fault(kind="preempt_pool", at_step=1)
    assert aimed(pool, workers, nodes) == [("w0", kill_this_node), ("w2", kill_this_node)]
    late = Fault(kind="kill_worker", at_step=1, rank=2)
    assert aimed(late, workers[:1], nodes[:1]) == [("w0", kill_this_process)]


def test_a_job_is_started_again_as_often_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coach alone, without Ray: what is asked of it when Ray Train has seen a failure."""
    coach = TrainCoach()
    coach._care = Care(restarts=Restarts(max_restarts=2))
    ends = iter(["worker_died", "node_lost", "worker_died"])
    monkeypatch.setattr(coach, "_explain", lambda error: Ending(next(ends), "gone"))
    answers = []
    for workers in (2, 2, 2):
        coach._remember(["worker"] * workers, ("node",) * workers)
        answers.append(coach._start_again(RuntimeError()))
    assert answers == [True, True, False]
    told = [(type(n).__name__, n.attempt) for n in coach.read(0, 0.0).news]
    assert told == [
        ("AttemptBegan", 0),
        ("AttemptEnded", 0),
        ("AttemptBegan", 1),
        ("AttemptEnded", 1),
        ("AttemptBegan", 2),
    ]


def test_a_change_of_size_is_no_failure() -> None:
    coach = TrainCoach()
    coach._remember(["w"], ("n",))
    coach._remember(["w", "w"], ("n", "m"))
    ended = next(n for n in coach.read(0, 0.0).news if isinstance(n, AttemptEnded))
    assert (ended.cause, ended.message) == ("resized", "now 2 workers")


@pytest.mark.parametrize("error", ["raised", "controller", "nan_loss"])
def test_what_would_only_happen_again_is_not_started_again(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coach = TrainCoach()
    coach._care = Care(restarts=Restarts(max_restarts=9))
    monkeypatch.setattr(coach, "_explain", lambda _: Ending(error, "again and again"))
    assert not coach._start_again(RuntimeError())
