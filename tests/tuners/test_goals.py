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
