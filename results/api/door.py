"""Where a request becomes a ``Question``: JSON bodies strictly, query strings by the same names.

The one place where the lookup uses pydantic. A field that is not known is refused, at every depth,
with the name that was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from operator import attrgetter
from typing import Any, ClassVar, Final, TypeVar, get_args, get_type_hints
from urllib.parse import parse_qsl

from pydantic import ConfigDict, TypeAdapter, ValidationError

from results.api.problems import FieldProblem, Problem, Refused, invalid
from results.errors import InvalidQuestion
from results.recommendation import question as asked
from results.recommendation.manifest import ManifestOptions, Platform

T = TypeVar("T")

_CLOSED: Final = ConfigDict(extra="forbid")
_MANY: Final = ("accelerators", "machine_types", "allow")  # query parameters that may be repeated
TARGETS: Final = {
    f"target_{metric.removesuffix('_s')}_milliseconds": metric for metric in asked.TARGET_METRICS
}
PERCENTILE: Final = "percentile"
_MAX_INT: Final = 2**53
_MAX_PARAMETERS: Final = 200
_HELP: Final = "GET /openapi.json shows every field"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTarget(asked.Target):
    """A limit in seconds on one latency, at a percentile or (without one) its typical value."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion(asked.Question):
    """What is to be deployed, for which traffic, within which limits. All fields are optional."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    targets: tuple[AskedTarget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedManifest:
    """``options``: those of the manifest, from the same query."""

    profile_id: str
    platform: Platform = Platform.KUBERNETES
    options: ManifestOptions = field(default_factory=ManifestOptions)


QUESTION: Final[TypeAdapter[AskedQuestion]] = TypeAdapter(AskedQuestion)
_SCALARS: Final = tuple(f.name for f in fields(AskedQuestion) if f.name not in (*_MANY, "targets"))
_NUMBERS: Final = tuple(
    name
    for name, kind in get_type_hints(asked.Question).items()
    if {int, float} & {kind, *get_args(kind)}
)
_numbers_of: Final = attrgetter(*_NUMBERS)
_MANIFEST: Final[TypeAdapter[AskedManifest]] = TypeAdapter(AskedManifest)
_OPTIONS: Final = tuple(f.name for f in fields(ManifestOptions))
MANIFEST_NAMES: Final = ("profile_id", "platform", *_OPTIONS)
QUERY_NAMES: Final = (*_SCALARS, *_MANY, *TARGETS, PERCENTILE)


def question_of_body(body: bytes) -> AskedQuestion:
    """Raises Refused for anything that is no question."""
    if not body.strip():
        raise Refused(invalid("a question", [_whole("the body is empty")], "Send a JSON object"))
    return _sane(from_json(QUESTION, body, "a question"))


def question_of_query(query: bytes) -> AskedQuestion:
    """``model=…&rate_rps=4&target_ttft_milliseconds=500&percentile=99``. Raises Refused."""
    given = parameters(query, QUERY_NAMES, many=_MANY)
    percentile = given.pop(PERCENTILE, None)
    targets = [
        {"metric": metric, "limit_s": _seconds(name, given.pop(name)), "percentile": percentile}
        for name, metric in TARGETS.items()
        if name in given
    ]
    if percentile is not None and not targets:
        said = FieldProblem(field=PERCENTILE, message="is of no target")
        raise Refused(invalid("a question", [said], f"Give one of {', '.join(TARGETS)} with it"))
    return _sane(checked(QUESTION, {**given, "targets": targets}, "a question"))


def manifest_of_query(query: bytes) -> AskedManifest:
    """``profile_id=…&platform=kubernetes&replicas=2``. Raises Refused."""
    given = parameters(query, MANIFEST_NAMES)
    if not given.get("profile_id"):
        said = FieldProblem(field="profile_id", message="is missing")
        raise Refused(invalid("a manifest", [said], "Take one from an answer"))
    options = {name: given.pop(name) for name in _OPTIONS if name in given}
    return checked(_MANIFEST, {**given, "options": options}, "a manifest")


def parameters(
    query: bytes, known: Sequence[str], many: Sequence[str] = (), free: Iterable[str] = ()
) -> dict[str, Any]:
    """The parameters of a query string; ``many`` as lists; ``free`` ones are passed over. Raises
    Refused for names that are not known and for values that come twice."""
    found: dict[str, Any] = {}
    wrong = []
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        said = _whole(f"there are more than {_MAX_PARAMETERS}")
        raise Refused(invalid("these parameters", [said], _HELP)) from None
    for name, value in pairs:
        if name in free:
            continue
        if name not in known:
            wrong.append(FieldProblem(field=name, message=_unknown(name, known)))
        elif name in many:
            found.setdefault(name, []).append(value)
        elif name in found:
            wrong.append(FieldProblem(field=name, message="is there twice"))
        else:
            found[name] = value
    if wrong:
        raise Refused(invalid("these parameters", wrong, _HELP))
    return found


def from_json(adapter: TypeAdapter[T], body: bytes, what: str, *, strict: bool = True) -> T:
    """The body as a value. Raises Refused with every field that is wrong."""
    try:
        return adapter.validate_json(body, strict=strict)
    except (ValidationError, InvalidQuestion) as error:
        raise _refusal(error, adapter, what, "") from None


def checked(adapter: TypeAdapter[T], data: Any, what: str, field: str = "") -> T:
    """``data``, texts where a query string has numbers, as a value; ``field`` names it where it is
    one value and not several. Raises Refused."""
    try:
        return adapter.validate_python(data)
    except (ValidationError, InvalidQuestion) as error:
        raise _refusal(error, adapter, what, field) from None


def _refusal(error: Exception, adapter: TypeAdapter[Any], what: str, field: str) -> Refused:
    if isinstance(error, ValidationError):
        found = [_field(one, adapter, field) for one in error.errors(include_url=False)]
        return Refused(invalid(what, found, _HELP))
    return Refused(invalid(what, [_whole(str(error))], _HELP))


def not_found(asked_for: str, found: str, what_to_do: str) -> Refused:
    return Refused(
        Problem(
            kind="not-found",
            status=HTTPStatus.NOT_FOUND,
            asked=asked_for,
            found=found,
            what_to_do=what_to_do,
        )
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` or nothing."""
    # The same name may be known elsewhere, and is no help here.
    near = difflib.get_close_matches(name, [k for k in known if k != name], n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _sane(question: AskedQuestion) -> AskedQuestion:
    """No tool counts chips beyond 2⁵³, and not every library beneath us would bear it."""
    wrong = [
        FieldProblem(field=name, message=f"{value} is more than there can be")
        for name, value in zip(_NUMBERS, _numbers_of(question), strict=True)
        if value is not None and abs(value) > _MAX_INT
    ]
    if wrong:
        raise Refused(invalid("a question", wrong, _HELP))
    return question


def _seconds(name: str, text: str) -> float:
    try:
        return float(text) / 1e3
    except ValueError:
        said = FieldProblem(field=name, message=f"found {text[:60]!r}; milliseconds are asked for")
        raise Refused(invalid("a question", [said], _HELP)) from None


def _field(error: Any, adapter: TypeAdapter[Any], field: str) -> FieldProblem:
    path = ".".join(str(part) for part in error["loc"]) or field
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return FieldProblem(field=path, message=_unknown(str(error["loc"][-1]), _names(adapter)))
    message = str(error["msg"])
    if error["type"] == "json_invalid":
        return _whole(f"is no JSON: {error['ctx']['error']}")
    shown = repr(error["input"])
    found = f"; found {shown}" if len(shown) <= 60 and error["type"] != "missing" else ""
    return FieldProblem(field=path, message=f"{message[:1].lower()}{message[1:]}{found}")


def _names(adapter: TypeAdapter[Any]) -> set[str]:
    """Every field's name there is, at any depth: what a misspelt one is compared with."""
    schema = adapter.json_schema(by_alias=True)
    shapes = (schema, *schema.get("$defs", {}).values())
    return {name for shape in shapes for name in shape.get("properties", {})}


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"is not known{nearest(name, known)}"


def _whole(message: str) -> FieldProblem:
    return FieldProblem(field="", message=message)
