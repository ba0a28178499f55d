"""Scaling efficiency over interleaved rounds, and where what is missing went. Pure.

Weak: (throughput per worker at n) / (at n₀). Strong: T(n₀)·n₀ / (T(n)·n), which is the same ratio,
because the tokens of a step are then the same for every n. Each size is compared with n₀ within its
own round, so that what drifts between rounds cancels; the run is the unit, and the interval is
Student's t over the rounds' log-ratios.

The control is the same ranks on the same cores without any exchange. With it efficiency comes in
two factors, each with its own interval: what the host takes, K = control(n)/control(n₀), and what
training together takes, R = run(n)/control(n). The first would not exist with a machine per rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from results.intervals import mean_interval
from results.scaling.extrapolate import Curve, curve_of
from results.scaling.models import Mode
from results.scaling.runs import ScaleRun, StepParts

CONFIDENCE = 0.95
MIN_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio of throughputs over ``num_rounds``; bounds None, or all None, with ``reason``."""

    value: float | None
    low: float | None = None
    high: float | None = None
    num_rounds: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPart:
    """``share`` of the ideal throughput; below 0 where a part is smaller than at n₀."""

    name: str
    share: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSeen:
    """One size. ``together`` (R) and ``host`` (K) are None where no control was run.

    ``loss`` adds up to 1 − efficiency; () where that is not known. ``num_cores`` 0: not known.
    """

    num_workers: int
    efficiency: Ratio
    throughput: float | None  # tokens/s, mean of the rounds
    together: Ratio | None = None
    host: Ratio | None = None
    loss: tuple[LossPart, ...] = ()
    startup_s: float | None = None
    startup_share: float | None = None  # of the whole run, startup included
    num_runs: int = 0
    num_cores: int = 0
    num_threads: int = 0
    faults: tuple[str, ...] = ()

    @property
    def is_oversubscribed(self) -> bool:
        return 0 < self.num_cores < self.num_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """All sizes, ascending; ``n0`` is the smallest with a usable run, None where there is none."""

    mode: Mode
    n0: int | None
    sizes: tuple[SizeSeen, ...]

    @property
    def rule(self) -> str:
        if self.mode == "weak":
            return f"throughput per worker / the same at n₀ = {self.n0}, work per worker constant"
        return f"T(n₀)·n₀ / (T(n)·n) with n₀ = {self.n0}, work of all workers constant"


ByRound = Mapping[int, float]  # throughput per worker, by round


def scaling_of(runs: Sequence[ScaleRun], mode: Mode) -> Scaling:
    """Runs in any order; unusable ones are faults of their size."""
    sizes = sorted({r.num_workers for r in runs})
    n0 = next((n for n in sizes if _throughputs(runs, n, control=False)), None)
    seen = tuple(_size(runs, n, n0) for n in sizes)
    return Scaling(mode=mode, n0=n0, sizes=seen)


def curve_from(runs: Sequence[ScaleRun]) -> Curve | None:
    """What is extrapolated: throughput per worker by size; against the control where there is one,
    because what a host takes says nothing about more hosts. None without a usable run."""
    with_control = has_control(runs)
    known = []
    for n in sorted({r.num_workers for r in runs}):
        values = _throughputs(runs, n, control=False)
        if with_control:
            alone = _throughputs(runs, n, control=True)
            values = {r: values[r] / alone[r] for r in values.keys() & alone.keys()}
        if values:
            # A worker against itself is 1 by definition, and no evidence of how runs spread.
            exact = with_control and n == 1
            known.append((float(n), [1.0] if exact else list(values.values())))
    return curve_of(known) if known else None


def has_control(runs: Sequence[ScaleRun]) -> bool:
    return any(r.is_control and r.per_worker for r in runs)


def ratio_of(above: ByRound, below: ByRound) -> Ratio:
    """Geometric mean over the rounds that have both, with its interval."""
    rounds = sorted(above.keys() & below.keys())
    if not rounds:
        return Ratio(value=None, reason="no round has both runs")
    logs = np.log([above[r] / below[r] for r in rounds])
    mean, interval = mean_interval(logs, CONFIDENCE)
    if interval is None:
        why = f"one round tells no spread; --repeats {MIN_ROUNDS} at least, better 5"
        return Ratio(value=math.exp(mean), num_rounds=1, reason=why)
    return Ratio(
        value=math.exp(mean),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        num_rounds=len(rounds),
    )


def _throughputs(runs: Sequence[ScaleRun], n: int, *, control: bool) -> ByRound:
    """One worker alone is its own control."""
    return {
        r.round_index: r.per_worker
        for r in runs
        if r.num_workers == n and r.is_control == (control and n > 1) and r.per_worker
    }


def _size(runs: Sequence[ScaleRun], n: int, n0: int | None) -> SizeSeen:
    mine = [r for r in runs if r.num_workers == n]
    plain = [r for r in mine if not r.is_control]
    usable = [r for r in plain if r.per_worker]
    faults = tuple(dict.fromkeys(r.fault for r in mine if r.fault))
    if n0 is None or not usable:
        why = faults[0] if faults else "not measured"
        return SizeSeen(
            num_workers=n,
            efficiency=Ratio(value=None, reason=why),
            throughput=None,
            faults=faults,
        )
    above, below = _throughputs(runs, n, control=False), _throughputs(runs, n0, control=False)
    efficiency = Ratio(value=1.0, num_rounds=len(below)) if n == n0 else ratio_of(above, below)
    together = host = None
    if has_control(runs):
        alone = _throughputs(runs, n, control=True)
        if n > 1:
            together = ratio_of(above, alone)
        if n != n0:
            host = ratio_of(alone, _throughputs(runs, n0, control=True))
    return SizeSeen(
        num_workers=n,
        efficiency=efficiency,
        throughput=fmean(r.throughput for r in usable if r.throughput),
        together=together,
        host=host,
        loss=_loss(runs, n, n0, efficiency, host) if n != n0 else (),
        startup_s=_mean(r.startup_s for r in usable),
        startup_share=_mean(_startup_share(r) for r in usable),
        num_runs=len(usable),
        num_cores=max(r.num_cores for r in usable),
        num_threads=n * max(r.num_threads for r in usable),
        faults=faults,
    )


def _startup_share(run: ScaleRun) -> float | None:
    """The first step belongs to both; it is a matter of one step in the whole run."""
    if run.startup_s is None or run.training_s is None:
        return None
    return run.startup_s / (run.startup_s + run.training_s)


def _loss(
    runs: Sequence[ScaleRun],
    n: int,
    n0: int,
    efficiency: Ratio,
    host: Ratio | None,
) -> tuple[LossPart, ...]:
    """Where 1 − E went.

    With a control, E = 1 − (1 − K) − (K − E): the host's part, and the rest. The rest, or without a
    control the whole, is divided by what the steps spent beyond those at n₀: a part that takes the
    share p of a step here and took p₀ there loses p − p₀·(ideal step / step here).
    """
    e = efficiency.value
    if e is None:
        return ()
    k = host.value if host is not None else None
    found: list[LossPart] = []
    if k is not None:
        found.append(LossPart(name="host contention", share=1.0 - k, method="1 − K, the control's"))
    here, base = _parts(runs, n), _parts(runs, n0)
    without = 1.0 if k is None else k  # what would be left if training together cost nothing
    rest = without - e
    if here is None or base is None:
        return (*found, LossPart(name="not attributed", share=rest, method="no steps were kept"))
    ideal = e / without

    def beyond(now: float, before: float) -> float:
        return without * (now - ideal * before)

    against = f"steps, beyond those at {n0}"
    data = beyond(here.data, base.data)
    found.append(LossPart(name="waiting for data", share=data, method=against))
    waited = beyond(here.imbalance, base.imbalance)
    found.append(LossPart(name="imbalance", share=waited, method=against))
    rest -= data + waited
    if here.communication is not None and base.communication is not None:
        talked = beyond(here.communication, base.communication)
        found.append(LossPart(name="communication", share=talked, method="timed in the steps"))
        rest -= talked
    elif k is not None:
        how = "run against control, less the above"
        return (*found, LossPart(name="communication", share=rest, method=how))
    return (*found, LossPart(name="not attributed", share=rest, method="the rest"))


def _parts(runs: Sequence[ScaleRun], n: int) -> StepParts | None:
    """The mean of the size's usable runs; communication None where any of them lacks it."""
    found = [
        r.parts
        for r in runs
        if r.num_workers == n and not r.is_control and r.per_worker and r.parts
    ]
    if not found:
        return None
    talked = [p.communication for p in found]
    return StepParts(
        data=fmean(p.data for p in found),
        imbalance=fmean(p.imbalance for p in found),
        communication=None if None in talked else fmean(t for t in talked if t is not None),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
