"""Pooled gaps against the same pools written out request by request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import results.gaps
from results.gaps import chunk_gaps, gap_pools, token_gaps
from results.samples import RequestSamples
from results.serial import quantile


def streams(chunks: list[list[tuple[float, int]]], seed: int = 0) -> RequestSamples:
    """One request per list; its chunks are (gap before it, tokens)."""
    n = len(chunks)
    starts = np.random.default_rng(seed).uniform(0, 10, n)
    event_s = [starts[i] + np.cumsum([gap for gap, _ in part]) for i, part in enumerate(chunks)]
    flat = np.concatenate(event_s) if event_s else np.empty(0)
    zeros = np.zeros(n)
    return RequestSamples(
        intended_s=starts,
        dispatched_s=starts,
        written_s=starts,
        first_byte_s=starts,
        first_token_s=starts,
        done_s=starts + 1,
        prompt_tokens=zeros.astype(int),
        output_tokens=zeros.astype(int),
        status=zeros.astype(int),
        error=np.array([""] * n, dtype=object),
        is_warmup=np.zeros(n, dtype=bool),
        worker=zeros.astype(int),
        event_offset=np.concatenate([[0], np.cumsum([len(part) for part in chunks])]).astype(int),
        event_s=flat,
        event_tokens=np.array([t for part in chunks for _, t in part], dtype=int),
    )


def written_out(samples: RequestSamples, rows: np.ndarray) -> tuple[list[float], list[float]]:
    """(ITL, inter-chunk), one request and one token at a time."""
    itl: list[float] = []
    between: list[float] = []
    for i in np.flatnonzero(rows):
        start, end = samples.event_offset[i], samples.event_offset[i + 1]
        times, tokens = samples.event_s[start:end], samples.event_tokens[start:end]
        between += list(np.diff(times))
        if len(times) and all(t > 0 for t in tokens):
            arrivals = [t for t, k in zip(times, tokens, strict=True) for _ in range(k)]
            itl += list(np.diff(arrivals))
    return itl, between


CHUNK = st.tuples(st.sampled_from([0.0, 0.01, 0.02, 0.5]), st.sampled_from([1, 1, 1, 2, 5, -1, 0]))
STREAMS = st.lists(st.lists(CHUNK, max_size=6), min_size=1, max_size=12)


@given(STREAMS, st.integers(0, 2**12 - 1), st.sampled_from([1, 3, 1 << 20]))
@settings(deadline=None)
def test_pools_hold_what_the_slow_way_finds(
    chunks: list[list[tuple[float, int]]], mask: int, block: int
) -> None:
    samples = streams(chunks)
    rows = np.array([bool(mask >> i & 1) for i in range(len(chunks))])
    itl, between = written_out(samples, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results.gaps, "EVENTS_PER_BLOCK", block)
        assert token_gaps(samples, rows) == pytest.approx(np.array(itl))
        assert chunk_gaps(samples, rows) == pytest.approx(np.array(between))
        for pool, truth in zip(gap_pools(samples, rows), (itl, between), strict=True):
            found = [pool.at_rank(k + 1) for k in range(pool.num_gaps)]
            assert found == pytest.approx(np.sort(truth), abs=1e-6)
            assert pool.num.sum() == len(truth)
            assert pool.sum_s.sum() == pytest.approx(sum(truth))
            if truth:
                assert pool.quantile(0.5).value == pytest.approx(np.quantile(truth, 0.5), abs=1e-6)
                assert pool.mean().value == pytest.approx(np.mean(truth))


def test_one_gap_a_request_has_the_interval_of_a_request_column() -> None:
    rng = np.random.default_rng(4)
    gaps = rng.exponential(0.01, 2000).astype(np.float32).astype(float)
    samples = streams([[(0.1, 1), (gap, 1)] for gap in gaps])
    # Times are powers of two apart from zero, so that differences are the gaps exactly.
    samples = replace(
        samples,
        intended_s=np.arange(2000.0),
        event_s=np.column_stack([np.zeros(2000), gaps]).ravel(),
    )
    pool, _ = gap_pools(samples, np.ones(2000, dtype=bool))
    for q in (0.5, 0.9, 0.99):
        column = quantile(gaps, np.sort(gaps), q)
        found = pool.quantile(q)
        assert found.interval is not None and column.interval is not None
        assert found.value == pytest.approx(column.value)
        assert found.num_effective == pytest.approx(column.num_effective)
        assert found.interval.high == pytest.approx(column.interval.high)
        assert found.interval.low == pytest.approx(column.interval.low)


def test_requests_are_clusters_of_their_gaps() -> None:
    """Coverage of the median gap where gaps of a request share a level: gap = level × noise, so the
    pooled median is that of a product of two log-normals, 1."""
    rng, hits, naive, runs = np.random.default_rng(6), 0, 0, 100
    for _ in range(runs):
        gaps = rng.lognormal(0, 1, (300, 1)) * rng.lognormal(0, 0.1, (300, 20))
        times = np.concatenate([np.zeros((300, 1)), np.cumsum(gaps, axis=1)], axis=1)
        base = streams([[(0.0, 1)] * 21 for _ in range(300)])
        samples = replace(base, event_s=times.ravel(), intended_s=np.arange(300.0))
        pool, _ = gap_pools(samples, np.ones(300, dtype=bool))
        found = pool.quantile(0.5).interval
        assert found is not None
        hits += found.low <= 1.0 <= found.high
        ordered = np.sort(gaps.ravel())
        naive += ordered[3000 - 76] <= 1.0 <= ordered[3000 + 75]  # iid ranks: ± 1.96 √6000/2
    assert hits / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
    assert naive / runs < 0.6
