"""Efficiency, its factors and its losses, against closed forms and scipy's t."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from results.samples import StepSamples
from results.scaling.efficiency import SizeSeen, curve_from, ratio_of, scaling_of
from results.scaling.further import further_of
from results.scaling.runs import ScaleRun, StepParts, parts_of


def run(n: int, per_worker: float | None, *, r: int = 0, alone: bool = False) -> ScaleRun:
    return ScaleRun(
        num_workers=n,
        round_index=r,
        is_control=alone,
        run_id=f"{r}-{n}-{alone}",
        throughput=None if per_worker is None else n * per_worker,
        fault="" if per_worker is not None else "load: out of memory",
        startup_s=10.0,
        training_s=30.0,
        num_cores=2,
        num_threads=1,
    )


def at(n: int, runs: list[ScaleRun], mode: str = "weak") -> SizeSeen:
    found = scaling_of(runs, mode)  # type: ignore[arg-type]
    return next(s for s in found.sizes if s.num_workers == n)


def test_weak_and_strong_are_one_ratio() -> None:
    """Weak: 100 and 90 tokens/s per worker. Strong: T(1) = 8 s, T(4) = 2.5 s for 1,000 tokens."""
    assert at(4, [run(1, 100.0), run(4, 90.0)]).efficiency.value == pytest.approx(0.9)
    strong = [run(1, 1000 / 8.0), run(4, 1000 / 2.5 / 4)]
    assert at(4, strong, "strong").efficiency.value == pytest.approx(8.0 * 1 / (2.5 * 4))


def test_a_round_is_compared_with_itself() -> None:
    """The machine halves its speed between rounds; the ratio does not see it."""
    rng = np.random.default_rng(2)
    ratios = 0.8 * np.exp(0.01 * rng.standard_normal(5))
    runs = [run(1, 100.0 / 2**r, r=r) for r in range(5)]
    runs += [run(4, 100.0 / 2**r * x, r=r) for r, x in enumerate(ratios)]
    found = at(4, runs).efficiency
    logs = np.log(ratios)
    low, high = stats.t.interval(0.95, 4, loc=logs.mean(), scale=stats.sem(logs))
    assert found.value == pytest.approx(np.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert found.num_rounds == 5


def test_one_round_has_no_interval_and_says_why() -> None:
    found = ratio_of({0: 90.0}, {0: 100.0})
    assert found.value == pytest.approx(0.9)
    assert found.low is None and found.high is None
    assert "--repeats" in found.reason
    assert ratio_of({0: 90.0}, {1: 100.0}).value is None


def test_a_size_that_failed_is_a_fault_and_the_next_one_is_n0() -> None:
    found = scaling_of([run(1, None), run(2, 50.0), run(4, 40.0)], "weak")
    assert found.n0 == 2
    assert "n₀ = 2" in found.rule
    first = found.sizes[0]
    assert first.efficiency.value is None and first.faults == ("load: out of memory",)
    assert found.sizes[2].efficiency.value == pytest.approx(0.8)
    assert scaling_of([run(1, None)], "weak").n0 is None
    assert curve_from([run(1, None)]) is None


def contended() -> list[ScaleRun]:
    """Two cores: four ranks get half a core each, and exchange takes a tenth of what is left."""
    runs = []
    for r in range(3):
        runs += [run(1, 100.0, r=r), run(4, 45.0, r=r), run(4, 50.0, r=r, alone=True)]
    return runs


def test_the_control_tells_the_host_from_scaling() -> None:
    seen = at(4, contended())
    assert seen.efficiency.value == pytest.approx(0.45)
    assert seen.host is not None and seen.host.value == pytest.approx(0.5)
    assert seen.together is not None and seen.together.value == pytest.approx(0.9)
    assert seen.is_oversubscribed
    assert at(1, contended()).together is None  # a worker alone is its own control
    assert not at(1, contended()).is_oversubscribed


def with_parts(runs: list[ScaleRun], parts: dict[int, StepParts]) -> list[ScaleRun]:
    return [replace(r, parts=parts[r.num_workers]) for r in runs]


def test_losses_add_up_with_a_control() -> None:
    parts = {
        1: StepParts(data=0.02, imbalance=0.0, communication=None),
        4: StepParts(data=0.04, imbalance=0.03, communication=None),
    }
    loss = {p.name: p.share for p in at(4, with_parts(contended(), parts)).loss}
    assert loss["host contention"] == pytest.approx(0.5)
    # Beyond contention a step takes 1/0.9 of the control's: 0.5·(0.04 − 0.9·0.02), 0.5·0.03.
    assert loss["waiting for data"] == pytest.approx(0.011)
    assert loss["imbalance"] == pytest.approx(0.015)
    assert loss["communication"] == pytest.approx(0.05 - 0.011 - 0.015)
    assert sum(loss.values()) == pytest.approx(1 - 0.45)
    assert "not attributed" not in loss


def test_losses_add_up_without_a_control() -> None:
    """A step at n₀ is 1 s, 20 ms of it data. At 4 it is 1.25 s: 20 ms more data, 200 ms exchange,
    30 ms that nothing explains."""
    parts = {
        1: StepParts(data=0.02, imbalance=0.0, communication=0.0),
        4: StepParts(data=0.04 / 1.25, imbalance=0.0, communication=0.2 / 1.25),
    }
    runs = with_parts([run(1, 100.0), run(4, 80.0)], parts)
    loss = {p.name: p.share for p in at(4, runs).loss}
    assert loss["waiting for data"] == pytest.approx(0.02 / 1.25)
    assert loss["communication"] == pytest.approx(0.2 / 1.25)
    assert loss["not attributed"] == pytest.approx(0.03 / 1.25)
    assert sum(loss.values()) == pytest.approx(0.2)
    untimed = {n: replace(p, communication=None) for n, p in parts.items()}
    loss = {p.name: p.share for p in at(4, with_parts(runs, untimed)).loss}
    assert "communication" not in loss
    assert loss["not attributed"] == pytest.approx(0.23 / 1.25)


def test_startup_stands_beside() -> None:
    seen = at(4, contended())
    assert seen.startup_s == pytest.approx(10.0)
    assert seen.startup_share == pytest.approx(0.25)


def steps(duration: np.ndarray, comm: np.ndarray | None) -> StepSamples:
    """(steps, ranks) → rows; the first step is warm-up."""
    num_steps, ranks = duration.shape
    size = num_steps * ranks
    return StepSamples(
        step=np.repeat(np.arange(num_steps), ranks),
        rank=np.tile(np.arange(ranks), num_steps),
        start_s=np.zeros(size),
        duration_s=duration.ravel(),
        data_wait_s=0.1 * duration.ravel(),
        num_tokens=np.full(size, 10),
        loss=np.zeros(size),
        memory_bytes=np.full(size, -1),
        is_warmup=np.repeat(np.arange(num_steps) == 0, ranks),
        comm_s=np.full(size, np.nan) if comm is None else comm.ravel(),
    )


def test_waiting_for_a_slow_peer_is_imbalance_and_not_communication() -> None:
    """Ranks compute 0.6 and 0.8 s, then exchange 0.2 s: the fast one waits 0.2 s inside it."""
    duration = np.array([[9.0, 9.0], [1.0, 1.0], [1.0, 1.0]])
    comm = np.array([[8.0, 8.0], [0.4, 0.2], [0.4, 0.2]])
    timed = parts_of(steps(duration, comm))
    assert timed is not None
    assert timed.data == pytest.approx(0.1)
    assert timed.imbalance == pytest.approx(0.1)  # 0.2 s of one rank in 2 s of both
    assert timed.communication == pytest.approx(0.2)
    untimed = parts_of(steps(duration, None))
    assert untimed is not None and untimed.communication is None
    assert untimed.imbalance == pytest.approx(0.0)
    assert parts_of(steps(duration[:1], None)) is None


def test_what_is_extrapolated_is_what_is_left_without_the_host() -> None:
    """Exchange costs 5 % per doubling. On two cores the control takes that apart; without it
    nothing is predicted, and with a core each there is nothing to take apart."""
    sizes, together = (1, 2, 4, 8), {1: 1.0, 2: 1 / 1.05, 4: 1 / 1.1, 8: 1 / 1.15}
    crowded = [run(n, 100.0 * min(1.0, 2 / n) * together[n], r=r) for n in sizes for r in range(2)]
    alone = [run(n, 100.0 * min(1.0, 2 / n), r=r, alone=True) for n in sizes[1:] for r in range(2)]
    found = further_of(scaling_of([*crowded, *alone], "weak"), [*crowded, *alone], [16])
    assert found is not None
    p = found.predictions[0]
    assert p.efficiency == pytest.approx(1 / 1.2, abs=0.02)
    assert p.low is not None and p.high is not None and p.low < 1 / 1.2 < p.high <= 1.001
    without = further_of(scaling_of(crowded, "weak"), crowded, [16])
    assert without is not None and without.predictions[0].efficiency is None
    assert "4 ranks and more shared 2 cores" in without.predictions[0].reason
    roomy = [replace(r, num_cores=64) for r in crowded]
    free = further_of(scaling_of(roomy, "weak"), roomy, [16])
    assert free is not None and free.predictions[0].efficiency is not None
    assert further_of(scaling_of(roomy, "weak"), roomy, []) is None
