"""What a load costs before, during and after: the pieces that grow with requests and tokens.

    make bench

Times are for comparing one commit with another on one machine; `benchmarks/peers.py` weighs the
whole program. Each benchmark also checks that the work was done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.million import exchanges
from harness.load.bodies import DIALECTS, Bodies
from harness.load.collect import collect
from harness.load.spool import Spool
from results.measure import measure_requests
from results.record import RunRecord
from results.samples import RequestSamples
from results.store_files import FileStore
from results.testing import make_record, make_requests
from workloads.base import ServerTarget
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import FixedLength, PoissonArrivals, Traffic

NUM_TOKENS = 64
Benchmark = Callable[..., Any]


def some_traffic(num_requests: int) -> Traffic:
    return Traffic(
        arrivals=PoissonArrivals(rate_rps=1000.0),
        prompt_tokens=FixedLength(tokens=64),
        output_tokens=FixedLength(tokens=NUM_TOKENS),
        num_requests=num_requests,
        num_warmup_requests=0,
    )


def long_requests(num_requests: int) -> RequestSamples:
    """``num_requests`` answers of NUM_TOKENS chunks each, 10 ms apart but for some noise."""
    rng = np.random.default_rng(0)
    made = make_requests(num_requests)
    gaps = 0.01 * rng.lognormal(sigma=0.1, size=(num_requests, NUM_TOKENS))
    gaps[:, 0] = 0.0
    events = made.first_token_s[:, None] + gaps.cumsum(axis=1)
    return replace(
        made,
        done_s=events[:, -1] + 0.001,
        output_tokens=np.full(num_requests, NUM_TOKENS, dtype=np.int64),
        event_offset=np.arange(0, NUM_TOKENS * num_requests + 1, NUM_TOKENS, dtype=np.int64),
        event_s=events.reshape(-1),
        event_tokens=np.ones(NUM_TOKENS * num_requests, dtype=np.int64),
        event_reasoning=np.empty(0, dtype=np.bool_),  # made anew for so many events
    )


def test_a_schedule_of_a_million_requests(benchmark: Benchmark) -> None:
    schedule = benchmark(build_schedule, some_traffic(1_000_000))
    assert schedule.num_requests == 1_000_000


def test_a_thousand_request_bodies(benchmark: Benchmark) -> None:
    schedule = build_schedule(some_traffic(1_000))
    target = ServerTarget(base_url="http://127.0.0.1:1", model="m")

    def make() -> int:
        bodies = Bodies(target, schedule, DIALECTS[0])
        return sum(len(bodies.take(i)) for i in range(schedule.num_requests))

    assert benchmark(make) > 64_000


def test_a_thousand_streams_into_columns(benchmark: Benchmark) -> None:
    """64,000 tokens: what reading the bytes costs, per run of 1,000 requests."""
    spool = Spool()
    for exchange in exchanges(1_000, NUM_TOKENS):
        spool.put(exchange)
    samples = benchmark(lambda: collect(spool.read(), origin_s=0.0))
    assert len(samples.event_s) == 1_000 * NUM_TOKENS
    assert set(samples.error) == {""}


def test_measuring_a_hundred_thousand_requests(benchmark: Benchmark) -> None:
    samples = long_requests(100_000)
    measured = benchmark.pedantic(measure_requests, (samples, {"ttft_s": 0.5}, 0), rounds=2)  # type: ignore[attr-defined]
    values = {(m.metric, m.statistic): m.value for m in measured}
    assert values["ttft_s", "p50"] == pytest.approx(0.125, rel=0.05)  # uniform from 0.05 to 0.2
    assert values["itl_s", "p50"] == pytest.approx(0.01, rel=0.05)


def test_a_sketch_of_a_million_gaps(benchmark: Benchmark) -> None:
    sketch = pytest.importorskip("results.sketch")
    gaps = 0.01 * np.random.default_rng(0).lognormal(size=1_000_000)
    made = benchmark(sketch.empty_sketch().added, gaps)
    assert made.quantile(0.5) == pytest.approx(0.01, rel=0.02)


def test_two_sketches_merged(benchmark: Benchmark) -> None:
    sketch = pytest.importorskip("results.sketch")
    rng = np.random.default_rng(0)
    one, two = (sketch.empty_sketch().added(rng.lognormal(size=100_000)) for _ in range(2))
    assert benchmark(one.merged, two).num_values == 200_000


def test_a_record_sealed_with_ten_thousand_requests(benchmark: Benchmark, tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    table = long_requests(10_000).to_table()
    sealed: list[RunRecord] = []

    def seal() -> None:
        sealed.append(store.seal(make_record(index=len(sealed)), {"requests": table}))

    benchmark.pedantic(seal, rounds=5)  # type: ignore[attr-defined]
    assert len(list(store.scan().records)) == len(sealed) == 5
