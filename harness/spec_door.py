"""The door through which a file's data becomes a frozen value: strict, and kind to its author.

pydantic validates. It forbids unknown keys only in types that carry its own configuration, and the
configuration of a TypeAdapter does not reach nested standard dataclasses; so each dataclass is
mirrored as a TypedDict that does carry it, and the dataclass is made of what came through. Unions
of dataclasses are told apart by ``kind``. Nothing is converted: ``"2"`` is not 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, NotRequired, TypeVar, Union, cast, get_args

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from harness.spec_errors import Path, Problem, accepted, found, nearest, unknown
from harness.spec_shape import (
    canonical,
    choices_of,
    described_union,
    has_default,
    hints_of,
    is_mapping,
    is_tuple,
    is_value,
    item_of,
    kind_of,
    members,
    members_at,
    shapes_at,
)

T = TypeVar("T")

# Adds to a mirrored field what only a schema needs (a description, a default).
Annotate = Callable[[type, str], Mapping[str, Any]]


def validate(shape: Any, data: Any) -> tuple[Any, list[Problem]]:
    """``data`` (canonical, JSON-like) as a value of ``shape``; or None and everything wrong."""
    try:
        return _adapter(shape).validate_json(json.dumps(data)), []
    except ValidationError as error:
        return None, _problems(shape, data, cast(list[dict[str, Any]], error.errors()))


def from_data(shape: type[T], data: Any) -> tuple[T | None, list[Problem]]:
    """As ``validate``, from data that may use the shorthands."""
    return validate(shape, canonical(shape, data))


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(mirror(shape))


def mirror(shape: Any, annotate: Annotate | None = None, *, shorthand: bool = False) -> Any:
    """The annotation that lets exactly ``shape`` through. ``shorthand`` also admits a single value
    where a list is meant, as files may write it; it is for schemas, not for validating."""
    return _Mirror(annotate, shorthand).of(shape)


class _Mirror:
    """Keeps the mirrors made so far, so that a type met twice is one definition."""

    def __init__(self, annotate: Annotate | None, shorthand: bool) -> None:
        self._annotate = annotate
        self._shorthand = shorthand
        self._made: dict[tuple[type, bool], Any] = {}

    def of(self, shape: Any, by_kind: bool = False) -> Any:
        among = members(shape)
        if len(among) > 1:
            return self._union(among)
        only = among[0]
        if is_value(only):
            return self._value(only, by_kind)
        if is_tuple(only):
            item: Any = self.of(item_of(only))
            many: Any = tuple.__class_getitem__((item, ...))
            return Union[item, many] if self._shorthand else many  # noqa: UP007
        if is_mapping(only):
            return dict[str, self.of(get_args(only)[1])]  # type: ignore[misc]
        return only

    def _union(self, among: tuple[Any, ...]) -> Any:
        kinds = tuple(m for m in among if kind_of(m) is not None)
        rest = tuple(self.of(m) for m in among if m not in kinds)
        if len(kinds) > 1:
            told_apart: Any = Union[tuple(self.of(m, by_kind=True) for m in kinds)]  # noqa: UP007
            rest = (Annotated[told_apart, Field(discriminator="kind")], *rest)
        else:
            rest = (*(self.of(m) for m in kinds), *rest)
        return Union[rest]  # noqa: UP007

    def _value(self, shape: type, by_kind: bool) -> Any:
        key = (shape, by_kind)
        if key not in self._made:
            entries = {n: self._field(shape, n, h, by_kind) for n, h in hints_of(shape).items()}
            # Made by a call, as its keys are known only now.
            make: Any = TypedDict
            mirrored = make(shape.__name__, entries)
            doc = (shape.__doc__ or "").strip()
            if doc.startswith(f"{shape.__name__}("):
                doc = ""  # the signature that dataclasses put where there is no docstring
            mirrored.__pydantic_config__ = ConfigDict(
                extra="forbid",
                strict=True,
                json_schema_extra={"description": _unwrapped(doc)} if doc else None,
            )
            self._made[key] = Annotated[mirrored, AfterValidator(lambda given: shape(**given))]
        return self._made[key]

    def _field(self, shape: type, name: str, hint: Any, by_kind: bool) -> Any:
        mirrored = self.of(hint)
        if self._annotate is not None:
            extra = dict(self._annotate(shape, name))
            description = extra.pop("description", None)
            mirrored = Annotated[
                mirrored, Field(description=description, json_schema_extra=extra or None)
            ]
        told_by_it = by_kind and name == "kind"
        optional = has_default(shape, name) and not told_by_it
        return NotRequired[mirrored] if optional else mirrored


def _unwrapped(doc: str) -> str:
    """A docstring's paragraphs as single lines."""
    paragraphs = doc.split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in p.splitlines()) for p in paragraphs)


# ---- pydantic's errors, in a person's words ----


def _problems(shape: Any, data: Any, errors: list[dict[str, Any]]) -> list[Problem]:
    """One problem per path. The members of a union each complain; their complaints are merged, and
    a complaint about a whole value yields to one about something inside it."""
    by_path: dict[Path, list[dict[str, Any]]] = {}
    for error in errors:
        by_path.setdefault(_real_path(error, data), []).append(error)
    problems = []
    for path, complaints in by_path.items():
        if _is_misspelt(path, complaints, by_path):
            continue  # the unknown key beside it says so already
        inside = any(len(p) > len(path) and p[: len(path)] == path for p in by_path)
        if inside and all(c["type"].endswith("_type") for c in complaints):
            continue
        problems.append(Problem(path=path, message=_message(shape, data, path, complaints)))
    return problems


def _is_misspelt(
    path: Path, complaints: list[dict[str, Any]], by_path: Mapping[Path, list[dict[str, Any]]]
) -> bool:
    """Whether a missing key is there under a name that is nearly its own."""
    if complaints[0]["type"] != "missing":
        return False
    strangers = [
        str(p[-1])
        for p, found_here in by_path.items()
        if p[:-1] == path[:-1] and p and found_here[0]["type"] == "extra_forbidden"
    ]
    return bool(nearest(path[-1], strangers))


def _real_path(error: dict[str, Any], data: Any) -> Path:
    """pydantic's location less the names of union members, which are in nobody's file."""
    path: list[str | int] = []
    value = data
    location = error["loc"]
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(value, Mapping):
            is_tag = part == value.get("kind") and not last
            if part in value and not is_tag:
                path.append(part)
                value = value[part]
            elif last and error["type"] == "missing":
                path.append(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    if error["type"].startswith("union_tag"):
        path.append("kind")
    return tuple(path)


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _message(shape: Any, data: Any, path: Path, complaints: list[dict[str, Any]]) -> str:
    first = complaints[0]
    kind = first["type"]
    if kind == "extra_forbidden":
        return unknown(path[-1], _keys(shape, data, path[:-1]))
    if kind.startswith("union_tag"):
        kinds = [k for k in map(kind_of, members_at(shape, data, path[:-1])) if k is not None]
        parent = _at(data, path[:-1])
        if "kind" not in parent:
            return f"is missing; {accepted(kinds)}"
        return unknown(parent["kind"], kinds, f"found {found(parent['kind'])}")
    if kind in ("value_error", "assertion_error"):
        return str(first["ctx"]["error"])
    expected = members_at(shape, data, path)
    if kind == "missing":
        return f"is missing; accepted: {described_union(expected)}"
    value = _at(data, path)
    if not (kind.endswith("_type") or kind in ("literal_error", "enum", "int_from_float")):
        return f"found {found(value)}; {first['msg']}"
    choices = [choice for one in expected for choice in choices_of(one)]
    if choices and len(choices) == sum(len(choices_of(one)) for one in expected):
        return unknown(value, choices, f"found {found(value)}")
    return f"found {found(value)}; accepted: {described_union(expected)}"


def _keys(shape: Any, data: Any, path: Path) -> list[str]:
    """Keys accepted in the mapping at ``path``."""
    among = shapes_at(shape, data, path)
    return list(dict.fromkeys(name for s in among if is_value(s) for name in hints_of(s)))
