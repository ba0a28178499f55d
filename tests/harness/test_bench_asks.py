"""Words of the command line → traffic, limits, stop rules; or a sentence saying what to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.bench.ask import Words, ask_of, traffic_of, vocab_size_of
from harness.bench.asks import arrivals_of, length_of
from harness.bench.until import until_of
from harness.errors import SpecError
from results.samples import RequestSamples
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    GammaArrivals,
    LognormalLength,
    NormalLength,
    PoissonArrivals,
    UniformLength,
)


def words(**changes: Any) -> Words:
    written: dict[str, Any] = {
        "endpoint": "http://127.0.0.1:1",
        "model": "m",
        "api": "completions",
        "stream": True,
        "rate": 2.0,
        "concurrency": None,
        "arrival": "poisson",
        "burstiness": 1.0,
        "think": 0.0,
        "duration": None,
        "num_requests": None,
        "input_tokens": "64",
        "output_tokens": "64",
        "warmup": 2,
        "timeout": 120.0,
        "seed": 0,
        "tokenizer": None,
        "api_key_env": "",
        "slo": "",
        "until": "",
    }
    return Words(**(written | changes))


def test_lengths() -> None:
    assert length_of("64", "--x") == FixedLength(tokens=64)
    assert length_of("fixed:7", "--x") == FixedLength(tokens=7)
    assert length_of("uniform:16:256", "--x") == UniformLength(low=16, high=256)
    assert length_of("normal:100:10", "--x") == NormalLength(mean=100, std=10, high=160)
    assert length_of("lognormal:100:10:5:500", "--x") == LognormalLength(
        mean=100, std=10, low=5, high=500
    )


@pytest.mark.parametrize(
    "text", ["", "many", "uniform:16", "uniform:1:2:3", "zipf:1:2", "uniform:a:b", "1.5"]
)
def test_what_is_no_length_is_told_with_the_shapes_there_are(text: str) -> None:
    with pytest.raises(SpecError, match="--input-tokens") as raised:
        length_of(text, "--input-tokens")
    assert "uniform:LOW:HIGH" in str(raised.value) or "whole numbers" in str(raised.value)


def test_arrivals() -> None:
    def made(kind: str = "poisson", **changes: Any) -> Any:
        asked = {"rate": None, "concurrency": None, "burstiness": 1.0, "think_s": 0.0} | changes
        return arrivals_of(kind=kind, **asked)

    assert made("constant", rate=3.0) == ConstantArrivals(rate_rps=3.0)
    assert made(rate=3.0) == PoissonArrivals(rate_rps=3.0)
    assert made("gamma", rate=3.0, burstiness=0.5) == GammaArrivals(rate_rps=3.0, burstiness=0.5)
    assert made(concurrency=4, think_s=0.5) == ClosedLoop(num_users=4, think_time_s=0.5)
    with pytest.raises(SpecError, match=r"either --rate R .* or --concurrency N"):
        made()
    with pytest.raises(SpecError, match=r"--rate 1 and --concurrency 2 exclude each other"):
        made(rate=1.0, concurrency=2)
    with pytest.raises(SpecError, match=r"--rate 1 and --think-time 2 exclude each other"):
        made(rate=1.0, think_s=2.0)
    with pytest.raises(
        SpecError, match="'bursty' is not known; it is one of constant, poisson, gamma"
    ):
        made("bursty", rate=1.0)


def test_traffic_ends_after_half_a_minute_unless_told_otherwise() -> None:
    assert traffic_of(words()).duration_s == 30.0
    counted = traffic_of(words(num_requests=10))
    assert (counted.duration_s, counted.num_requests) == (None, 10)
    both = traffic_of(words(num_requests=10, duration=5.0))
    assert (both.duration_s, both.num_requests) == (5.0, 10)


def test_impossible_traffic_is_a_usage_error() -> None:
    with pytest.raises(SpecError, match="rate_rps"):
        traffic_of(words(rate=-1.0))
    with pytest.raises(SpecError, match="--api 'messages' is not known"):
        traffic_of(words(api="messages"))


def test_limits_and_stop_rules_that_are_none_are_usage_errors() -> None:
    ask = ask_of(words(slo="ttft_p99=500ms,tpot=0.05s", until="ttft_p99 ±5%"))
    assert ask.limits == {"ttft_s": 0.5, "tpot_s": 0.05}
    assert ask.until is not None
    assert ask_of(words()).limits == {}
    assert ask_of(words(slo="chat")).limits.keys() == {"ttft_s", "tpot_s"}
    for wrong in ({"slo": "ttft"}, {"slo": "nonsense_p99=1s"}, {"until": "ttft ±5%"}):
        with pytest.raises(SpecError):
            ask_of(words(**wrong))
    with pytest.raises(SpecError, match="across runs only"):
        ask_of(words(until="achieved_rate ±5%"))


def answered(ttft_s: np.ndarray[Any, np.dtype[np.float64]]) -> RequestSamples:
    n = len(ttft_s)
    at_s = np.arange(n, dtype=np.float64)
    one = np.ones(n, dtype=np.int64)
    return RequestSamples(
        intended_s=at_s,
        dispatched_s=at_s,
        written_s=at_s,
        first_byte_s=at_s + ttft_s,
        first_token_s=at_s + ttft_s,
        done_s=at_s + ttft_s,
        prompt_tokens=one,
        output_tokens=one,
        status=one * 200,
        error=np.array([""] * n, dtype=object),
        is_warmup=np.zeros(n, dtype=np.bool_),
        worker=one,
        event_offset=np.arange(n + 1),
        event_s=at_s + ttft_s,
        event_tokens=one,
    )


def test_a_stop_rule_is_met_when_the_interval_is_narrow() -> None:
    # The median of n uniform numbers around 1 has a 97.5 % interval of about ±1.12 / √n.
    rule = until_of("ttft_p50 ±5%", {})
    rng = np.random.default_rng(1)
    wide, narrow = rng.uniform(0.5, 1.5, 100), rng.uniform(0.5, 1.5, 1600)
    assert not rule(answered(wide))  # ±11 %
    assert rule(answered(narrow))  # ±2.8 %
    assert not rule(answered(narrow[:5])), "too few to estimate"


def test_a_vocabulary_is_read_from_the_models_folder(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}}))
    missing = tmp_path / "none" / "tokenizer.json"
    with pytest.raises(SpecError, match=f"--tokenizer {missing}: there is no such file"):
        vocab_size_of(missing)
    assert vocab_size_of(tmp_path) == vocab_size_of(tmp_path / "tokenizer.json") == 2
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 32000}))
    assert vocab_size_of(tmp_path) == 32000
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match="name the model's folder"):
        vocab_size_of(tmp_path / "empty")


def test_a_key_that_is_not_set_is_told_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(SpecError, match="NO_SUCH_KEY, which is not set"):
        ask_of(words(api_key_env="NO_SUCH_KEY"))
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    ask = ask_of(words(api_key_env="SOME_KEY"))
    assert ask.api_key == "sk-secret"
    assert "sk-secret" not in repr(ask)
