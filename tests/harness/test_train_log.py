"""What the ranks say, put together; and where workers stand. Without Ray."""

from __future__ import annotations

import pickle

import pytest

from harness.errors import DeploymentError
from harness.on_ray.train_actor import resources_per_worker, spread_over_bundles
from harness.on_ray.train_log import TrainLog
from harness.on_ray.train_news import AttemptBegan, AttemptEnded, RankNews, Struck, last_line
from harness.on_ray.train_rank import slice_of
from results.goodput import Part
from workloads.base import TrainEvent, TrainFacts, TrainLaunch, TrainPhase, TrainStep


def news(rank: int, sent_s: float, *events: TrainEvent, round_trip_s: float = 0.01) -> RankNews:
    return RankNews(
        rank=rank,
        node_id="0123456789abcdef",
        pid=100 + rank,
        sent_s=sent_s,
        round_trip_s=round_trip_s,
        events=events,
    )


def step(number: int) -> TrainStep:
    return TrainStep(
        number, float(number), 0.5, 0.1, 64, 5.0 - number, 10, number == 0, 0.2, 0.01, 0.0
    )


def test_a_ranks_clock_is_placed_by_its_fastest_message() -> None:
    log = TrainLog(1, zero_s=1000.0)
    log.add([news(0, 2.0)], arrived_at_s=1012.5)  # half a second on its way
    log.add([news(0, 5.0, TrainPhase("imports", 1.0, 4.0))], arrived_at_s=1015.01)
    log.add([news(0, 6.0)], arrived_at_s=1017.0)
    worker, imports = log.phases(workers_asked_s=3.0, read_resolution_s=0.002)
    assert (worker.start_s, worker.end_s) == (3.0, pytest.approx(10.01))
    assert (imports.start_s, imports.end_s) == (pytest.approx(11.01), pytest.approx(14.01))
    assert imports.resolution_s == pytest.approx(0.012)


def test_a_phase_spans_all_ranks_and_names_the_slowest() -> None:
    log = TrainLog(2, zero_s=0.0)
    log.add([news(0, 4.0, TrainPhase("imports", 0.0, 4.0))], arrived_at_s=14.0)
    log.add([news(1, 1.0, TrainPhase("imports", 0.5, 1.0))], arrived_at_s=13.0)
    imports = log.phases(0.0, 0.0)[1]
    assert (imports.start_s, imports.end_s) == (10.0, 14.0)
    assert "longest on rank 0" in imports.detail
    assert "0.500 to 4.000 s" in imports.detail


def test_steps_become_rows_in_order_of_step_and_rank() -> None:
    log = TrainLog(2, zero_s=0.0)
    log.add([news(1, 1.0, step(0), step(1))], arrived_at_s=1.0)
    assert not log.all_ranks_stepped()
    log.add([news(0, 1.0, TrainFacts({"num_steps": 2}), step(1), step(0))], arrived_at_s=1.0)
    assert log.all_ranks_stepped()
    assert (log.num_steps_done, log.num_steps_total, log.incomplete()) == (2, 2, "")
    samples = log.samples()
    assert samples.step.tolist() == [0, 0, 1, 1]
    assert samples.rank.tolist() == [0, 1, 0, 1]
    assert samples.loss.tolist() == [5.0, 5.0, 4.0, 4.0]
    assert samples.is_warmup.tolist() == [True, True, False, False]


def test_a_wait_for_room_is_of_the_attempt_that_it_was_for() -> None:
    log = TrainLog(1, zero_s=0.0)
    log.add([AttemptBegan(0, 1), news(0, 1.0, step(0))], arrived_at_s=2.0)
    log.add([AttemptEnded(0, "node_lost", "gone")], arrived_at_s=4.0)
    later = news(0, 0.6, step(0)._replace(start_s=0.1))._replace(attempt=1)
    log.add([AttemptBegan(1, 1, 3.0), later], arrived_at_s=10.6)
    log.end("", "", at_s=11.0)
    assert [told["hardware_wait_s"] for told in log.attempts_told()] == [0.0, 3.0]
    assert log.goodput(11.0).seconds[Part.HARDWARE_WAIT] == pytest.approx(3.0)


def test_what_a_rank_knows_only_at_the_end_goes_to_all_its_steps() -> None:
    untold = [step(number)._replace(comm_s=float("nan")) for number in range(2)]
    log = TrainLog(2, zero_s=0.0)
    log.add([news(0, 1.0, *untold), news(1, 1.0, *untold)], arrived_at_s=1.0)
    log.add([news(0, 2.0, TrainFacts({"comm_s_per_step": 0.25}))], arrived_at_s=2.0)
    samples = log.samples()
    assert samples.comm_s[samples.rank == 0].tolist() == [0.25, 0.25]
    assert all(value != value for value in samples.comm_s[samples.rank == 1])  # still not known
    assert log.observed == {"comm_s_per_step": 0.25}


def test_a_job_that_goes_on_from_another_owes_its_own_steps_alone() -> None:
    log = TrainLog(1, zero_s=0.0)
    log.add([news(0, 1.0, TrainFacts({"num_steps": 5, "first_step": 3}))], arrived_at_s=1.0)
    log.add([news(0, 1.0, step(3))], arrived_at_s=1.0)
    assert log.incomplete() == "rank 0 reported 1 of 2 steps"
    log.add([news(0, 1.0, step(4))], arrived_at_s=1.0)
    assert log.incomplete() == ""


def test_a_rank_that_stops_short_or_repeats_itself_is_named() -> None:
    log = TrainLog(3, zero_s=0.0)
    log.add([news(0, 1.0, TrainFacts({"num_steps": 2}), step(0))], arrived_at_s=1.0)
    log.add([news(1, 1.0, step(0), step(1))], arrived_at_s=1.0)
    log.add([news(2, 1.0, step(1), step(1))], arrived_at_s=1.0)
    assert log.incomplete() == "rank 0 reported 1 of 2 steps; rank 2 reported 2 of 2 steps"


def test_where_the_ranks_are() -> None:
    log = TrainLog(3, zero_s=0.0)
    log.add([news(0, 1.0, TrainPhase("imports", 0.0, 1.0)), news(1, 1.0)], arrived_at_s=1.0)
    assert log.where_ranks_are() == (
        "rank 0 is after 'imports'; rank 1 has started; rank 2 has not started"
    )
    assert log.lines() == ("rank 0 (pid 100 on node 01234567): imports in 1.00 s",)


def test_facts_add_up() -> None:
    log = TrainLog(1, zero_s=0.0)
    log.add([news(0, 1.0, TrainFacts({"a": 1}), TrainFacts({"b": 2}))], arrived_at_s=1.0)
    assert log.facts == {0: {"a": 1, "b": 2}}


def test_news_survive_pickling() -> None:
    sent = news(1, 2.0, step(3), TrainPhase("imports", 0.0, 1.0), TrainFacts({"a": [1]}))
    back = pickle.loads(pickle.dumps(sent))
    assert back == sent
    assert [type(event) for event in back.events] == [type(event) for event in sent.events]


def test_the_line_that_names_an_error() -> None:
    raised = ("Traceback (most recent call last):", '  File "x"', "ValueError: no", "  a note", "")
    assert last_line(raised) == "ValueError: no"
    assert last_line(()) == "an error without words"


def test_workers_are_spread_over_bundles() -> None:
    one = {"CPU": 1.0}
    both = {"CPU": 1.0, "GPU": 1.0}
    assert spread_over_bundles([{"CPU": 1.0}] * 2, 2, one) == (0, 1)
    assert spread_over_bundles([{"CPU": 4.0, "GPU": 2.0}] * 2, 4, both) == (0, 0, 1, 1)
    assert spread_over_bundles([{"CPU": 2.0}, {"CPU": 1.0}], 3, one) == (0, 0, 1)
    assert spread_over_bundles([{"CPU": 0.3}], 3, {"CPU": 0.1}) == (0, 0, 0)
    assert spread_over_bundles([{"TPU": 4.0}] * 2, 2, {"CPU": 0.0}) == (0, 1)


def test_workers_that_do_not_fit_are_refused_with_both_numbers() -> None:
    with pytest.raises(DeploymentError, match=r"3 workers of \{'CPU': 2.0\}.*'CPU': 4.0") as caught:
        spread_over_bundles([{"CPU": 4.0}], 3, {"CPU": 2.0})
    assert caught.value.stage == "placement"


@pytest.mark.parametrize(
    ("chip", "number", "taken"),
    [
        ("", 0, {"CPU": 2.0}),
        ("GPU", 1, {"CPU": 2.0, "GPU": 1.0}),
        ("TPU", 4, {"CPU": 2.0, "TPU": 4.0}),
    ],
)
def test_a_worker_takes_the_chips_that_its_launch_uses(
    chip: str, number: int, taken: dict[str, float]
) -> None:
    launch = TrainLaunch(
        train_loop="a:b",
        config={},
        num_workers=2,
        cpus_per_worker=2.0,
        backend="gloo",
        chip=chip,
        chips_per_worker=number,
    )
    assert resources_per_worker(launch) == taken


def restarted_log() -> TrainLog:
    """Two ranks; four steps, struck in the fifth; two come back eight seconds later at step 2."""
    log = TrainLog(2, zero_s=100.0)
    log.add([AttemptBegan(0, 2)], arrived_at_s=101.0)
    for rank in (0, 1):
        said = [TrainFacts({"num_steps": 4, "checkpoint_restore_s": (9.0,)})] if rank else []
        steps = [step(number) for number in range(4)]
        log.add([news(rank, 4.0, *steps, *said)._replace(attempt=0)], arrived_at_s=110.0)
    log.add([Struck(0, "kill_worker@step=3,rank=1")], arrived_at_s=110.2)
    log.add([AttemptEnded(0, "worker_died", "rank 1 died")], arrived_at_s=110.7)
    log.add([AttemptBegan(1, 2)], arrived_at_s=112.0)
    for rank in (0, 1):
        events = [
            TrainFacts({"num_steps": 4, "checkpoint_restore_s": (0.5,)}),
            *(step(number) for number in (2, 3)),
        ]
        log.add([news(rank, 4.0, *events)._replace(attempt=1)], arrived_at_s=118.0)
    log.end("", "", 119.0)
    return log


def test_an_attempt_after_a_failure() -> None:
    log = restarted_log()
    assert (log.num_restarts, log.num_steps_done, log.incomplete()) == (1, 4, "")
    samples = log.samples()
    assert samples.step.tolist() == [0, 0, 1, 1, *[2] * 4, *[3] * 4]
    assert samples.attempt.tolist() == [0] * 4 + [0, 1] * 4
    # Both loops say that step 2 began 2 s after they were entered, at 106 s and at 114 s.
    assert samples.start_s[samples.step == 2].tolist() == [2.0, 10.0, 2.0, 10.0]


def test_where_the_time_of_a_failure_went() -> None:
    got = restarted_log().goodput(19.0)
    assert sum(got.seconds.values()) == pytest.approx(19.0)
    assert (got.num_restarts, got.num_steps_kept, got.num_steps_lost) == (1, 4, 2)
    assert got.seconds[Part.STARTUP] == pytest.approx(6.0)
    # A restore told after the steps is a trial, and no part of the way to the first of them.
    assert got.seconds[Part.CHECKPOINT_RESTORE] == pytest.approx(0.5)
    # Steps 2 and 3, the half second between them aside, and 0.7 s of step 4 until the blow.
    assert got.seconds[Part.WASTED_PROGRESS] == pytest.approx(0.5 + 0.5 + 0.7)
    assert got.recoveries_s == pytest.approx((116.5 - 110.2,))
    first, second = restarted_log().attempts_told()
    assert (first["cause"], first["struck_by"]) == ("worker_died", ["kill_worker@step=3,rank=1"])
    assert (second["first_step"], second["ended_at_s"], second["cause"]) == (2, 19.0, "")


def test_a_last_attempt_that_stops_short_is_incomplete() -> None:
    log = restarted_log()
    log.add([AttemptBegan(2, 1)], arrived_at_s=120.0)
    log.add([news(0, 4.0, step(2))._replace(attempt=2)], arrived_at_s=124.0)
    assert log.incomplete() == "rank 0 reported 1 of 2 steps"


def test_only_the_ranks_that_report_are_waited_for() -> None:
    log = TrainLog(num_ranks=2, zero_s=0.0, num_reporting=1)
    facts = TrainFacts({"num_steps": 1, "log_tail": ["loading", "epoch 1"]})
    log.add([news(0, 1.0, facts, step(0)), news(1, 1.0)], arrived_at_s=1.0)
    assert log.all_ranks_stepped()
    assert log.incomplete() == ""
    assert log.samples().rank.tolist() == [0]
    assert log.lines()[-2:] == ("rank 0 | loading", "rank 0 | epoch 1")


def test_hosts_of_a_slice_are_ranks_in_a_row() -> None:
    assert [slice_of(rank, 8, 2) for rank in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [slice_of(rank, 4, 1) for rank in range(4)] == [0] * 4
