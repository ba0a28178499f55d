"""A study's race from end to end on an engine that is no process: who is stopped, what is told,
what is remembered, and that a stopped trial wins nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness.runner
from harness.cli.options import index_of
from harness.cli.study_kept import kept_study
from harness.cli.study_tables import outcome_words, race_words, spent_document
from harness.cli.study_tell import study_told
from harness.cli.tune_make import TrialMaker, ascent_of
from harness.cli.tune_memory import Memory
from harness.cli.tune_race import own_ascent
from harness.deployment import Announce, Deployment
from harness.plan import RunPlan
from harness.pools import Inventory, NodePool
from harness.progress import Silent
from harness.runner import RunContext
from harness.spec import RunSpec
from harness.trial import LOAD
from reports.study_told import TrialState
from results.record import Placement
from results.samples import RequestSamples, Samples
from results.startup import PhaseSource, StartupPhase, StartupTimeline
from results.store_files import FileStore
from results.study_log import StudyEventKind, StudyLog
from results.testing import FakeClock, make_requests
from tuners.outcome import Measured, Stopped
from tuners.race_spec import RaceSpec
from tuners.space import Knob, Ordinal, Space
from tuners.study_spec import StudySpec, wish_of
from tuners.trial import Evaluated, Phase, Spent
from workloads.base import Device, Launch, Running, ServerLaunch
from workloads.params import SimulatedWorkload
from workloads.traffic.spec import ConstantArrivals, FixedLength, TraceReplay, Traffic

SEQS = "workload.engine_args.max-num-seqs"
SPEC = RunSpec(
    name="run",
    workload=SimulatedWorkload(),
    traffic=Traffic(
        arrivals=ConstantArrivals(rate_rps=5.0),
        prompt_tokens=FixedLength(tokens=64),
        output_tokens=FixedLength(tokens=4),
        duration_s=60.0,
        seed=7,
    ),
)
STUDY = StudySpec(
    name="raced", spec="run.yaml", goals=("ttft_p50",), slo="ttft_p90=500ms", race=RaceSpec()
)
SPACE = Space(knobs=(Knob(path=SEQS, domain=Ordinal(values=(None, 1, 2, 4, 8))),))
# Seconds to the first token by the knob.
TTFT = {None: 0.2, 1: 0.1, 2: 0.19, 4: 0.9, 8: 0.102}
START = StartupTimeline(
    phases=tuple(
        StartupPhase(name=name, start_s=begin, end_s=end, source=PhaseSource.LOG, resolution_s=0.0)
        for name, begin, end in (("imports: API server", 0.0, 20.0), ("load weights", 20.0, 24.0))
    ),
    ready_s=30.0,
)


class Engine:
    """A workload and a deployer of one CPU pool, on a clock of its own."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.loads: list[float] = []
        self.seqs: Any = None

    def launch(self, device: Device, models_dir: str) -> Launch:
        return ServerLaunch(argv=("engine",))

    def drive(
        self, running: Running, traffic: Traffic | None, on_progress: Callable[..., None]
    ) -> Samples:
        assert traffic is not None
        duration_s = traffic.duration_s or 0.0
        self.loads.append(duration_s)
        self.clock.advance(duration_s)
        return answered(TTFT[self.seqs], duration_s, len(self.loads))

    def inventory(self) -> Inventory:
        pool = NodePool(
            name="cpus",
            accelerator="cpu",
            num_nodes=1,
            chips_per_node=0,
            cpus_per_node=8.0,
            memory_bytes_per_node=1 << 36,
        )
        return Inventory(pools=(pool,))

    @contextmanager
    def deploy(
        self, plan: RunPlan, launch_for: Callable[[Any], Launch], announce: Announce
    ) -> Iterator[Deployment]:
        launch_for(plan.rungs[0].device)
        workload = plan.spec.workload
        assert isinstance(workload, SimulatedWorkload)
        self.seqs = workload.engine_args.get("max-num-seqs")
        self.clock.advance(30.0)
        yield Deployment(
            running=Running(),
            placement=Placement(
                pool="cpus", accelerator="cpu", num_chips=0, capacity="on-demand", nodes=("n",)
            ),
            hardware=(),
            startup=START,
            check=lambda: None,
            log_tail=tuple,
        )


def answered(ttft_s: float, duration_s: float, seed: int) -> RequestSamples:
    """Requests of one schedule; how long each takes is drawn once, and noise each time."""
    n = int(5.0 * duration_s)
    made = make_requests(n)
    intended = np.arange(n) / 5.0
    drawn = np.random.default_rng(4).lognormal(0.0, 0.2, n)
    first = intended + ttft_s * drawn * np.random.default_rng(seed).lognormal(0.0, 0.02, n)
    shift = first - made.first_token_s
    times = dict.fromkeys(("first_byte_s", "first_token_s", "first_answer_s"), first)
    sent = dict.fromkeys(("intended_s", "dispatched_s", "written_s"), intended)
    return replace(
        made,
        **times,
        **sent,
        done_s=made.done_s + shift,
        event_s=made.event_s + np.repeat(shift, np.diff(made.event_offset)),
        is_warmup=np.zeros(n, dtype=np.bool_),
    )


class World:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine(FakeClock())
        monkeypatch.setattr(harness.runner, "workload_for", lambda params: self.engine)
        self.store = FileStore(path / "store")
        self.context = RunContext(
            deployer=self.engine,
            store=self.store,
            clock=self.engine.clock,
            progress=Silent(),
            models_dir="models",
            telemetry_interval_s=0.0,
        )

    def maker(self, study: StudySpec = STUDY, spec: RunSpec = SPEC) -> TrialMaker:
        wish = wish_of(study)
        memory = Memory(self.store, index_of(self.store), wish, study.name)
        return TrialMaker(study, spec, wish, SPACE, self.context, memory)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def tried(maker: TrialMaker, seqs: int | None, phase: Phase = Phase.SEARCH) -> Evaluated:
    config = {} if phase is Phase.BASELINE else {SEQS: seqs}
    return maker.evaluate(config, phase, 0)


def test_a_race_stops_what_cannot_win_and_measures_the_rest_in_full(world: World) -> None:
    maker = world.maker()
    assert isinstance(tried(maker, None, Phase.BASELINE).outcome, Measured)
    assert world.engine.loads == [12.0, 60.0]
    assert isinstance(tried(maker, 1).outcome, Measured)  # better: measured, and the new rival
    worse = tried(maker, 2).outcome
    assert isinstance(worse, Stopped)
    assert worse.rule == "goal"
    assert world.engine.loads == [12.0, 60.0, 12.0, 60.0, 12.0]
    # The bound lies between the best so far, less the margin, and what is true.
    assert 0.1 / 0.9 < worse.goals["ttft_s_p50"] < 0.19 * 1.05
    broken = tried(maker, 4).outcome
    assert isinstance(broken, Stopped)
    assert broken.rule == "limits"
    assert 0.5 * 1.1 < broken.bounds["ttft_s_p90"] < 0.9 * 1.3 * 1.05
    assert broken.saved_s == 60.0
    near = tried(maker, 8).outcome
    assert isinstance(near, Measured)  # 2 % worse is within the margin


def test_a_stopped_trial_costs_its_start_and_its_probe_and_is_remembered(world: World) -> None:
    maker = world.maker()
    tried(maker, None, Phase.BASELINE)
    tried(maker, 1)
    stopped = tried(maker, 2)
    assert stopped.spent.startup_s == 30.0
    assert stopped.spent.probe_s == 12.0
    assert stopped.spent.startup_parts.imports_s == 20.0
    assert stopped.spent.startup_parts.load_s == 4.0
    assert stopped.spent.startup_parts.rest_s == 6.0
    before = list(world.engine.loads)
    # Another sitting of the study: all of it is known, and means what it meant.
    again = world.maker()
    past = again.past()
    kinds = [type(trial.evaluated.outcome) for trial in past]
    assert kinds == [Measured, Measured, Stopped]
    assert past[2].evaluated.outcome == stopped.outcome
    asked_again = tried(again, 2)
    assert asked_again.from_memory
    assert asked_again.outcome == stopped.outcome
    assert world.engine.loads == before


def test_what_the_store_tells_of_it(world: World) -> None:
    maker = world.maker()
    trials = [tried(maker, None, Phase.BASELINE), tried(maker, 1), tried(maker, 2)]
    log = StudyLog(world.store.objects, STUDY.name)
    log.begun(world.engine.clock.now_utc(), {}, "")
    kept = kept_study(world.store, STUDY.name)
    assert kept is not None  # killed before its word was kept: no reading, and no winner
    assert "only a probe" in outcome_words(kept.trials[2].evaluated, kept.wish)
    outcome = trials[2].outcome
    assert isinstance(outcome, Stopped)
    body = {"run_id": trials[2].run_ids[-1], **asdict(outcome)}
    log.append(StudyEventKind.STOPPED, world.engine.clock.now_utc(), body)
    kept = kept_study(world.store, STUDY.name)
    assert kept is not None
    assert kept.trials[2].evaluated.outcome == outcome
    told = study_told(kept, with_importances=False)
    assert [t.state for t in told.trials] == [
        TrialState.KEEPS,
        TrialState.KEEPS,
        TrialState.STOPPED,
    ]
    assert told.trials[2].startup_parts["imports"] == 20.0
    spent = Spent()
    for trial in kept.trials:
        spent = spent.plus(trial.evaluated.spent)
    document = spent_document(spent, kept.trials)
    assert (document["num_stopped"], document["saved_s"]) == (1, 60.0)
    assert document["probe_s"] == 36.0
    assert "1 of 3 trials stopped, 60 s of load not made; 36 s" in race_words(kept.trials, spent)


def test_the_full_window_is_the_run_itself(world: World) -> None:
    """Raced or not, a configuration is measured by the same requests."""
    maker = world.maker()
    tried(maker, 1)
    off = replace(STUDY, name="unraced", race=None)
    other = world.maker(off)
    known = tried(other, 1)
    assert known.from_memory
    fresh = world.maker(replace(STUDY, name="third"))
    assert tried(fresh, 1).from_memory  # nor is a probe made of what is known
    probe, full = world.store.scan().records
    assert json.loads(probe.spec["tags"][LOAD])["window"] == "probe"
    assert full.spec["traffic"]["seed"] == 7
    assert probe.spec["traffic"]["seed"] != 7


def test_switched_off_there_is_no_probe(world: World) -> None:
    maker = world.maker(replace(STUDY, race=None))
    tried(maker, None, Phase.BASELINE)
    tried(maker, 4)
    assert world.engine.loads == [60.0, 60.0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"duration_s": None, "num_requests": 50}, "number of requests"),
        ({"duration_s": 15.0}, "short by itself"),
        ({"arrivals": ConstantArrivals(rate_rps=1.0)}, "too few"),
        ({"arrivals": TraceReplay(path="t.jsonl", format="mooncake")}, "no steady load"),
    ],
)
def test_why_a_study_has_no_probe_is_said(changes: dict[str, Any], says: str) -> None:
    assert SPEC.traffic is not None
    spec = replace(SPEC, traffic=replace(SPEC.traffic, **changes))
    found = own_ascent(STUDY, spec)
    assert isinstance(found, str)
    assert says in found
    assert ascent_of(STUDY, spec) is None


def test_a_probe_of_zero_seconds_is_none() -> None:
    assert ascent_of(replace(STUDY, race=RaceSpec(probe_s=0)), SPEC) is None
    longer = ascent_of(replace(STUDY, race=RaceSpec(probe_s=20.0)), SPEC)
    assert longer is not None
    assert longer.probe_s == 20.0
    startup = replace(STUDY, goals=("startup_s",))
    assert "before any load" in str(own_ascent(startup, SPEC))
