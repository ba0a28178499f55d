"""What is answered: hand-made profiles whose right answer is known, and laws that always hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results.errors import InvalidQuestion
from results.lookup.choose import fronts, num_better
from results.lookup.snapshot import Snapshot
from results.lookup.table import TableLookup, lookup_of
from results.prices import PriceBook, PriceTable
from results.recommendation.answer import Answer, Flag
from results.recommendation.build import Fruitless
from results.recommendation.lookup import ProfileFilter
from results.recommendation.profile import EvidenceKind, LoadPoint, Profile
from results.recommendation.question import Objective, Question, Target
from results.recommendation.testing import a_profile, generated

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MODEL = "example/model-8b"


def prices(**usd: float) -> PriceBook:
    rates = {name: {"on-demand": value} for name, value in usd.items()}
    table = PriceTable(as_of=date(2026, 10, 1), source="test", usd_per_chip_hour=rates)
    return PriceBook(tables=(table,))


def table(profiles: Sequence[Profile], book: PriceBook | None = None) -> TableLookup:
    ordered = sorted(
        profiles,
        key=lambda p: (p.configuration.model, p.configuration_id, p.load.rate_rps or math.inf),
    )
    return lookup_of(ordered, book)


def ask(profiles: Sequence[Profile], book: PriceBook | None = None, **asked: object) -> Answer:
    question = Question(**{"model": MODEL, **asked})  # type: ignore[arg-type]
    return table(profiles, book).answer(question, NOW)


def ttft(limit_s: float, percentile: float | None = None) -> Target:
    return Target(metric="ttft_s", limit_s=limit_s, percentile=percentile)


# ---- replicas, cost, load ----


def test_replicas_are_rounded_up_and_paid_in_full() -> None:
    answer = ask(
        [a_profile(rate_rps=4.0, num_chips=2)],
        prices(H100=3.6),
        rate_rps=9.0,
        input_tokens=1000,
        output_tokens=200,
    )
    (one,) = answer.recommendations
    assert (one.replicas, one.num_chips) == (3, 6)
    assert one.utilisation == pytest.approx(9 / 12)
    assert one.cost.usd_per_hour == pytest.approx(6 * 3.6)
    assert one.cost.usd_idle_per_hour == pytest.approx(6 * 3.6 * 0.25)
    # $/s ÷ (input/ratio + output): of one full replica, and of all three for what was asked.
    assert one.cost.usd_per_million_output_tokens == pytest.approx(
        7.2 / 3600 / (4000 / 4 + 800) * 1e6
    )
    assert one.cost.usd_per_million_output_tokens_asked == pytest.approx(
        21.6 / 3600 / (9000 / 4 + 1800) * 1e6
    )
    assert Flag.REPLICAS_ASSUMED_ALIKE in one.flags


def test_a_whole_number_of_replicas_is_not_rounded_further() -> None:
    (one,) = ask([a_profile(rate_rps=0.1)], rate_rps=0.3).recommendations
    assert one.replicas == 3


def test_the_load_point_that_needs_fewest_replicas_within_the_limit_is_taken() -> None:
    curve = [
        a_profile(rate_rps=rate, values={"ttft_s p99": (late,)})
        for rate, late in ((1.0, 0.1), (4.0, 0.4), (8.0, 2.0))
    ]
    (one,) = ask(curve, rate_rps=8.0, targets=(ttft(0.5, 99),)).recommendations
    assert (one.profile.load.rate_rps, one.replicas) == (4.0, 2)


def test_light_load_is_flagged_and_its_latency_a_bound() -> None:
    (one,) = ask([a_profile(rate_rps=4.0)], rate_rps=1.0, targets=(ttft(0.5, 99),)).recommendations
    assert Flag.LOAD_BELOW_MEASURED in one.flags
    assert one.targets[0].is_bound


def test_an_error_in_load_cannot_hide_in_a_profile_without_a_rate() -> None:
    answer = ask([a_profile(rate_rps=None)], rate_rps=1.0)
    assert answer.no_answer is not None and answer.no_answer.binding == "load_known"


# ---- lengths ----


@pytest.mark.parametrize(
    ("asked", "answered", "bound"),
    [(1000, True, False), (1090, True, False), (950, True, False), (600, True, True),
     (500, True, True), (490, False, False), (1200, False, False)],
)  # fmt: skip
def test_lengths_are_extrapolated_downwards_only_and_not_far(
    asked: float, answered: bool, bound: bool
) -> None:
    answer = ask([a_profile(input_tokens=1000.0)], input_tokens=asked, targets=(ttft(1.0),))
    assert bool(answer.recommendations) == answered
    if answered:
        (one,) = answer.recommendations
        assert (Flag.LENGTHS_BELOW_MEASURED in one.flags) == bound
        assert one.targets[0].is_bound == bound
    else:
        assert answer.no_answer is not None
        assert answer.no_answer.binding == "input_tokens"
        assert answer.no_answer.relax_to == 1000.0


def test_ntpot_of_shorter_answers_is_bounded_by_the_whole_time() -> None:
    profile = a_profile(output_tokens=200.0, values={"ntpot_s p50": (0.03,)})
    answer = ask([profile], output_tokens=100, targets=(Target(metric="ntpot_s", limit_s=0.059),))
    assert answer.no_answer is not None  # 200 × 30 ms over 100 tokens is 60 ms each
    assert answer.no_answer.nearest[0].why_not[0].found == pytest.approx(0.06, rel=1e-6)


# ---- statistics and probability ----


def test_a_percentile_is_answered_by_itself_or_a_higher_one_only() -> None:
    values = {"ttft_s p50": (0.1,), "ttft_s p99": (0.4,)}
    (one,) = ask([a_profile(values=values)], targets=(ttft(0.5, 95),)).recommendations
    assert (one.targets[0].statistic, one.targets[0].is_bound) == ("p99", True)
    answer = ask([a_profile(values=values)], targets=(ttft(9.0, 99.9),))
    assert answer.no_answer is not None
    assert answer.no_answer.nearest[0].why_not[0].found is None
    assert answer.no_answer.measure_next


def test_an_unstated_statistic_answers_no_percentile() -> None:
    profile = a_profile(kind=EvidenceKind.IMPORTED)
    loose = replace(
        profile,
        statistics=tuple(
            replace(s, statistic="unstated") if s.metric == "ttft_s" and s.statistic == "p50" else s
            for s in profile.statistics
            if (s.metric, s.statistic) != ("ttft_s", "p99")
        ),
    )
    (one,) = ask([loose], targets=(ttft(0.5),)).recommendations
    assert Flag.STATISTIC_UNSTATED in one.flags
    assert ask([loose], targets=(ttft(0.5, 50),)).no_answer is not None


def test_probability_is_students_predictive_one() -> None:
    runs = (0.40, 0.42, 0.44)
    (one,) = ask([a_profile(values={"ttft_s p99": runs})], targets=(ttft(0.5, 99),)).recommendations
    logs = np.log(runs)
    scale = logs.std(ddof=1) * math.sqrt(1 + 1 / 3)
    expected = stats.t.cdf((math.log(0.5) - logs.mean()) / scale, df=2)
    assert one.probability == pytest.approx(expected)


def test_a_probability_that_is_asked_decides() -> None:
    profile = a_profile(values={"ttft_s p99": (0.40, 0.42, 0.44)})
    chance = ask([profile], targets=(ttft(0.5, 99),)).recommendations[0].probability
    assert chance is not None
    just, over = chance - 0.001, chance + 0.001
    assert ask([profile], targets=(ttft(0.5, 99),), probability=just).recommendations
    answer = ask([profile], targets=(ttft(0.5, 99),), probability=over)
    assert answer.no_answer is not None and answer.no_answer.binding == "probability"


def test_one_run_has_no_probability_and_passes_no_asked_one() -> None:
    (one,) = ask([a_profile()], targets=(ttft(0.5, 99),)).recommendations
    assert one.probability is None and "one run" in one.targets[0].reason
    assert Flag.SINGLE_RUN in one.flags
    assert ask([a_profile()], targets=(ttft(0.5, 99),), probability=0.5).no_answer is not None


def test_a_value_on_its_limit_keeps_it() -> None:
    profile = a_profile(values={"ttft_s p99": (0.1,)})
    assert ask([profile], targets=(ttft(0.1, 99),)).recommendations


# ---- which evidence ----


def test_simulated_and_superseded_answer_only_who_asks_for_them() -> None:
    simulated = a_profile(kind=EvidenceKind.SIMULATED)
    answer = ask([simulated])
    assert answer.no_answer is not None and answer.no_answer.binding == "not_simulated"
    assert ask([simulated], with_simulated=True).recommendations
    old = a_profile(superseded_by="0" * 16)
    assert ask([old]).no_answer is not None
    (one,) = ask([old], model_server_version="0.32.0").recommendations
    assert Flag.SUPERSEDED in one.flags


def test_hardware_that_is_not_known_is_never_recommended() -> None:
    for profile in (
        a_profile(accelerator=""),
        a_profile(num_chips=0),
        a_profile(machine={"virtual": True}),
    ):
        answer = ask([profile])
        assert answer.no_answer is not None and answer.no_answer.binding == "hardware_known"
    assert ask([a_profile(accelerator="cpu", num_chips=0)]).recommendations


def test_age_is_flagged_and_can_be_refused() -> None:
    old = a_profile(measured_at=NOW - timedelta(days=120))
    (one,) = ask([old]).recommendations
    assert Flag.STALE in one.flags and "120 days" in " ".join(one.notes)
    answer = ask([old], max_age_days=100)
    assert answer.no_answer is not None and answer.no_answer.binding == "max_age_days"


def test_failures_of_the_same_configuration_are_told() -> None:
    profile = a_profile()
    evidence = replace(profile.evidence, failures={"oom_at_load": 2}, num_invalid=2)
    (one,) = ask([replace(profile, evidence=evidence)]).recommendations
    assert "2 of 5 runs of this configuration failed: 2 × oom_at_load" in one.notes


# ---- no answer ----


def test_no_answer_names_the_limit_that_alone_would_do() -> None:
    cheap = a_profile(accelerator="L4", values={"ttft_s p99": (0.55,)})
    fast = a_profile(accelerator="H100", values={"ttft_s p99": (0.4,)})
    answer = ask(
        [cheap, fast],
        prices(L4=1.0, H100=10.0),
        rate_rps=4.0,
        targets=(ttft(0.5, 99),),
        max_cost_usd_per_hour=2.0,
    )
    none = answer.no_answer
    assert none is not None
    assert none.binding == "ttft_s_p99" and none.relax_to == pytest.approx(0.55, rel=1e-6)
    assert none.nearest[0].recommendation.profile.machine.accelerator == "L4"
    assert none.nearest[0].why_not[0].excess == pytest.approx(0.1, rel=1e-4)
    # Three runs of 15 minutes, assumed, on one chip at $1.
    assert none.measure_next[0].usd == pytest.approx(0.75)
    assert "assumed" in none.measure_next[0].basis


def test_no_price_is_no_cost_and_no_answer_to_a_question_of_cost() -> None:
    (one,) = ask([a_profile()]).recommendations
    assert one.cost.usd_per_hour is None and "no price table" in one.cost.reason
    assert Flag.NO_PRICE in one.flags
    answer = ask([a_profile()], prices(L4=1.0), max_cost_usd_per_hour=1e9)
    assert answer.no_answer is not None
    assert answer.no_answer.binding == "max_cost_usd_per_hour"


def test_an_unknown_model_gets_the_nearest_names() -> None:
    answer = ask([a_profile()], model="model-8B")
    assert answer.no_answer is not None
    assert answer.no_answer.did_you_mean == (MODEL,)


def test_a_model_that_never_worked_is_told_of() -> None:
    never = Fruitless(model="a/b", accelerator="H100", error="oom_at_load", num_runs=3)
    answer = lookup_of([a_profile()], None, [never]).answer(Question(model="a/b"), NOW)
    assert answer.no_answer is not None and answer.failures == {"oom_at_load": 3}


def test_an_empty_database_says_so() -> None:
    answer = ask([])
    assert answer.no_answer is not None and "no profile at all" in answer.no_answer.words


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_rps": 1.0, "concurrency": 2.0},
        {"rate_rps": 0.0},
        {"rate_rps": math.nan},
        {"use_case": "poetry"},
        {"probability": 1.0},
        {"min_repeats": 0},
        {"limit": 0},
        {"targets": (ttft(1.0), ttft(2.0))},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidQuestion):
        Question(**wrong)  # type: ignore[arg-type]


# ---- laws ----

TARGETS = (ttft(0.5, 99),)
WORLD = tuple(generated(1, 12, 4, seed=7))
WORLD_MODEL = WORLD[0].configuration.model
WORLD_SNAPSHOT = table(WORLD).snapshot
BASE_PRICES = {"A100": 3.0, "H100": 5.0, "H200": 6.0, "B200": 9.0, "L4": 0.7, "TPU-V6E": 2.7}
BASE_PRICES |= {"TPU-V5LITEPOD": 1.2, "TPU-V5P": 4.2}


def snapshot_of(profiles: tuple[Profile, ...]) -> Snapshot:
    return WORLD_SNAPSHOT if profiles is WORLD else table(profiles).snapshot


def world(book: PriceBook, profiles: tuple[Profile, ...] = WORLD, **asked: object) -> Answer:
    asked = {"model": WORLD_MODEL, "rate_rps": 5.0, "limit": 100, **asked}
    found = TableLookup(snapshot_of(profiles), book)
    return found.answer(Question(**asked), NOW)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(BASE_PRICES)), st.floats(0.05, 1.0))
def test_a_cheaper_price_never_lowers_a_rank(accelerator: str, factor: float) -> None:
    def ranks(usd: dict[str, float]) -> dict[str, int]:
        return {
            r.profile.configuration_id: r.rank
            for r in world(prices(**usd)).recommendations
            if r.profile.machine.accelerator == accelerator
        }

    before = ranks(BASE_PRICES)
    after = ranks(BASE_PRICES | {accelerator: BASE_PRICES[accelerator] * factor})
    assert before.keys() == after.keys()
    assert all(after[key] <= before[key] for key in before)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(Objective), st.floats(0.01, 50.0), st.integers(1, 8))
def test_an_infeasible_profile_changes_no_answer(
    objective: Objective, rate: float, chips: int
) -> None:
    slow = a_profile(
        model=WORLD_MODEL, rate_rps=rate, num_chips=chips, values={"ttft_s p99": (0.51,)},
        accelerator="L4",
    )  # fmt: skip
    asked = {"targets": TARGETS, "objective": objective}
    before = world(prices(**BASE_PRICES), **asked).recommendations
    after = world(prices(**BASE_PRICES), (*WORLD, slow), **asked).recommendations
    assert before == after


@settings(max_examples=20, deadline=None)
@given(st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_a_looser_limit_never_loses_an_answer_nor_makes_it_dearer(one: float, two: float) -> None:
    tight, loose = sorted((one, two))
    answers = [world(prices(**BASE_PRICES), targets=(ttft(x, 99),)) for x in (tight, loose)]
    assert answers[0].num_feasible <= answers[1].num_feasible
    if answers[0].recommendations:
        costs = [a.recommendations[0].cost.usd_per_hour for a in answers]
        assert costs[0] is not None and costs[1] is not None
        assert costs[1] <= costs[0] * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(Objective), st.floats(0.1, 100.0))
def test_every_answer_keeps_what_was_asked(objective: Objective, rate: float) -> None:
    answer = world(
        prices(**BASE_PRICES), targets=TARGETS, objective=objective, rate_rps=rate,
        max_accelerators=64,
    )  # fmt: skip
    assert answer.recommendations or answer.no_answer
    for one in answer.recommendations:
        assert all(t.met for t in one.targets)
        assert one.num_chips <= 64
        assert one.rate_rps is not None and one.rate_rps >= rate * (1 - 1e-5)
        each = one.profile.load.rate_rps
        assert each is not None and (one.replicas - 1) * each < rate  # not one too many


def test_costs_come_in_order() -> None:
    costs = [r.cost.usd_per_hour for r in world(prices(**BASE_PRICES)).recommendations]
    assert len(costs) > 5 and None not in costs
    assert costs == sorted(costs)  # type: ignore[type-var]


def test_an_unpriced_deployment_comes_after_every_priced_one() -> None:
    answer = world(prices(H100=1000.0))
    known = [r.cost.usd_per_hour is not None for r in answer.recommendations]
    assert any(known) and not all(known)
    assert known == sorted(known, reverse=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=25), st.integers(1, 30))
def test_fronts_are_the_definition(rows: list[tuple[int, int, int]], limit: int) -> None:
    points = np.array(rows, dtype=float)

    def dominated(i: int, among: list[int]) -> bool:
        return any((points[j] <= points[i]).all() and (points[j] < points[i]).any() for j in among)

    left, expected = list(range(len(rows))), []
    while left:
        front = [i for i in left if not dominated(i, left)]
        expected += [rows[i] for i in sorted(front, key=lambda i: rows[i])]
        left = [i for i in left if i not in front]
    found = fronts(list(points.T), limit)
    assert [rows[i] for i in found] == expected[:limit]
    counts = num_better(list(points.T), found)
    for i, count in zip(found, counts, strict=True):
        better = [
            j
            for j in range(len(rows))
            if (points[j] <= points[i]).all() and (points[j] < points[i]).any()
        ]
        assert count == len(better)


# ---- profiles, models, snapshots ----


def test_a_profile_comes_back_as_it_went_in() -> None:
    found = table(WORLD)
    for profile in WORLD:
        assert found.profile(profile.profile_id) == profile
    assert found.profile("0" * 16) is None
    assert found.profile("no id") is None


def test_profiles_are_paged_and_filtered() -> None:
    found = table([*WORLD, a_profile()])
    page = found.profiles(ProfileFilter(model=WORLD_MODEL), offset=40, limit=30)
    assert (page.total, len(page.profiles)) == (48, 8)
    one = WORLD[0]
    curve = found.profiles(ProfileFilter(configuration_id=one.configuration_id))
    assert {p.configuration_id for p in curve.profiles} == {one.configuration_id}
    assert curve.total == 4
    named = found.profiles(ProfileFilter(accelerators=("h100",), model=MODEL))
    assert named.total == 1
    assert found.profiles(ProfileFilter(model="nobody/none")).total == 0


def test_what_there_is_is_listed() -> None:
    found = table([*WORLD, a_profile(), a_profile(kind=EvidenceKind.SIMULATED, rate_rps=5.0)])
    (ours,) = [m for m in found.models() if m.model == MODEL]
    assert (ours.num_profiles, ours.num_simulated, ours.accelerators) == (2, 1, ("H100",))
    assert ours.servers[0].versions == ("0.32.0",)
    assert "H100" in {a.accelerator for a in found.accelerators()}


def test_prices_and_profiles_change_the_snapshots_id() -> None:
    one, same = table(WORLD), table(WORLD)
    assert one.snapshot_id == same.snapshot_id
    assert table(WORLD, prices(H100=1.0)).snapshot_id != one.snapshot_id
    assert table(WORLD[:-1]).snapshot_id != one.snapshot_id


def test_load_points_are_ranked_by_each_objective() -> None:
    slow_dense = a_profile(rate_rps=8.0, values={"tpot_s p50": (0.05,)}, accelerator="H100")
    fast_thin = a_profile(rate_rps=2.0, values={"tpot_s p50": (0.01,)}, accelerator="H200")
    both = [slow_dense, fast_thin]
    book = prices(H100=4.0, H200=4.0)
    first = {o: ask(both, book, objective=o).recommendations[0] for o in Objective}
    assert first[Objective.CHEAPEST].profile == slow_dense
    assert first[Objective.THROUGHPUT].profile == slow_dense
    assert first[Objective.FASTEST].profile == fast_thin
    assert {r.pareto_rank for r in ask(both, book, objective=Objective.PARETO).recommendations} == {
        1
    }


def test_a_concurrency_is_shared_out_like_a_rate() -> None:
    profile = a_profile()
    load = LoadPoint(input_tokens=1000, output_tokens=200, rate_rps=4.0, concurrency=16.0)
    (one,) = ask([replace(profile, load=load)], concurrency=40.0).recommendations
    assert one.replicas == 3
