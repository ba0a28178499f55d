"""What a run's measurements say of goals and bounds."""

from __future__ import annotations

import pytest

from results.measurement import Measurement
from tuners.errors import StudyError
from tuners.goals import Bound, Goal, Reading, Wish, read


def test_a_bound_is_kept_with_its_margin_free() -> None:
    bound = Bound(metric="ttft_s", statistic="p99", limit=0.5, margin=0.1)
    assert bound.slack(0.45) == pytest.approx(0.0)
    assert bound.slack(0.46) > 0
    assert bound.slack(0.46, margin=0.0) < 0
    assert bound.slack(0.9) == pytest.approx(1.0)  # twice what is allowed


def test_a_bound_on_what_should_be_high_is_a_floor() -> None:
    bound = Bound(metric="slo_attainment", limit=0.9, margin=0.05)
    assert bound.slack(0.945) == pytest.approx(0.0)
    assert bound.slack(0.9) > 0
    assert bound.slack(0.9, margin=0.0) <= 0


def test_a_goal_without_a_better_side_is_refused() -> None:
    with pytest.raises(StudyError, match="offered_rate"):
        Goal(metric="offered_rate")
    with pytest.raises(StudyError, match="offered_rate"):
        Bound(metric="offered_rate", limit=1.0)


def test_a_wish_names_each_once(wish: Wish) -> None:
    with pytest.raises(StudyError, match="twice"):
        Wish(goals=wish.goals * 2)
    with pytest.raises(StudyError, match="goal"):
        Wish(goals=())


def test_scores_are_logarithms_the_way_they_are_better() -> None:
    wish = Wish(goals=(Goal(metric="output_throughput"), Goal(metric="ttft_s", statistic="p50")))
    twice = wish.score({"output_throughput": 200.0, "ttft_s_p50": 0.1})
    once = wish.score({"output_throughput": 100.0, "ttft_s_p50": 0.1})
    half = wish.score({"output_throughput": 100.0, "ttft_s_p50": 0.05})
    assert twice == pytest.approx(half)
    assert twice > once


def measurement(metric: str, statistic: str, value: float | None, group: str = "") -> Measurement:
    return Measurement(
        metric=metric,
        statistic=statistic,
        value=value,
        n=10,
        reason="" if value is not None else "n = 10; needs at least 1000",
        group=group,
    )


def test_a_reading_is_of_the_whole_run(wish: Wish) -> None:
    found = read(
        [
            measurement("output_throughput", "value", 80.0),
            measurement("output_throughput", "value", 30.0, group="adapter"),
            measurement("ttft_s", "p99", 0.4),
        ],
        wish,
    )
    assert found == Reading(goals={"output_throughput": 80.0}, bounds={"ttft_s_p99": 0.4})


def test_what_is_missing_is_said_with_its_reason(wish: Wish) -> None:
    found = read([measurement("ttft_s", "p99", None)], wish)
    assert isinstance(found, tuple)
    assert any("needs at least 1000" in why for why in found)
    assert any("does not measure" in why for why in found)


LOSS = Bound(metric="final_loss", limit=None, of_baseline=1.02, margin=0.0)
RATE = Bound(metric="goodput_rate", limit=None, of_baseline=0.9, margin=0.0)


def test_a_bound_of_the_baseline_waits_for_it_and_then_is_a_number() -> None:
    wish = Wish(goals=(Goal(metric="training_throughput"),), bounds=(LOSS, RATE))
    assert wish.waits_for_baseline
    assert LOSS.slack(1e9) < 0  # nothing is known, and nothing broken
    baseline = Reading(goals={}, bounds={"final_loss": 2.0, "goodput_rate": 10.0})
    told = wish.against(baseline)
    assert not told.waits_for_baseline
    loss, rate = told.bounds
    assert (loss.limit, rate.limit) == (pytest.approx(2.04), pytest.approx(9.0))
    assert loss.slack(2.03) < 0 < loss.slack(2.05)
    assert rate.slack(9.1) < 0 < rate.slack(8.9)
    assert told.against(baseline) == told


def test_no_multiple_of_nothing_is_a_limit() -> None:
    wish = Wish(goals=(Goal(metric="training_throughput"),), bounds=(RATE,))
    with pytest.raises(StudyError, match=r"0\.9 times the baseline's, which is 0"):
        wish.against(Reading(goals={}, bounds={"goodput_rate": 0.0}))


@pytest.mark.parametrize(
    "given", [{"limit": None}, {"limit": None, "of_baseline": -1.0}, {"limit": 0.0}]
)
def test_a_bound_has_a_limit_above_0(given: dict[str, float | None]) -> None:
    with pytest.raises(StudyError, match="final_loss"):
        Bound(metric="final_loss", **given)  # type: ignore[arg-type]
