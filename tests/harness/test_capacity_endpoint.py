"""The search and the sweep against a real server over HTTP, whose capacity is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.capacity.curve import Load, in_order, knee_of
from harness.capacity.judge import conditions_of
from harness.capacity.keep import kept_points
from harness.capacity.loop import find_capacity, sweep
from harness.capacity.measure import (
    MeasurePoint,
    PointMeasured,
    look,
    measure_endpoint_once,
)
from harness.capacity.search import Question
from harness.capacity.slo import slo_of
from harness.errors import DeploymentError, EngineDied
from results.capacity import CapacityKind, Point
from results.clock import SystemClock
from results.record import Evidence, Failed
from results.store_files import FileStore
from workloads.base import ServerTarget
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import golden_server
from workloads.traffic.spec import ClosedLoop, ConstantArrivals, FixedLength, Traffic

# Two slots of 100 ms each: 20 requests/s, and with even arrivals nothing waits below that.
SERVICE = Behaviour(ttft_s=0.09, itl_s=0.005, capacity=2)
CAPACITY_RPS = 20.0
TRAFFIC = Traffic(
    arrivals=ConstantArrivals(rate_rps=1.0),
    prompt_tokens=FixedLength(tokens=4),
    output_tokens=FixedLength(tokens=3),
    num_warmup_requests=1,
    request_timeout_s=10.0,
)


def honest(measure: MeasurePoint) -> MeasurePoint:
    """A busy test machine makes the client late; here only the server is looked at."""

    def measured(traffic: Traffic) -> PointMeasured:
        return replace(measure(traffic), doubts=())

    return measured


def test_the_capacity_of_slots_is_found() -> None:
    slo = slo_of("ttft=200ms")
    question = Question(
        shares=(0.9,), min_rps=8.0, max_rps=64.0, tolerance=0.25, budget_s=60.0, shortest_pass_s=3.0
    )
    points: list[Point] = []
    begun = []
    with golden_server(SERVICE) as server:
        found = find_capacity(
            question,
            conditions_of(slo.limits, 0.9),
            TRAFFIC,
            honest(lambda traffic: measure_endpoint_once(server.target, traffic)),
            points=points,
            begin=begun.append,
        )
    assert len(begun) == len(points) == found.num_points
    assert found.kind in (CapacityKind.FOUND, CapacityKind.BRACKETED)
    assert found.capacity_rps is not None
    assert found.failed_rps is not None
    # The server itself needs a few milliseconds more than it is asked to.
    assert 0.6 * CAPACITY_RPS <= found.capacity_rps <= CAPACITY_RPS * 1.02
    assert 0.9 * CAPACITY_RPS <= found.failed_rps <= 1.7 * CAPACITY_RPS
    assert found.spent_s <= 60.0 + 10.0
    assert len({p.seed for p in points}) == len(points)


def test_a_sweep_over_users_bends_at_the_number_of_slots() -> None:
    order = in_order([Load(num_users=n) for n in (1, 2, 6)], 1, seed=0)
    points: list[Point] = []
    with golden_server(SERVICE) as server:
        sweep(
            order,
            (),
            TRAFFIC,
            honest(lambda traffic: measure_endpoint_once(server.target, traffic)),
            duration_s=1.5,
            think_s=0.0,
            first_number=0,
            points=points,
            begin=lambda _i, _load: None,
        )
    assert [p.num_users for p in points] == [load.num_users for load in order]
    assert knee_of(points).load == 2.0


def test_points_are_kept_as_records_of_one_experiment(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path / "store"))
    store.prepare()
    traffic = replace(TRAFFIC, arrivals=ClosedLoop(num_users=1), num_requests=3)
    with golden_server(SERVICE) as server:

        def kept(measure: MeasurePoint) -> Callable[[Traffic], PointMeasured]:
            return kept_points(
                measure,
                server.target,
                name="capacity",
                slo={"ttft_s": 0.2},
                simulated=True,
                experiment_id="e1",
                store=store,
                clock=SystemClock(),
            )

        measured = kept(lambda t: measure_endpoint_once(server.target, t))(traffic)

        def dies(_: Traffic) -> PointMeasured:
            raise EngineDied("load", "it stopped answering")

        with pytest.raises(EngineDied):
            kept(dies)(traffic)

        def stopped(_: Traffic) -> PointMeasured:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            kept(stopped)(traffic)
    record = store.get(measured.run_id)
    assert record.name == "capacity"
    assert record.experiment_id == "e1"
    assert record.evidence is Evidence.SIMULATED
    table = store.table(record, "requests")
    assert table is not None
    assert table.num_rows == 4
    records = list(store.scan().records)
    assert len(records) == 3
    failed = [r.outcome for r in records if isinstance(r.outcome, Failed)]
    assert {f.stage for f in failed} == {"load", "interrupted"}
    assert store.open_runs() == ()


def test_a_server_that_is_not_there_is_told_before_any_load() -> None:
    with golden_server(SERVICE) as server:
        assert look(server.target, "completions") is True
    gone = ServerTarget(base_url=server.url, model="simulated")
    with pytest.raises(EngineDied, match="stopped answering"):
        measure_endpoint_once(gone, replace(TRAFFIC, num_requests=2))


def test_a_server_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        golden_server(replace(SERVICE, wants_key="right")) as server,
        pytest.raises(DeploymentError, match=r"does not answer.*401.*is it up"),
    ):
        look(server.target, "chat")
