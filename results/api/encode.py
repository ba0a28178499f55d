"""Values as JSON, fast: the answers of the lookup are what its time goes into."""

from __future__ import annotations

from typing import Any

from results.lookup.row import encoded
from results.recommendation.answer import FLAG_WORDS, Answer, Flag, Recommendation

__all__ = ["answer_document", "document", "encoded"]


def document(schema: str, value: Any, **more: Any) -> bytes:
    """``{"schema": "windtunnel.<what>/<version>", …}``: ``more`` first, then ``value``'s fields."""
    head = encoded({"schema": schema, **more})
    body = encoded(value)
    if len(body) <= 2:
        return head
    return b"".join((memoryview(head)[:-1], b",", memoryview(body)[1:]))


def answer_document(answer: Answer) -> bytes:
    """The answer, and in words every flag that occurs in it."""
    shown: list[Recommendation] = list(answer.recommendations)
    if answer.no_answer is not None:
        shown += [miss.recommendation for miss in answer.no_answer.nearest]
    flags = dict.fromkeys(flag for one in shown for flag in one.flags)
    words = {str(flag): FLAG_WORDS[Flag(flag)] for flag in flags}
    return document("windtunnel.recommendations/1", answer, flags=words)
