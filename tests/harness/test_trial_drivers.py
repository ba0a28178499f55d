"""Drivers of trials on a real Ray: killed, hung and stopped, each leaves one record and no more."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ray.util.placement_group import placement_group_table

from harness.cli.tune_runs import waited_of
from harness.on_ray.cluster import ray_cluster
from harness.on_ray.trial_actor import DriverSetup, StoppableClock
from harness.on_ray.trial_drivers import Ended, TrialDrivers
from harness.on_ray.turn_keeper import TurnKeeper
from harness.spec import RunSpec
from harness.testing import processes_of
from harness.trial import TrialAsk
from results.clock import SystemClock
from results.lost import process_alive
from results.record import Failed, RunRecord
from results.store import OpenRun
from results.store_files import FileStore
from results.testing import FakeClock
from workloads.params import SimulatedWorkload
from workloads.traffic.spec import ConstantArrivals, FixedLength, Traffic

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

DEADLINE_S = 30.0
LONG_S, SHORT_S = 300.0, 1.0


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    with ray_cluster("local"):
        yield


@pytest.fixture
def mark() -> Iterator[float]:
    """A start of so many seconds: no other test's server has it on its command line."""
    mark = round(random.uniform(0.01, 0.02), 9)
    yield mark
    left = processes_of(str(mark))
    for process in left:
        process.kill()
    assert not left


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def drivers(_cluster: None, store: FileStore, tmp_path: Path) -> Iterator[TrialDrivers]:
    setup = DriverSetup(
        store_url=store.url,
        models_dir=str(tmp_path),
        cwd=str(tmp_path),
        telemetry_interval_s=0.0,
        doubts=("beside others",),
    )
    said: list[str] = []
    made = TrialDrivers(
        setup=setup, store=store, clock=SystemClock(), say=lambda n, words: said.append(words)
    )
    yield made
    made.close()
    until(no_group_is_held, "the placement groups to be given back")


@pytest.fixture
def in_turns(drivers: TrialDrivers) -> Iterator[TrialDrivers]:
    """The same, one of whose trials is loaded at a time."""
    drivers.setup = replace(drivers.setup, in_turns=True)
    drivers.turns = TurnKeeper(1, SystemClock())
    yield drivers
    drivers.close()
    drivers.turns.close()


def no_group_is_held() -> bool:
    return all(group["state"] == "REMOVED" for group in placement_group_table().values())


def until(true: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < DEADLINE_S, f"in vain for {DEADLINE_S:g} s: {what}"
        time.sleep(0.05)


def ask(mark: float, duration_s: float) -> TrialAsk:
    traffic = Traffic(
        arrivals=ConstantArrivals(rate_rps=4.0),
        prompt_tokens=FixedLength(tokens=8),
        output_tokens=FixedLength(tokens=2),
        duration_s=duration_s,
    )
    workload = SimulatedWorkload(model="tiny-llama", accelerator="H100", startup_s=mark)
    return TrialAsk(spec=RunSpec(name="trial", workload=workload, traffic=traffic))


def under_load(store: FileStore, mark: float) -> OpenRun:
    """The run under way, once its server is up."""
    until(lambda: len(processes_of(str(mark))) > 0, "a server")
    (run,) = store.open_runs()
    return run


def test_a_killed_driver_loses_its_run_alone(
    drivers: TrialDrivers, store: FileStore, mark: float
) -> None:
    drivers.begin(1, ask(mark, LONG_S), 600.0)
    run = under_load(store, mark)
    assert run.pid != os.getpid()
    os.kill(run.pid, signal.SIGKILL)
    (ended,) = drivers.wait()
    assert ended.ticket == 1
    assert "died" in ended.why
    assert not ended.hung
    (record,) = ended.sealed
    assert record.run_id == run.run_id
    assert isinstance(record.outcome, Failed)
    assert (record.outcome.stage, record.outcome.error) == ("lost", "driver_died")
    until(lambda: not processes_of(str(mark)), "the server to go with its driver")
    until(no_group_is_held, "the placement group to go with its driver")
    # Another driver makes it again, and one that has served serves the next.
    drivers.begin(2, ask(mark, SHORT_S), 600.0)
    (first,) = drivers.wait()
    drivers.begin(3, ask(mark, SHORT_S), 600.0)
    (second,) = drivers.wait()
    assert [first.why, second.why] == ["", ""]
    made = [store.get(run_id) for run_id in (*first.run_ids, *second.run_ids)]
    assert len({r.run_id for r in made}) == 2
    assert all("beside others" in [d.message for d in r.doubts] for r in made)
    assert drivers._num_started == 2
    assert store.open_runs() == ()


def test_a_trial_that_outlives_its_deadlines_is_a_hang(
    drivers: TrialDrivers, store: FileStore, mark: float
) -> None:
    drivers.begin(1, ask(mark, LONG_S), 5.0)
    run = under_load(store, mark)
    (ended,) = drivers.wait()
    assert ended.hung
    (record,) = ended.sealed
    assert record.run_id == run.run_id
    assert isinstance(record.outcome, Failed)
    assert record.outcome.error == "hang"
    assert not process_alive(run.pid, run.process_started_s)
    until(lambda: not processes_of(str(mark)), "the server to go with its driver")


def test_what_is_under_way_is_sealed_and_taken_down_when_the_study_ends(
    drivers: TrialDrivers, store: FileStore, mark: float
) -> None:
    drivers.begin(1, ask(mark, LONG_S), 600.0)
    run = under_load(store, mark)
    drivers.close()
    record = store.get(run.run_id)
    assert isinstance(record.outcome, Failed)
    assert record.outcome.stage == "interrupted"
    assert not processes_of(str(mark))
    assert not process_alive(run.pid, run.process_started_s)


def loaded(record: RunRecord) -> tuple[datetime, datetime]:
    """From when its turn came until it was sealed."""
    return datetime.fromisoformat(record.resolved["observed"]["turn"]["came_at"]), record.ended_at


def started(record: RunRecord) -> tuple[datetime, datetime]:
    assert record.startup is not None
    return record.started_at, record.started_at + timedelta(seconds=record.startup.ready_s)


def overlap(one: tuple[datetime, datetime], other: tuple[datetime, datetime]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def test_of_trials_in_turns_one_starts_while_another_is_loaded_and_no_two_are(
    in_turns: TrialDrivers, store: FileStore, mark: float
) -> None:
    in_turns.begin(1, ask(mark, 2 * SHORT_S), 600.0)
    assert in_turns.turns is not None
    turns = in_turns.turns._turns
    until(lambda: 1 in turns._loading, "the first to be loaded")
    in_turns.begin(2, ask(mark, 2 * SHORT_S), 600.0)
    ended: list[Ended] = []
    while len(ended) < 2:
        ended += in_turns.wait()
    assert [e.why for e in ended] == ["", ""]
    made = [store.get(run_id) for e in ended for run_id in e.run_ids]
    assert len(made) == 2
    # A busy machine may make them invalid; when they ran is what counts here.
    assert not any(isinstance(record.outcome, Failed) for record in made)
    pairs = list(itertools.permutations(made, 2))
    assert not any(overlap(loaded(one), loaded(other)) for one, other in pairs)
    assert any(overlap(started(one), loaded(other)) for one, other in pairs)
    for record in made:
        # What is neither start nor load is the wait, and part of neither.
        assert record.startup is not None
        came_s = (loaded(record)[0] - record.started_at).total_seconds()
        ready_s, waited_s = record.startup.ready_s, waited_of(record)
        assert ready_s + waited_s <= came_s + 0.1
        assert (loaded(record)[1] - loaded(record)[0]).total_seconds() >= 2 * SHORT_S


def test_a_turn_goes_on_at_once_when_its_holder_is_killed_and_waits_trip_no_deadline(
    in_turns: TrialDrivers, store: FileStore, mark: float
) -> None:
    in_turns.begin(1, ask(mark, LONG_S), 600.0)
    holder = under_load(store, mark)
    assert in_turns.turns is not None
    turns = in_turns.turns._turns
    until(lambda: turns._loading == {1}, "the first to be loaded")
    in_turns.begin(2, ask(mark, SHORT_S), 600.0)
    until(lambda: 2 in turns._asked_s, "the second to wait")
    in_turns._listen()
    assert "waits for its turn" in in_turns._busy[1].said
    # As if it had been waiting for longer than it may take in all.
    turns._asked_s[2] -= 1000.0
    in_turns._busy[1].gives_up_s -= 1000.0
    os.kill(holder.pid, signal.SIGKILL)
    until(lambda: turns._loading == {2}, "the second to be loaded")
    ended = {e.ticket: e for _ in range(2) for e in in_turns.wait()}
    assert "died" in ended[1].why
    assert ended[2].why == ""
    (run_id,) = ended[2].run_ids
    record = store.get(run_id)
    assert not isinstance(record.outcome, Failed)
    assert record.startup is not None
    assert record.startup.ready_s < record.duration_s - waited_of(record) - SHORT_S + 0.1


def test_who_waits_for_its_turn_is_taken_down_too_when_the_study_ends(
    in_turns: TrialDrivers, store: FileStore, mark: float
) -> None:
    for number in (1, 2):
        in_turns.begin(number, ask(mark, LONG_S), 600.0)
    assert in_turns.turns is not None
    turns = in_turns.turns._turns
    until(lambda: len(turns._loading) + len(turns._asked_s) == 2, "one to wait")
    runs = store.open_runs()
    in_turns.close()
    outcomes = [store.get(run.run_id).outcome for run in runs]
    assert [o.stage for o in outcomes if isinstance(o, Failed)] == ["interrupted"] * 2
    assert not processes_of(str(mark))


def test_a_stop_interrupts_the_thread_that_works_once() -> None:
    clock = StoppableClock(FakeClock())
    clock.stop()
    clock.sleep(1.0)  # nobody works yet
    clock.work_here()
    with pytest.raises(KeyboardInterrupt):
        clock.monotonic_s()
    clock.sleep(1.0)  # the teardown reads on
    assert clock.monotonic_s() == 1002.0
