"""A YAML file in, frozen specs out; or one error that lists everything wrong with it.

A file may hold several documents, each one spec. Everything is strict: unknown keys, wrong types,
values that cannot be meant. Each error has its file and line, its dotted path, what was found and
what is accepted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from harness.spec import RunSpec
from harness.spec_checks import check_spec
from harness.spec_door import from_data, validate
from harness.spec_errors import Path, Problem, dotted, listed, refuse
from harness.spec_kinds import as_spec, kind_in, shape_for
from harness.spec_overrides import NotLegal, place
from harness.spec_schema import spec_schema
from harness.spec_shape import canonical, to_mapping
from harness.spec_yaml import Document, parse_scalar, read_documents
from workloads.registry import Role, kind_named, kind_names

__all__ = ["read_specs", "read_yaml_as", "spec_from_mapping", "spec_schema", "spec_to_mapping"]

T = TypeVar("T")

Check = Callable[[Any], Sequence[Problem]]


def read_specs(path: str, overrides: Sequence[str] = ()) -> tuple[RunSpec, ...]:
    """Every spec of a YAML file, in order. ``overrides`` are ``a.b=c`` texts with YAML values; each
    goes into every document that has a place for it. Raises SpecError."""
    documents = read_documents(path)
    shape = shape_for(documents)
    documents = tuple(_canonical(document, shape) for document in documents)
    for override in overrides:
        documents = _overridden(documents, shape, override)
    shape = shape_for(documents)  # an override may name another kind
    read = _read(documents, shape, lambda value: check_spec(as_spec(value)))
    specs = tuple(as_spec(value) for value in read)
    _refuse_same_names(specs, documents)
    return specs


def read_yaml_as(path: str, shape: type[T], check: Check | None = None) -> T:
    """The one document of a YAML file as a frozen dataclass, as strictly as a spec is read.

    ``check`` may add problems that types cannot tell; each is shown with its line. Raises
    SpecError."""
    documents = tuple(_canonical(document, shape) for document in read_documents(path))
    if len(documents) > 1:
        raise refuse([f"{documents[1].where(())}: a second document; this file holds one"])
    return cast(T, _read(documents, shape, check or (lambda _: ()))[0])


def spec_to_mapping(spec: RunSpec) -> dict[str, Any]:
    """The spec as JSON-like data, every default written out: what a record keeps."""
    return cast(dict[str, Any], to_mapping(spec))


def spec_from_mapping(data: Mapping[str, Any]) -> RunSpec:
    """The inverse of ``spec_to_mapping``, as strict as a file. Raises SpecError."""
    document = Document(file="spec", line=0, data=dict(data))
    shape = shape_for((document,))
    value, problems = from_data(shape, document.data)
    if not problems:
        problems = list(check_spec(as_spec(value)))
    if problems:
        refuse(listed(problems, lambda _: "spec"))
    return as_spec(value)


def _read(documents: tuple[Document, ...], shape: type, check: Check) -> tuple[Any, ...]:
    """All documents as values; or everything wrong with all of them."""
    values, wrong = [], []
    for document in documents:
        value, problems = validate(shape, document.data)
        if not problems:
            problems = list(check(value))
        wrong += listed(problems, document.where)
        values.append(value)
    if wrong:
        refuse(wrong)
    return tuple(values)


def _canonical(document: Document, shape: type) -> Document:
    return dataclasses.replace(document, data=canonical(shape, document.data))


# ---- overrides and names ----


def _overridden(
    documents: tuple[Document, ...], shape: type, override: str
) -> tuple[Document, ...]:
    """The documents with one ``a.b=c`` put in wherever it has a place."""
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.strip().split("."))
    if not equals or not all(path):
        refuse([f"--set {override}: accepted: a.b=value, for example num_repeats=3"])
    value = parse_scalar(text, path)
    placed, refusals = [], []
    for document in documents:
        try:
            placed.append(_placed(document, shape, path, value, override))
        except NotLegal as refusal:
            refusals.append(refusal)
            placed.append(document)
    if len(refusals) == len(documents):
        reason = max(refusals, key=lambda r: r.depth)
        where = dotted(path[: reason.depth + 1])
        refuse([f"--set {override}: {where}: {reason.reason}"])
    return tuple(placed)


def _placed(
    document: Document, shape: type, path: tuple[str, ...], value: Any, override: str
) -> Document:
    if path[0] in ("traffic", "slo") and _is_training(document):
        raise NotLegal(0, "no document of this file has traffic; training has none")
    data = canonical(shape, place(shape, document.data, path, value))
    at: Path = tuple(int(part) if part.isdecimal() else part for part in path)
    origins = {p: o for p, o in document.origins.items() if p[: len(at)] != at}
    return dataclasses.replace(document, data=data, origins=origins | {at: override})


def _is_training(document: Document) -> bool:
    kind = kind_in(document)
    return kind in kind_names() and kind_named(str(kind)).role is Role.TRAINING


def _refuse_same_names(specs: tuple[RunSpec, ...], documents: tuple[Document, ...]) -> None:
    """Runs are found again by name; two specs of one file under one name could not be."""
    seen: dict[str, str] = {}
    wrong = []
    for spec, document in zip(specs, documents, strict=True):
        where = document.where(("name",))
        if spec.name in seen:
            wrong.append(f"{where}: name: {spec.name} is taken by the spec at {seen[spec.name]}")
        seen.setdefault(spec.name, where)
    if wrong:
        refuse(wrong)
