"""The same model and traffic on several accelerators, side by side. Pure but for the lookup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from results.recommendation.answer import Answer, Between, Recommendation, TrainingFigures
from results.recommendation.lookup import Lookup
from results.recommendation.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """A pool / the first pool that has an answer; None where either is not known."""

    usd_per_hour: float | None
    usd_per_million_output_tokens: float | None
    output_tokens_per_s_per_chip: float | None
    e2e_s: float | None
    startup_s: float | None
    num_chips: float | None
    usd_per_million_training_tokens: float | None = None
    training_tokens_per_s: float | None = None
    training_tokens_per_s_per_chip: float | None = None
    mfu: float | None = None
    training_hours: float | None = None
    training_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolResult:
    """``best`` None: ``answer.no_answer`` says why. ``startup_s``: ask → first token, mean over
    runs; None where it was not measured. ``ratios``: None for the first pool and where ``best``
    is."""

    accelerator: str
    answer: Answer
    best: Recommendation | None
    startup_s: float | None
    ratios: Ratios | None


def compare_pools(
    lookup: Lookup, question: Question, accelerators: Sequence[str], now: datetime
) -> tuple[PoolResult, ...]:
    """The best deployment on each of ``accelerators``, all of which answer the same question."""
    found = []
    first: PoolResult | None = None
    for name in accelerators:
        answer = lookup.answer(replace(question, accelerators=(name,), limit=1), now)
        best = answer.recommendations[0] if answer.recommendations else None
        startup = best.profile.statistic("startup_s") if best else None
        one = PoolResult(
            accelerator=name,
            answer=answer,
            best=best,
            startup_s=startup.value if startup else None,
            ratios=None,
        )
        if best is not None and first is not None:
            one = replace(one, ratios=_ratios(one, first))
        elif best is not None:
            first = one
        found.append(one)
    return tuple(found)


def accelerators_with(lookup: Lookup, question: Question) -> tuple[str, ...]:
    """Those on which the question's model was measured, in alphabetical order."""
    known = lookup.trainings() if question.is_training else lookup.models()
    return next((m.accelerators for m in known if m.model == question.model), ())


def _ratios(one: PoolResult, first: PoolResult) -> Ratios:
    a, b = one.best, first.best
    assert a is not None and b is not None
    return Ratios(
        usd_per_hour=_ratio(a.cost.usd_per_hour, b.cost.usd_per_hour),
        usd_per_million_output_tokens=_ratio(_per_million(a), _per_million(b)),
        output_tokens_per_s_per_chip=_ratio(
            a.output_tokens_per_s_per_chip, b.output_tokens_per_s_per_chip
        ),
        e2e_s=_ratio(a.e2e_s, b.e2e_s),
        startup_s=_ratio(one.startup_s, first.startup_s),
        num_chips=_ratio(float(a.num_chips), float(b.num_chips)),
        **_training_ratios(a.training, b.training),
    )


# Name of a ratio → the figure that it is of.
_OF_TRAINING = {
    "usd_per_million_training_tokens": "usd_per_million_tokens",
    "training_tokens_per_s": "tokens_per_s",
    "training_tokens_per_s_per_chip": "tokens_per_s_per_chip",
    "mfu": "mfu",
    "training_hours": "hours",
    "training_usd": "usd",
}


def _training_ratios(
    a: TrainingFigures | None, b: TrainingFigures | None
) -> dict[str, float | None]:
    if a is None or b is None:
        return {}

    def value(figures: TrainingFigures, name: str) -> float | None:
        found: Between | None = getattr(figures, name)
        return None if found is None else found.value

    return {name: _ratio(value(a, of), value(b, of)) for name, of in _OF_TRAINING.items()}


def _per_million(one: Recommendation) -> float | None:
    asked = one.cost.usd_per_million_output_tokens_asked
    return one.cost.usd_per_million_output_tokens if asked is None else asked


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
