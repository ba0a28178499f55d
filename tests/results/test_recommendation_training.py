"""Trainings become profiles and answers: what is the same step, what it costs, what is left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from scipy import stats

from results.api.encode import answer_document
from results.lookup.table import TableLookup, lookup_of
from results.measurement import Measurement
from results.prices import PriceBook, PriceTable
from results.recommendation.answer import Answer, Flag
from results.recommendation.build import build
from results.recommendation.compare import accelerators_with, compare_pools
from results.recommendation.observation import LeftOut, Observation
from results.recommendation.observe import observe
from results.recommendation.profile import Profile
from results.recommendation.question import Objective, Question
from results.record import Evidence, Failed, Placement, RunRecord, Succeeded

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
PRICES = PriceBook(
    tables=(
        PriceTable(
            as_of=date(2026, 11, 1),
            source="test",
            usd_per_chip_hour={"H100": {"on-demand": 4.0}, "H200": {"on-demand": 6.0}},
        ),
    )
)


def a_training(
    number: int, *, rate: float, accelerator: str = "H100", chips: int = 8, **knobs: Any
) -> RunRecord:
    """A run of 100 steps; ``rate`` in tokens per second of all chips, on one node."""
    at = START + timedelta(hours=number)
    kind = knobs.pop("kind", "torch")
    resolved = knobs.pop("resolved", {})
    workload = {
        "kind": kind, "preset": "8b", "num_workers": 8, "num_steps": 100, "num_warmup_steps": 10,
        "micro_batch_size": 2, "sequence_length": 4096, "precision": "bfloat16",
        "learning_rate": 3e-4, "seed": number, "strategy": "fsdp2", "tensor_parallel_size": 1,
        "gradient_accumulation_steps": 1, "communication": "all", **knobs,
    }  # fmt: skip
    values = {
        ("training_throughput", "value"): rate,
        ("training_throughput_per_chip", "value"): rate / max(chips, 1),
        ("step_time_s", "p50"): 65536 / rate,
        ("mfu", "value"): 0.4,
        ("startup_s", "value"): 360.0,
        ("peak_memory_bytes", "value"): 6e10,
        ("final_loss", "value"): 5.0 + number / 100,
    }
    return RunRecord(
        run_id=f"{at:%Y%m%dT%H%M%SZ}-{number:010x}",
        experiment_id="e",
        name="n",
        workload=kind,
        evidence=Evidence.MEASURED,
        workload_hash="w",
        environment_hash="env",
        started_at=at,
        ended_at=at,
        duration_s=600.0,
        outcome=Succeeded(),
        spec={"workload": workload},
        resolved=resolved,
        placement=Placement(
            pool="p", accelerator=accelerator, num_chips=chips, capacity="on-demand", nodes=("a",)
        ),
        measurements=tuple(
            Measurement(metric=m, statistic=s, value=v, n=90)
            for (m, s), v in values.items()
            if chips or not m.endswith("per_chip")
        ),
    )


def profiles(*records: RunRecord) -> tuple[Profile, ...]:
    found = [observe(record) for record in records]
    return build(one for one in found if isinstance(one, Observation)).profiles


def three(rate: float, first: int = 0, **more: Any) -> list[RunRecord]:
    """Repeats whose rates are 1 % apart."""
    return [a_training(first + k, rate=rate * (1 + 0.01 * (k - 1)), **more) for k in range(3)]


def table(*records: RunRecord, prices: PriceBook = PRICES) -> TableLookup:
    return lookup_of(profiles(*records), prices)


def ask(lookup: TableLookup, **asked: Any) -> Answer:
    question = Question(use_case="training", **asked)
    one, other = (lookup.answer(question, NOW, written=written) for written in (False, True))
    assert answer_document(one) == answer_document(other)
    return one


def test_repeats_of_one_step_are_one_profile_however_they_compute_it() -> None:
    split = three(40_000.0, 10, micro_batch_size=1, gradient_accumulation_steps=2)
    found = profiles(*three(50_000.0), *split)
    assert len(found) == 2
    steps = [p.training for p in found]
    assert {s.sequences_per_step for s in steps if s} == {16}
    assert {s.tokens_per_step for s in steps if s} == {16 * 4096}
    assert all(p.evidence.repeats == 3 for p in found)
    assert all(p.configuration.parallelism == {"fsdp": 8} for p in found)
    rate = next(
        s
        for p in found
        if p.configuration.engine_args["micro_batch_size"] == 2
        for s in p.statistics
        if s.metric == "training_throughput"
    )
    low, high = stats.t.interval(0.95, 2, loc=50_000, scale=500 / 3**0.5)
    assert (rate.low, rate.high) == (pytest.approx(low), pytest.approx(high))


def test_a_mesh_of_jax_says_how_many_sequences_a_step_has() -> None:
    """Two workers of four devices: a tensor group of eight spans both, and they share a batch."""
    mesh = {"mesh": {"data": 1, "fsdp": 1, "tensor": 8}, "num_devices_per_worker": 4}
    knobs = {"num_workers": 2, "tensor_parallel_size": 8}
    (wide,) = profiles(a_training(0, rate=1e4, kind="jax", resolved=mesh, **knobs))
    assert wide.training is not None and wide.training.sequences_per_step == 2
    mesh = {"mesh": {"data": 1, "fsdp": 4, "tensor": 2}, "num_devices_per_worker": 4}
    (narrow,) = profiles(
        a_training(0, rate=1e4, kind="jax", resolved=mesh, num_workers=2, tensor_parallel_size=2)
    )
    assert narrow.training is not None and narrow.training.sequences_per_step == 4
    assert narrow.configuration.parallelism == {"fsdp": 4, "tensor": 2}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"communication": "none"}, "control"),
        ({"preset": ""}, "what was trained"),
        ({"num_workers": 3, "tensor_parallel_size": 2}, "how many sequences"),
    ],
)
def test_what_is_no_evidence_for_a_training_says_why(change: dict[str, Any], why: str) -> None:
    found = observe(a_training(0, rate=1.0, **change))
    assert isinstance(found, LeftOut) and why in found.reason
    struck = a_training(0, rate=1.0)
    struck = replace(struck, spec={**struck.spec, "faults": [{"kind": "kill_worker"}]})
    assert isinstance(observe(struck), LeftOut)


def test_time_and_money_follow_from_the_rate_with_its_interval() -> None:
    (one,) = ask(table(*three(50_000.0)), model="8b", training_tokens=1e9).recommendations
    figures = one.training
    assert figures is not None and figures.hours is not None and figures.usd is not None
    assert figures.usd_per_million_tokens is not None
    seconds = 1e9 / 50_000
    assert figures.hours.value == pytest.approx((360 + seconds) / 3600)
    assert figures.usd.value == pytest.approx(32.0 * (360 + seconds) / 3600)
    assert figures.usd_per_million_tokens.value == pytest.approx(32.0 / 3600 / 50_000 * 1e6)
    assert figures.num_steps == -(-1_000_000_000 // 65_536)
    low, high = stats.t.interval(0.95, 2, loc=50_000, scale=500 / 3**0.5)
    assert figures.hours.low == pytest.approx((360 + 1e9 / high) / 3600)
    assert figures.hours.high == pytest.approx((360 + 1e9 / low) / 3600)
    assert one.flags == ()
    assert one.cost.usd_per_hour == 32.0


def test_each_objective_has_its_own_first() -> None:
    """H200: twice as fast at 1.5 times the price. A lone H100: most per chip, slow."""
    lookup = table(
        *three(50_000.0),
        *three(100_000.0, 10, accelerator="H200"),
        *three(13_000.0, 20, chips=1, num_workers=1, micro_batch_size=16),
    )
    firsts = {
        objective: ask(lookup, model="8b", objective=objective).recommendations[0]
        for objective in Objective
    }
    accelerator = {o: (r.profile.machine.accelerator, r.num_chips) for o, r in firsts.items()}
    # $/M tokens: H200 48/3600/0.1 = 0.133, H100 x 8 0.178, H100 x 1 4/3600/0.013 = 0.0855.
    assert accelerator[Objective.CHEAPEST] == ("H100", 1)
    assert accelerator[Objective.FASTEST] == ("H200", 8)
    assert accelerator[Objective.THROUGHPUT] == ("H100", 1)
    ranks = {
        (r.profile.machine.accelerator, r.num_chips): r.pareto_rank
        for r in ask(lookup, model="8b").recommendations
    }
    # 8 x H100 is slower, dearer and less per chip than 8 x H200, and faster than the lone one.
    assert ranks == {("H100", 1): 1, ("H200", 8): 1, ("H100", 8): 2}
    front = ask(lookup, model="8b", objective=Objective.PARETO, limit=2).recommendations
    assert [r.pareto_rank for r in front] == [1, 1]


def test_another_step_is_another_training() -> None:
    lookup = table(*three(50_000.0), *three(90_000.0, 10, micro_batch_size=8))
    mixed = ask(lookup, model="8b")
    assert any("different trainings" in c for c in mixed.comments)
    only = ask(lookup, model="8b", sequences_per_step=16)
    (one,) = only.recommendations
    assert one.profile.training is not None and one.profile.training.sequences_per_step == 16
    assert not any("different trainings" in c for c in only.comments)
    none = ask(lookup, model="8b", sequence_length=8192).no_answer
    assert none is not None and none.binding == "sequence_length" and "4096" in none.words


def test_no_answer_names_the_limit_and_what_would_do() -> None:
    lookup = table(*three(50_000.0))
    none = ask(lookup, model="8b", training_tokens=1e9, max_hours=2.0).no_answer
    assert none is not None and none.binding == "max_hours"
    assert none.relax_to == pytest.approx((360 + 20_000) / 3600)
    assert none.nearest[0].why_not[0].excess == pytest.approx((360 + 20_000) / 7200 - 1)
    unknown = ask(lookup, model="9b").no_answer
    assert unknown is not None and "8b" in unknown.words and unknown.measure_next
    large = ask(lookup, model="8B").no_answer
    assert large is not None and large.did_you_mean == ("8b",)
    loss = ask(lookup, model="8b", max_final_loss=4.0).no_answer
    assert loss is not None and loss.binding == "max_final_loss"
    free = ask(table(*three(50_000.0), prices=PriceBook()), max_cost_usd_per_hour=1.0).no_answer
    assert free is not None and "none of 1 profiles states" in free.words
    assert free.measure_next == ()  # no run finds a price


def test_what_failed_is_told_and_what_was_measured_once_is_flagged() -> None:
    failed = replace(
        a_training(5, rate=1.0),
        outcome=Failed(stage="load", error="out_of_memory", message="m"),
        measurements=(),
    )
    (one,) = ask(table(a_training(0, rate=50_000.0), failed)).recommendations
    assert {Flag.SINGLE_RUN, Flag.RUNS_FAILED} <= set(one.flags)
    assert any("out_of_memory" in note for note in one.notes)
    alone = ask(table(a_training(0, rate=50_000.0)), model="8b", min_repeats=2).no_answer
    assert alone is not None and "the most are 1" in alone.words
    orphan = [observe(failed)]
    fruitless = build(one for one in orphan if isinstance(one, Observation)).fruitless
    assert fruitless[0].is_training
    lookup = lookup_of((), PRICES, fruitless)
    assert ask(lookup).failures == {"out_of_memory": 1}
    assert lookup.answer(Question(), NOW).failures == {}


def test_servings_and_trainings_never_answer_for_each_other() -> None:
    lookup = table(*three(50_000.0))
    assert lookup.answer(Question(), NOW).no_answer is not None
    assert lookup.models() == () and lookup.num_profiles == 0
    (summary,) = lookup.trainings()
    assert (summary.model, summary.steps) == ("8b", ((4096, 16),))
    profile_id = ask(lookup).recommendations[0].profile.profile_id
    assert lookup.profile(profile_id) is not None


def test_pools_are_compared_by_what_a_training_gets() -> None:
    lookup = table(*three(50_000.0), *three(100_000.0, 10, accelerator="H200"))
    question = Question(model="8b", use_case="training", training_tokens=1e9)
    names = accelerators_with(lookup, question)
    assert names == ("H100", "H200")
    _, second = compare_pools(lookup, question, names, NOW)
    assert second.ratios is not None
    assert second.ratios.training_tokens_per_s_per_chip == pytest.approx(2.0)
    assert second.ratios.usd_per_million_training_tokens == pytest.approx(0.75)
    assert second.ratios.training_hours == pytest.approx((360 + 1e4) / (360 + 2e4))


def test_cpus_are_ranked_by_what_they_do_in_all() -> None:
    lookup = table(
        a_training(0, rate=100.0, accelerator="cpu", chips=0),
        a_training(1, rate=300.0, accelerator="cpu", chips=0, num_workers=2, micro_batch_size=8),
    )
    for objective in Objective:
        first = ask(lookup, objective=objective).recommendations[0]
        assert first.training is not None and first.training.tokens_per_s is not None
        assert first.training.tokens_per_s.value == 300.0, objective
        assert first.training.tokens_per_s_per_chip is None
        assert Flag.NO_PRICE in first.flags
