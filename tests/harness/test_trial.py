"""A trial of several loads: one deployment, a record for each window, nothing measured twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness.runner
from harness.capacity.ascent import Ascent
from harness.capacity.curve import Load
from harness.capacity.judge import conditions_of
from harness.capacity.slo import slo_of
from harness.deployment import Announce, Deployment
from harness.errors import DeadlineExceeded, EngineDied, SpecError
from harness.plan import RunPlan
from harness.pools import Inventory, NodePool
from harness.progress import Silent
from harness.runner import RunContext
from harness.spec import RunSpec
from harness.trial import FINGERPRINT, LOAD, TrialAsk, fingerprint, run_trial
from results.record import Failed, Placement, RunRecord, Succeeded
from results.samples import RequestSamples, Samples
from results.startup import StartupTimeline
from results.store_files import FileStore
from results.testing import FakeClock, make_requests
from workloads.base import Device, Launch, Running, ServerLaunch
from workloads.params import SimulatedWorkload
from workloads.traffic.spec import ClosedLoop, ConstantArrivals, FixedLength, Traffic

POOL = NodePool(
    name="cpus",
    accelerator="cpu",
    num_nodes=1,
    chips_per_node=0,
    cpus_per_node=8.0,
    memory_bytes_per_node=1 << 36,
)
SPEC = RunSpec(
    name="study",
    workload=SimulatedWorkload(),
    traffic=Traffic(
        arrivals=ConstantArrivals(rate_rps=1.0),
        prompt_tokens=FixedLength(tokens=64),
        output_tokens=FixedLength(tokens=4),
        duration_s=40.0,
        seed=7,
    ),
    tags={"study": "study"},
)
SLO = slo_of("ttft_p90=500ms")


def ascent(*rates: float, probe_s: float = 0.0) -> Ascent:
    return Ascent(
        loads=tuple(Load(rate_rps=rate) for rate in rates),
        duration_s=40.0,
        probe_s=probe_s,
        conditions=conditions_of(SLO.limits, SLO.attainment),
    )


class Engine:
    """Answers within 0.2 s up to 4 requests/s, after 3 s above it. After load ``dies_after`` was
    found well it dies, or after load ``hangs_after`` it lives, and answers nobody."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.dies_after: int | None = None
        self.hangs_after: int | None = None
        self.loads: list[Traffic] = []
        self.launched: list[ServerLaunch] = []
        self.num_down = self.num_checks = 0

    # ---- as a workload ----

    def launch(self, device: Device, models_dir: str) -> Launch:
        return ServerLaunch(argv=("engine",), env={"MINE": "1"})

    def drive(
        self, running: Running, traffic: Traffic | None, on_progress: Callable[..., None]
    ) -> Samples:
        assert traffic is not None
        self.loads.append(traffic)
        self.clock.advance(traffic.duration_s or 0.0)
        rate = getattr(traffic.arrivals, "rate_rps", None) or 1.0
        return answered(rate, traffic.duration_s or 0.0)

    # ---- as a deployer ----

    def inventory(self) -> Inventory:
        return Inventory(pools=(POOL,))

    @contextmanager
    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> Iterator[Deployment]:
        launch = launch_for(plan.rungs[0].device)
        assert isinstance(launch, ServerLaunch)
        self.launched.append(launch)
        self.clock.advance(30.0)
        yield Deployment(
            running=Running(),
            placement=Placement(
                pool="cpus", accelerator="cpu", num_chips=0, capacity="on-demand", nodes=("n",)
            ),
            hardware=(),
            startup=StartupTimeline(phases=(), ready_s=30.0),
            check=self._check,
            answers=self._answers,
            log_tail=lambda: ("last words",),
        )
        self.num_down += 1

    def _check(self) -> None:
        self.num_checks += 1  # after each load, and before each later one
        if self.dies_after is not None and self.num_checks >= 2 * self.dies_after:
            raise EngineDied("load", "the server ended with exit code 1", ())

    def _answers(self, within_s: float) -> None:
        if self.hangs_after is not None and len(self.loads) >= self.hangs_after:
            self.clock.advance(within_s)
            raise DeadlineExceeded("load", f"no token within {within_s:g} s", ())


def answered(rate_rps: float, duration_s: float) -> RequestSamples:
    n = int(rate_rps * duration_s)
    made = make_requests(n)
    shift = np.arange(n) / rate_rps - made.intended_s + (0.0 if rate_rps <= 4.0 else 3.0)
    late = 0.0 if rate_rps <= 4.0 else 3.0
    times = {
        name: getattr(made, name) + shift
        for name in ("first_byte_s", "first_token_s", "first_answer_s", "done_s")
    }
    sent = {
        name: getattr(made, name) + shift - late
        for name in ("intended_s", "dispatched_s", "written_s")
    }
    return replace(made, **times, **sent, event_s=made.event_s + np.repeat(shift, 4))


@pytest.fixture
def engine() -> Engine:
    return Engine(FakeClock())


@pytest.fixture
def context(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    monkeypatch.setattr(harness.runner, "workload_for", lambda params: engine)
    return RunContext(
        deployer=engine,
        store=FileStore(tmp_path / "store"),
        clock=engine.clock,
        progress=Silent(),
        models_dir="models",
        telemetry_interval_s=0.0,
    )


def windows(records: tuple[RunRecord, ...]) -> list[str]:
    loads = [json.loads(r.spec["tags"][LOAD]) for r in records]
    return [f"{load['window']} {load['at']}" for load in loads]


def test_one_start_and_a_record_for_each_load(engine: Engine, context: RunContext) -> None:
    records = run_trial(TrialAsk(spec=SPEC, ascent=ascent(1, 2, 4, 8, 16)), context)
    assert windows(records) == ["full 1/s", "full 2/s", "full 4/s", "full 8/s"]
    assert len(engine.launched) == engine.num_down == 1
    assert {r.experiment_id for r in records} == {records[0].experiment_id}
    assert all(isinstance(r.outcome, Succeeded) for r in records)
    # A start is paid for once, and its own record has it.
    assert [r.startup is not None for r in records] == [True, False, False, False]
    assert [r.duration_s for r in records] == [70.0, 40.0, 40.0, 40.0]
    # Each record says which load was its own.
    assert [r.spec["traffic"]["arrivals"]["rate_rps"] for r in records] == [1.0, 2.0, 4.0, 8.0]
    assert len({r.spec["tags"][FINGERPRINT] for r in records}) == 4
    assert len({r.workload_hash for r in records}) == 4


def test_configurations_meet_the_same_requests_and_windows_others(
    engine: Engine, context: RunContext
) -> None:
    for args in ({"max-num-seqs": 4}, {"max-num-seqs": 8}):
        spec = replace(SPEC, workload=SimulatedWorkload(engine_args=args))
        run_trial(TrialAsk(spec=spec, ascent=ascent(1, 2, probe_s=5.0)), context)
    first, second = engine.loads[:4], engine.loads[4:]
    assert first == second
    assert len({(t.seed, t.salt) for t in first}) == 4  # no cache of one window helps another


def test_what_is_known_is_taken_and_only_the_rest_is_measured(
    engine: Engine, context: RunContext
) -> None:
    """A trial that was killed after two of its loads."""
    whole = ascent(1, 2, 4)
    first = run_trial(TrialAsk(spec=SPEC, ascent=ascent(1, 2)), context)
    known = {r.spec["tags"][FINGERPRINT]: r.run_id for r in first}
    engine.loads.clear()
    records = run_trial(TrialAsk(spec=SPEC, ascent=whole, known=known), context)
    assert windows(records) == ["full 1/s", "full 2/s", "full 4/s"]
    assert [r.run_id for r in records[:2]] == [r.run_id for r in first]
    assert len(engine.loads) == 1
    known = {r.spec["tags"][FINGERPRINT]: r.run_id for r in records}
    again = run_trial(TrialAsk(spec=SPEC, ascent=whole, known=known), context)
    assert [r.run_id for r in again] == [r.run_id for r in records]
    assert len(engine.launched) == 2  # nothing was started for what was known


@pytest.mark.parametrize(
    ("how", "error"), [("dies_after", "engine_died"), ("hangs_after", "deadline")]
)
def test_a_dead_engine_records_no_zeros(
    engine: Engine, context: RunContext, how: str, error: str
) -> None:
    setattr(engine, how, 2)
    records = run_trial(TrialAsk(spec=SPEC, ascent=ascent(1, 2, 3, 4)), context)
    failed = records[-1].outcome
    assert isinstance(failed, Failed)
    assert error in failed.error
    assert failed.stage == "load"
    assert records[-1].measurements == ()
    assert all(isinstance(r.outcome, Succeeded) for r in records[:-1])
    assert len(records) == 3
    assert tuple(context.store.open_runs()) == ()


def test_a_single_run_is_known_by_its_fingerprint(engine: Engine, context: RunContext) -> None:
    (first,) = run_trial(TrialAsk(spec=SPEC), context)
    assert first.spec["tags"][FINGERPRINT] == fingerprint(SPEC)
    (again,) = run_trial(TrialAsk(spec=SPEC, known={fingerprint(SPEC): first.run_id}), context)
    assert again.run_id == first.run_id
    assert len(engine.loads) == 1


def test_rates_want_arrivals_that_have_one(context: RunContext) -> None:
    assert SPEC.traffic is not None
    users = replace(SPEC, traffic=replace(SPEC.traffic, arrivals=ClosedLoop(num_users=2)))
    with pytest.raises(SpecError, match=r"load\.concurrency"):
        run_trial(TrialAsk(spec=users, ascent=ascent(1, 2)), context)


def test_users_are_loads_too(engine: Engine, context: RunContext) -> None:
    asked = replace(ascent(), loads=(Load(num_users=1), Load(num_users=4)), conditions=())
    records = run_trial(TrialAsk(spec=SPEC, ascent=asked), context)
    assert [t.arrivals for t in engine.loads] == [ClosedLoop(num_users=1), ClosedLoop(num_users=4)]
    assert windows(records) == ["full 1 user", "full 4 users"]


def test_the_record_says_where_compiled_code_was_kept(engine: Engine, context: RunContext) -> None:
    caches = {"VLLM_CACHE_ROOT": "/kept/vllm", "MINE": "not this"}
    (record,) = run_trial(TrialAsk(spec=SPEC), replace(context, caches=caches))
    assert engine.launched[0].env == {"VLLM_CACHE_ROOT": "/kept/vllm", "MINE": "1"}
    assert record.resolved["observed"]["caches"] == {"VLLM_CACHE_ROOT": "/kept/vllm"}
    (plain,) = run_trial(TrialAsk(spec=SPEC), context)
    assert record.environment_hash == plain.environment_hash  # where it is kept is no question


def test_doubts_of_the_study_are_in_its_records(context: RunContext) -> None:
    (record,) = run_trial(TrialAsk(spec=SPEC), replace(context, doubts=("beside others",)))
    assert "beside others" in [d.message for d in record.doubts]
