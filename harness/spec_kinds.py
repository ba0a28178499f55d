"""Which kinds of workload a spec may have: ours, and those that strangers bring."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Union, cast

from harness.spec import RunSpec
from harness.spec_errors import refuse
from harness.spec_shape import hints_of
from harness.spec_yaml import Document
from workloads.errors import WorkloadError
from workloads.registry import BUILT_IN, kind_named, kind_names


def shape_for(documents: Sequence[Document]) -> type:
    """RunSpec, its workload widened by the strangers' kinds that these documents name."""
    named = dict.fromkeys(filter(None, map(kind_in, documents)))
    known = kind_names()
    if any(kind not in known for kind in named):
        return spec_shape(loadable_strangers())  # so that the error can name them all
    strange = tuple(k for k in named if k not in BUILT_IN)
    wrong = []
    for kind in strange:
        try:
            kind_named(kind)
        except WorkloadError as error:
            wrong += [
                f"{d.where(('workload', 'kind'))}: workload.kind: {error}"
                for d in documents
                if kind_in(d) == kind
            ]
    if wrong:
        refuse(wrong)
    return spec_shape(strange)


def loadable_strangers() -> tuple[str, ...]:
    """Strangers' kinds, less those that cannot be imported."""
    found = []
    for kind in kind_names():
        with suppress(WorkloadError):
            kind_named(kind)
            found.append(kind)
    return tuple(kind for kind in found if kind not in BUILT_IN)


def kind_in(document: Document) -> str | None:
    workload = document.data.get("workload") if isinstance(document.data, Mapping) else None
    kind = workload.get("kind") if isinstance(workload, Mapping) else None
    return kind if isinstance(kind, str) else None


@cache
def spec_shape(strange_kinds: tuple[str, ...]) -> type:
    """RunSpec itself, or its like with a workload that may also be of these kinds."""
    if not strange_kinds:
        return RunSpec
    params = tuple(kind_named(k).params for k in (*BUILT_IN, *strange_kinds))
    hints = hints_of(RunSpec) | {"workload": Union[params]}  # noqa: UP007 — known only now
    wide = []
    for field in dataclasses.fields(RunSpec):
        default: Any = dataclasses.field(
            default=field.default, default_factory=cast(Any, field.default_factory)
        )
        wide.append((field.name, hints[field.name], default))
    made = dataclasses.make_dataclass("RunSpec", wide, frozen=True, slots=True, kw_only=True)
    made.__doc__ = RunSpec.__doc__
    return made


def as_spec(value: Any) -> RunSpec:
    if isinstance(value, RunSpec):
        return value
    return RunSpec(**{f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
