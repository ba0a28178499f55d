"""The OpenAPI document: schemas from the same types that the door checks and the encoder writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

_REF: Final = "#/components/schemas/{model}"


class Schemas:
    """Gathers component schemas while routes are described. ``components`` is complete once all
    are."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def of(self, shape: Any, mode: JsonSchemaMode = "serialization") -> dict[str, Any]:
        """A reference to the schema of ``shape``, or its schema where it is no class."""
        adapter = shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)
        schema = adapter.json_schema(ref_template=_REF, mode=mode, by_alias=True)
        for name, inner in self._told_apart(schema).items():
            self._add(name, inner)
        title = schema.get("title")
        if schema.get("type") != "object" or not title:
            return schema
        self._add(title, schema)
        return {"$ref": _REF.format(model=title)}

    def _told_apart(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Takes the definitions out of ``schema``; one whose name another type has already gets
        the schema's title before its own: Evidence of a RunPage, RunPageEvidence."""
        found: dict[str, Any] = schema.pop("$defs", {})
        for name in [n for n, inner in found.items() if self.components.get(n, inner) != inner]:
            new = f"{schema.get('title', '')}{name}"
            old_ref, new_ref = _REF.format(model=name), _REF.format(model=new)
            found[new] = found.pop(name)
            for inner in (schema, *found.values()):
                _replace_refs(inner, old_ref, new_ref)
        return found

    def _add(self, name: str, schema: dict[str, Any]) -> None:
        if self.components.setdefault(name, schema) != schema:
            raise ValueError(f"two types are called {name}; the document can hold one")


def _replace_refs(node: Any, old: str, new: str) -> None:
    if isinstance(node, dict):
        if node.get("$ref") == old:
            node["$ref"] = new
        for inner in node.values():
            _replace_refs(inner, old, new)
    elif isinstance(node, list):
        for inner in node:
            _replace_refs(inner, old, new)


def json_content(schema: Mapping[str, Any], **examples: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {
            name.replace("_", " "): {"value": value} for name, value in examples.items()
        }
    return {"application/json": content}


def with_document(
    schemas: Schemas, name: str, schema: str, shape: Any, **more: Mapping[str, Any]
) -> dict[str, Any]:
    """The schema of ``encode.document(schema, …)``: ``shape``'s fields and those of ``more``."""
    schemas.of(shape)
    inner = schemas.components[TypeAdapter(shape).json_schema(mode="serialization")["title"]]
    schemas.components[name] = {
        "title": name,
        "type": "object",
        "description": inner.get("description", ""),
        "properties": {"schema": {"const": schema}, **more, **inner["properties"]},
        "required": ["schema", *more, *inner["properties"]],
    }
    return {"$ref": _REF.format(model=name)}
