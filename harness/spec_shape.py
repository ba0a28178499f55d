"""What a frozen dataclass accepts, read from its own annotations.

Three questions are answered here for the door (``spec_door``) and the overrides: which types may
stand where this value stands, which keys they accept, and what the canonical form of a shorthand is
(``capacity: spot`` for ``capacity: [spot]``).
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from harness.spec_errors import Path


@cache
def hints_of(shape: type) -> dict[str, Any]:
    """Annotations of a dataclass's fields, resolved, in order."""
    resolved = get_type_hints(shape)
    return {f.name: resolved[f.name] for f in fields(shape) if f.init}


def is_value(shape: Any) -> bool:
    """A dataclass type."""
    return isinstance(shape, type) and is_dataclass(shape)


def members(shape: Any) -> tuple[Any, ...]:
    """The members of a union; a type that is none is its own only member."""
    while get_origin(shape) is Annotated:
        shape = get_args(shape)[0]
    if get_origin(shape) in (Union, types.UnionType):
        return tuple(m for member in get_args(shape) for m in members(member))
    return (shape,)


def is_tuple(shape: Any) -> bool:
    """``tuple[X, ...]``, the only form of tuple a spec's value has."""
    return get_origin(shape) is tuple


def item_of(shape: Any) -> Any:
    return get_args(shape)[0]


def is_mapping(shape: Any) -> bool:
    return get_origin(shape) in (dict, Mapping) or get_origin(shape) is types.MappingProxyType


def kind_of(shape: Any) -> str | None:
    """The one legal value of a dataclass's ``kind`` field, or None where it has none."""
    if not is_value(shape):
        return None
    kind = hints_of(shape).get("kind")
    if get_origin(kind) is not Literal or len(get_args(kind)) != 1:
        return None
    return str(get_args(kind)[0])


def default_of(shape: type, name: str) -> Any:
    """The default of a dataclass's field, or MISSING where it has none."""
    found: Field[Any] = next(f for f in fields(shape) if f.name == name)
    if found.default_factory is not MISSING:
        return found.default_factory()
    return found.default


def has_default(shape: type, name: str) -> bool:
    return default_of(shape, name) is not MISSING


def stands_alone(shape: type) -> bool:
    """Whether a dataclass can be made of nothing but its defaults."""
    return all(has_default(shape, name) for name in hints_of(shape))


def alternatives(shape: Any, data: Any) -> tuple[Any, ...]:
    """The members of a union that ``data`` may be meant for: by ``kind`` where they have one,
    otherwise by the kind of value. All of them where none fits, so that each can be named."""
    among = tuple(m for m in members(shape) if m is not type(None))
    if isinstance(data, Mapping) and "kind" in data:
        meant = tuple(m for m in among if kind_of(m) == data["kind"])
        if meant:
            return meant
    if data is None:
        return among
    return tuple(m for m in among if _may_hold(m, data)) or among


def _may_hold(shape: Any, data: Any) -> bool:
    if isinstance(data, Mapping):
        return is_value(shape) or is_mapping(shape) or _wraps(shape, data)
    if isinstance(data, list):
        return is_tuple(shape)
    return not is_value(shape) and not is_mapping(shape)


def _wraps(shape: Any, data: Any) -> bool:
    return is_tuple(shape) and any(_may_hold(m, data) for m in members(item_of(shape)))


def canonical(shape: Any, data: Any) -> Any:
    """``data`` with every single value that stands for a list put into one."""
    meant = alternatives(shape, data)
    if len(meant) != 1 or data is None:
        return data
    only = meant[0]
    if is_tuple(only):
        items = data if isinstance(data, list) else [data]
        return [canonical(item_of(only), item) for item in items]
    if not isinstance(data, Mapping):
        return data
    if is_value(only):
        hints = hints_of(only)
        return {k: canonical(hints[k], v) if k in hints else v for k, v in data.items()}
    if is_mapping(only):
        return {k: canonical(get_args(only)[1], v) for k, v in data.items()}
    return data


def shapes_at(shape: Any, data: Any, path: Path) -> tuple[Any, ...]:
    """The types that may stand at ``path`` of ``data``, which is canonical."""
    now = [(s, data) for s in alternatives(shape, data)]
    for part in path:
        now = [found for one, value in now for found in _step(one, value, part)]
    return tuple(dict.fromkeys(found for found, _ in now))


def members_at(shape: Any, data: Any, path: Path) -> tuple[Any, ...]:
    """Every type accepted at ``path``, whatever stands there now; null included."""
    if not path:
        return members(shape)
    found: list[Any] = []
    for parent in shapes_at(shape, data, path[:-1]):
        inner = _inner(parent, path[-1])
        if inner is not None:
            found += members(inner)
    return tuple(dict.fromkeys(found))


def _inner(shape: Any, part: str | int) -> Any:
    """The annotation of what stands at ``part``, or None where nothing does."""
    if is_value(shape):
        return hints_of(shape).get(str(part))
    if is_mapping(shape):
        return get_args(shape)[1]
    if is_tuple(shape) and isinstance(part, int):
        return item_of(shape)
    return None


def _step(shape: Any, data: Any, part: str | int) -> list[tuple[Any, Any]]:
    inner_shape = _inner(shape, part)
    if inner_shape is None:
        return []
    inner: Any = None
    if isinstance(data, Mapping):
        inner = data.get(part)
    elif isinstance(data, list) and isinstance(part, int) and part < len(data):
        inner = data[part]
    return [(found, inner) for found in alternatives(inner_shape, inner)]


def to_mapping(value: Any) -> Any:
    """A frozen value as JSON-like data: every field by name, tuples as lists, enums as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_mapping(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_mapping(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return value


def choices_of(shape: Any) -> list[str]:
    """The words of a Literal or an Enum; none for any other type."""
    if get_origin(shape) is Literal:
        return [str(choice) for choice in get_args(shape)]
    if isinstance(shape, type) and issubclass(shape, Enum):
        return [str(member.value) for member in shape]
    return []


def described(shape: Any) -> str:
    """A type as a person would name it: ``integer``, ``true or false``, ``a list of text``."""
    plain = {str: "text", int: "integer", float: "number", bool: "true or false"}
    if shape in plain:
        return plain[shape]
    if shape is type(None):
        return "null"
    if choices_of(shape):
        return ", ".join(choices_of(shape))
    if is_tuple(shape):
        return f"a list, each {described_union(members(item_of(shape)))}"
    if is_value(shape):
        return f"a mapping with the keys {', '.join(hints_of(shape))}"
    if is_mapping(shape):
        return f"a mapping of names to {described_union(members(get_args(shape)[1]))}"
    return str(getattr(shape, "__name__", shape))


def described_union(among: tuple[Any, ...]) -> str:
    """``text or a mapping with the keys preset, seed``; members with a kind go by their kinds."""
    kinds = [kind for kind in map(kind_of, among) if kind is not None]
    names = [described(m) for m in among if len(kinds) < 2 or kind_of(m) is None]
    if len(kinds) > 1:
        names.insert(0, f"a mapping whose kind is {', '.join(kinds)}")
    return " or ".join(dict.fromkeys(names))
