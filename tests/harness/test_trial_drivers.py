"""Drivers of trials on a real Ray: killed, hung and stopped, each leaves one record and no more."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.util.placement_group import placement_group_table

from harness.on_ray.cluster import ray_cluster
from harness.on_ray.trial_actor import DriverSetup, StoppableClock
from harness.on_ray.trial_drivers import TrialDrivers
from harness.spec import RunSpec
from harness.testing import processes_of
from harness.trial import TrialAsk
from results.clock import SystemClock
from results.lost import process_alive
from results.record import Failed
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


def test_a_stop_interrupts_the_thread_that_works_once() -> None:
    clock = StoppableClock(FakeClock())
    clock.stop()
    clock.sleep(1.0)  # nobody works yet
    clock.work_here()
    with pytest.raises(KeyboardInterrupt):
        clock.monotonic_s()
    clock.sleep(1.0)  # the teardown reads on
    assert clock.monotonic_s() == 1002.0
