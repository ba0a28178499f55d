"""The whole prediction: many seeds, each a world of its own, at one size and at those below it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from results.checkpointing import daly_interval_s, goodput_share
from results.goodput import Goodput, Part
from results.samples import FloatColumn
from results.simulated_training import (
    IntervalTried,
    Range,
    ScalePredicted,
    SizePredicted,
    SizePublished,
    range_of,
)
from workloads.errors import SimulationRefused
from workloads.simulated.training.calibrate import SizeSeen, draw_costs, with_costs
from workloads.simulated.training.campaign import run_campaign
from workloads.simulated.training.checkpoints import IntervalSearch, search_interval
from workloads.simulated.training.failures import FailureTrace, draw_failures
from workloads.simulated.training.model import FailureModel, Recovery, StepModel, num_domains_of
from workloads.simulated.training.step import simulate_steps

# What a seed's generators are for: no two of them ever draw the same numbers.
_COSTS, _STEPS, _FAILURES, _RESAMPLES = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """``seen``: sizes that the outer network's costs are drawn from, anew for each seed; without
    them ``step`` is taken as it is. ``interval_s``: work between checkpoints; None: the best found.
    """

    name: str
    num_chips: int
    chips_per_domain: int
    step: StepModel
    failures: FailureModel
    recovery: Recovery
    seen: tuple[SizeSeen, ...] = ()
    interval_s: float | None = None
    days: float = 30.0
    num_seeds: int = 20
    seed: int = 0
    num_steps: int = 64
    assumptions: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num_domains_of(self.num_chips, self.chips_per_domain)
        if self.num_seeds < 2 or self.num_steps < 1 or not self.days > 0:
            raise SimulationRefused(
                f"{self.num_seeds} seeds of {self.num_steps} steps over {self.days:g} days: at "
                "least 2 seeds, one step and some time are needed"
            )
        if self.interval_s is not None and self.interval_s <= 0:
            raise SimulationRefused(f"interval_s is {self.interval_s}; it must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Steps:
    """Means over the steps of each seed at one size; all (seeds,)."""

    step_s: FloatColumn
    wait_s: FloatColumn
    communication_s: FloatColumn


def predict(setup: Setup, on_progress: Callable[[str], None] = lambda _: None) -> ScalePredicted:
    """Raises SimulationRefused for what cannot be simulated."""
    num_domains = num_domains_of(setup.num_chips, setup.chips_per_domain)
    models = [_world(setup, seed) for seed in range(setup.num_seeds)]
    domain_counts = _sizes(num_domains)
    steps = {}
    for count in domain_counts:
        on_progress(f"{count * setup.chips_per_domain:,} chips: {setup.num_seeds} seeds")
        steps[count] = _steps_at(setup, models, count)
    on_progress(f"{setup.days:g} days of failures")
    traces = {count: _traces(setup, count) for count in domain_counts}
    search = _search(setup, traces[num_domains], steps[num_domains], num_domains)
    interval_s = search.best_s if setup.interval_s is None else setup.interval_s
    campaigns = _campaigns(setup, traces[num_domains], steps[num_domains].step_s, interval_s)
    sizes = tuple(
        SizePredicted(
            num_chips=count * setup.chips_per_domain,
            num_domains=count,
            efficiency=range_of(steps[1].step_s / steps[count].step_s),
            goodput=range_of(
                np.array(
                    [
                        c.share
                        for c in _campaigns(
                            setup,
                            traces[count],
                            steps[count].step_s,
                            _daly_s(setup, count) if setup.interval_s is None else interval_s,
                        )
                    ]
                )
            ),
        )
        for count in domain_counts
    )
    return _predicted(setup, steps[1], steps[num_domains], search, interval_s, campaigns, sizes)


def _predicted(
    setup: Setup,
    one: _Steps,
    steps: _Steps,
    search: IntervalSearch,
    interval_s: float,
    campaigns: list[Goodput],
    sizes: tuple[SizePredicted, ...],
) -> ScalePredicted:
    efficiency = one.step_s / steps.step_s
    shares = np.array([c.share for c in campaigns])
    mtbf_s = setup.failures.mtbf_s(setup.num_chips, setup.num_chips // setup.chips_per_domain)
    recovered = [float(np.mean(c.recoveries_s)) for c in campaigns if c.recoveries_s]
    per_day = 1.0 / setup.days
    return ScalePredicted(
        name=setup.name,
        num_chips=setup.num_chips,
        chips_per_domain=setup.chips_per_domain,
        num_seeds=setup.num_seeds,
        seed=setup.seed,
        days=setup.days,
        efficiency=range_of(efficiency),
        goodput=range_of(shares),
        useful=range_of(efficiency * shares),
        step_s=range_of(steps.step_s),
        wait_share=range_of(steps.wait_s / steps.step_s),
        communication_share=range_of(steps.communication_s / steps.step_s),
        failures_per_day=range_of(np.array([c.num_restarts * per_day for c in campaigns])),
        time_to_recover_s=range_of(np.array(recovered)) if recovered else None,
        steps_lost_per_day=range_of(np.array([c.num_steps_lost * per_day for c in campaigns])),
        mtbf_s=mtbf_s,
        save_s=setup.recovery.save_s,
        down_s=setup.recovery.down_s,
        interval_s=interval_s,
        best_interval_s=Range(value=search.best_s, low=search.low_s, high=search.high_s),
        young_interval_s=search.young_s,
        daly_interval_s=search.daly_s,
        closed_form_goodput=goodput_share(
            interval_s, setup.recovery.save_s, mtbf_s, setup.recovery.down_s
        ),
        parts={
            part: range_of(np.array([c.seconds[part] / c.wall_s for c in campaigns]))
            for part in Part
        },
        sizes=sizes,
        intervals=tuple(
            IntervalTried(interval_s=float(tried), goodput=range_of(search.goodput[:, k]))
            for k, tried in enumerate(search.interval_s)
        ),
        published=tuple(
            SizePublished(
                num_chips=seen.num_domains * setup.chips_per_domain,
                efficiency=seen.rate / setup.seen[0].rate,
            )
            for seen in setup.seen
        ),
        assumptions=setup.assumptions,
        sources=setup.sources,
    )


def _world(setup: Setup, seed: int) -> StepModel:
    if not setup.seen:
        return setup.step
    rng = np.random.default_rng([setup.seed, seed, _COSTS])
    return with_costs(setup.step, setup.chips_per_domain, draw_costs(setup.seen, rng))


def _sizes(num_domains: int) -> list[int]:
    """1, 2, 4, … and the size itself."""
    powers = [2**k for k in range(num_domains.bit_length()) if 2**k < num_domains]
    return [*powers, num_domains]


def _steps_at(setup: Setup, models: list[StepModel], num_domains: int) -> _Steps:
    found = [
        simulate_steps(
            model,
            num_domains,
            setup.chips_per_domain,
            setup.num_steps,
            np.random.default_rng([setup.seed, seed, _STEPS, num_domains]),
        )
        for seed, model in enumerate(models)
    ]
    return _Steps(
        step_s=np.array([f.step_s.mean() for f in found]),
        wait_s=np.array([f.wait_s.mean() for f in found]),
        communication_s=np.array([f.communication_s.mean() for f in found]),
    )


def _traces(setup: Setup, num_domains: int) -> list[FailureTrace]:
    return [
        draw_failures(
            setup.failures,
            num_domains * setup.chips_per_domain,
            num_domains,
            setup.days * 86_400.0,
            np.random.default_rng([setup.seed, seed, _FAILURES, num_domains]),
        )
        for seed in range(setup.num_seeds)
    ]


def _daly_s(setup: Setup, num_domains: int) -> float:
    mtbf_s = setup.failures.mtbf_s(num_domains * setup.chips_per_domain, num_domains)
    return daly_interval_s(max(setup.recovery.save_s, 1e-3), mtbf_s)


def _search(
    setup: Setup, traces: list[FailureTrace], steps: _Steps, num_domains: int
) -> IntervalSearch:
    return search_interval(
        traces,
        setup.failures,
        setup.recovery,
        step_s=steps.step_s,
        mtbf_s=setup.failures.mtbf_s(setup.num_chips, num_domains),
        horizon_s=setup.days * 86_400.0,
        rng=np.random.default_rng([setup.seed, _RESAMPLES]),
    )


def _campaigns(
    setup: Setup, traces: list[FailureTrace], step_s: FloatColumn, interval_s: float
) -> list[Goodput]:
    return [
        run_campaign(
            trace,
            setup.failures,
            setup.recovery,
            step_s=float(own_step_s),
            interval_s=interval_s,
            horizon_s=setup.days * 86_400.0,
        )
        for trace, own_step_s in zip(traces, step_s, strict=True)
    ]
