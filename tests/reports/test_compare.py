"""Three verdicts: each where it is due, and none where it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from reports.compare import Change, Comparison, Scale, Verdict, compare, judgeable
from reports.compare_report import compare_report
from reports.documents import dumps, loads
from reports.html import render_html
from reports.markdown import render_markdown
from results.errors import NotComparable
from results.measurement import Measurement
from results.metrics import Direction
from results.pairs import Design
from results.record import Evidence, Failed, RunRecord
from results.testing import EPOCH, make_record

Values = dict[tuple[str, str], float | None]


def run(index: int, values: Values, **changes: object) -> RunRecord:
    measurements = tuple(
        Measurement(metric=m, statistic=s, value=v, n=100, reason="" if v is not None else "few")
        for (m, s), v in values.items()
    )
    started = EPOCH + timedelta(minutes=index)
    return make_record(index=index, started_at=started, measurements=measurements, **changes)


def two_sides(
    order: str, a: Sequence[Values], b: Sequence[Values]
) -> tuple[list[RunRecord], list[RunRecord]]:
    left, right = iter(a), iter(b)
    found: tuple[list[RunRecord], list[RunRecord]] = ([], [])
    for i, letter in enumerate(order):
        found[letter == "B"].append(run(i, next(right if letter == "B" else left)))
    return found


def one_metric(
    ratio: float,
    *,
    name: str = "ttft_s",
    statistic: str = "p50",
    k: int = 8,
    noise: float = 0.005,
    order: str = "",
) -> Change:
    rng = np.random.default_rng(3)
    key = (name, statistic)
    a = [{key: 0.1 * math.exp(noise * z)} for z in rng.standard_normal(k)]
    b = [{key: 0.1 * ratio * math.exp(noise * z)} for z in rng.standard_normal(k)]
    sides = two_sides(order or ("ABBA" * k)[: 2 * k], a, b)  # type: ignore[arg-type]
    (change,) = compare(*sides).changes
    return change


@pytest.mark.parametrize(
    ("name", "statistic", "ratio", "verdict"),
    [
        ("ttft_s", "p50", 1.10, Verdict.REGRESSED),
        ("ttft_s", "p50", 0.90, Verdict.IMPROVED),
        ("output_throughput", "value", 1.10, Verdict.IMPROVED),
        ("output_throughput", "value", 0.90, Verdict.REGRESSED),
        ("ttft_s", "p50", 1.00, Verdict.UNCHANGED),
    ],
)
def test_the_direction_decides_what_is_good(
    name: str, statistic: str, ratio: float, verdict: Verdict
) -> None:
    change = one_metric(ratio, name=name, statistic=statistic)
    assert change.verdict is verdict
    assert change.change == pytest.approx(ratio - 1.0, abs=0.02)
    assert change.low is not None and change.high is not None
    assert change.low <= ratio - 1.0 <= change.high


def test_no_change_is_a_claim_with_a_bound() -> None:
    change = one_metric(1.0)
    assert change.verdict is Verdict.UNCHANGED
    assert change.bound is not None and 0.0 < abs(change.bound) <= 0.03


def test_a_change_too_small_to_matter_is_no_change_however_sure() -> None:
    change = one_metric(1.01, noise=0.0005)
    assert change.p_value is not None and change.p_value < 1e-6
    assert change.verdict is Verdict.UNCHANGED


def test_noise_is_inconclusive_and_says_how_large_it_could_be() -> None:
    change = one_metric(1.0, noise=0.08)
    assert change.verdict is Verdict.INCONCLUSIVE
    assert change.bound is not None and abs(change.bound) > 0.03
    assert change.bound in (change.low, change.high)


def test_few_pairs_decide_nothing() -> None:
    change = one_metric(1.5, k=4)
    assert change.verdict is Verdict.INCONCLUSIVE and "4 pairs" in change.reason
    assert change.low is not None and change.low > 0.3  # what is known is told all the same


def test_blocks_decide_nothing_unless_trusted() -> None:
    key = ("ttft_s", "p50")
    a = [{key: 0.1 + 0.001 * i} for i in range(6)]
    b = [{key: 0.2 + 0.001 * i} for i in range(6)]
    sides = two_sides("AAAAAABBBBBB", a, b)  # type: ignore[arg-type]
    held = compare(*sides)
    assert held.design is Design.BLOCKED
    assert held.changes[0].verdict is Verdict.INCONCLUSIVE
    assert "not interleaved" in held.changes[0].reason
    trusted = compare(*sides, trust_blocks=True)
    assert trusted.changes[0].verdict is Verdict.REGRESSED


def test_one_run_each_is_no_comparison() -> None:
    sides = two_sides("AB", [{("ttft_s", "p50"): 0.1}], [{("ttft_s", "p50"): 0.2}])
    (change,) = compare(*sides).changes
    assert change.verdict is Verdict.INCONCLUSIVE and change.low is None
    assert (change.a, change.b) == pytest.approx((0.1, 0.2))


def test_shares_are_subtracted_for_they_can_be_zero() -> None:
    key = ("error_share", "value")
    a: list[Values] = [{key: 0.0} for _ in range(6)]
    b: list[Values] = [{key: 0.04 + 0.001 * i} for i in range(6)]
    (change,) = compare(*two_sides("ABBAABBAABBA", a, b)).changes
    assert change.scale is Scale.DIFFERENCE and change.verdict is Verdict.REGRESSED
    assert change.change == pytest.approx(0.0425)
    (same,) = compare(*two_sides("ABBAABBAABBA", a, a)).changes
    assert same.verdict is Verdict.UNCHANGED


def test_many_metrics_are_allowed_for() -> None:
    rng = np.random.default_rng(8)
    keys = [("ttft_s", "p50"), ("tpot_s", "p50"), ("e2e_s", "p50"), ("startup_s", "value")]
    called = 0
    for _ in range(100):
        noise = np.exp(0.05 * rng.standard_normal((12, len(keys))))
        rows: list[Values] = [dict(zip(keys, row, strict=True)) for row in noise.tolist()]
        found = compare(*two_sides("ABBAABBAABBA", rows[:6], rows[6:]))
        called += found.verdict is Verdict.REGRESSED
    # 2.5 % by construction; without Holm, 10 %. 8 of 100 at 2.5 % has a chance of 1 in 500.
    assert called <= 7


def test_a_failed_run_takes_its_partner_with_it() -> None:
    rows: list[Values] = [{("ttft_s", "p50"): 0.1 + 0.001 * i} for i in range(6)]
    a, b = two_sides("ABBAABBAABBA", rows, rows)
    b[1] = replace(b[1], outcome=Failed(stage="load", error="engine_died", message="x"))
    found = compare(a, b)
    assert found.num_pairs == 5 and found.changes[0].num_pairs == 5
    assert [run.run_id for run in found.left_out] == [b[1].run_id]


def test_unlike_runs_are_refused() -> None:
    a, b = [run(0, {("ttft_s", "p50"): 1.0})], [run(1, {("ttft_s", "p50"): 1.0})]
    with pytest.raises(NotComparable, match=r"rate_rps: 4.0 / 8.0"):
        spec = {**a[0].spec, "traffic": {"rate_rps": 8.0, "seed": 7}}
        compare(a, [replace(b[0], workload_hash="ff" * 8, spec=spec)])
    with pytest.raises(NotComparable, match="simulated"):
        compare(a, [replace(b[0], evidence=Evidence.SIMULATED)])
    with pytest.raises(NotComparable, match="share 1 runs"):
        compare(a, a)
    with pytest.raises(NotComparable, match="2 different workloads"):
        compare([a[0], replace(b[0], workload_hash="ff" * 8)], b)
    with pytest.raises(NotComparable, match="no metric"):
        compare([run(0, {})], [run(1, {})])


def test_a_different_environment_is_named() -> None:
    a, b = [run(0, {("ttft_s", "p50"): 1.0})], [run(1, {("ttft_s", "p50"): 1.0})]
    environment = b[0].environment
    assert environment is not None
    nodes = tuple(replace(node, driver="999.1") for node in environment.hardware)
    changed = replace(
        b[0], environment=replace(environment, hardware=nodes), environment_hash="ee" * 8
    )
    found = compare(a, [changed])
    assert ("node 1.driver", "570.86.15", "999.1") in {(d.key, d.a, d.b) for d in found.differences}
    assert "999.1" in render_markdown(compare_report(found))
    assert compare(a, b).differences == ()


def test_our_own_client_is_never_judged() -> None:
    found = judgeable([run(0, {("dispatch_lag_s", "p50"): 1.0, ("offered_rate", "value"): 1.0})])
    assert found == ()


def test_a_comparison_survives_json() -> None:
    rows: list[Values] = [{("ttft_s", "p50"): 0.1 + 0.001 * i} for i in range(6)]
    found = compare(*two_sides("ABBAABBAABBA", rows, rows))
    assert loads(Comparison, dumps(Comparison, found)) == found


def test_the_page_says_it_all_and_twice_the_same() -> None:
    rows: list[Values] = [
        {("ttft_s", "p50"): 0.1, ("startup_s", "value"): 9.0 + i} for i in range(6)
    ]
    worse: list[Values] = [
        {("ttft_s", "p50"): 0.12, ("startup_s", "value"): 9.0 + i} for i in range(6)
    ]
    found = compare(*two_sides("ABBAABBAABBA", rows, worse), a="old", b="new")
    text = render_markdown(compare_report(found, "windtunnel compare old new"))
    for words in ("1 regressed: TTFT p50 +20.0 %", "6 pairs", "windtunnel compare old new"):
        assert words in text
    page = render_html(compare_report(found))
    assert page == render_html(compare_report(found)) and len(page) < 2_000_000
    assert found.changes[0].direction is Direction.LOWER
