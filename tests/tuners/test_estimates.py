"""Estimates of hardware that nobody measured, against records made with a known factor."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest
from scipy import stats

from harness.spec import Hardware, RunSpec
from harness.specfile import spec_to_mapping
from results.lookup.table import lookup_of
from results.measurement import Measurement
from results.recommendation.answer import Flag
from results.recommendation.build import build
from results.recommendation.estimate import Estimate
from results.recommendation.observation import Observation
from results.recommendation.observe import observe
from results.recommendation.profile import EvidenceKind
from results.recommendation.question import ALLOWED, Question, Target
from results.record import Evidence, RunRecord
from results.testing import make_record
from tuners.estimates import estimator, measured_specs
from tuners.predict import forecasts_of
from tuners.transfer import MARGIN
from workloads.params import VllmWorkload
from workloads.traffic.spec import ClosedLoop, FixedLength, Traffic

NOW = datetime(2026, 12, 1, tzinfo=UTC)
MODEL = "llama-3.1-8b"
NUMBERS = count()


def spec(chip: str, seqs: int = 8, model: str = MODEL, tensor: int = 1) -> RunSpec:
    return RunSpec(
        name="run",
        workload=VllmWorkload(
            model=model,
            tensor_parallel_size=tensor,
            engine_args={"max-num-seqs": seqs, "max-model-len": 4096},
        ),
        traffic=Traffic(
            arrivals=ClosedLoop(num_users=256),
            prompt_tokens=FixedLength(tokens=512),
            output_tokens=FixedLength(tokens=128),
            duration_s=30.0,
        ),
        hardware=(Hardware(accelerator=chip, num_chips=tensor),),
    )


def record(of: RunSpec, slower: float, evidence: Evidence = Evidence.MEASURED) -> RunRecord:
    """As if the hardware took ``slower`` times what the arithmetic says."""
    found = forecasts_of(of)
    assert not isinstance(found, str)
    index = next(NUMBERS)
    made = make_record(index=index, evidence=evidence, spec=spec_to_mapping(of))
    assert made.placement is not None
    place = replace(
        made.placement,
        accelerator=of.hardware[0].accelerator,
        num_chips=of.hardware[0].num_chips,
    )
    values = {
        ("output_throughput", "value"): found["output_throughput"] / slower,
        ("tpot_s", "p50"): found["tpot_s"] * slower,
        ("ttft_s", "p99"): found["ttft_s"] * slower,
    }
    return replace(
        made,
        placement=place,
        measurements=tuple(
            Measurement(metric=m, statistic=s, value=v, n=5000) for (m, s), v in values.items()
        ),
    )


def estimates(
    records: list[RunRecord], chip: str, model: str = MODEL
) -> dict[tuple[int, int], Estimate]:
    """By tensor-parallel size and sequences at once."""
    found = estimator(records, NOW)
    made, _ = found.estimates(measured_specs(found, model), [chip])
    return {
        (e.machine.num_chips, int(e.configuration.engine_args["max-num-seqs"])): e for e in made
    }


def value(one: Estimate, metric: str) -> float:
    (found,) = [s for s in one.statistics if s.metric == metric]
    assert found.value is not None
    return found.value


def expect(chip: str, seqs: int, metric: str, tensor: int = 1) -> float:
    found = forecasts_of(spec(chip, seqs, tensor=tensor))
    assert not isinstance(found, str)
    return found[metric]


def test_what_was_measured_elsewhere_is_scored_again_with_a_margin() -> None:
    """Half again as slow as the arithmetic on H200; H100 was never measured."""
    one = estimates([record(spec("H200"), 1.5)], "H100")[1, 8]
    assert one.kind is EvidenceKind.TRANSFERRED
    tpot = expect("H100", 8, "tpot_s") * 1.5
    assert value(one, "tpot_s") == pytest.approx(tpot * (1 + MARGIN))
    throughput = expect("H100", 8, "output_throughput") / 1.5
    assert value(one, "output_throughput") == pytest.approx(throughput / (1 + MARGIN))
    assert one.rate_rps == pytest.approx(throughput / (1 + MARGIN) / 128)
    assert one.concurrency == 256.0
    assert one.estimated.transferred_from == "H200"
    assert all(s.low is None for s in one.statistics)  # one run proves no rule
    # An interval of the throughput is not cut at the value that has the margin.
    chips = [record(spec(c), f) for c, f in (("H200", 1.0), ("B200", 1.2), ("L4", 1.1))]
    (rate,) = [
        s for s in estimates(chips, "H100")[1, 8].statistics if s.metric == "output_throughput"
    ]
    assert rate.low is not None and rate.high is not None and rate.value is not None
    assert rate.low < rate.value < rate.high
    assert "not known" in one.estimated.words


def test_other_sizes_and_what_nobody_measured_are_arithmetic() -> None:
    measured = [record(spec("H200", n), 1.3) for n in (4, 8, 16)]
    found = estimates(measured, "H100")
    assert found[1, 4].kind is EvidenceKind.TRANSFERRED
    assert found[2, 4].kind is EvidenceKind.ANALYTIC
    assert found[2, 4].estimated.calibrated_on == "H200"
    expected = expect("H100", 4, "tpot_s", tensor=2) * 1.3 * (1 + MARGIN)
    assert value(found[2, 4], "tpot_s") == pytest.approx(expected)
    assert set(estimates(measured, "H200")) == {(n, s) for n in (2, 4, 8) for s in (4, 8, 16)}


def test_what_is_usual_here_comes_before_what_is_usual_there() -> None:
    """H200 is 1.2 times the arithmetic, but 1.8 at 32 sequences; H100 is 2.0 times."""
    there = [record(spec("H200", n), 1.8 if n == 32 else 1.2) for n in (4, 8, 16, 32)]
    here = [record(spec("H100", n), 2.0) for n in (4, 8, 16)]
    one = estimates([*there, *here], "H100")[1, 32]
    expected = expect("H100", 32, "tpot_s") * 2.0 * (1.8 / 1.2) * (1 + MARGIN)
    assert value(one, "tpot_s") == pytest.approx(expected)
    assert one.estimated.calibrated_on == "H100"


def test_the_interval_is_how_far_estimates_of_the_kind_were_off() -> None:
    """Carried from H200 to L4's neighbours: each chip is off by its own factor."""
    slower = {"H200": 1.0, "A100-80G": 1.2, "B200": 1.1}
    records = [record(spec(chip), factor) for chip, factor in slower.items()]
    one = estimates(records, "H100")[1, 8]
    (tpot,) = [s for s in one.statistics if s.metric == "tpot_s"]
    # One configuration on three chips: each is estimated from the last of the others by name.
    source = {"H200": "B200", "A100-80G": "H200", "B200": "H200"}
    errors = [math.log(slower[c] / slower[source[c]]) for c in slower]
    spread = math.sqrt(sum(e * e for e in errors) / 3)
    half = stats.t.ppf(0.975, 3) * spread
    estimate = expect("H100", 8, "tpot_s") * slower["H200"]
    assert tpot.low == pytest.approx(estimate * math.exp(-half))
    assert tpot.high == pytest.approx(estimate * math.exp(half))
    assert one.estimated.num_checked == 3


def test_arithmetic_is_checked_by_forgetting_what_was_measured_elsewhere() -> None:
    """Two chips, each off by one factor: borrowed from one, the other is off by their ratio."""
    records = [record(spec(c, n), f) for c, f in (("H200", 1.2), ("B200", 1.5)) for n in (4, 8, 16)]
    one = estimates(records, "H100")[2, 8]
    (tpot,) = [s for s in one.statistics if s.metric == "tpot_s"]
    assert one.kind is EvidenceKind.ANALYTIC and one.estimated.calibrated_on in ("H200", "B200")
    factor = {"H200": 1.2, "B200": 1.5}[one.estimated.calibrated_on]
    half = stats.t.ppf(0.975, 6) * math.log(1.5 / 1.2)
    estimate = expect("H100", 8, "tpot_s", tensor=2) * factor
    assert tpot.low == pytest.approx(estimate * math.exp(-half))
    assert tpot.high == pytest.approx(estimate * math.exp(half))


def test_a_model_that_nobody_measured_is_arithmetic_alone() -> None:
    found = estimator([], NOW)
    made, _ = found.estimates([spec("H100")], ["H100"])
    one = next(e for e in made if e.machine.num_chips == 1)
    assert {s.statistic for s in one.statistics if s.metric == "ttft_s"} == {"unstated"}
    assert value(one, "ttft_s") == pytest.approx(expect("H100", 8, "ttft_s") * (1 + MARGIN))
    assert "arithmetic alone" in one.estimated.words and one.run_ids == ()


def test_simulations_guide_nobody_and_what_does_not_fit_is_left_out() -> None:
    assert estimates([record(spec("H200"), 1.5, Evidence.SIMULATED)], "H100") == {}
    large = replace(spec("H200"), workload=VllmWorkload(model="llama-3.1-70b"))
    found = estimator([], NOW)
    made, none = found.estimates([large], ["L4"])
    assert {e.machine.num_chips for e in made} <= {8}
    assert none["does not fit, or the engine refuses it"] >= 3


def test_an_estimate_answers_only_who_allows_it_and_says_so() -> None:
    records = [record(spec("H200", n), 1.5) for n in (4, 8, 16)]
    found = estimator(records, NOW)
    made, _ = found.estimates(measured_specs(found, MODEL), ["H100"])
    runs = [o for o in map(observe, records) if isinstance(o, Observation)]
    lookup = lookup_of(build(runs, (), made).profiles)
    question = Question(model=MODEL, accelerators=("H100",))
    none = lookup.answer(question, NOW).no_answer
    assert none is not None and none.binding == "hardware"
    assert "an estimate says that" in none.words
    bare = lookup_of(build((), (), made).profiles).answer(question, NOW).no_answer
    assert bare is not None and bare.binding == "not_estimated" and "--allow" in bare.words
    assert "H100" in none.measure_next[0].what and none.measure_next[0].profile_id
    told = lookup.answer(replace(question, allow=ALLOWED), NOW)
    first = told.recommendations[0]
    assert first.flags[0] in (Flag.TRANSFERRED, Flag.ANALYTIC)
    assert first.probability == 1.0 and not first.targets
    assert any("#1 is an estimate" in c and "nothing that was measured" in c for c in told.comments)
    wide = lookup.answer(replace(question, accelerators=(), allow=ALLOWED), NOW)
    best = lookup.answer(replace(question, accelerators=()), NOW).recommendations[0].profile
    if wide.recommendations[0].profile.evidence.estimated is not None:
        assert any(
            best.profile_id in c or "the best that was measured is #" in c for c in wide.comments
        )
    assert any(note.startswith(("transferred:", "analytic:")) for note in first.notes)
    only = lookup.answer(replace(question, allow=("transferred",)), NOW).recommendations
    assert {r.profile.evidence.kind for r in only} == {EvidenceKind.TRANSFERRED}
    # No estimate keeps a probability; none has one.
    sure = replace(
        question,
        allow=ALLOWED,
        targets=(Target(metric="ttft_s", limit_s=1e6, percentile=99),),
        probability=0.5,
    )
    missed = lookup.answer(sure, NOW).no_answer
    assert missed is not None and missed.binding == "probability"


def test_a_measurement_replaces_its_estimate_and_a_retraction_takes_it_away() -> None:
    records = [record(spec("H200"), 1.5)]
    made = list(estimates(records, "H100").values())
    runs = [o for o in map(observe, records) if isinstance(o, Observation)]
    kinds = [p.evidence.kind for p in build(runs, (), made).profiles]
    assert kinds.count(EvidenceKind.TRANSFERRED) == 1
    later = observe(record(spec("H100"), 1.9))
    assert isinstance(later, Observation)
    kinds = [p.evidence.kind for p in build([*runs, later], (), made).profiles]
    assert EvidenceKind.TRANSFERRED not in kinds
    newer = replace(made[0], estimated=replace(made[0].estimated, made_at=NOW.replace(day=2)))
    (kept,) = [p for p in build((), (), [newer, made[0]]).profiles if p.machine.num_chips == 1]
    assert kept.evidence.estimated is not None and kept.evidence.estimated.made_at.day == 2
