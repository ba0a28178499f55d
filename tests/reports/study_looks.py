"""Studies as a page meets them: made up, with a shape that is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from reports.study_told import (
    BoundTold,
    CandidateTold,
    ForeseenTold,
    GainTold,
    GoalTold,
    ImportanceTold,
    KnobTold,
    ProgressPoint,
    StudyTold,
    TrialState,
    TrialTold,
    Value,
)

STARTED = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SEQS = "workload.engine_args.max-num-seqs"
BATCHED = "workload.engine_args.max-num-batched-tokens"
PREFIX = "workload.engine_args.enable-prefix-caching"
KV = "workload.engine_args.kv-cache-dtype"
THROUGHPUT = GoalTold(name="output_throughput", metric="output_throughput", statistic="value")
COST = GoalTold(name="startup_s", metric="startup_s", statistic="value")
LATENCY = GoalTold(name="tpot_s_p99", metric="tpot_s", statistic="p99")
TTFT = BoundTold(name="ttft_s_p99", metric="ttft_s", statistic="p99", limit=0.5, margin=0.05)
TPOT = BoundTold(name="tpot_s_p50", metric="tpot_s", statistic="p50", limit=0.05, margin=0.05)
KNOBS = (
    KnobTold(path=SEQS, label="max-num-seqs", values=(None, 4, 8, 16, 32, 64, 128, 256)),
    KnobTold(path=BATCHED, label="max-num-batched-tokens", values=(None, 512, 1024, 2048, 4096)),
    KnobTold(path=PREFIX, label="enable-prefix-caching", values=(None, False)),
    KnobTold(path=KV, label="kv-cache-dtype", values=(None, "fp8")),
)
MESSAGE = (
    "the engine ended with exit code 1 before it was healthy: torch.OutOfMemoryError: CUDA out of "
    "memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.18 GiB"
)


def trial(number: int, config: dict[str, Value], phase: str = "search", seed: int = 0) -> TrialTold:
    """More at once is faster and later; beyond 128 memory runs out."""
    rng = np.random.default_rng([seed, number])
    seqs = config.get(SEQS) or 32
    batched = config.get(BATCHED) or 2048
    assert isinstance(seqs, int)
    assert isinstance(batched, int)
    run_id = f"20261124T09{number:02d}00Z-5f0a7c11{number:02x}"
    base = TrialTold(
        number=number,
        branch="",
        phase=phase,
        config=config,
        state=TrialState.KEEPS,
        run_id=run_id,
        started_at=STARTED + timedelta(minutes=2 * number),
        wall_s=96.0 + rng.normal(0, 4),
        startup_s=41.0 + rng.normal(0, 1),
        chip_hours=96.0 / 3600,
        usd=0.08,
    )
    if seqs >= 256:
        return replace(
            base, state=TrialState.FAILED, kind="oom_under_load", message=MESSAGE, startup_s=None
        )
    if number % 13 == 9:
        why = "the client sent 14 % of its requests late"
        return replace(base, state=TrialState.INVALID, kind="invalid", message=why)
    noise = float(rng.lognormal(0, 0.02))
    throughput = 4000.0 * seqs / (seqs + 24) * (1.1 if config.get(KV) else 1.0) * noise
    ttft_s = 0.06 + 0.0042 * seqs * (2048 / batched) ** 0.3 * noise
    tpot_s = 0.008 + 0.00028 * seqs * noise
    keeps = ttft_s <= 0.475 and tpot_s <= 0.0475
    return replace(
        base,
        state=TrialState.KEEPS if keeps else TrialState.BREAKS,
        goals={
            "output_throughput": throughput,
            "tpot_s_p99": tpot_s * 1.6,
            "startup_s": 40.0 + seqs / 20,
        },
        bounds={"ttft_s_p99": ttft_s, "tpot_s_p50": tpot_s},
    )


def configs(n: int, seed: int = 3) -> list[dict[str, Value]]:
    rng = np.random.default_rng(seed)
    return [{k.path: k.values[int(rng.integers(len(k.values)))] for k in KNOBS} for _ in range(n)]


def candidate(config: dict[str, Value], verdict: str, probability: float | None) -> CandidateTold:
    seen = trial(3, config, seed=9)
    return CandidateTold(
        config=config,
        verdict=verdict,
        why="" if verdict == "passed" else "below 0.95",
        probability=probability,
        by_bound={} if probability is None else {"ttft_s_p99": probability, "tpot_s_p50": 0.9999},
        num_runs=3,
        num_failed=0,
        goals=seen.goals,
        bounds=seen.bounds,
        goal_bounds={name: (0.97 * v, 1.03 * v) for name, v in seen.goals.items()},
        run_ids=("20261124T110000Z-aa00000001", "20261124T110200Z-aa00000002"),
    )


WINNER: dict[str, Value] = {SEQS: 64, BATCHED: 4096, PREFIX: None, KV: "fp8"}
SECOND: dict[str, Value] = {SEQS: 128, BATCHED: 4096, PREFIX: None, KV: "fp8"}


def study(num_trials: int = 30, goals: tuple[GoalTold, ...] = (THROUGHPUT,)) -> StudyTold:
    """An ended study of one goal and two limits, with a winner."""
    made = [trial(1, {}, "baseline")]
    for i, config in enumerate([WINNER, *configs(num_trials - 2)], 2):
        made.append(trial(i, config, "seed" if i < 10 else "search"))
    again = [
        replace(trial(len(made) + i, c, "remeasure"), number=len(made) + i)
        for i, c in enumerate([{}, WINNER, SECOND] * 3, 1)
    ]
    keeps = [t for t in made if t.is_search and t.state is TrialState.KEEPS]
    best, progress = 0.0, []
    for one in keeps:
        best = max(best, one.goals["output_throughput"])
        share = best if len(goals) == 1 else min(best / 4500, 1.0)
        progress.append(ProgressPoint(number=one.number, value=share))
    return StudyTold(
        name="chat-on-h100",
        state="ended",
        state_words="30 trials",
        evidence="measured",
        workload="vllm",
        model="meta-llama/Llama-3.1-8B-Instruct",
        goals=goals,
        bounds=(TTFT, TPOT) if len(goals) == 1 else (TTFT,),
        knobs=KNOBS,
        trials=(*made, *again),
        probability_wanted=0.95,
        num_trials_asked=num_trials,
        baseline=candidate({}, "measure", None),
        remeasured=(candidate(SECOND, "rejected", 0.41), candidate(WINNER, "passed", 0.991)),
        winner=candidate(WINNER, "passed", 0.991),
        gain=GainTold(ratio=1.234, low=1.19, high=1.28, num_pairs=3),
        front=tuple(t.number for t in keeps if t.number % 3 == 0),
        progress=tuple(progress),
        importances=(
            ImportanceTold(path=SEQS, share=0.71, low=0.52, high=0.83),
            ImportanceTold(path=KV, share=0.17, low=0.05, high=0.31),
            ImportanceTold(path=BATCHED, share=0.09, low=0.02, high=0.22),
            ImportanceTold(path=PREFIX, share=0.03, low=0.0, high=0.08),
        ),
        num_foreseen=2,
        foreseen=(
            ForeseenTold(config={SEQS: 256, KV: None}, why="weights 15.0 GiB and 4.8 GiB beside …"),
        ),
        baseline_config={SEQS: "left to the engine", KV: "auto"},
        resolved_baseline={"max_num_seqs": "1024", "kv_cache_dtype": "auto", "dtype": "bfloat16"},
        resolved_winner={"max_num_seqs": "64", "kv_cache_dtype": "fp8", "dtype": "bfloat16"},
        wall_s=3744.0,
        chip_hours=1.04,
        usd=3.12,
        started_at=STARTED,
        ended_at=STARTED + timedelta(hours=2),
        command="windtunnel tune studies/chat-on-h100.yaml --prices prices.yaml",
        deploy=f"windtunnel run runs/chat.yaml --set {SEQS}=64 --set {BATCHED}=4096 --set {KV}=fp8",
        winner_spec="name: chat-on-h100\nworkload:\n  kind: vllm\n",
    )


def bare(**changes: object) -> StudyTold:
    """A study of which nothing is known yet."""
    empty = StudyTold(
        name="half-done",
        state="interrupted",
        state_words="its driver died; `windtunnel tune --resume` goes on",
        evidence="",
        workload="",
        model="",
        goals=(THROUGHPUT,),
        bounds=(TTFT,),
        knobs=(),
        trials=(),
        probability_wanted=0.95,
        why_none="no trial was made",
        why_no_importances="no knob had two values among the trials measured",
        why_no_usd="no chips were used, and CPUs have no price",
    )
    return replace(empty, **changes)  # type: ignore[arg-type]
