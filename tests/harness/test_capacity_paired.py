"""Pairs of the same requests: the bound against scipy's own test, and worlds with a known ratio."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.capacity.paired import Probe, compared, independent, upper_bound
from results.samples import RequestSamples
from results.testing import make_requests


def probe(scale: float = 1.0, *, n: int = 120, seed: int = 0) -> Probe:
    """60 s of requests whose answers take ``scale`` times as long as drawn; all probes draw the
    same lengths, and their own small noise."""
    drawn = np.random.default_rng(7).gamma(4.0, 0.05, n)
    noise = np.exp(np.random.default_rng([seed, 3]).normal(0.0, 0.03, n))
    made = make_requests(n)
    intended = np.arange(n) * 60.0 / n
    ttft = drawn * noise * scale
    done = intended + ttft + 0.3 * scale
    samples = replace(
        made,
        intended_s=intended,
        dispatched_s=intended,
        written_s=intended,
        first_byte_s=intended + ttft,
        first_token_s=intended + ttft,
        first_answer_s=intended + ttft,
        done_s=done,
        is_warmup=np.zeros(n, dtype=np.bool_),
        event_s=np.repeat(intended + ttft, np.diff(made.event_offset)),
    )
    return Probe(samples=samples, duration_s=60.0)


@pytest.mark.parametrize("n", [6, 9, 16])
@pytest.mark.parametrize("error", [0.02, 0.05, 0.2])
def test_the_bound_is_where_scipys_signed_rank_test_begins_to_reject(n: int, error: float) -> None:
    logs = np.random.default_rng(n).normal(-0.05, 0.1, n)
    bound = upper_bound(logs, error)
    assert bound is not None
    for shift, rejects in ((bound + 1e-9, True), (bound - 1e-9, False)):
        p = stats.wilcoxon(logs - shift, alternative="less", method="exact").pvalue
        assert bool(p <= error) is rejects


def test_too_few_pairs_rule_nothing_out() -> None:
    assert upper_bound(np.full(4, -3.0), 0.05) is None
    assert upper_bound(np.full(5, -3.0), 0.05) == -3.0  # 2⁻⁵ = 3 %


@pytest.mark.parametrize("metric", ["ttft_s", "e2e_s"])
@pytest.mark.parametrize("statistic", ["p50", "p90", "mean"])
def test_a_known_ratio_is_found(metric: str, statistic: str) -> None:
    found = compared(probe(1.25, seed=1), probe(seed=2), metric, statistic, error=0.05)
    assert found.ratio == pytest.approx(1 / 1.25, rel=0.05)
    assert found.at_most is not None
    assert found.ratio <= found.at_most < 0.9
    back = compared(probe(seed=2), probe(1.25, seed=1), metric, statistic, error=0.05)
    assert back.ratio == pytest.approx(1.25, rel=0.05)


def test_requests_that_failed_are_worse_than_any_that_did_not() -> None:
    found = compared(half_of(probe(seed=1)), probe(seed=2), "ttft_s", "p90", error=0.05)
    assert found.ratio is not None
    assert found.ratio < 0.1


def test_pairs_are_the_same_requests_whatever_their_rows() -> None:
    mine, theirs = probe(1.25, seed=1), probe(seed=2)
    order = np.random.default_rng(0).permutation(120)
    by_row = {
        name: getattr(mine.samples, name)[order]
        for name in ("intended_s", "first_token_s", "first_answer_s", "done_s", "index")
    }
    mixed = replace(mine, samples=replace(mine.samples, **by_row))
    straight = compared(mine, theirs, "e2e_s", "p50", error=0.05)
    assert compared(mixed, theirs, "e2e_s", "p50", error=0.05) == straight


def test_throughput_is_compared_slice_by_slice_and_by_the_chip() -> None:
    half = half_of(probe(seed=1))
    found = compared(half, probe(seed=2), "output_throughput", "value", error=0.05)
    assert found.ratio == pytest.approx(0.5, rel=0.1)
    assert found.at_most is not None
    assert found.at_most < 0.9
    twice = replace(probe(seed=1), num_chips=2)
    one = replace(probe(seed=2), num_chips=1)
    per_chip = compared(twice, one, "output_throughput_per_chip", "value", error=0.05)
    assert per_chip.ratio == pytest.approx(0.5, rel=0.1)
    slo = {"ttft_s": 0.15}
    slower = compared(probe(1.5), probe(), "goodput_rate", "value", error=0.05, slo=slo)
    assert slower.ratio is not None
    assert slower.ratio < 0.8


def half_of(whole: Probe) -> Probe:
    """Every second request came to nothing."""
    error = np.array(["lost" if i % 2 else "" for i in range(120)], dtype=object)
    return replace(whole, samples=replace(whole.samples, error=error))


def test_what_a_probe_cannot_tell_is_said() -> None:
    few = compared(probe(n=40), probe(n=40), "ttft_s", "p99", error=0.05)
    assert few.at_most is None
    assert "too few" in few.why_none
    assert (
        "no figure" in compared(probe(), probe(), "peak_memory_bytes", "value", error=0.1).why_none
    )
    other = probe()
    strange = replace(
        other, samples=replace(other.samples, index=np.arange(1000, 1120, dtype=np.int64))
    )
    assert compared(probe(), strange, "ttft_s", "p50", error=0.05).at_most is None


def test_neighbours_that_are_alike_are_merged() -> None:
    slow = np.sin(np.arange(16) / 16 * 2 * math.pi)
    assert len(independent(slow)) < 16
    assert len(independent(np.tile([0.1, -0.1], 8))) == 16


def test_a_world_without_a_difference_is_rarely_called_worse() -> None:
    """Two probes of one configuration: at most the error asked, and some chance."""
    worse = 0
    for seed in range(60):
        found = compared(
            probe(seed=2 * seed), probe(seed=2 * seed + 1), "ttft_s", "p50", error=0.05
        )
        worse += found.at_most is not None and found.at_most < 1.0
    assert worse <= stats.binom.ppf(0.999, 60, 0.05)


def test_warmup_requests_are_no_pairs() -> None:
    mine = probe(seed=1)
    warm: RequestSamples = replace(
        mine.samples, is_warmup=np.array([i < 100 for i in range(120)], dtype=np.bool_)
    )
    found = compared(replace(mine, samples=warm), probe(seed=2), "ttft_s", "p90", error=0.05)
    assert "20 requests" in found.why_none
