"""Runs become profiles: what is a repeat, what is history, what is told and not counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from scipy import stats

from results.environment import Environment, Hardware, Software
from results.measurement import Measurement
from results.recommendation.build import SEARCH_ONLY, build
from results.recommendation.flags import EvidenceFlag, FlagKind
from results.recommendation.observation import LeftOut, Observation
from results.recommendation.observe import observe
from results.recommendation.profile import EvidenceKind, Profile
from results.record import Evidence, Failed, Invalid, Placement, RunRecord, Succeeded

START = datetime(2026, 11, 1, tzinfo=UTC)
TRAFFIC = {
    "arrivals": {"kind": "poisson", "rate_rps": 4.0},
    "prompt_tokens": {"kind": "fixed", "tokens": 1000},
    "output_tokens": {"kind": "fixed", "tokens": 200},
    "seed": 0,
    "duration_s": 60.0,
}


def a_record(number: int, **changes: Any) -> RunRecord:
    """Run ``number``: day by day, TTFT p99 of 0.4 s + 10 ms each."""
    at = START + timedelta(days=number)
    version = changes.pop("version", "0.32.0")
    ttft = changes.pop("ttft", 0.4 + 0.01 * number)
    measured = {
        ("ttft_s", "p99"): ttft,
        ("achieved_rate", "value"): 4.0,
        ("prompt_throughput", "value"): 4200.0,
        ("output_throughput", "value"): 800.0,
        ("e2e_s", "mean"): 5.0,
    }
    record = RunRecord(
        run_id=f"{at:%Y%m%dT%H%M%SZ}-{number:010x}",
        experiment_id="e",
        name="n",
        workload="vllm",
        evidence=Evidence.MEASURED,
        workload_hash="w",
        environment_hash=f"env-{version}",
        started_at=at,
        ended_at=at + timedelta(minutes=5),
        duration_s=300.0,
        outcome=Succeeded(),
        spec={
            "workload": {
                "kind": "vllm",
                "model": "Qwen/Qwen3-32B",
                "tensor_parallel_size": 2,
                "engine_args": {"max-num-seqs": 64, "dtype": None},
                "env": {"HF_TOKEN": "hf_secret", "VLLM_USE_V1": "1"},
            },
            "traffic": TRAFFIC | {"seed": number},
            "tags": changes.pop("tags", {}),
        },
        placement=Placement(
            pool="p", accelerator="H100", num_chips=2, capacity="spot", nodes=("a",),
            zone="us-central1-b",
        ),
        environment=Environment(
            software=Software(python="3.11", windtunnel="1", packages={"vllm": version}),
            hardware=(
                Hardware(
                    node="a", cpu_model="C", num_cpus=1, memory_bytes=1, kernel="6.1", driver="570"
                ),
            ),
        ),
        measurements=tuple(
            Measurement(metric=m, statistic=s, value=v, n=5000) for (m, s), v in measured.items()
        ),
    )  # fmt: skip
    return replace(record, **changes)


def observed(*records: RunRecord) -> list[Observation]:
    found = [observe(record) for record in records]
    assert all(isinstance(one, Observation) for one in found)
    return [one for one in found if isinstance(one, Observation)]


def only(*records: RunRecord) -> Profile:
    (profile,) = build(observed(*records)).profiles
    return profile


def test_repeats_become_one_profile_with_students_interval() -> None:
    profile = only(a_record(0), a_record(1), a_record(2))
    ttft = profile.statistic("ttft_s", "p99")
    assert ttft is not None and ttft.value == pytest.approx(0.41)
    low, high = stats.t.interval(0.95, 2, loc=0.41, scale=0.01 / 3**0.5)
    assert (ttft.low, ttft.high) == (pytest.approx(low), pytest.approx(high))
    assert profile.evidence.repeats == 3
    assert profile.evidence.first_measured == START
    assert profile.evidence.seconds_per_run == 300.0
    assert profile.load.input_tokens == pytest.approx(1050.0)  # as sent, not as asked
    assert profile.load.output_tokens == pytest.approx(200.0)
    assert profile.load.concurrency == pytest.approx(20.0)  # Little: 4/s × 5 s
    assert profile.machine.region == "us-central1"
    assert profile.configuration.parallelism == {"tensor": 2}
    assert profile.configuration.engine_args == {"max-num-seqs": 64}


def test_a_single_run_has_no_interval_and_says_so() -> None:
    ttft = only(a_record(0)).statistic("ttft_s", "p99")
    assert ttft is not None
    assert (ttft.low, ttft.high, ttft.log_spread) == (None, None, None)
    assert ttft.reason == "one run: no interval"


def test_secrets_of_the_environment_are_not_kept() -> None:
    assert only(a_record(0)).configuration.env == {"HF_TOKEN": "(left out)", "VLLM_USE_V1": "1"}


def test_failed_and_invalid_runs_are_told_and_never_counted() -> None:
    died = Failed(stage="startup", error="oom_at_load", message="out of memory")
    profile = only(
        a_record(0),
        a_record(1, outcome=Invalid(reasons=("client_late",)), ttft=9.0),
        a_record(2, outcome=died, measurements=(), environment=None, environment_hash=""),
        a_record(3, outcome=died, measurements=()),
    )
    assert profile.evidence.repeats == 1
    assert profile.evidence.num_invalid == 1
    assert profile.evidence.failures == {"oom_at_load": 2}


def test_what_never_worked_has_no_profile_and_is_counted() -> None:
    died = Failed(stage="startup", error="engine_died", message="x")
    built = build(observed(a_record(0, outcome=died), a_record(1, outcome=died)))
    assert built.profiles == ()
    (one,) = built.fruitless
    assert (one.model, one.error, one.num_runs) == ("Qwen/Qwen3-32B", "engine_died", 2)


def test_virtual_pools_and_trainings_are_left_out() -> None:
    placed = a_record(0).placement
    assert placed is not None
    virtual = observe(a_record(0, placement=replace(placed, virtual=True)))
    assert isinstance(virtual, LeftOut) and "virtual" in virtual.reason
    assert isinstance(observe(a_record(0, workload="torch")), LeftOut)


def test_the_probes_of_a_study_decide_what_is_measured_and_are_no_measurement() -> None:
    whole = a_record(0)
    tags = {"study": "s", "study.load": '{"window": "probe"}'}
    probe = replace(whole, spec={**whole.spec, "tags": tags})
    left = observe(probe)
    assert isinstance(left, LeftOut) and "probe" in left.reason
    died = Failed(stage="load", error="engine_died", message="x")
    assert isinstance(observe(replace(probe, outcome=died)), Observation)
    full = {**tags, "study.load": '{"window": "full"}'}
    assert isinstance(observe(replace(whole, spec={**whole.spec, "tags": full})), Observation)


def test_simulated_runs_are_another_kind() -> None:
    assert only(a_record(0, evidence=Evidence.SIMULATED)).evidence.kind is EvidenceKind.SIMULATED
    both = build(observed(a_record(0), a_record(1, evidence=Evidence.SIMULATED)))
    assert len(both.profiles) == 2


def test_a_newer_engine_supersedes_and_makes_stale() -> None:
    built = build(observed(a_record(0), a_record(1, version="0.33.0"), a_record(2)))
    old = next(p for p in built.profiles if p.configuration.model_server_version == "0.32.0")
    new = next(p for p in built.profiles if p.configuration.model_server_version == "0.33.0")
    assert old.evidence.repeats == 2
    assert (old.superseded_by, new.supersedes) == (new.profile_id, old.profile_id)
    assert new.superseded_by == ""
    assert old.evidence.stale and "0.33.0" in old.evidence.why_stale
    assert not new.evidence.stale


def test_another_load_is_another_profile_of_the_same_configuration() -> None:
    busier = a_record(1)
    traffic = TRAFFIC | {"arrivals": {"kind": "poisson", "rate_rps": 9.0}}
    busier = replace(busier, spec={**busier.spec, "traffic": traffic})
    built = build(observed(a_record(0), busier))
    assert len(built.profiles) == 2
    assert len({p.configuration_id for p in built.profiles}) == 1


def test_flags_retract_and_make_stale() -> None:
    runs = observed(a_record(0), a_record(1))

    def flag(kind: FlagKind) -> EvidenceFlag:
        return EvidenceFlag(kind=kind, run_ids=(runs[1].run_id,), message="new driver", at=START)

    (kept,) = build(runs, [flag(FlagKind.RETRACTED)]).profiles
    assert kept.evidence.run_ids == (runs[0].run_id,)
    (stale,) = build(runs, [flag(FlagKind.DRIFT)]).profiles
    assert stale.evidence.repeats == 2
    assert stale.evidence.stale and "new driver" in stale.evidence.why_stale


def test_runs_that_a_search_made_do_not_count_beside_fresh_ones() -> None:
    wish = '{"bounds": [], "goals": [{"metric": "output_throughput", "statistic": "value"}]}'

    def tags(phase: str) -> dict[str, str]:
        return {"study": "s", "study.phase": phase, "study.wish": wish}

    lucky = a_record(0, tags=tags("search"), ttft=0.1)
    fresh = [a_record(n, tags=tags("remeasure"), ttft=0.4) for n in (1, 2)]
    ttft = only(lucky, *fresh).statistic("ttft_s", "p99")
    assert ttft is not None and ttft.value == pytest.approx(0.4) and ttft.num_runs == 2
    assert SEARCH_ONLY in only(lucky).doubts


def test_improvement_is_against_the_studys_own_baseline() -> None:
    wish = '{"bounds": [], "goals": [{"metric": "output_throughput", "statistic": "value"}]}'
    records = []
    for number, (phase, seqs, rate) in enumerate(
        [("baseline", 64, 800.0), ("remeasure", 64, 800.0), ("remeasure", 128, 1000.0),
         ("remeasure", 128, 1000.0)]
    ):  # fmt: skip
        tags = {"study": "s", "study.phase": phase, "study.wish": wish}
        record = a_record(number, tags=tags)
        workload = {**record.spec["workload"], "engine_args": {"max-num-seqs": seqs}}
        measurements = tuple(
            replace(m, value=rate) if m.metric == "output_throughput" else m
            for m in record.measurements
        )
        records.append(
            replace(record, spec={**record.spec, "workload": workload}, measurements=measurements)
        )
    built = build(observed(*records))
    better = next(p for p in built.profiles if p.configuration.engine_args["max-num-seqs"] == 128)
    base = next(p for p in built.profiles if p.configuration.engine_args["max-num-seqs"] == 64)
    assert better.improvement is not None
    assert better.improvement.baseline_profile_id == base.profile_id
    assert better.improvement.ratio == pytest.approx(1.25)
    low, high = better.improvement.low, better.improvement.high
    assert low is not None and high is not None and low < 1.25 < high
    assert base.improvement is None


def test_the_order_of_the_runs_does_not_matter() -> None:
    runs = observed(*(a_record(n, version=f"0.{30 + n % 3}.0") for n in range(6)))
    assert build(runs) == build(list(reversed(runs)))
