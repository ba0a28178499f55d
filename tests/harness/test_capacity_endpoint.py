"""The search and the sweep against a real server over HTTP, whose capacity is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.capacity.curve import Load, in_order, value_of
from harness.capacity.judge import conditions_of
from harness.capacity.keep import kept_points
from harness.capacity.loop import find_capacity, sweep
from harness.capacity.measure import MeasurePoint, PointMeasured, point_measurer
from harness.capacity.search import Question
from harness.capacity.slo import slo_of
from harness.errors import ClientTooSlow, EngineDied
from results.capacity import CapacityKind, Point
from results.clock import SystemClock
from results.record import Doubt, Evidence, Failed, Invalid
from results.store_files import FileStore
from workloads.base import ServerTarget
from workloads.simulated.answers import Behaviour
from workloads.simulated.golden_server import golden_server
from workloads.traffic.spec import ClosedLoop, ConstantArrivals, FixedLength, Traffic

pytestmark = pytest.mark.alone

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


@contextmanager
def unlimited(target: ServerTarget) -> Iterator[MeasurePoint]:
    """A busy test machine makes the client late, and everything take longer; here only the server
    is looked at, and the budget counts what was asked for."""
    with point_measurer(target, calibrate=False) as measure:
        yield lambda traffic: replace(measure(traffic), doubts=(), took_s=traffic.duration_s or 0.0)


def test_the_capacity_of_slots_is_found() -> None:
    slo = slo_of("ttft=250ms")
    question = Question(
        shares=(0.9,), min_rps=8.0, max_rps=64.0, tolerance=0.6, budget_s=60.0, shortest_pass_s=2.0
    )
    points: list[Point] = []
    begun = []
    with golden_server(SERVICE) as server, unlimited(server.target) as measure:
        found = find_capacity(
            question,
            conditions_of(slo.limits, 0.9),
            TRAFFIC,
            measure,
            points=points,
            begin=begun.append,
        )
    assert len(begun) == len(points) == found.num_points
    assert found.kind in (CapacityKind.FOUND, CapacityKind.BRACKETED)
    assert found.capacity_rps is not None
    assert found.failed_rps is not None
    # The server itself needs a few milliseconds more than it is asked to.
    assert 0.4 * CAPACITY_RPS <= found.capacity_rps <= CAPACITY_RPS * 1.02
    assert 0.9 * CAPACITY_RPS <= found.failed_rps <= 1.7 * CAPACITY_RPS
    assert found.spent_s <= 60.0
    assert len({p.seed for p in points}) == len(points)


def test_a_sweep_over_users_is_bounded_by_the_slots() -> None:
    order = in_order([Load(num_users=n) for n in (1, 2, 6)], 1, seed=0)
    points: list[Point] = []
    with golden_server(SERVICE) as server, unlimited(server.target) as measure:
        sweep(
            order,
            (),
            TRAFFIC,
            measure,
            duration_s=1.5,
            think_s=0.0,
            first_number=0,
            points=points,
            begin=lambda _i, _load: None,
        )
    assert [p.num_users for p in points] == [load.num_users for load in order]
    rates = {p.num_users: value_of(p.measurements, "achieved_rate") or 0.0 for p in points}
    # Two slots are twice one, and the rest waits.
    assert 1.3 * rates[1] < rates[6] <= CAPACITY_RPS * 1.05
    assert rates[1] <= 0.5 * CAPACITY_RPS * 1.05


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
                experiment_id="e1",
                store=store,
                clock=SystemClock(),
            )

        with unlimited(server.target) as measure:
            measured = kept(measure)(traffic)

        def cannot(_: Traffic) -> PointMeasured:
            slow = Doubt(code="client_too_slow", message="its ceiling is 5/s", invalidates=True)
            return PointMeasured(samples=None, doubts=(slow,), took_s=0.1)

        assert kept(cannot)(traffic).run_id

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
    assert len(records) == 4
    assert record.client is not None
    failed = [r.outcome for r in records if isinstance(r.outcome, Failed)]
    assert {(f.stage, f.error) for f in failed} == {
        ("load", "engine_died"), ("interrupted", "interrupted"),
    }  # fmt: skip
    assert Invalid(reasons=("client_too_slow",)) in [r.outcome for r in records]
    assert store.open_runs() == ()


def test_a_server_that_went_away_is_told() -> None:
    with golden_server(SERVICE) as server:
        gone = ServerTarget(base_url=server.url, model="simulated")
    with (
        point_measurer(gone, calibrate=False) as measure,
        pytest.raises(EngineDied, match="stopped answering"),
    ):
        measure(replace(TRAFFIC, num_requests=2))


def test_a_client_that_is_too_slow_is_the_clients_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_slow(*_: object, **__: object) -> None:
        raise ClientTooSlow("load", "this client keeps 5/s")

    monkeypatch.setattr("harness.capacity.measure.measure_endpoint", too_slow)
    nowhere = ServerTarget(base_url="http://127.0.0.1:9", model="m")
    with point_measurer(nowhere) as measure:
        measured = measure(replace(TRAFFIC, num_requests=2))
    assert measured.samples is None
    assert measured.client_faults == ("this client keeps 5/s",)


def test_a_simulation_says_that_it_is_one() -> None:
    with golden_server(SERVICE) as server, unlimited(server.target) as measure:
        assert measure(replace(TRAFFIC, num_requests=2)).simulated is True
