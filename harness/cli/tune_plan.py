"""What a study would do and cost, told before anything is started.

Trials and re-measurements follow from the study's file, first trials and what cannot fit from the
forecast, calibrated by records and with what won on other hardware scored again, and time from the
load windows and from earlier runs of the same model; money from the user's price table. What is not
known is said to be not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.cli.tune_cost import (
    SECONDS_PER_HOUR,
    TrialTime,
    money,
    pace_s,
    reached_first,
    trial_time,
)
from harness.fitting import num_chips
from harness.spec import RunSpec
from results.metrics import metric
from results.prices import PriceTable
from results.record import RunRecord
from results.units import format_value
from tuners.goals import Wish
from tuners.guide import Guide, Known
from tuners.loop import Budget
from tuners.predict import Foresight
from tuners.prior import Prior, transferred_from
from tuners.remeasure import MIN_RUNS
from tuners.seeds import Seeder
from tuners.space import Branch, Config, Value
from tuners.transfer import Transferred


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPlan:
    """A first trial, and what the forecast says of it, by goal and bound, before it is calibrated.
    ``evidence``: "transferred" where it won on other hardware, ``won_on``, and was scored again;
    else "analytic"."""

    config: Mapping[str, Value]
    forecast: Mapping[str, float]
    evidence: str
    won_on: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchPlan:
    """``configurations``: None where a knob is continuous. ``num_fit`` of the ``num_looked_at`` may
    run, by all that is known before; ``why_not``: the first that may not.
    ``num_from_elsewhere``: winners of other hardware that were scored for this one."""

    name: str
    num_knobs: int
    configurations: int | None
    num_looked_at: int
    num_fit: int
    why_not: str
    num_from_elsewhere: int
    seeds: tuple[SeedPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """``num_remeasured_*`` are runs beside the trials, the baseline's repeats among them; more
    where the first candidates do not pass. ``*_low`` and ``*_high``: with the least and the most
    of them, and the cheapest and dearest place; None: not known, and ``why_no_*`` says why.
    ``waits_s``: for how long each trial is ready, and waits for its turn to be loaded; its chips
    are held, and paid for, meanwhile. ``dropped``: of its spaces, what the engine does not have.
    ``calibration``: see ``Prior.describe``; None where no earlier run calibrates the forecast."""

    name: str
    varies: str
    dropped: tuple[str, ...]
    branches: tuple[BranchPlan, ...]
    why_no_forecast: str
    calibration: Mapping[str, Any] | None
    num_trials_at_most: int
    num_remeasured_least: int
    num_remeasured_most: int
    trial: TrialTime
    waits_s: float | None
    wall_s_low: float | None
    wall_s_high: float | None
    chips_low: int
    chips_high: int
    chip_hours_low: float | None
    chip_hours_high: float | None
    usd_low: float | None
    usd_high: float | None
    why_no_usd: str
    budget: Mapping[str, float]
    reached_first: str  # which limit of the budget ends the search, as expected; "" if unknown
    storage: str


def study_plan(
    *,
    name: str,
    base: RunSpec,
    branches: Sequence[Branch],
    wish: Wish,
    foresight: Foresight,
    prior: Prior,
    spec_of: Callable[[Config], RunSpec],
    budget: Budget,
    top: int,
    max_repeats: int,
    num_seeds: int,
    seed: int,
    prices: PriceTable | None,
    past: Sequence[RunRecord],
    storage: str,
    dropped: Sequence[str] = (),
    num_parallel: int = 1,
    num_loads: int = 0,
    guided: bool = True,
) -> StudyPlan:
    """``past``: earlier runs like ``base``, from ``runs_like``. ``guided``: see ``Part.guide``.
    ``num_loads``: of ``num_parallel`` trials at once, how many are loaded; 0: all of them."""
    told = tuple(_branch(b, wish, foresight, prior, num_seeds, seed, guided) for b in branches)
    least, most = (top + 1) * min(MIN_RUNS, max_repeats), (2 * top + 1) * max_repeats  # see Again
    trial = trial_time(base, past)
    specs = [base, *(spec_of(seed.config) for branch in told for seed in branch.seeds)]
    chips = [num_chips(spec, spec.hardware[0]) for spec in specs]
    runs = (budget.num_trials + least, budget.num_trials + most)
    pace = pace_s(trial, num_parallel, num_loads)
    held = None if pace is None else pace * num_parallel
    wall = [None if pace is None else n * pace for n in runs]
    hours = [_hours(n, held, c) for n, c in zip(runs, (min(chips), max(chips)), strict=True)]
    usd, why_no_usd = money(base, prices, hours, max(chips))
    return StudyPlan(
        name=name,
        varies=base.name,
        dropped=tuple(dropped),
        branches=told,
        why_no_forecast=foresight.why_no_forecast,
        calibration=prior.describe(_names(wish)),
        num_trials_at_most=budget.num_trials,
        num_remeasured_least=least,
        num_remeasured_most=most,
        trial=trial,
        waits_s=None if held is None or trial.expected_s is None else held - trial.expected_s,
        wall_s_low=wall[0],
        wall_s_high=wall[1],
        chips_low=min(chips),
        chips_high=max(chips),
        chip_hours_low=hours[0],
        chip_hours_high=hours[1],
        usd_low=usd[0],
        usd_high=usd[1],
        why_no_usd=why_no_usd,
        budget={k: v for k, v in asdict(budget).items() if v is not None},
        reached_first=reached_first(budget, pace, held, max(chips), usd, hours),
        storage=storage,
    )


def _hours(num_runs: int, held_s: float | None, num_chips: int) -> float | None:
    return None if held_s is None else num_runs * held_s * num_chips / SECONDS_PER_HOUR


def _branch(
    branch: Branch,
    wish: Wish,
    foresight: Foresight,
    prior: Prior,
    num_seeds: int,
    seed: int,
    guided: bool,
) -> BranchPlan:
    points = branch.num_points
    seeder = prior.seeder(branch, wish, foresight, seed)
    elsewhere = prior.elsewhere.get(branch.name, ())
    return BranchPlan(
        name=branch.name,
        num_knobs=len(branch.knobs),
        configurations=int(points) if points != float("inf") else None,
        num_looked_at=seeder.num_looked_at,
        num_fit=seeder.num_candidates,
        why_not=seeder.why_not,
        num_from_elsewhere=len(elsewhere),
        seeds=tuple(
            _seeds(
                seeder,
                Guide(branch, wish, seeder, seed=seed) if guided else None,
                foresight,
                elsewhere,
                num_seeds,
            )
        ),
    )


def _seeds(
    seeder: Seeder,
    guide: Guide | None,
    foresight: Foresight,
    elsewhere: Sequence[Transferred],
    num_seeds: int,
) -> Iterator[SeedPlan]:
    """In the order in which they would be proposed if none of them said anything before the last
    was asked: of trials at once that is how they begin, and the first is the first in any case."""
    taken: list[Config] = []
    while len(taken) < num_seeds and seeder.has_forecasts:
        if guide is None:
            config = seeder.propose([], taken=taken)
        else:
            config = guide.propose(Known(running=taken))
        if config is None:
            return
        taken.append(config)
        found = foresight.predict(config)
        won_on = transferred_from(elsewhere, config)
        yield SeedPlan(
            config=dict(config),
            forecast={} if isinstance(found, str) else dict(found),
            evidence="transferred" if won_on else "analytic",
            won_on=won_on.accelerator if won_on else None,
        )


def _names(wish: Wish) -> list[str]:
    return [*(goal.name for goal in wish.goals), *(bound.name for bound in wish.bounds)]


def plan_lines(plan: StudyPlan, describe: Callable[[Config], str], wish: Wish) -> Iterator[str]:
    """The plan for people, a line each; the first is its title."""
    yield f"{plan.name}  varies {plan.varies}"
    yield from _foreseen(plan, describe, wish)
    yield (
        f"  trials    at most {plan.num_trials_at_most}, the baseline among them; then "
        f"{_range(plan.num_remeasured_least, plan.num_remeasured_most)} runs to measure the best "
        "again, the baseline beside them (more where they do not pass)"
    )
    trial = plan.trial
    load = "" if trial.load_s is None else f", {trial.load_s:g} s of it load"
    each = (
        f"not known: {trial.why}{'; ' + f'{trial.load_s:g} s of load' if trial.load_s else ''}"
        if trial.expected_s is None
        else f"about {format_value(trial.expected_s, 's')}{load}, {trial.why}"
    )
    yield f"  a trial   {each}; {format_value(trial.at_most_s, 's')} at most by its deadlines"
    yield f"  together  {_together(plan)}"
    if plan.waits_s is not None and plan.waits_s >= 0.001 * (trial.expected_s or 0.0):
        waits = format_value(plan.waits_s, "s")
        yield f"  waits     {waits} of each trial, ready, for its turn; its place is held meanwhile"
    yield f"  money     {_money(plan)}"
    names = {"num_trials": "trials", "wall_s": "s", "chip_hours": "chip-hours", "usd": "USD"}
    limits = ", ".join(f"{v:g} {names[k]}" for k, v in plan.budget.items())
    several = plan.reached_first and len(plan.budget) > 1
    first = f"; reached first: {plan.reached_first}" if several else ""
    yield f"  budget    {limits}{first}. It ends the search; measuring again comes on top"


def _foreseen(plan: StudyPlan, describe: Callable[[Config], str], wish: Wish) -> Iterator[str]:
    """What there is to choose, and what is known of it before the first trial."""
    yield from (f"  left out: {said}" for said in plan.dropped)
    for branch in plan.branches:
        size = "endless" if branch.configurations is None else str(branch.configurations)
        yield f"  {branch.name or 'space'}: {branch.num_knobs} knobs, {size} configurations"
        short = branch.num_looked_at - branch.num_fit
        fit = f"    {branch.num_fit} of {branch.num_looked_at} looked at may run"
        yield f"{fit}; {short} foreseen not to: {branch.why_not}" if short else fit
        for i, seed in enumerate(branch.seeds, 1):
            where = f" (it won on {seed.won_on}, scored again)" if seed.won_on else ""
            told = _forecast(seed.forecast, wish)
            yield f"    first {i}: {describe(seed.config)}{where}  →  {told}"
    if plan.why_no_forecast:
        yield f"  no forecast, so no first trials: {plan.why_no_forecast}"
    if plan.calibration is not None:
        for name, factor in plan.calibration["measured_over_forecast"].items():
            yield (
                f"  calibrated: {name} {factor['ratio']:.2f} times the forecast, by "
                f"{factor['num_configs']} configurations on {plan.calibration['accelerator']}"
            )


def _forecast(values: Mapping[str, float], wish: Wish) -> str:
    units = {g.name: metric(g.metric).unit for g in wish.goals}
    units |= {b.name: metric(b.metric).unit for b in wish.bounds}
    return ", ".join(f"{name} {format_value(v, units[name])}" for name, v in values.items())


def _range(low: float, high: float, form: str = "g") -> str:
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def _together(plan: StudyPlan) -> str:
    if plan.wall_s_low is None or plan.wall_s_high is None:
        at_most = (plan.num_trials_at_most + plan.num_remeasured_most) * plan.trial.at_most_s
        return f"not known; {format_value(at_most, 's')} at most"
    low, high = format_value(plan.wall_s_low, "s"), format_value(plan.wall_s_high, "s")
    wall = low if low == high else f"{low} to {high}"
    if not plan.chips_high or plan.chip_hours_low is None or plan.chip_hours_high is None:
        return f"{wall}, no chips"
    hours = _range(plan.chip_hours_low, plan.chip_hours_high, ".3g")
    return f"{wall}, {hours} chip-hours on {_range(plan.chips_low, plan.chips_high)} chips"


def _money(plan: StudyPlan) -> str:
    if plan.usd_low is None or plan.usd_high is None:
        return plan.why_no_usd
    extra = f" ({plan.why_no_usd})" if plan.why_no_usd else ""
    return f"{_range(plan.usd_low, plan.usd_high, '.2f')} USD{extra}"


def plan_document(plan: StudyPlan, wish: Wish) -> dict[str, Any]:
    document = asdict(plan)
    document["goals"] = [goal.name for goal in wish.goals]
    document["bounds"] = [
        {"name": b.name, "limit": b.limit, "of_baseline": b.of_baseline, "margin": b.margin}
        for b in wish.bounds
    ]
    return document
