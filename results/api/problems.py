"""What a client is told when it cannot have an answer: RFC 9457, ``application/problem+json``.

Each says what was asked, what was found and what to do. Routes of the GKE Inference Quickstart also
carry Google's ``error`` object, because its client shows nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:windtunnel:problem:"

# Google's canonical code names for the statuses given here (google.rpc.Code).
_GOOGLE: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    421: "INVALID_ARGUMENT",
    422: "FAILED_PRECONDITION",
    431: "INVALID_ARGUMENT",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """``field``: a path as the client wrote it (``limits.ttft_s``); empty: the whole body."""

    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """``kind`` is for programs and never changes its meaning; the sentences are for people."""

    kind: str
    status: int
    asked: str
    found: str
    what_to_do: str
    errors: tuple[FieldProblem, ...] = ()

    @property
    def detail(self) -> str:
        end = "" if self.found.endswith("?") else "."
        return f"{self.asked}: {self.found}{end} {self.what_to_do}"

    def document(self, *, google: bool = False) -> dict[str, Any]:
        """``google``: with the ``error`` object of Google's APIs."""
        body: dict[str, Any] = {
            "type": _TYPE + self.kind,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "asked": self.asked,
            "found": self.found,
            "what_to_do": self.what_to_do,
        }
        if self.errors:
            body["errors"] = [{"field": e.field, "message": e.message} for e in self.errors]
        if google:
            status = _GOOGLE.get(self.status, "UNKNOWN")
            body["error"] = {"code": self.status, "message": self.detail, "status": status}
        return body

    def body(self, *, google: bool = False) -> bytes:
        return msgspec.json.encode(self.document(google=google))


class Refused(Exception):
    """A request that gets a problem for its answer. Positional, so that it survives pickling."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def is_google(path: str) -> bool:
    """Whether the route at ``path`` is one of the GKE Inference Quickstart's (a custom verb)."""
    return ":" in path


def invalid(asked: str, errors: Sequence[FieldProblem], what_to_do: str) -> Problem:
    """400: a question that was not understood, with every field that is wrong."""
    said = "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in errors)
    return Problem(
        kind="invalid-question",
        status=HTTPStatus.BAD_REQUEST,
        asked=asked,
        found=said,
        what_to_do=what_to_do,
        errors=tuple(errors),
    )
