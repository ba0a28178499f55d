"""The table answers what a plain walk over all profiles does, whatever is asked."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from results.lookup.filters import filtered
from results.lookup.table import TableLookup, lookup_of
from results.prices import PriceBook, PriceTable
from results.recommendation.question import USE_CASES, Objective, Question, Target
from results.recommendation.testing import a_profile, generated
from tests.results.lookup_reference import expected

NOW = datetime(2026, 11, 24, tzinfo=UTC)
# Of some accelerators there is no price.
USD = {"H100": 11.0, "L4": 0.71, "TPU-V5P": 4.2, "TPU-V6E": 2.7, "A100": 3.67}
PROFILES = tuple(generated(num_models=2, settings=16, loads=3, seed=11))
MODELS = sorted({p.configuration.model for p in PROFILES})


def table() -> TableLookup:
    rates = {name: {"on-demand": usd} for name, usd in USD.items()}
    prices = PriceTable(as_of=date(2026, 10, 1), source="test", usd_per_chip_hour=rates)
    return lookup_of(PROFILES, PriceBook(tables=(prices,)))


TABLE = table()

_LENGTHS = st.none() | st.floats(64, 9000) | st.sampled_from([128.0, 256.0, 1024.0])
_TARGETS = st.lists(
    st.builds(
        Target,
        metric=st.sampled_from(["ttft_s", "tpot_s"]),
        limit_s=st.floats(0.001, 2.0),
        percentile=st.sampled_from([None, 50, 90, 99, 99.5]),
    ),
    max_size=2,
    unique_by=lambda target: target.name,
)
QUESTIONS = st.builds(
    Question,
    model=st.sampled_from(MODELS),
    model_server_version=st.sampled_from(["", "", "0.31.0"]),
    use_case=st.sampled_from(["", "", *USE_CASES]),
    input_tokens=_LENGTHS,
    output_tokens=_LENGTHS,
    rate_rps=st.none() | st.floats(0.1, 500.0),
    targets=_TARGETS.map(tuple),
    probability=st.sampled_from([None, None, 0.5, 0.9]),
    max_cost_usd_per_hour=st.none() | st.floats(1.0, 500.0),
    max_accelerators=st.none() | st.integers(1, 64),
    min_throughput=st.none() | st.floats(1.0, 1e5),
    accelerators=st.sampled_from([(), (), ("H100",), ("L4", "B200")]),
    objective=st.sampled_from(Objective),
    min_repeats=st.sampled_from([1, 1, 3, 4]),
    # Few of many: only the rows near the best are looked at.
    limit=st.sampled_from([1, 1, 2, 3]) | st.integers(1, 20),
)


@settings(max_examples=150, deadline=None)
@given(QUESTIONS)
def test_the_table_answers_as_a_plain_walk_over_all_profiles(question: Question) -> None:
    answer = TABLE.answer(question, NOW)
    ranked, considered, feasible = expected(PROFILES, question, USD)
    found = [(r.profile.profile_id, r.replicas, r.pareto_rank) for r in answer.recommendations]
    assert found == ranked
    assert (answer.num_considered, answer.num_feasible) == (considered, feasible)
    assert (answer.no_answer is None) == bool(ranked)


def plainly(column: str, model: str) -> list[float]:
    found = (p.load for p in PROFILES if p.configuration.model == model)
    return [getattr(load, column) for load in found]


@settings(max_examples=50, deadline=None)
@given(QUESTIONS)
def test_rows_that_fit_the_lengths_are_found_in_the_order_of_the_snapshot(
    question: Question,
) -> None:
    asked = Question(
        model=question.model,
        use_case=question.use_case,
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
    )
    sides = [plainly(name, asked.model) for name in ("input_tokens", "output_tokens")]
    fits, longer = [], False
    for row, lengths in enumerate(zip(*sides, strict=True)):
        both = [(a, m) for a, m in zip(asked.lengths, lengths, strict=True) if a is not None]
        if all(np.float32(a / 1.1) <= m <= np.float32(a * 2.0) for a, m in both):
            fits.append(row)
            longer |= any(m > a * 1.1 for a, m in both)
    for _ in range(2):  # found, and found again
        found = filtered(TABLE.snapshot, asked, NOW)
        assert found.part.rows[found.positions].tolist() == fits
        assert found.narrowing[-1].num_left == len(fits)
        assert found.shorter == longer


def test_nothing_near_has_a_price_and_something_far_has() -> None:
    """The fastest are unpriced, and yet compared in money and not in chips: of two that are as
    fast the one with more chips is better, as it makes more of each."""
    many = [a_profile(accelerator="B200", values={"tpot_s p50": (0.01,)})]
    many += [a_profile(accelerator="B200", num_chips=8, rate_rps=100.0, values=_AS_FAST)]
    many += [
        a_profile(accelerator="B200", values={"tpot_s p50": (0.02,)}, engine_args={"x": x})
        for x in range(10)
    ]
    many += [a_profile(values={"tpot_s p50": (0.9,)}, engine_args={"x": x}) for x in range(8)]
    rates = {"H100": {"on-demand": 11.0}}
    prices = PriceTable(as_of=date(2026, 10, 1), source="test", usd_per_chip_hour=rates)
    model = many[0].configuration.model
    question = Question(model=model, objective=Objective.FASTEST, limit=2)
    answer = lookup_of(many, PriceBook(tables=(prices,))).answer(question, NOW)
    found = [(r.profile.profile_id, r.replicas, r.pareto_rank) for r in answer.recommendations]
    ranked, _, _ = expected(many, question, {"H100": 11.0})
    assert found == ranked
    assert [rank for _, _, rank in found] == [1, 2]


_AS_FAST = {"tpot_s p50": (0.01,)}
