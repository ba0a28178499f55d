"""How long a trial of a study takes, what it costs, and which limit of its budget comes first.

Time comes from the load's window and from earlier runs of the same model, money from the user's own
price table. What is not known has no number, and a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from harness.cli.tune_runs import waited_of
from harness.errors import SpecError
from harness.fitting import capacities, num_chips
from harness.spec import RunSpec
from harness.specfile import spec_to_mapping
from results.prices import PriceTable
from results.record import RunRecord, Succeeded
from results.store_files import FileStore
from results.store_index import RunIndex
from tuners.loop import Budget

MAX_LOOKED_AT = 60  # records of earlier runs, the newest first
MAX_USED = 12  # of them, like this one
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTime:
    """Of one trial, in seconds. ``expected_s``: None where nothing is known of its start or its
    work; ``why`` says what it rests on, or what is missing. ``start_s``: the part of it until the
    first token, None where that is not known. ``at_most_s``: every deadline."""

    expected_s: float | None
    start_s: float | None
    load_s: float | None
    at_most_s: float
    why: str


def runs_like(store: FileStore, index: RunIndex, base: RunSpec) -> tuple[RunRecord, ...]:
    """Earlier runs of the same workload and model that ended well, the newest first."""
    wanted = _alike(spec_to_mapping(base))
    found: list[RunRecord] = []
    for row in index.list(MAX_LOOKED_AT, workload=base.workload.kind, outcome="succeeded"):
        record = store.get(row.run_id)
        if _alike(record.spec) == wanted:
            found.append(record)
        if len(found) == MAX_USED:
            break
    return tuple(found)


def _alike(spec: Mapping[str, Any]) -> tuple[str, ...]:
    workload: Any = spec.get("workload") or {}
    hardware: Any = spec.get("hardware") or [{}]
    model, steps = workload.get("model"), workload.get("num_steps")
    return (
        str(workload.get("kind")),
        str(sorted(model.items()) if isinstance(model, Mapping) else model),
        str(steps),
        str(workload.get("accelerator")),
        str(hardware[0].get("accelerator")),
    )


def trial_time(base: RunSpec, past: Sequence[RunRecord]) -> TrialTime:
    deadlines = base.deadlines
    at_most_s = deadlines.startup_s + deadlines.load_s + deadlines.teardown_s
    load_s = base.traffic.duration_s if base.traffic is not None else None
    spans = [span for record in past if (span := _span(record, base, load_s)) is not None]
    if not spans:
        start = "no earlier run of this model here says how long its start takes"
        work = (
            "" if load_s is not None or base.traffic is None else ", and its load has no duration"
        )
        return TrialTime(
            expected_s=None, start_s=None, load_s=load_s, at_most_s=at_most_s, why=f"{start}{work}"
        )
    expected_s = min(median(spans), at_most_s)
    starts = [record.startup.ready_s for record in past if record.startup is not None]
    return TrialTime(
        expected_s=expected_s,
        start_s=min(median(starts), expected_s) if starts else None,
        load_s=load_s,
        at_most_s=at_most_s,
        why=f"by the median of {len(spans)} earlier run{'s' if len(spans) != 1 else ''} of it",
    )


def pace_s(trial: TrialTime, num_parallel: int, num_loads: int) -> float | None:
    """From one trial's end to the next one's, once they follow each other: with ``num_loads`` of
    them loaded at once (0: all) no faster than the loads allow. None where it is not known."""
    each_s = trial.expected_s
    if each_s is None or not num_loads:
        return None if each_s is None else each_s / num_parallel
    return max(each_s / num_parallel, (each_s - (trial.start_s or 0.0)) / num_loads)


def _span(record: RunRecord, base: RunSpec, load_s: float | None) -> float | None:
    """How long a trial would take that starts, warms up and drains as this run did."""
    if not isinstance(record.outcome, Succeeded):
        return None
    traffic: Any = record.spec.get("traffic")
    mine: Any = spec_to_mapping(base).get("traffic")
    ends = ("duration_s", "num_requests", "arrivals", "prompt_tokens", "output_tokens")
    took_s = record.duration_s - waited_of(record)
    if traffic is None or mine is None:
        return took_s if traffic is mine else None
    if all(traffic.get(name) == mine.get(name) for name in ends):
        return took_s
    then_s = traffic.get("duration_s")
    # A load that a number of requests may end before its time says nothing about another's length.
    if load_s is None or then_s is None or mine.get("num_requests") or traffic.get("num_requests"):
        return None
    return load_s + max(took_s - float(then_s), 0.0)


def money(
    base: RunSpec, prices: PriceTable | None, hours: Sequence[float | None], chips: int
) -> tuple[tuple[float | None, float | None], str]:
    if not chips:
        return (None, None), "no chips are used, and CPUs have no price"
    rates, unpriced = _rates(base, prices)
    if not rates:
        why = "no price table was given (--prices FILE)" if prices is None else unpriced
        return (None, None), f"no price known: {why}"
    if hours[0] is None or hours[1] is None:
        return (None, None), "how long a trial takes is not known"
    return (hours[0] * min(rates), hours[1] * max(rates)), unpriced


def _rates(base: RunSpec, prices: PriceTable | None) -> tuple[list[float], str]:
    """USD per chip-hour of every place that the run's file accepts, and those without a price."""
    rates, unpriced = [], []
    for ask in base.hardware:
        for capacity in capacities(ask):
            price = None if prices is None else prices.price(ask.accelerator, str(capacity))
            if price is None:
                unpriced.append(f"{ask.accelerator} {capacity}")
            else:
                rates.append(price)
    return rates, f"not of {', '.join(dict.fromkeys(unpriced))}" if unpriced else ""


def check_budget(
    base: RunSpec, budget: Budget, prices: PriceTable | None, *, virtual: bool = False
) -> None:
    """Refuse a limit that would never be reached, or pass by what it cannot count. ``virtual``: on
    pretended pools, which are never priced. Raises SpecError."""
    chips = max(num_chips(base, ask) for ask in base.hardware)
    if budget.chip_hours is not None and not chips:
        raise SpecError(
            f"budget.chip_hours is {budget.chip_hours:g}, and {base.name} asks for no chips: it "
            "would never be reached; take num_trials or wall_s"
        )
    if budget.usd is None:
        return
    _, unpriced = _rates(base, prices)
    if not chips or unpriced or virtual:
        why = "asks for no chips" if not chips else f"has no price everywhere ({unpriced})"
        why = "runs on virtual pools, which have no price" if chips and virtual else why
        raise SpecError(
            f"budget.usd is {budget.usd:g}, and {base.name} {why}: what is spent would never be "
            "known; give --prices FILE with its price, or take num_trials, wall_s or chip_hours"
        )


def reached_first(
    budget: Budget,
    each_s: float | None,
    held_s: float | None,
    chips: int,
    usd: tuple[float | None, float | None],
    hours: Sequence[float | None],
) -> str:
    """By how many trials each limit lets through; the fewest is reached first. ``each_s``: from one
    trial's end to the next one's; ``held_s``: for how long each holds its chips."""
    limits: list[tuple[float, str]] = [(budget.num_trials, f"{budget.num_trials} trials")]
    if each_s and held_s:
        if budget.wall_s is not None:
            limits.append((budget.wall_s / each_s, f"{budget.wall_s:g} s"))
        if budget.chip_hours is not None and chips:
            one = held_s * chips / SECONDS_PER_HOUR
            limits.append((budget.chip_hours / one, f"{budget.chip_hours:g} chip-hours"))
        if budget.usd is not None and usd[1] and hours[1]:
            one = held_s * chips / SECONDS_PER_HOUR * usd[1] / hours[1]
            limits.append((budget.usd / one, f"{budget.usd:g} USD"))
    elif len([v for v in asdict(budget).values() if v is not None]) > 1:
        return ""
    trials, words = min(limits)
    return words if trials >= budget.num_trials else f"{words}, after about {trials:.0f} trials"
