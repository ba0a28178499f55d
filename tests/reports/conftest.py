"""Records as a store would give them back, made from a seed; and a Chromium to open pages in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from results.checks import doubts_of
from results.environment import (
    Environment,
    Hardware,
    HostNoise,
    Software,
    environment_hash,
    stable_hash,
)
from results.measure import measure_requests, measure_startup
from results.measure_steps import StepContext, measure_steps
from results.record import (
    Doubt,
    Evidence,
    Failed,
    Invalid,
    Placement,
    RungTried,
    RunRecord,
    Succeeded,
)
from results.samples import RequestSamples, StepSamples
from results.startup import PhaseSource, StartupPhase, StartupTimeline

STARTED = datetime(2026, 11, 23, 17, 0, 0, tzinfo=UTC)
CPU_MODEL = "AMD EPYC 7B13"
SPEC = {
    "name": "quickstart",
    "workload": {
        "kind": "vllm",
        "model": {"preset": "tiny-llama", "seed": 0},
        "engine_args": {"max-model-len": 512, "dtype": "bfloat16"},
    },
    "traffic": {
        "arrivals": {"kind": "poisson", "rate_rps": 4.0},
        "prompt_tokens": {"kind": "uniform", "low": 32, "high": 96},
        "output_tokens": {"kind": "fixed", "tokens": 24},
        "num_requests": 200,
        "seed": 7,
    },
    "slo": {"ttft_s": 0.5, "tpot_s": 0.05},
    "num_repeats": 3,
}
TRAIN_SPEC = {"name": "train-tiny", "workload": {"kind": "torch", "num_workers": 2, "seed": 3}}
TRAIN_RESOLVED = {"backend": "gloo", "parameters": 1_204_224}
RESOLVED = {
    "dtype": "bfloat16",
    "max_model_len": 512,
    "kv_cache_blocks": 1024,
    "enforce_eager": True,
}


@dataclass(frozen=True)
class Runs:
    """Some records and their tables, as ``run_report`` takes them."""

    records: tuple[RunRecord, ...]
    tables: Mapping[tuple[str, str], pa.Table]

    def table(self, record: RunRecord, name: str) -> pa.Table | None:
        return self.tables.get((record.run_id, name))

    def __add__(self, other: Runs) -> Runs:
        return Runs(self.records + other.records, {**self.tables, **other.tables})


def request_samples(
    n: int = 200, *, seed: int = 0, failures: int = 3, warmup: int = 4, rate: float = 4.0
) -> RequestSamples:
    """An open loop: Poisson arrivals, log-normal prefill, one to three tokens a chunk."""
    rng = np.random.default_rng(seed)
    total = n + warmup
    intended = np.cumsum(rng.exponential(1.0 / rate, total))
    dispatched = intended + rng.exponential(4e-4, total)
    first_byte = dispatched + rng.lognormal(-2.6, 0.4, total)
    first = first_byte + rng.exponential(1e-3, total)
    failed = np.zeros(total, dtype=bool)
    failed[warmup + rng.choice(n, failures, replace=False)] = True
    done, errors, status, output = first.copy(), [], np.full(total, 200), np.full(total, -1)
    offsets, event_s, event_tokens = [0], [], []
    for i in range(total):
        if failed[i]:
            how = i % 3
            errors.append(
                ("timeout: no byte for 120 s", "http_500: <b>engine & co</b>", "reset")[how]
            )
            status[i] = (-1, 500, -1)[how]
            done[i] = first[i] + 0.2
            first_byte[i] = first[i] = np.nan
        else:
            chunks = rng.integers(1, 4, rng.integers(8, 14))
            times = first[i] + np.concatenate(
                [[0], np.cumsum(rng.gamma(9, 0.006, len(chunks) - 1))]
            )
            event_s.extend(times)
            event_tokens.extend(chunks)
            output[i], done[i] = chunks.sum(), times[-1] + 2e-4
            errors.append("")
        offsets.append(len(event_s))
    return RequestSamples(
        intended_s=intended,
        dispatched_s=dispatched,
        written_s=dispatched + 1e-4,
        first_byte_s=first_byte,
        first_token_s=first,
        done_s=done,
        prompt_tokens=rng.integers(32, 97, total),
        output_tokens=output.astype(np.int64),
        status=status.astype(np.int64),
        error=np.array(errors, dtype=object),
        is_warmup=np.arange(total) < warmup,
        worker=np.zeros(total, dtype=np.int64),
        event_offset=np.array(offsets, dtype=np.int64),
        event_s=np.array(event_s, dtype=np.float64),
        event_tokens=np.array(event_tokens, dtype=np.int64),
    )


def step_samples(
    num_steps: int = 30, ranks: int = 2, warmup: int = 3, seed: int = 0
) -> StepSamples:
    rng = np.random.default_rng(seed)
    step = np.repeat(np.arange(num_steps), ranks)
    rank = np.tile(np.arange(ranks), num_steps)
    duration = 0.21 + 0.01 * rank + rng.gamma(2, 0.004, len(step))
    duration[step == 0] += 1.4
    start = np.zeros(len(step))
    for r in range(ranks):
        start[rank == r] = np.concatenate([[0.0], np.cumsum(duration[rank == r] + 0.002)[:-1]])
    return StepSamples(
        step=step,
        rank=rank,
        start_s=start,
        duration_s=duration,
        data_wait_s=rng.gamma(2, 0.002, len(step)),
        num_tokens=np.full(len(step), 512),
        loss=2.0 + 5.6 * np.exp(-step / 40) + rng.normal(0, 0.03, len(step)),
        memory_bytes=np.full(len(step), 812_000_000),
        is_warmup=step < warmup,
    )


def startup() -> StartupTimeline:
    """Imports and the weights' streaming overlap; two gaps belong to nobody."""
    rows = [
        ("placed", 0.0, 0.42, PhaseSource.RAY, 0.01, "placement group of 1 bundle"),
        ("process started", 0.42, 0.61, PhaseSource.PROCESS, 0.01, "pid of the API server"),
        ("imports", 0.61, 14.8, PhaseSource.LOG, 0.05, "API server"),
        ("engine imports", 13.2, 28.9, PhaseSource.LOG, 0.05, "engine core"),
        ("weights loaded", 29.6, 30.4, PhaseSource.LOG, 0.05, "9.8 MB of safetensors"),
        ("compiled and warmed", 30.4, 41.0, PhaseSource.OTEL, 0.001, ""),
        ("healthy", 41.0, 43.9, PhaseSource.HTTP, 0.1, "GET /health every 0.1 s"),
        ("first token", 44.4, 45.24, PhaseSource.CLIENT, 0.001, "one request of one token"),
    ]
    phases = tuple(
        StartupPhase(name=n, start_s=a, end_s=b, source=s, resolution_s=r, detail=d)
        for n, a, b, s, r, d in rows
    )
    return StartupTimeline(phases=phases, ready_s=45.24, page_cache=0.12)


def environment(**packages: str) -> Environment:
    return Environment(
        software=Software(
            python="3.11.9",
            windtunnel="0.1.0",
            packages={"vllm": "0.32.0", "torch": "2.13.0+cpu", "ray": "2.60.0", **packages},
            git_sha="d99073389ab0",
        ),
        hardware=(
            Hardware(
                node="node-1",
                cpu_model=CPU_MODEL,
                num_cpus=2,
                memory_bytes=25_200_000_000,
                kernel="6.1.0-25-cloud-amd64",
            ),
        ),
        noise=HostNoise(load_1m_before=0.31, load_1m_after=2.2, cpu_pressure_avg10_before=0.4),
    )


def placement(**changes: Any) -> Placement:
    rungs = (
        RungTried(pool="v6e", capacity="reservation", waited_s=0.0, outcome="no such accelerator"),
        RungTried(pool="cpu-a", capacity="on-demand", waited_s=20.0, outcome="timed_out"),
        RungTried(pool="cpu-b", capacity="spot", waited_s=0.42, outcome="taken"),
    )
    base = Placement(
        pool="cpu-b",
        accelerator="cpu",
        num_chips=0,
        capacity="spot",
        nodes=("node-1",),
        rungs=rungs,
    )
    return replace(base, **changes)


def record(index: int = 0, **changes: Any) -> RunRecord:
    """One succeeded record without numbers of its own."""
    env = environment()
    started = STARTED + timedelta(minutes=4 * index)
    base = RunRecord(
        run_id=f"{started:%Y%m%dT%H%M%SZ}-1f0c3a9b{index:02x}",
        experiment_id="20261123T165959Z-00aa11bb22",
        name="quickstart",
        workload="vllm",
        evidence=Evidence.MEASURED,
        workload_hash=stable_hash(SPEC),
        environment_hash=environment_hash(env, RESOLVED),
        started_at=started,
        ended_at=started + timedelta(seconds=98),
        duration_s=98.2,
        outcome=Succeeded(),
        repeat_index=index,
        num_repeats=3,
        spec=SPEC,
        plan={"rungs": 3, "measuring_s": None},
        resolved=RESOLVED,
        seeds={"traffic": 7, "model": 0},
        placement=placement(),
        environment=env,
    )
    return replace(base, **changes)


def serving_run(index: int = 0, *, samples: RequestSamples | None = None, **changes: Any) -> Runs:
    """(a) a served run: failures, warm-up, a startup with overlaps and a rest, doubts, n/a."""
    samples = samples if samples is not None else request_samples(seed=index)
    bare = record(index, startup=startup())
    doubts = doubts_of(samples, bare.environment, bare.placement)
    invalid = tuple(d.code for d in doubts if d.invalidates)
    full = replace(
        bare,
        measurements=(
            *measure_startup(bare.startup, ""),
            *measure_requests(samples, {"ttft_s": 0.5, "tpot_s": 0.05}, 0),
        ),
        doubts=(
            *doubts,
            Doubt(code="host_busy", message="the host was busy before the run: load 2.4 on 2 CPUs"),
        ),
        outcome=Invalid(reasons=invalid) if invalid else Succeeded(),
    )
    full = replace(full, **changes)
    return Runs((full,), {(full.run_id, "requests"): samples.to_table()})


def training_run(index: int = 0, *, samples: StepSamples | None = None, **changes: Any) -> Runs:
    """(b) a training run of two ranks."""
    samples = samples if samples is not None else step_samples(seed=index)
    phases = startup().phases[:3]
    timeline = StartupTimeline(phases=phases, ready_s=17.1)
    full = record(
        index,
        name="train-tiny",
        workload="torch",
        workload_hash=stable_hash(TRAIN_SPEC),
        spec=TRAIN_SPEC,
        resolved=TRAIN_RESOLVED,
        environment_hash=environment_hash(environment(), TRAIN_RESOLVED),
        startup=timeline,
        measurements=(
            *measure_startup(timeline, ""),
            *measure_steps(samples, StepContext(num_chips=0)),
        ),
        doubts=doubts_of(samples, environment(), placement()),
    )
    full = replace(full, **changes)
    return Runs((full,), {(full.run_id, "steps"): samples.to_table()})


def failed_run(index: int = 0, **changes: Any) -> Runs:
    """(c) a run that died while loading: log tail and rungs, no table."""
    tail = tuple(f"(EngineCore pid=4711) INFO loading shard {i}/12" for i in range(1, 30))
    full = record(
        index,
        outcome=Failed(
            stage="startup",
            error="engine_died",
            message="vllm ended with exit code 1 before it was healthy",
            log_tail=(*tail, "ValueError: max_model_len (99999) is larger than 2048"),
        ),
        environment=None,
        startup=None,
        measurements=measure_startup(None, "the run failed during startup"),
        **changes,
    )
    return Runs((full,), {})


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The factories above, for tests that want a run of their own."""
    return SimpleNamespace(
        Runs=Runs,
        environment=environment,
        failed_run=failed_run,
        placement=placement,
        record=record,
        request_samples=request_samples,
        serving_run=serving_run,
        startup=startup,
        step_samples=step_samples,
        training_run=training_run,
    )


@pytest.fixture(scope="session")
def serving() -> Runs:
    return serving_run(samples=request_samples(failures=1))


@pytest.fixture(scope="session")
def training() -> Runs:
    return training_run()


@pytest.fixture(scope="session")
def failed() -> Runs:
    return failed_run()


@pytest.fixture(scope="session")
def repeats() -> Runs:
    """(d) three repeats of one spec, alike in both hashes."""
    runs = [serving_run(i, samples=request_samples(seed=i, failures=0)) for i in range(3)]
    return runs[0] + runs[1] + runs[2]


@pytest.fixture(scope="session")
def pretended() -> Runs:
    """(e) a simulated run on a virtual pool."""
    return serving_run(
        samples=request_samples(failures=0),
        evidence=Evidence.SIMULATED,
        placement=placement(
            virtual=True, accelerator="TPU-V6E", num_chips=16, topology="4x4", pool="v6e"
        ),
    )
