"""The same model and traffic on several accelerators, side by side. Pure but for the lookup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from results.recommendation.answer import Answer, Recommendation
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


def accelerators_with(lookup: Lookup, model: str) -> tuple[str, ...]:
    """Those on which ``model`` has profiles, in alphabetical order."""
    return next((m.accelerators for m in lookup.models() if m.model == model), ())


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
    )


def _per_million(one: Recommendation) -> float | None:
    asked = one.cost.usd_per_million_output_tokens_asked
    return one.cost.usd_per_million_output_tokens if asked is None else asked


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
