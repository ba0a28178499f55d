"""What each tool says, read: documents of the versions under comparison, cut to what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tools import (
    TOOLS,
    Places,
    Point,
    Reported,
    Run,
    read_aiperf,
    read_epoll,
    read_guidellm,
    read_inference_perf,
    read_vllm,
    read_windtunnel,
)
from benchmarks.truth import Latency


def written(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return folder


def figures(said: Reported) -> dict[str, float | None]:
    """All that a tool said, flat."""
    found = {"ok": said.num_ok, "failed": said.num_failed, "requests/s": said.request_rate}
    for name, latency in (("ttft", said.ttft_s), ("tpot", said.tpot_s), ("itl", said.itl_s)):
        found |= {f"{name} {q}": getattr(latency, q, None) for q in ("p50", "p99")}
    return found


THREE = {
    "ok": 80, "failed": 2, "requests/s": 17.5,
    "ttft p50": 0.05, "ttft p99": 0.06,
    "tpot p50": 0.010, "tpot p99": 0.011,
    "itl p50": 0.01, "itl p99": 0.02,
}  # fmt: skip


def test_vllm_speaks_of_milliseconds(tmp_path: Path) -> None:
    document = {
        "completed": 80, "failed": 2, "request_throughput": 17.5,
        "p50_ttft_ms": 50.0, "p99_ttft_ms": 60.0, "p50_tpot_ms": 10.0, "p99_tpot_ms": 11.0,
        "p50_itl_ms": 10.0, "p99_itl_ms": 20.0,
    }  # fmt: skip
    said = read_vllm(written(tmp_path, "vllm.json", document))
    assert figures(said) == pytest.approx(THREE)


def test_inference_perf_calls_p50_median(tmp_path: Path) -> None:
    document = {
        "successes": {
            "count": 80,
            "latency": {
                "time_to_first_token": {"median": 0.05, "p99": 0.06},
                "time_per_output_token": {"median": 0.010, "p99": 0.011},
                "inter_token_latency": {"median": 0.01, "p99": 0.02},
            },
            "throughput": {"requests_per_sec": 17.5},
        },
        "failures": {"count": 2},
    }
    name = "reports/summary_lifecycle_metrics.json"
    said = read_inference_perf(written(tmp_path, name, document))
    assert figures(said) == pytest.approx(THREE)


def test_aiperf_says_its_units_and_calls_tpot_inter_token_latency(tmp_path: Path) -> None:
    document = {
        "request_count": {"avg": 80.0, "unit": "requests"},
        "error_request_count": {"avg": 2.0, "unit": "requests"},
        "request_throughput": {"avg": 17.5, "unit": "requests/sec"},
        "time_to_first_token": {"p50": 50.0, "p99": 60.0, "unit": "ms"},
        "inter_token_latency": {"p50": 10.0, "p99": 11.0, "unit": "ms"},
        "inter_chunk_latency": {"p50": 10.0, "p99": 20.0, "unit": "ms"},
    }
    said = read_aiperf(written(tmp_path, "profile_export_aiperf.json", document))
    assert figures(said) == pytest.approx(THREE)


def test_guidellm_has_no_pooled_gaps(tmp_path: Path) -> None:
    def successful(p50: float, p99: float) -> dict[str, Any]:
        return {"successful": {"mean": 17.5, "percentiles": {"p50": p50, "p99": p99}}}

    metrics = {
        "request_totals": {"successful": 80, "errored": 2, "incomplete": 3, "total": 85},
        "requests_per_second": successful(0, 0),
        "time_to_first_token_ms": successful(50.0, 60.0),
        "inter_token_latency_ms": successful(10.0, 11.0),
        "time_per_output_token_ms": successful(11.0, 12.0),  # holds the TTFT: not what we ask
    }
    document = {"benchmarks": [{"metrics": metrics}]}
    said = read_guidellm(written(tmp_path, "guidellm.json", document))
    assert said.itl_s is None
    of_two = {name: value for name, value in THREE.items() if not name.startswith("itl")}
    assert {name: figures(said)[name] for name in of_two} == pytest.approx(of_two)


def test_windtunnel_may_refuse_a_percentile_and_its_own_run(tmp_path: Path) -> None:
    document = {
        "schema": "windtunnel.bench/1", "num_requests": 82, "num_failed": 2,
        "achieved_rate": 17.5, "offered_rate": 20.0, "valid": False, "reasons": ["too late"],
        "metrics": {
            "ttft_s": {"unit": "s", "p50": 0.05, "p99": None},
            "itl_s": {"unit": "s", "p50": 0.01, "p99": 0.02},
        },
    }  # fmt: skip
    said = read_windtunnel(written(tmp_path, "output.txt", json.dumps(document, indent=2)))
    assert (said.num_ok, said.is_valid, said.reasons) == (80, False, ("too late",))
    assert said.ttft_s == Latency(p50=0.05, p99=None)
    assert said.tpot_s is None
    assert said.itl_s == Latency(p50=0.01, p99=0.02)


def test_windtunnel_may_refuse_to_send(tmp_path: Path) -> None:
    written(tmp_path, "output.txt", "")
    said = read_windtunnel(written(tmp_path, "output.err", "more than half of what it can\n"))
    assert (said.is_valid, said.num_ok) == (False, None)
    assert said.reasons == ("more than half of what it can",)


def test_the_c_client_prints_one_line(tmp_path: Path) -> None:
    line = (
        '{"answered":82,"failed":2,"unanswered":0,"requests_per_s":17.5,'
        '"ttft_s":{"n":80,"p50":0.05,"p99":0.06},"itl_s":{"n":80,"p50":0.01,"p99":0.02},'
        '"tpot_s":{"n":80,"p50":0.010,"p99":0.011},"dispatch_lag_s":null}'
    )
    said = read_epoll(written(tmp_path, "output.txt", f"note\n{line}\n"))
    assert figures(said) == pytest.approx(THREE)
    assert said.dispatch_lag_s is None


def test_an_empty_output_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        read_windtunnel(written(tmp_path, "output.txt", "nothing\n"))


@pytest.mark.parametrize("name", sorted(TOOLS))
@pytest.mark.parametrize(
    "point", [Point(rate=25.0), Point(users=7), Point(rate=25.0, noop=True)], ids=lambda p: p.name
)
def test_every_tool_is_asked_for_the_point(name: str, point: Point, tmp_path: Path) -> None:
    places = Places(
        peers=tmp_path, model=tmp_path, home=tmp_path,
        vllm=("vllm",), windtunnel=("windtunnel",), epoll_client=tmp_path / "c",
    )  # fmt: skip
    run = Run(point=point, url="http://127.0.0.1:8123", folder=tmp_path, places=places)
    config = tmp_path / "config.yaml"
    words = " ".join(TOOLS[name].command(run)) + (config.read_text() if config.exists() else "")
    assert "8123" in words
    assert ("25" if point.rate else "7") in words
    assert str(point.num_tokens) in words


def test_a_closed_loop_is_as_long_as_the_tool_is_fast() -> None:
    # 64 users, one answer of 0.68 s each: 94 answers/s; at 640 tokens/s only 10/s.
    point = Point(users=64, seconds=20.0)
    assert point.num_requests() == round(64 / 0.68 * 20)
    assert point.num_requests(640.0) == 200
    assert point.num_requests(1.0) == 128  # two a user, at the least
