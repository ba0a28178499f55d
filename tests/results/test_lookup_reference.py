"""The table answers what a plain walk over all profiles does, whatever is asked."""

from __future__ import annotations

from datetime import UTC, date, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from results.lookup.table import TableLookup, lookup_of
from results.prices import PriceBook, PriceTable
from results.recommendation.question import USE_CASES, Objective, Question, Target
from results.recommendation.testing import generated
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
    limit=st.integers(1, 20),
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
