"""What watching a training costs it: a rank's report per step, against the bare loop.

Both loops compute for 50 ms a step. The watched one also does what the ``torch`` loop does
around a step: makes its TrainStep, reads the kernel's high-water mark, and hands it to the outbox
that sends to an actor of Ray twice a second. Told in two ways:

- by CPU time of the rank's thread beyond its arithmetic; a bare step before it keeps the rhythm of
  a training. Neighbours on the machine do not change it.
- by the wall clock: the same arithmetic in blocks of steps, bare and watched in the order ABBA, so
  that what drifts cancels; the interval is over the cycles. This has in it what the actor and Ray
  take of the machine meanwhile, and needs a calm one.

    OMP_NUM_THREADS=1 pytest benchmarks/test_training_overhead.py --benchmark-only -s
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import ray

from harness.on_ray.train_news import Answer, RankNews
from harness.on_ray.train_rank import Outbox
from results.clock import SystemClock
from results.intervals import mean_interval
from workloads.base import TrainStep

STEP_S = 0.05
NUM_PAIRS = 60
STEPS_IN_BLOCK = 10
NUM_CYCLES = 20
ALLOWED = 0.01  # of a step


class Post:
    """As the coach: keeps what it is sent."""

    def __init__(self) -> None:
        self.kept: list[RankNews] = []

    def post(self, news: RankNews) -> Answer:
        self.kept.append(news)
        return Answer(0)


@pytest.fixture(scope="module")
def outbox() -> Iterator[Outbox]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
    try:
        coach: Any = ray.remote(Post).options(num_cpus=0).remote()
        clock = SystemClock()
        made = Outbox(0, clock.monotonic_s, lambda news: coach.post.remote(news), ray.get)
        made.hello()
        yield made
        made.close()
    finally:
        ray.shutdown()


def worker() -> Callable[[], float]:
    """Arithmetic for ``STEP_S``, which no rank's report is in the middle of."""
    clock = SystemClock()
    matrix = np.random.default_rng(0).standard_normal((128, 128))

    def work() -> float:
        begun_s = clock.monotonic_s()
        while clock.monotonic_s() - begun_s < STEP_S:
            matrix @ matrix
        return clock.monotonic_s() - begun_s

    return work


def reporter(outbox: Outbox) -> Callable[[int, float, float], None]:
    """What a rank does after a step; it looks at its memory twice a second."""
    torch_step = pytest.importorskip("workloads.torch_step")
    import torch

    cpu = torch.device("cpu")

    def report(step: int, start_s: float, duration_s: float) -> None:
        seen = TrainStep(
            step=step,
            start_s=start_s,
            duration_s=duration_s,
            data_wait_s=0.0,
            num_tokens=512,
            loss=1.0,
            memory_bytes=torch_step.peak_memory_bytes(cpu) if step % 10 == 0 else 0,
            is_warmup=False,
        )
        outbox.report(seen._replace(checkpoint_s=0.0))

    return report


@pytest.mark.benchmark(group="training")
def test_reporting_a_step_costs_less_than_a_hundredth_of_it(benchmark: Any, outbox: Outbox) -> None:
    clock, report, work = SystemClock(), reporter(outbox), worker()
    costs: list[float] = []
    steps_s: list[float] = []

    def pair() -> None:
        work()
        begun_s = clock.monotonic_s()
        cpu_work_s = time.thread_time()
        duration_s = work()
        in_work_s = time.thread_time() - cpu_work_s
        cpu_begun_s = cpu_work_s
        report(len(costs) + 1, begun_s, duration_s)
        costs.append(time.thread_time() - in_work_s - cpu_begun_s)
        steps_s.append(duration_s)

    benchmark.pedantic(pair, rounds=NUM_PAIRS, iterations=1, warmup_rounds=2)
    # The rank's own thread's CPU time: on a shared machine the wall clock tells of its neighbours.
    # Sending and looking at the memory happen in every tenth step, so the mean is what counts.
    step_s, cost_s = statistics.median(steps_s), statistics.fmean(costs)
    told = f"{cost_s * 1e6:.0f} µs of CPU per step of {step_s * 1e3:.1f} ms: {cost_s / step_s:.3%}"
    benchmark.extra_info.update(cost=told)
    sys.stdout.write(f"\n{told}\n")
    assert cost_s / step_s < ALLOWED, told


def fixed_work() -> Callable[[], object]:
    """As much arithmetic as takes ``STEP_S`` here and now, the same each time."""
    clock = SystemClock()
    matrix = np.random.default_rng(0).standard_normal((128, 128))
    times = []
    for _ in range(20):
        begun_s = clock.monotonic_s()
        for _ in range(20):
            matrix @ matrix
        times.append((clock.monotonic_s() - begun_s) / 20)
    repeats = max(1, round(STEP_S / min(times)))

    def work() -> None:
        for _ in range(repeats):
            matrix @ matrix

    return work


@pytest.mark.benchmark(group="training")
def test_a_watched_loop_takes_as_long_as_a_bare_one(benchmark: Any, outbox: Outbox) -> None:
    clock, report, work = SystemClock(), reporter(outbox), fixed_work()
    load = os.getloadavg()[0]
    shares: list[float] = []
    bare_s: list[float] = []

    def block(watched: bool) -> float:
        begun_s = clock.monotonic_s()
        for step in range(1, STEPS_IN_BLOCK + 1):
            started_s = clock.monotonic_s()
            work()
            if watched:
                report(step, started_s, clock.monotonic_s() - started_s)
        return (clock.monotonic_s() - begun_s) / STEPS_IN_BLOCK

    def cycle() -> None:
        took = {True: 0.0, False: 0.0}
        for watched in (False, True, True, False):
            took[watched] += block(watched) / 2
        bare_s.append(took[False])
        shares.append(took[True] / took[False] - 1.0)

    benchmark.pedantic(cycle, rounds=NUM_CYCLES, iterations=1, warmup_rounds=1)
    shares, bare_s = shares[1:], bare_s[1:]
    mean, interval = mean_interval(np.array(shares))
    assert interval is not None
    step_ms = statistics.median(bare_s) * 1e3
    told = (
        f"{mean:+.3%} of a bare step of {step_ms:.1f} ms by the wall clock; 95 % interval "
        f"{interval.low:+.3%} to {interval.high:+.3%} over {len(shares)} cycles, load {load:.1f} "
        "before"
    )
    benchmark.extra_info.update(cost=told)
    sys.stdout.write(f"\n{told}\n")
    # More than a hundredth would be shown only by the whole interval.
    assert interval.low < ALLOWED, told
