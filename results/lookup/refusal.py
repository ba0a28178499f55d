"""Why there is no answer, what comes nearest, and what to measure so that there is one. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from results.cost import capacity_to_price
from results.lookup.answering import Asked, Line, lines, recommendations
from results.lookup.columns import Ints
from results.lookup.filters import MOST_SHORTER, Filtered
from results.lookup.part import Indices
from results.lookup.row import Row
from results.lookup.sheet import Constraint, Sheet, constraints
from results.lookup.snapshot import Snapshot
from results.metrics import Unit
from results.recommendation.answer import (
    MeasureNext,
    NearMiss,
    NoAnswer,
    Recommendation,
    WhyNot,
)
from results.recommendation.profile import Machine, Price
from results.recommendation.question import Question
from results.units import format_value

NUM_NEAREST = 3
NUM_RUNS = 3  # of a measurement that is proposed: the least that has a probability worth the name
# Startup and load of a run where the evidence does not say how long its own took.
ASSUMED_RUN_S = 900.0

_NAMED = 6


def unknown_model(snapshot: Snapshot, question: Question) -> NoAnswer:
    names = snapshot.about.names.model
    by_end = {n.rpartition("/")[2].casefold(): n for n in names}
    wanted = question.model.rpartition("/")[2].casefold()
    near = [by_end[n] for n in difflib.get_close_matches(wanted, by_end, n=3)]
    if names:
        words = f"nothing is known of {question.model}; {listed('models', names)}"
    else:
        words = "there is no profile at all; measure something, or `windtunnel import` results"
    return NoAnswer(
        binding="model",
        words=words,
        did_you_mean=tuple(near),
        measure_next=_something_new(question),
    )


def listed(what: str, names: Iterable[str]) -> str:
    found = sorted(filter(None, names))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"there are {what} {', '.join(found[:_NAMED])}{more}" if found else f"no {what} at all"


def nothing_fits(snapshot: Snapshot, question: Question, found: Filtered) -> NoAnswer:
    """A filter left nothing; the last of the narrowing is to blame."""
    binding = found.narrowing[-1].filter
    before = found.narrowing[-2].num_left if len(found.narrowing) > 1 else 0
    words, relax_to = _filter_words(snapshot, question, binding, found)
    of = f" of {question.model}" if question.model else ""
    return NoAnswer(
        binding=binding,
        words=f"{before} profiles{of} were left, and none of them {words}",
        relax_to=relax_to,
        measure_next=_something_new(question),
    )


def _filter_words(
    snapshot: Snapshot, question: Question, binding: str, found: Filtered
) -> tuple[str, float | None]:
    about, ints, before = snapshot.about, found.part.ints, found.before
    match binding:
        case "not_simulated":
            return "is anything but simulated; --with-simulated takes those", None
        case "hardware_known":
            return "says on what and on how many chips it ran", None
        case "hardware":
            names = {about.hardware[i].accelerator for i in _used(ints("hardware")[before])}
            known = listed("accelerators", names)
            return f"ran on the hardware asked for; {known}", None
        case "model_server" | "model_server_version":
            column = binding.removeprefix("model_")
            column = "version" if column == "server_version" else column
            names = {getattr(about.names, column)[i] for i in _used(ints(column)[before])}
            asked = getattr(question, binding)
            return f"ran {asked}; {listed(column + 's', names)}", None
        case "input_tokens" | "output_tokens":
            return _length_words(question, binding, found)
        case "max_age_days":
            newest = int(ints("last_measured")[before].max())
            return f"is that young; the newest was measured at {_day(newest)}", None
        case "min_repeats":
            most = int(ints("repeats")[before].max())
            return f"has so many repeats; the most are {most}", float(most)
        case "not_superseded":
            return "is anything but superseded", None
        case "not_estimated":
            return "was measured; --allow takes estimates, marked as such", None
    return f"passes {binding.replace('_', ' ')}", None


def _used(numbers: npt.NDArray[Any]) -> Indices:
    """Those that occur; small whole numbers, so that nothing needs to be sorted."""
    return np.flatnonzero(np.bincount(numbers))


def _day(seconds: int) -> str:
    return str(np.datetime64(seconds, "s").astype("datetime64[D]"))


def _length_words(question: Question, binding: str, found: Filtered) -> tuple[str, float | None]:
    side = 0 if binding == "input_tokens" else 1
    shapes = found.part.shapes
    known = shapes.lengths[side][found.shapes_before]
    known = known[np.isfinite(known)]
    asked = question.lengths[side]
    assert asked is not None  # or it would not have been filtered by
    what = binding.replace("_", " ")
    if not len(known):
        return f"says how many {what} its requests have", None
    lengths = sorted({round(v) for v in known.tolist()}, key=lambda v: abs(math.log(v / asked)))
    near = ", ".join(str(v) for v in lengths[:_NAMED])
    return (
        f"was measured at {what} that answer {asked:g} (from {asked:g} to {MOST_SHORTER:g} times "
        f"as many); measured are {near}",
        float(lengths[0]),
    )


def nothing_feasible(
    asked: Asked, one: Sheet, rows_of: Callable[[Sequence[Line]], Sequence[Row]]
) -> NoAnswer:
    """Rows fit the filters, and none keeps every limit."""
    rows: list[Row] = []

    def made(nearest: Indices) -> Sequence[Recommendation]:
        told = lines(one, nearest)
        rows.extend(rows_of(told))
        return recommendations(asked, one.hardware.prices, rows, told, [0] * len(rows))

    none = limits_broken(tuple(constraints(one)), one.configurations, made)
    return replace(none, measure_next=tuple(_measure_next(asked, none.nearest, rows)))


def limits_broken(
    limits: Sequence[Constraint],
    configurations: Ints,
    made: Callable[[Indices], Sequence[Recommendation]],
) -> NoAnswer:
    """Of rows that each break a limit: which one binds, and the nearest misses, as ``made`` would
    recommend them. What to measure next is left to the caller."""
    excess = np.column_stack([c.excess for c in limits])
    nearest = _nearest(excess, configurations)
    misses = tuple(
        NearMiss(recommendation=one, why_not=tuple(_why_not(limits, excess[index], int(index))))
        for index, one in zip(nearest, made(nearest), strict=True)
    )
    binding, relax_to = _binding(limits, excess, int(nearest[0]))
    constraint = next(c for c in limits if c.name == binding)
    return NoAnswer(
        binding=binding,
        words=_binding_words(constraint, relax_to, len(excess)),
        relax_to=relax_to,
        nearest=misses,
    )


def _nearest(
    excess: np.ndarray[tuple[int, int], np.dtype[np.float64]], configurations: Ints
) -> Indices:
    """The rows that are nearest to being feasible, one of a configuration: fewest unknowns, then
    the smallest sum of logarithms by which limits are broken."""
    unknown = np.isinf(excess).sum(axis=1)
    over = np.log1p(np.where(np.isinf(excess), 0.0, excess)).sum(axis=1)
    ranked = np.lexsort((over, unknown))
    _, first = np.unique(configurations[ranked], return_index=True)
    return np.asarray(ranked[np.sort(first)[:NUM_NEAREST]])


def _why_not(limits: Sequence[Constraint], excess: Iterable[float], index: int) -> list[WhyNot]:
    broken = []
    for constraint, over in zip(limits, excess, strict=True):
        if over <= 0:
            continue
        found = float(constraint.found[index])
        is_known = math.isfinite(found)
        broken.append(
            WhyNot(
                constraint=constraint.name,
                asked=constraint.limit,
                found=found if is_known else None,
                excess=float(over) if math.isfinite(over) else None,
                words=_broken_words(constraint, found if is_known else None),
            )
        )
    return sorted(broken, key=lambda w: -(w.excess if w.excess is not None else math.inf))


def _broken_words(constraint: Constraint, found: float | None) -> str:
    limit = said(constraint.name, constraint.limit)
    side = "at least" if constraint.at_least else "at most"
    name = constraint.name.replace("_", " ")
    if constraint.name == "load_known":
        return "its request rate is not known, so no replicas can be counted"
    if found is None:
        return f"{name}: {side} {limit} is asked, and its evidence does not state it"
    return f"{name} is {said(constraint.name, found)}; {side} {limit} is asked"


def _binding(
    limits: Sequence[Constraint],
    excess: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    nearest: int,
) -> tuple[str, float | None]:
    """The limit that, relaxed alone, gives an answer soonest; where none does alone, the one that
    the nearest miss breaks most."""
    num_broken = (excess > 0).sum(axis=1)
    best, binding, relax_to = math.inf, "", None
    for k, constraint in enumerate(limits):
        only = (num_broken == 1) & (excess[:, k] > 0) & np.isfinite(excess[:, k])
        if only.any():
            row = int(np.flatnonzero(only)[np.argmin(excess[only, k])])
            if excess[row, k] < best:
                best, binding = float(excess[row, k]), constraint.name
                relax_to = float(constraint.found[row])
    if binding:
        return binding, relax_to
    # A probability that is missed because a target is missed says nothing of its own.
    grave = [0.0 if c.name == "probability" else 1.0 for c in limits]
    broken = np.where(excess[nearest] > 0, excess[nearest], -1.0) + np.array(grave) * _FIRST
    return limits[int(np.argmax(np.where(excess[nearest] > 0, broken, -1.0)))].name, None


_FIRST = 1e9


def _binding_words(constraint: Constraint, relax_to: float | None, num_rows: int) -> str:
    name = constraint.name.replace("_", " ")
    known = constraint.found[np.isfinite(constraint.found)]
    if not len(known):
        return f"none of {num_rows} profiles states {name}"
    best = float(known.max() if constraint.at_least else known.min())
    side = "at least" if constraint.at_least else "at most"
    words = f"{name}: {side} {said(constraint.name, constraint.limit)} is asked"
    if constraint.kept.any():
        words += "; some profiles keep it, and break another limit"
    else:
        words += f"; the best of {num_rows} profiles is {said(constraint.name, best)}"
    if relax_to is not None:
        words += f"; {said(constraint.name, relax_to)} alone would give an answer"
    return words


_PER = {
    "max_cost_usd_per_hour": "hour",
    "max_cost_usd_per_million_output_tokens": "million output tokens",
    "max_cost_usd_per_million_training_tokens": "million tokens",
}


def said(name: str, value: float) -> str:
    """A constraint's number with its unit."""
    if name.startswith(("ttft_s", "itl_s", "tpot_s", "ntpot_s", "e2e_s")):
        return format_value(value, Unit.SECONDS)
    if name == "max_cost_usd":
        return f"${value:.4g}"
    if name.startswith("max_cost"):
        return f"${value:.4g} per {_PER[name]}"
    units = {"max_accelerators": "chips", "min_throughput": "tokens/s", "max_hours": "h"}
    return f"{value:.4g} {units[name]}" if name in units else f"{value:.3g}"


def _measure_next(
    asked: Asked, misses: Sequence[NearMiss], rows: Sequence[Row]
) -> Iterator[MeasureNext]:
    """For each near miss the measurement that could turn it into an answer."""
    for miss, row in zip(misses, rows, strict=True):
        names = {w.constraint for w in miss.why_not}
        latencies = [w for w in miss.why_not if w.constraint.startswith(_LATENCIES)]
        rate = row.facts.rate_rps
        if any(w.found is None for w in miss.why_not) or "probability" in names:
            unstated = [w.constraint for w in miss.why_not if w.found is None]
            why = f"states {', '.join(unstated)}" if unstated else "makes a probability sure"
            yield measurement(asked, row, rate, "at the same load", why)
        elif latencies and names <= {w.constraint for w in latencies} and rate is not None:
            # Latency falls with load; more replicas at less load each may keep the limit.
            over = max(w.excess or 0.0 for w in latencies)
            lower = rate / (1.0 + over) / 2.0
            why = "its latencies may be kept there"
            yield measurement(asked, row, lower, "at less load", why)


_LATENCIES = ("ttft_s", "itl_s", "tpot_s", "ntpot_s", "e2e_s")


def measurement(asked: Asked, row: Row, rate: float | None, how: str, why: str) -> MeasureNext:
    """``NUM_RUNS`` runs of the row's configuration, and their price."""
    seconds = row.facts.seconds_per_run
    basis = "its own runs" if seconds else f"assumed: {ASSUMED_RUN_S / 60:g} min a run"
    hours = (seconds or ASSUMED_RUN_S) * NUM_RUNS / 3600.0
    machine = row.machine
    capacity = capacity_to_price(machine.capacity, asked.question.capacity)
    price = asked.prices.find(machine, capacity, asked.question.region)
    at = f" at {rate:.3g} requests/s" if rate is not None else ""
    return MeasureNext(
        what=f"{row.model} on {chips_words(machine)} {how}{at}, {NUM_RUNS} runs",
        why=why,
        profile_id=row.facts.profile_id,
        rate_rps=rate,
        runs=NUM_RUNS,
        chip_hours=machine.num_chips * hours,
        usd=price.usd_per_hour * hours if isinstance(price, Price) else None,
        basis=basis,
    )


def chips_words(machine: Machine) -> str:
    return f"{machine.num_chips} x {machine.accelerator}" if machine.num_chips else "CPUs"


def _something_new(question: Question) -> tuple[MeasureNext, ...]:
    """What no profile comes near to: how many chips it takes is not known, so nothing is priced."""
    if not question.model:
        return ()
    where = f" on {', '.join(question.accelerators)}" if question.accelerators else ""
    lengths = [f"{v:g}" for v in question.lengths if v is not None]
    shape = f" with {'/'.join(lengths)} tokens" if lengths else ""
    return (
        MeasureNext(
            what=f"{question.model}{where}{shape}: `windtunnel tune` finds its configuration",
            why="nothing comparable has been measured",
            profile_id="",
            rate_rps=question.rate_rps,
            runs=NUM_RUNS,
            chip_hours=0.0,
            usd=None,
            basis="not known: it depends on the chips that the model takes",
        ),
    )


def failures_of(snapshot: Snapshot, question: Question) -> Mapping[str, int]:
    """Runs that never gave a profile, of what fits model and hardware, by error."""
    found: dict[str, int] = {}
    if not snapshot.about.fruitless:
        return found
    wanted = {a.casefold().replace("_", "-") for a in question.accelerators}
    for one in snapshot.about.fruitless:
        if question.model and one.model != question.model:
            continue
        if one.is_training != question.is_training:
            continue
        if wanted and one.accelerator.casefold().replace("_", "-") not in wanted:
            continue
        found[one.error] = found.get(one.error, 0) + one.num_runs
    return found
