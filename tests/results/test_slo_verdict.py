"""Limits against measurements whose place is known: within, beyond, or on both sides."""

from __future__ import annotations

import pytest

from results.measurement import Measurement
from results.slo import parse_slo
from results.slo_verdict import LimitVerdict, Verdict, judge_slo


def seen(
    metric: str, statistic: str, value: float | None, low: float | None, high: float | None
) -> Measurement:
    return Measurement(
        metric=metric,
        statistic=statistic,
        value=value,
        n=2000,
        low=low,
        high=high,
        method="order statistics; n = 2000 is worth 40 independent values within this run",
        reason="" if value is not None else "n = 30; needs at least 1000",
    )


def only(text: str, *measurements: Measurement) -> LimitVerdict:
    (verdict,) = judge_slo(parse_slo(text), measurements)
    return verdict


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.30, 0.45, Verdict.MET),
        (0.30, 0.50, Verdict.MET),  # "at most" holds at the limit itself
        (0.45, 0.55, Verdict.UNDECIDED),
        (0.50, 0.55, Verdict.UNDECIDED),
        (0.51, 0.55, Verdict.NOT_MET),
    ],
)
def test_a_percentile_is_decided_by_its_whole_interval(
    low: float, high: float, expected: Verdict
) -> None:
    found = only("ttft_p99=500ms", seen("ttft_s", "p99", (low + high) / 2, low, high))
    assert found.verdict is expected
    assert (found.limit, found.low, found.high) == (0.5, low, high)
    assert bool(found.reason) == (expected is Verdict.UNDECIDED)


def test_what_cannot_be_known_is_undecided_and_says_why() -> None:
    without = only("ttft_p99=500ms", seen("ttft_s", "p99", 0.1, None, None))
    assert without.verdict is Verdict.UNDECIDED and without.value == 0.1
    assert without.reason.startswith("no interval: n = 2000 is worth 40 independent values")
    few = only("ttft_p99=500ms", seen("ttft_s", "p99", None, None, None))
    assert (few.verdict, few.reason) == (Verdict.UNDECIDED, "n = 30; needs at least 1000")
    other = only("ttft_p97=500ms", seen("ttft_s", "p99", 0.1, 0.1, 0.1))
    assert other.verdict is Verdict.UNDECIDED and other.value is None
    assert other.reason == "ttft_s p97 was not measured"


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.90, 0.94, Verdict.NOT_MET),
        (0.90, 0.95, Verdict.UNDECIDED),
        (0.95, 0.99, Verdict.MET),
    ],
)
def test_a_share_has_to_reach_its_limit(low: float, high: float, expected: Verdict) -> None:
    share = seen("slo_attainment", "value", (low + high) / 2, low, high)
    found = only("ttft=500ms,tpot=50ms,attainment=95%", share)
    assert found.verdict is expected
    assert found.asked == "ttft ≤ 500 ms and tpot ≤ 50 ms for 95 % of the requests"


def test_a_share_that_other_limits_lower_condemns_nothing() -> None:
    """Requests beyond the TTFT's limit, of which 1 % may be, are not good either."""
    slo = parse_slo("ttft_p99=500ms,tpot=50ms,attainment=95%")
    low = seen("slo_attainment", "value", 0.8, 0.78, 0.82)
    ttft, share = judge_slo(slo, [low, seen("ttft_s", "p99", 0.6, 0.55, 0.7)])
    assert ttft.verdict is Verdict.NOT_MET
    assert share.verdict is Verdict.UNDECIDED and "at least" in share.reason
    high = seen("slo_attainment", "value", 0.99, 0.98, 1.0)
    assert judge_slo(slo, [high])[1].verdict is Verdict.MET


def test_only_the_whole_run_is_judged() -> None:
    adapter = Measurement(
        metric="ttft_s", statistic="p99", value=9.0, n=2000, low=8.0, high=10.0, group="adapter"
    )
    found = only("ttft_p99=500ms", adapter, seen("ttft_s", "p99", 0.1, 0.05, 0.2))
    assert found.verdict is Verdict.MET
    assert judge_slo(parse_slo("e2e_mean=1s"), [])[0].reason == "e2e_s mean was not measured"
