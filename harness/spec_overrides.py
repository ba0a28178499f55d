"""``--set a.b=c``: a value put into a document before it is validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from harness.spec_errors import unknown
from harness.spec_shape import (
    alternatives,
    default_of,
    described,
    has_default,
    hints_of,
    is_mapping,
    is_tuple,
    is_value,
    item_of,
    members,
    stands_alone,
    to_mapping,
)


class NotLegal(Exception):
    """An override's path leads nowhere in this document. Carries how far it led.

    A fact about one document: where another takes the override, nobody is told."""

    def __init__(self, depth: int, reason: str) -> None:
        super().__init__(depth, reason)
        self.depth = depth
        self.reason = reason


def place(shape: Any, data: Any, path: tuple[str, ...], value: Any, depth: int = 0) -> Any:
    """``data`` with ``value`` at ``path``; ``data`` itself is left alone.

    What the path leads through and the document leaves to its default is written out; what has no
    default is not invented. Raises NotLegal with the keys accepted where the path left the road.
    """
    if not path:
        return value
    refusals: list[NotLegal] = []
    for one in alternatives(shape, data):
        try:
            return _place_in(one, data, path, value, depth)
        except NotLegal as refusal:
            refusals.append(refusal)
    if refusals:
        raise max(refusals, key=lambda r: r.depth)
    raise NotLegal(depth, "leads into a value that has no keys")


def _place_in(shape: Any, data: Any, path: tuple[str, ...], value: Any, depth: int) -> Any:
    part, rest = path[0], path[1:]
    if is_mapping(shape):
        held = dict(data) if isinstance(data, Mapping) else {}
        if any(is_value(m) for m in members(get_args(shape)[1])):
            held[part] = place(get_args(shape)[1], held.get(part), rest, value, depth + 1)
        else:
            held[".".join(path)] = value  # a tag's name may hold dots
        return held
    if is_tuple(shape):
        return _place_in_list(shape, data, path, value, depth)
    if not is_value(shape):
        raise NotLegal(depth, f"is {described(shape)}, which has no keys")
    if part not in hints_of(shape):
        raise NotLegal(depth, unknown(part, list(hints_of(shape))))
    if data is None and not stands_alone(shape):
        raise NotLegal(depth, f"the document has none, and {part} alone does not make one")
    held = dict(data) if isinstance(data, Mapping) else {}
    inner = held.get(part)
    if inner is None and rest and has_default(shape, part):
        inner = to_mapping(default_of(shape, part))
    held[part] = place(hints_of(shape)[part], inner, rest, value, depth + 1)
    return held


def _place_in_list(shape: Any, data: Any, path: tuple[str, ...], value: Any, depth: int) -> Any:
    items = list(data) if isinstance(data, list) else [] if data is None else [data]
    part, rest = path[0], path[1:]
    if not part.isdecimal():
        if len(items) == 1:
            return [place(item_of(shape), items[0], path, value, depth)]
        raise NotLegal(depth, f"is a list of {len(items)}; name one by its index, counted from 0")
    index = int(part)
    if index > len(items):
        raise NotLegal(depth, f"is a list of {len(items)}; the index {index} is not in it")
    inner = items[index] if index < len(items) else None
    items[index : index + 1] = [place(item_of(shape), inner, rest, value, depth + 1)]
    return items
