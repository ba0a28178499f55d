"""Every run ends in exactly one record, whatever goes wrong and wherever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import harness.runner
from harness.cli.exits import Exit, exit_code
from harness.deployment import Announce, Deployment
from harness.errors import ClientTooSlow, EngineDied, PlacementTimedOut
from harness.plan import RunPlan
from harness.pools import Inventory, NodePool
from harness.progress import Silent
from harness.runner import RunContext, run_spec
from harness.spec import RunSpec
from results.environment import Hardware
from results.errors import StoreUnwritable
from results.prices import PriceTable
from results.record import Failed, Invalid, Placement, RunRecord, Succeeded
from results.samples import Samples
from results.startup import PhaseSource, StartupPhase, StartupTimeline
from results.stopping import parse_until
from results.testing import EPOCH, FakeClock, FakeRecordStore, make_requests
from workloads.base import Device, Launch, RemoteServer, Running
from workloads.params import VllmWorkload
from workloads.traffic.spec import ConstantArrivals, Traffic

POOL = NodePool(
    name="gpus",
    accelerator="H100",
    num_nodes=1,
    chips_per_node=2,
    cpus_per_node=8.0,
    memory_bytes_per_node=1 << 36,
)


class ScriptedWorkload:
    """Hands back what the test says, or raises it."""

    def __init__(self, script: list[Any], seeds_seen: list[int]) -> None:
        self.script, self.seeds = script, seeds_seen

    def launch(self, device: Device, models_dir: str) -> Launch:
        return RemoteServer(url="http://127.0.0.1:1", model="m")

    def drive(
        self, running: Running, traffic: Traffic | None, on_progress: Callable[..., None]
    ) -> Samples:
        step = self.script.pop(0)
        self.seeds.append(traffic.seed if traffic else -1)
        if isinstance(step, BaseException):
            raise step
        samples: Samples = step
        return samples


class ScriptedDeployer:
    """Really a context manager that counts; ``fails`` is raised before the body."""

    def __init__(self, clock: FakeClock, fails: BaseException | None = None) -> None:
        self.clock, self.fails = clock, fails
        self.num_up = self.num_down = 0
        self.dead: Exception | None = None
        self.teardown_fails: Exception | None = None
        self.simulated = False
        self.open_when_deployed: list[int] = []
        self.store: FakeRecordStore | None = None

    def inventory(self) -> Inventory:
        return Inventory(pools=(POOL,))

    @contextmanager
    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> Iterator[Deployment]:
        if self.store is not None:
            self.open_when_deployed.append(len(self.store.open_runs()))
        if self.fails is not None:
            raise self.fails
        launch_for(plan.rungs[0].device)
        self.num_up += 1
        self.clock.advance(30.0)
        try:
            yield self._deployment()
        finally:
            self.num_down += 1
            if self.teardown_fails:
                raise self.teardown_fails

    def _deployment(self) -> Deployment:
        phase = StartupPhase(
            name="placed", start_s=0.0, end_s=1.0, source=PhaseSource.RAY, resolution_s=0.01
        )
        return Deployment(
            running=Running(),
            placement=Placement(
                pool="gpus", accelerator="H100", num_chips=2, capacity="on-demand", nodes=("n",)
            ),
            hardware=(
                Hardware(node="n", cpu_model="c", num_cpus=64, memory_bytes=1 << 36, kernel="k"),
            ),
            startup=StartupTimeline(phases=(phase,), ready_s=30.0),
            packages={"vllm": "0.32.0"},
            resolved={"dtype": "bfloat16"},
            simulated=self.simulated,
            check=self._check,
            log_tail=lambda: ("last words",),
        )

    def _check(self) -> None:
        if self.dead:
            raise self.dead


SPEC = RunSpec(
    name="serve",
    workload=VllmWorkload(model="org/model"),
    traffic=Traffic(arrivals=ConstantArrivals(rate_rps=2.0), num_requests=40, seed=7),
    hardware=(
        replace(
            RunSpec(name="x", workload=VllmWorkload()).hardware[0], accelerator="H100", num_chips=1
        ),
    ),
    slo={"ttft_s": 0.5},
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> FakeRecordStore:
    return FakeRecordStore()


@pytest.fixture
def deployer(clock: FakeClock, store: FakeRecordStore) -> ScriptedDeployer:
    made = ScriptedDeployer(clock)
    made.store = store
    return made


@pytest.fixture
def seeds_seen() -> list[int]:
    return []


@pytest.fixture
def run(
    clock: FakeClock,
    store: FakeRecordStore,
    deployer: ScriptedDeployer,
    seeds_seen: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., list[RunRecord]]:
    def do(
        *script: Any, spec: RunSpec = SPEC, prices: PriceTable | None = None, until: str = ""
    ) -> list[RunRecord]:
        workload = ScriptedWorkload(list(script), seeds_seen)
        monkeypatch.setattr(harness.runner, "workload_for", lambda params: workload)
        context = RunContext(
            deployer=deployer,
            store=store,
            clock=clock,
            progress=Silent(),
            models_dir="models",
            prices=prices,
        )
        return list(run_spec(spec, context, parse_until(until) if until else ()))

    return do


def sealed(store: FakeRecordStore) -> list[RunRecord]:
    assert store.open_runs() == ()
    return list(store.scan().records)


def value(record: RunRecord, metric: str, statistic: str = "value") -> float | None:
    (found,) = (m for m in record.measurements if (m.metric, m.statistic) == (metric, statistic))
    return found.value


def test_a_client_that_is_too_slow_makes_the_run_invalid(
    run: Callable[..., list[RunRecord]], deployer: ScriptedDeployer
) -> None:
    """It is no failure of what was deployed; and it would be as slow once more."""
    slow = ClientTooSlow("load", "asks for 900 requests/s")
    records = run(slow, make_requests(3), spec=replace(SPEC, num_repeats=3))
    (record,) = records
    assert record.outcome == Invalid(reasons=("client_too_slow",))
    assert exit_code(records) is Exit.INVALID
    (doubt,) = [d for d in record.doubts if d.invalidates]
    assert (doubt.code, doubt.message) == ("client_too_slow", "asks for 900 requests/s")
    assert record.placement is not None and record.startup is not None
    assert record.measurements == () and record.artifacts == ()
    assert (deployer.num_up, deployer.num_down) == (1, 1)


def test_a_run_is_opened_then_sealed_once(
    run: Any, store: FakeRecordStore, deployer: ScriptedDeployer
) -> None:
    (record,) = run(make_requests(40))
    assert [r.run_id for r in sealed(store)] == [record.run_id]
    assert deployer.open_when_deployed == [1]
    assert isinstance(record.outcome, Succeeded)
    assert value(record, "startup_s") == 30.0
    assert record.seeds == {"traffic.seed": 7}
    assert record.environment is not None
    assert record.environment.software.packages["vllm"] == "0.32.0"
    table = store.table(record, "requests")
    assert table is not None
    assert table.num_rows == 40


def test_cost_needs_a_price(run: Any) -> None:
    (free,) = run(make_requests(40))
    assert value(free, "cost_usd") is None
    prices = PriceTable(
        as_of=EPOCH.date(), source="a test", usd_per_chip_hour={"h100": {"on-demand": 3.6}}
    )
    (priced,) = run(make_requests(40), prices=prices)
    # Two chips, held for the 30 s that the scripted startup took.
    assert value(priced, "cost_usd") == pytest.approx(2 * 30 / 3600 * 3.6)


def test_repeats_share_a_deployment_only_when_asked(run: Any, deployer: ScriptedDeployer) -> None:
    apart = run(make_requests(40), make_requests(40), spec=replace(SPEC, num_repeats=2))
    assert (deployer.num_up, deployer.num_down) == (2, 2)
    shared = run(
        make_requests(40), make_requests(40), spec=replace(SPEC, num_repeats=2, redeploy=False)
    )
    assert (deployer.num_up, deployer.num_down) == (3, 3)
    assert [r.repeat_index for r in apart] == [r.repeat_index for r in shared] == [0, 1]
    assert len({r.experiment_id for r in (*apart, *shared)}) == 2
    assert all(r.startup for r in apart)
    assert shared[0].startup
    assert shared[1].startup is None
    assert value(shared[1], "startup_s") is None


def test_each_repeat_sends_prompts_of_its_own(run: Any, seeds_seen: list[int]) -> None:
    records = run(make_requests(40), make_requests(40), spec=replace(SPEC, num_repeats=2))
    assert [r.seeds["traffic.seed"] for r in records] == [7, 8]
    assert seeds_seen == [7, 8]


def test_the_hashes_of_two_runs_agree(run: Any) -> None:
    first, second = (run(make_requests(40))[0] for _ in range(2))
    assert first.run_id != second.run_id
    assert first.workload_hash == second.workload_hash
    assert first.environment_hash == second.environment_hash


@pytest.mark.parametrize("simulated", [False, True])
def test_simulated_and_measured_never_mix(
    run: Any, deployer: ScriptedDeployer, simulated: bool
) -> None:
    deployer.simulated = simulated
    (record,) = run(make_requests(40))
    assert record.evidence == ("simulated" if simulated else "measured")


def test_a_refused_plan_is_a_record(run: Any, store: FakeRecordStore) -> None:
    ask = replace(SPEC.hardware[0], num_chips=8)
    (record,) = run(spec=replace(SPEC, hardware=(ask,)))
    assert isinstance(record.outcome, Failed)
    assert record.outcome.stage == "plan"
    assert "8 x H100" in record.outcome.message
    assert sealed(store) == [record]


@pytest.mark.parametrize(
    ("error", "stage", "kind"),
    [
        (PlacementTimedOut("placement", "nobody had room"), "placement", "placement_timed_out"),
        (EngineDied("startup", "exit code 1", ("boom",)), "startup", "engine_died"),
        (RuntimeError("a bug"), "placement", "RuntimeError"),
    ],
)
def test_a_failed_deployment_is_a_record(
    run: Any,
    store: FakeRecordStore,
    deployer: ScriptedDeployer,
    error: Exception,
    stage: str,
    kind: str,
) -> None:
    deployer.fails = error
    (record,) = run(spec=replace(SPEC, num_repeats=3))
    assert isinstance(record.outcome, Failed)
    assert (record.outcome.stage, record.outcome.error) == (stage, kind)
    # What failed once is not paid for three times.
    assert sealed(store) == [record]


def test_an_engine_that_died_under_load_keeps_its_samples(
    run: Any, store: FakeRecordStore, deployer: ScriptedDeployer
) -> None:
    deployer.dead = EngineDied("load", "exit code -9")
    (record,) = run(make_requests(40))
    assert isinstance(record.outcome, Failed)
    assert record.outcome.error == "engine_died"
    assert record.outcome.log_tail == ("last words",)
    assert store.table(record, "requests") is not None


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_is_sealed_and_goes_on(
    run: Any, store: FakeRecordStore, deployer: ScriptedDeployer, stop: BaseException
) -> None:
    with pytest.raises(type(stop)):
        run(stop)
    (record,) = sealed(store)
    assert isinstance(record.outcome, Failed)
    assert record.outcome.stage == "interrupted"
    assert deployer.num_down == 1


def test_grave_doubts_make_a_run_invalid(run: Any) -> None:
    requests = make_requests(40)
    (record,) = run(replace(requests, dispatched_s=requests.intended_s + 0.5))
    assert record.outcome == Invalid(reasons=("client_late",))


def test_a_failed_teardown_does_not_unseal_the_run(
    run: Any, store: FakeRecordStore, deployer: ScriptedDeployer
) -> None:
    deployer.teardown_fails = EngineDied("teardown", "would not go")
    with pytest.raises(EngineDied):
        run(make_requests(40))
    (record,) = sealed(store)
    assert isinstance(record.outcome, Succeeded)


def test_tables_that_do_not_fit_leave_a_record_without_them(
    run: Any, store: FakeRecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.seal

    def no_room(record: RunRecord, tables: Any) -> RunRecord:
        if tables:
            raise StoreUnwritable("no space left on device")
        return real(record, tables)

    monkeypatch.setattr(store, "seal", no_room)
    with pytest.raises(StoreUnwritable):
        run(make_requests(40))
    (record,) = sealed(store)
    assert isinstance(record.outcome, Failed)
    assert (record.outcome.stage, record.outcome.error) == ("store", "store_unwritable")


@pytest.mark.parametrize("redeploy", [True, False])
def test_runs_that_agree_are_enough(run: Any, store: FakeRecordStore, redeploy: bool) -> None:
    spec = replace(SPEC, num_repeats=9, redeploy=redeploy)
    alike = [make_requests(60, seed=1)] * 9
    assert len(run(*alike, spec=spec, until="ttft_p50 ±5%")) == 3
    assert len(sealed(store)) == 3


def test_runs_that_differ_are_all_made(run: Any) -> None:
    """Medians of about 0.1, 0.2, 0.3 … s: no nine of them pin a mean down to 5 %."""
    spec = replace(SPEC, num_repeats=9)
    base = make_requests(60, seed=1)
    unlike = [
        replace(
            base,
            first_token_s=base.first_token_s + k / 10,
            first_answer_s=base.first_answer_s + k / 10,
            done_s=base.done_s + k / 10,
        )
        for k in range(9)
    ]
    assert len(run(*unlike, spec=spec, until="ttft_p50 ±5%")) == 9
