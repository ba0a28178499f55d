"""Which configuration a training is to run with: the same answer as of servings, from fewer rows.

Trainings have one load point each and no requests, so there is nothing to lay out in columns: the
profiles are looked through one after the other. A step is never extrapolated: evidence of another
sequence length or another number of sequences in a step is evidence of another training. Pure.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from results.lookup.answering import Asked, is_old, notes_of
from results.lookup.choose import fronts, num_better
from results.lookup.part import Doubles, Indices
from results.lookup.refusal import limits_broken, listed, measurement
from results.lookup.row import facts_of, row_of
from results.lookup.sheet import Constraint
from results.lookup.training_figures import figures_of
from results.prices import plain_name
from results.recommendation.answer import (
    Answer,
    Flag,
    MeasureNext,
    Narrowing,
    NoAnswer,
    Recommendation,
)
from results.recommendation.lookup import TrainingSummary
from results.recommendation.profile import EvidenceKind, Profile, TrainingStep
from results.recommendation.question import Objective, Question

_DAY_S = 86400.0
Fits = Callable[[Profile], bool]


def training_answer(
    profiles: Sequence[Profile], asked: Asked, start: Callable[..., Answer]
) -> Answer:
    """``start`` makes the answer's frame; ``profiles`` are all trainings there are."""
    question = asked.question
    left, narrowing = list(profiles), []
    before = left
    for name, fits in _filters(asked):
        before, left = left, [one for one in left if fits(one)]
        narrowing.append(Narrowing(filter=name, num_left=len(left)))
        if not left:
            none = _nothing_fits(question, name, before, profiles)
            return start(narrowing=tuple(narrowing), no_answer=none)
    start_of = {"narrowing": tuple(narrowing), "num_considered": len(left)}
    made = [_recommendation(asked, one) for one in left]
    limits = tuple(_constraints(made, question))
    feasible = np.logical_and.reduce([limit.kept for limit in limits])
    if not feasible.any():
        rows = np.arange(len(made), dtype=np.int32)
        none = limits_broken(limits, rows, lambda found: [made[i] for i in found])
        return start(**start_of, no_answer=replace(none, measure_next=_next(asked, none)))
    chosen = [made[i] for i in np.flatnonzero(feasible)]
    return start(
        **start_of,
        num_feasible=len(chosen),
        recommendations=_ranked(chosen, question),
        comments=tuple(_comments(chosen, question)),
    )


def _filters(asked: Asked) -> Iterator[tuple[str, Fits]]:
    question = asked.question
    if question.model:
        yield "model", lambda p: p.configuration.model == question.model
    if not question.with_simulated:
        yield "not_simulated", lambda p: p.evidence.kind is not EvidenceKind.SIMULATED
    if question.accelerators:
        named = {plain_name(name) for name in question.accelerators}
        yield "hardware", lambda p: plain_name(p.machine.accelerator) in named
    if question.machine_types:
        yield "machine_type", lambda p: p.machine.machine_type in question.machine_types
    if question.topology:
        yield "topology", lambda p: p.machine.topology == question.topology
    if question.model_server:
        yield "model_server", lambda p: p.configuration.model_server == question.model_server
    if question.model_server_version:
        version = question.model_server_version
        yield "model_server_version", lambda p: p.configuration.model_server_version == version
    else:
        yield "not_superseded", lambda p: not p.superseded_by
    if question.precision:
        wanted = question.precision
        yield "precision", lambda p: p.configuration.engine_args.get("precision") == wanted
    yield from _steps(question)
    yield from _evidence(asked)


def _steps(question: Question) -> Iterator[tuple[str, Fits]]:
    for name in ("sequence_length", "sequences_per_step"):
        wanted = getattr(question, name)
        if wanted is not None:
            yield name, _has_step(name, wanted)


def _has_step(name: str, wanted: int) -> Fits:
    return lambda profile: bool(getattr(profile.training, name) == wanted)


def _evidence(asked: Asked) -> Iterator[tuple[str, Fits]]:
    question = asked.question
    if question.measured_only:
        yield "measured_only", lambda p: p.evidence.kind is EvidenceKind.MEASURED
    if question.min_repeats > 1:
        yield "min_repeats", lambda p: p.evidence.repeats >= question.min_repeats
    if (days := question.max_age_days) is not None:
        yield "max_age_days", lambda p: p.evidence.age_days(asked.now) <= days
    if question.fresh_only:
        yield "fresh_only", lambda p: not p.evidence.stale


def _recommendation(asked: Asked, profile: Profile) -> Recommendation:
    figures, cost = figures_of(asked, profile)
    facts, evidence = facts_of(profile), profile.evidence
    old = is_old(asked, facts)
    no_startup = asked.question.training_tokens is not None and figures.startup_s is None
    told = (
        (Flag.SINGLE_RUN, evidence.repeats == 1),
        (Flag.STALE, evidence.stale or old),
        (Flag.SUPERSEDED, bool(profile.superseded_by)),
        (Flag.NO_PRICE, cost.price is None),
        (
            Flag.PRICED_FOR_OTHER_CAPACITY,
            cost.price is not None and profile.machine.capacity not in ("", cost.price.capacity),
        ),
        (Flag.RUNS_FAILED, bool(evidence.failures)),
        (Flag.STARTUP_UNKNOWN, no_startup),
    )
    return Recommendation(
        rank=0,
        profile=profile,
        replicas=1,
        num_chips=profile.machine.num_chips,
        rate_rps=None,
        output_tokens_per_s=None,
        output_tokens_per_s_per_chip=None,
        e2e_s=None,
        utilisation=None,
        cost=cost,
        targets=(),
        probability=None,
        pareto_rank=0,
        flags=tuple(flag for flag, is_so in told if is_so),
        notes=notes_of(asked, facts, old),
        training=figures,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One number of each recommendation; NaN where it is not known."""

    made: Sequence[Recommendation]

    def __call__(self, of: Callable[[Recommendation], float | None]) -> Doubles:
        found = (of(one) for one in self.made)
        return np.array([math.nan if v is None else v for v in found], dtype=np.float64)


def _value(one: Recommendation, name: str) -> float | None:
    found = getattr(one.training, name)
    return None if found is None else float(found.value)


def _constraints(made: Sequence[Recommendation], question: Question) -> Iterator[Constraint]:
    """In the order they are told; the first holds wherever a training can be ranked at all."""
    column = _Column(made=made)
    rate = column(lambda r: _value(r, "tokens_per_s"))
    yield Constraint(
        name="throughput_known",
        limit=1.0,
        found=np.where(rate > 0, 1.0, math.nan),
        at_least=True,
    )
    asked: tuple[tuple[str, Doubles, bool], ...] = (
        ("max_accelerators", column(lambda r: float(r.num_chips)), False),
        ("max_cost_usd_per_hour", column(lambda r: r.cost.usd_per_hour), False),
        (
            "max_cost_usd_per_million_training_tokens",
            column(lambda r: _value(r, "usd_per_million_tokens")),
            False,
        ),
        ("min_throughput", rate, True),
        ("max_hours", column(lambda r: _value(r, "hours")), False),
        ("max_cost_usd", column(lambda r: _value(r, "usd")), False),
        ("max_final_loss", column(lambda r: _value(r, "final_loss")), False),
    )
    for name, found, at_least in asked:
        limit = getattr(question, name)
        if limit is not None:
            yield Constraint(name=name, limit=float(limit), found=found, at_least=at_least)


def _ranked(chosen: Sequence[Recommendation], question: Question) -> tuple[Recommendation, ...]:
    column = _Column(made=chosen)
    points = _objectives(column, question)
    cost, time, thrift = points
    # CPUs have no chips: what they do in all is what they do.
    rate = np.nan_to_num(-column(lambda r: _value(r, "tokens_per_s")), nan=np.inf)
    match question.objective:
        case Objective.PARETO:
            order = fronts(points, question.limit)
        case Objective.FASTEST:
            order = _first([time, cost, thrift], question.limit)
        case Objective.THROUGHPUT:
            order = _first([thrift, rate, cost], question.limit)
        case _:
            order = _first([cost, thrift, time], question.limit)
    better = num_better(points, order)
    return tuple(
        replace(chosen[i], rank=rank, pareto_rank=int(n) + 1)
        for rank, (i, n) in enumerate(zip(order, better, strict=True), start=1)
    )


def _objectives(column: _Column, question: Question) -> list[Doubles]:
    """Smaller is better: money (chips where there are no prices), time, −tokens/s per chip."""
    whole = question.training_tokens is not None
    cost = column(lambda r: _value(r, "usd" if whole else "usd_per_million_tokens"))
    rate = column(lambda r: _value(r, "tokens_per_s"))
    hours = column(lambda r: _value(r, "hours")) if whole else 1.0 / rate
    per_chip = column(lambda r: _value(r, "tokens_per_s_per_chip"))
    if np.isnan(cost).all():
        cost = -per_chip  # chip-seconds a token are what is paid with
    return [np.where(np.isnan(v), np.inf, v) for v in (cost, hours, -per_chip)]


def _first(keys: Sequence[Doubles], limit: int) -> Indices:
    return np.asarray(np.lexsort(list(keys)[::-1])[:limit])


def _comments(chosen: Sequence[Recommendation], question: Question) -> Iterator[str]:
    if all(one.cost.price is None for one in chosen):
        yield (
            "no price is known: nothing is ranked by cost; give your prices with --prices, and the "
            "same profiles are ranked anew"
        )
    steps = {(p.sequence_length, p.sequences_per_step) for p in map(_step, chosen)}
    if len(steps) > 1:
        shown = ", ".join(f"{n} x {length}" for length, n in sorted(steps))
        yield (
            f"optimizer steps differ (sequences x length: {shown}): these are different trainings, "
            "which need not learn the same from as many tokens; ask with --sequence-length and "
            "--sequences-per-step"
        )
    if question.training_tokens is not None:
        yield (
            "time and cost are of one start and of steps at the measured rate; failures are not in "
            "them (`windtunnel scale --simulate` has those)"
        )


def _step(one: Recommendation) -> TrainingStep:
    assert one.profile.training is not None  # trainings only are looked through
    return one.profile.training


def _nothing_fits(
    question: Question, name: str, before: Sequence[Profile], every: Sequence[Profile]
) -> NoAnswer:
    of = f" of {question.model}" if question.model and name != "model" else ""
    if name == "model" or not before:
        known = listed("trained models", {p.configuration.model for p in every})
        words = f"no training of {question.model or 'any model'} was measured; {known}"
    else:
        words = f"{len(before)} trainings{of} were left, and none of them {_missing(name, before)}"
    models = {p.configuration.model.casefold(): p.configuration.model for p in every}
    near = difflib.get_close_matches(question.model.casefold(), models, n=3)
    return NoAnswer(
        binding=name,
        words=words,
        measure_next=_something_new(question),
        did_you_mean=tuple(models[n] for n in near) if name == "model" else (),
    )


def _missing(name: str, before: Sequence[Profile]) -> str:
    match name:
        case "hardware":
            found = listed("accelerators", {p.machine.accelerator for p in before})
            return f"ran on the hardware asked for; {found}"
        case "sequence_length" | "sequences_per_step":
            there = sorted({getattr(p.training, name) for p in before})
            return f"had that {name.replace('_', ' ')}; measured are {', '.join(map(str, there))}"
        case "model_server":
            return f"ran so; {listed('trainers', {p.configuration.model_server for p in before})}"
        case "precision":
            used = {str(p.configuration.engine_args.get("precision", "")) for p in before}
            return f"computed in it; {listed('precisions', used)}"
        case "min_repeats":
            return f"has so many repeats; the most are {max(p.evidence.repeats for p in before)}"
        case "not_simulated":
            return "is anything but simulated; --with-simulated takes those"
    return f"passes {name.replace('_', ' ')}"


def _next(asked: Asked, none: NoAnswer) -> tuple[MeasureNext, ...]:
    """Where a figure is missing or rests on one run, the same again."""
    found = []
    for miss in none.nearest:
        profile = miss.recommendation.profile
        # A price that nobody knows is not found by measuring.
        figures = [w for w in miss.why_not if not w.constraint.startswith("max_cost")]
        if figures and (any(w.found is None for w in figures) or profile.evidence.repeats < 2):
            why = "a figure is missing, or rests on a single run"
            found.append(measurement(asked, row_of(profile), None, "trained as before", why))
    return tuple(found)


def _something_new(question: Question) -> tuple[MeasureNext, ...]:
    if not question.model:
        return ()
    where = f" on {', '.join(question.accelerators)}" if question.accelerators else ""
    return (
        MeasureNext(
            what=f"training of {question.model}{where}: `windtunnel tune` finds its configuration",
            why="nothing comparable has been measured",
            profile_id="",
            rate_rps=None,
            runs=3,
            chip_hours=0.0,
            usd=None,
            basis="not known: it depends on the chips that the training takes",
        ),
    )


def trainings_of(profiles: Sequence[Profile]) -> tuple[TrainingSummary, ...]:
    """By model, in alphabetical order; superseded profiles are not counted."""
    current = [p for p in profiles if not p.superseded_by]
    found = []
    for model in sorted({p.configuration.model for p in current}):
        own = [p for p in current if p.configuration.model == model]
        steps = {
            (p.training.sequence_length, p.training.sequences_per_step) for p in own if p.training
        }
        found.append(
            TrainingSummary(
                model=model,
                trainers=tuple(sorted({p.configuration.model_server for p in own})),
                accelerators=tuple(sorted({p.machine.accelerator for p in own} - {""})),
                steps=tuple(sorted(steps)),
                num_profiles=len(own),
            )
        )
    return tuple(found)
