"""What estimates add to an answer: a word where one stands before a measurement, and a candidate
to measure where nothing measured will do. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from results.lookup.answering import Asked
from results.lookup.refusal import chips_words, measurement
from results.lookup.row import row_of
from results.recommendation.answer import Answer, MeasureNext, NoAnswer, Recommendation
from results.recommendation.profile import Profile
from results.recommendation.question import ALLOWED, Question

_MOST_CANDIDATES = 2


def with_estimates_told(
    answer: Answer, asked: Asked, ask: Callable[[Question, datetime], Answer]
) -> Answer:
    """``ask`` answers another question from the same table, as it is: without these words."""
    if answer.no_answer is None:
        if not asked.question.allow or answer.recommendations[0].profile.evidence.estimated is None:
            return answer
        measured = ask(replace(asked.question, allow=(), limit=1), asked.now).recommendations
        said = _order_words(answer.recommendations, measured)
        return asked.make.replaced(answer, comments=(*answer.comments, said))
    if asked.question.allow:
        return answer
    found = ask(replace(asked.question, allow=ALLOWED, limit=_MOST_CANDIDATES), asked.now)
    none = _with_candidates(answer.no_answer, asked, found.recommendations)
    return asked.make.replaced(answer, no_answer=none)


def _order_words(shown: tuple[Recommendation, ...], measured: tuple[Recommendation, ...]) -> str:
    """``measured``: what the same question is answered with where no estimate is allowed."""
    what = f"#1 is an estimate ({shown[0].profile.evidence.kind}), which nobody measured"
    if not measured:
        return f"{what}; nothing that was measured will do"
    best = measured[0].profile
    ranks = [one.rank for one in shown if one.profile.profile_id == best.profile_id]
    where = f"#{ranks[0]}" if ranks else f"not in this list: profile {best.profile_id}"
    return f"{what}; the best that was measured is {where}, {chips_words(best.machine)}"


def _with_candidates(
    none: NoAnswer, asked: Asked, candidates: tuple[Recommendation, ...]
) -> NoAnswer:
    if not candidates:
        return none
    named = tuple(_candidate(asked, one.profile) for one in candidates)
    # Something with a configuration and a price says more than that something could be tuned.
    rest = tuple(one for one in none.measure_next if one.profile_id)
    words = (
        f"{none.words}; an estimate says that {chips_words(candidates[0].profile.machine)} would do"
    )
    return replace(none, words=words, measure_next=(*named, *rest))


def _candidate(asked: Asked, profile: Profile) -> MeasureNext:
    kind = profile.evidence.kind
    why = f"by an estimate ({kind}) it would do; --allow {kind} shows it"
    return measurement(asked, row_of(profile), profile.load.rate_rps, "as estimated", why)
