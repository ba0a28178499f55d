"""Limits as people write them, and the presets against their sources."""

from __future__ import annotations

import pytest

from results.errors import InvalidSlo, UnknownMetric
from results.metrics import REGISTRY
from results.slo import PER_REQUEST, PRESETS, Limit, Slo, as_limits, parse_slo, slo_of

# loadgen/mlperf.conf of MLPerf Inference, milliseconds at p99: (ttft, tpot).
MLPERF_MS = {
    "mlperf-llama2-70b-server": (2000, 200),
    "mlperf-llama2-70b-interactive": (450, 40),
    "mlperf-llama3.1-405b-server": (6000, 175),
    "mlperf-llama3.1-405b-interactive": (4500, 80),
    "mlperf-llama3.1-8b-server": (2000, 100),
    "mlperf-llama3.1-8b-interactive": (500, 30),
    "mlperf-deepseek-r1-server": (2000, 80),
    "mlperf-deepseek-r1-interactive": (1500, 15),
    "mlperf-gpt-oss-120b-server": (3000, 80),
    "mlperf-gpt-oss-120b-interactive": (2000, 15),
}


def test_limits_of_percentiles_and_of_requests() -> None:
    assert parse_slo("ttft_p99=500ms, tpot <= 0.05s,attainment=95%") == Slo(
        limits=(
            Limit(metric="ttft_s", limit_s=0.5, statistic="p99"),
            Limit(metric="tpot_s", limit_s=0.05),
        ),
        attainment=0.95,
    )
    assert parse_slo("itl_s_p99.9<20ms").of_run == (
        Limit(metric="itl_s", limit_s=0.02, statistic="p99.9"),
    )
    assert parse_slo("e2e_mean=2s").per_request == {}


def test_goodput_takes_the_tightest_limit_that_a_request_can_meet() -> None:
    slo = parse_slo("ttft_p99=500ms,ttft=400ms,itl_p99=20ms,e2e=3s")
    assert slo.per_request == {"ttft_s": 0.4, "e2e_s": 3.0}
    assert [str(limit) for limit in slo.of_run] == ["ttft p99 ≤ 500 ms", "itl p99 ≤ 20 ms"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttft", "is no limit"),
        ("", "is no limit"),
        ("ttft=500", "a time with its unit"),
        ("ttft=fast", "a time with its unit"),
        ("ttft=0ms", "above zero"),
        ("itl=20ms", "say itl_p99=20ms"),
        ("output_throughput=5s", "no latency"),
        ("ttft=1s,ttft_s=2s", "ttft_s twice"),
        ("attainment=0.9", "limits nothing"),
        ("ttft=1s,attainment=120%", "at most 1"),
    ],
)
def test_what_is_no_slo_says_why(text: str, says: str) -> None:
    with pytest.raises(InvalidSlo, match=says):
        parse_slo(text)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UnknownMetric, match="ttft_s"):
        parse_slo("tfft_s=1s")


def test_mlperf_presets_are_mlperfs_limits() -> None:
    assert {name for name in PRESETS if name.startswith("mlperf")} == set(MLPERF_MS)
    for name, (ttft_ms, tpot_ms) in MLPERF_MS.items():
        found = {limit.metric: (limit.limit_s, limit.statistic) for limit in PRESETS[name].limits}
        assert found == {
            "ttft_s": (pytest.approx(ttft_ms / 1000), "p99"),
            "tpot_s": (pytest.approx(tpot_ms / 1000), "p99"),
        }
        assert PRESETS[name].attainment == 0.99


def test_presets_name_metrics_and_sources() -> None:
    assert {"chat", "code-completion", "summarisation"} <= set(PRESETS)
    for name, slo in PRESETS.items():
        assert parse_slo(name) is slo
        assert slo.source and slo.limits
        assert {limit.metric for limit in slo.limits} <= set(REGISTRY)
        assert set(slo.per_request) <= set(PER_REQUEST)


def test_a_spec_says_the_same_in_seconds() -> None:
    said = parse_slo("ttft_p99=500ms,tpot=50ms,itl_p99.9=20ms,e2e_mean=2s,attainment=95%")
    spec = {
        "ttft_p99_s": 0.5,
        "tpot_s": 0.05,
        "itl_p99.9_s": 0.02,
        "e2e_mean_s": 2.0,
        "attainment": 0.95,
    }
    assert slo_of(spec) == said
    assert as_limits(said) == spec
    assert "attainment" not in as_limits(parse_slo("ttft=1s")), "the usual one is not written out"
    for slo in PRESETS.values():
        assert slo_of(as_limits(slo)).limits == slo.limits
    assert slo_of({}) == Slo(limits=())


@pytest.mark.parametrize(
    "key, value",
    [
        ("ttft", 1.0),
        ("ttft_p99", 1.0),
        ("ttft_s", 0.0),
        ("ttft_p99_s", float("nan")),
        ("itl_s", 1.0),  # no request has one
        ("goodput_rate", 1.0),
        ("attainment", 1.5),
        ("attainment", 0.0),
    ],
)
def test_what_a_spec_may_not_say(key: str, value: float) -> None:
    with pytest.raises(InvalidSlo, match=key):
        slo_of({"e2e_s": 1.0, key: value})
