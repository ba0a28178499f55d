"""A run with its knobs turned, fast: what foresight asks of thousands of configurations. Pure.

The slow and strict way, through the door that a file takes, is for the few that are run. Here a
value is put where it belongs and the run is checked as a whole; that it has the right type is what
the strict way finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from harness.errors import SpecError
from harness.spec import RunSpec
from harness.spec_checks import check_spec
from tuners.seeds import key
from tuners.space import Config, Value
from tuners.training_batch import same_step

_MAPPINGS = ("engine_args", "env")


Strict = Callable[[RunSpec, Config], RunSpec]


def varies(base: RunSpec, strict: Strict) -> Callable[[Config], RunSpec]:
    """``varied`` of one run, which goes the strict way once for all that differs nowhere else."""
    made: dict[object, RunSpec] = {}

    def once(spec: RunSpec, config: Config) -> RunSpec:
        known = key(config)
        if known not in made:
            made[known] = strict(spec, config)
        return made[known]

    return lambda config: varied(base, config, once)


def varied(base: RunSpec, config: Config, strict: Strict) -> RunSpec:
    """``base`` with each knob at its value; null takes an engine's argument out. Paths that lead
    elsewhere than into the workload go the ``strict`` way first. Raises SpecError."""
    elsewhere = {p: v for p, v in config.items() if not _is_plain(base.workload, p.split("."))}
    spec = strict(base, elsewhere) if elsewhere else base
    turned: dict[str, Any] = {}
    for path, value in config.items():
        if path in elsewhere:
            continue
        _, name, *key = path.split(".")
        if key:
            held = turned.get(name, getattr(base.workload, name))
            turned[name] = _put(held, ".".join(key), value, is_env=name == "env")
        elif value is not None:
            turned[name] = value
    made = same_step(base, replace(spec, workload=replace(spec.workload, **turned)), config)
    problems = check_spec(made)
    if problems:
        raise SpecError("; ".join(f"{'.'.join(map(str, p.path))}: {p.message}" for p in problems))
    return made


def _is_plain(workload: Any, path: list[str]) -> bool:
    """``workload.field``, or a name in its engine's arguments or environment."""
    if path[0] != "workload" or len(path) < 2:
        return False
    known = {field.name for field in fields(workload)}
    return path[1] in known and (len(path) == 2) is (path[1] not in _MAPPINGS)


def _put(held: Mapping[str, Value], key: str, value: Value, *, is_env: bool) -> dict[str, Value]:
    left = {name: kept for name, kept in held.items() if name != key}
    if value is None:
        return left
    return {**left, key: str(value) if is_env else value}
