"""A space held against the version of the engine that is installed. Pure but for reading its files.

An engine's options come and go between releases. What one version can be told is a snapshot, made
by that version itself (``tuners.vllm_probe``); a reviewed knob that it does not have is dropped,
and said so, and what it has beyond the reviewed is listed as unreviewed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuners.errors import SpaceError
from tuners.space import Value
from tuners.space_files import SHIPPED, KnobSpec

ARGUMENTS, ENV, OWN = "workload.engine_args.", "workload.env.", "workload."
# Groups of options that say who may ask what, and how it is logged: nothing to tune.
_NOT_TUNED = frozenset(
    {"Frontend", "LoggingConfig", "ObservabilityConfig", "ProfilerConfig", "options"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of the engine's command line. ``kind``: flag, choice, integer, number or text.
    ``low`` … ``high`` are allowed, ``above`` and ``below`` are not; None: no such bound."""

    name: str
    group: str = ""
    kind: str = "text"
    default: Value = None
    choices: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def allows(self, value: Value) -> bool:
        """Whether the command line takes it; null is leaving the option out."""
        if value is None:
            return True
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "choice" and self.choices:
            return value in self.choices
        if self.kind not in ("integer", "number"):
            return True
        if isinstance(value, bool | str):
            return False
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one version can be told. ``env``: names of the variables that it reads."""

    engine: str
    version: str
    device: str
    options: Mapping[str, Option]
    env: frozenset[str]

    @property
    def file_name(self) -> str:
        return snapshot_name(self.engine, self.version)


def snapshot_name(engine: str, version: str) -> str:
    return f"{engine}-{version.partition('+')[0]}.json"


def snapshot_of(text: str) -> Snapshot:
    """Of what the probe printed. Raises SpaceError."""
    try:
        data: Any = json.loads(text)
        options = [
            Option(**{**found, "choices": tuple(found.get("choices") or ())})
            for found in data["options"]
        ]
        return Snapshot(
            engine=data["engine"],
            version=data["version"],
            device=data["device"],
            options={option.name: option for option in options},
            env=frozenset(data["env"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SpaceError(f"this is no snapshot of an engine's options: {error!r}") from None


def kept_snapshot(engine: str, version: str, kept_in: Path) -> Snapshot | None:
    """The one that was made here, or the one that is shipped; None: neither."""
    for folder in (kept_in, SHIPPED):
        path = folder / snapshot_name(engine, version)
        if path.is_file():
            return snapshot_of(path.read_text(encoding="utf-8"))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A space against a version. ``dropped``: knob or value → why, in one sentence each."""

    knobs: tuple[KnobSpec, ...]
    dropped: tuple[str, ...]
    unreviewed: tuple[Option, ...]


def held_against(knobs: Sequence[KnobSpec], snapshot: Snapshot, device: str = "") -> Held:
    """Knobs that the version has, with the values that it takes. ``device``: what the knobs are for
    (cpu, cuda, tpu; "": not known): a build for another does not tell which variables that one
    reads, and they stay."""
    kept: dict[str, KnobSpec] = {}
    dropped: list[str] = []
    for knob in knobs:
        gone = [path for path in knob.when if path not in kept]
        if gone:
            dropped.append(f"{knob.word}: it depends on {_word(gone[0])}, which was dropped")
        elif why := _unknown(knob.path, snapshot, device):
            dropped.append(f"{knob.word}: {why}")
        else:
            narrowed, refused = _narrowed(knob, snapshot)
            dropped += refused
            if narrowed is not None:
                kept[knob.path] = narrowed
    reviewed = {_word(knob.path) for knob in knobs}
    unreviewed = tuple(
        option
        for option in snapshot.options.values()
        if option.name not in reviewed and option.group not in _NOT_TUNED
    )
    return Held(knobs=tuple(kept.values()), dropped=tuple(dropped), unreviewed=unreviewed)


def option_of(knob: KnobSpec, snapshot: Snapshot) -> Option | None:
    """The engine's option that a knob sets, or None where it sets something else."""
    if knob.path.startswith(ARGUMENTS):
        return snapshot.options.get(knob.path.removeprefix(ARGUMENTS).replace("_", "-"))
    if knob.path == "workload.tensor_parallel_size":
        return snapshot.options.get("tensor-parallel-size")
    return None


def _unknown(path: str, snapshot: Snapshot, device: str) -> str:
    whose = f"{snapshot.engine} {snapshot.version}"
    if path.startswith(ARGUMENTS):
        name = path.removeprefix(ARGUMENTS).replace("_", "-")
        return "" if name in snapshot.options else f"{whose} has no option --{name}"
    if path.startswith(ENV) and device in ("", snapshot.device):
        name = path.removeprefix(ENV)
        return "" if name in snapshot.env else f"{whose} reads no variable {name}"
    return ""


def _narrowed(knob: KnobSpec, snapshot: Snapshot) -> tuple[KnobSpec | None, list[str]]:
    """Without the values that the option does not take; None where fewer than two are left."""
    option = option_of(knob, snapshot)
    given = (*knob.values, *knob.choices)
    if option is None or not given:
        return knob, []
    refused = [value for value in given if not option.allows(value)]
    if not refused:
        return knob, []
    whose = f"{snapshot.engine} {snapshot.version}"
    said = f"{knob.word} {', '.join(map(_text, refused))}: {whose} takes {_accepted(option)}"
    left = replace(
        knob,
        values=tuple(value for value in knob.values if option.allows(value)),
        choices=tuple(value for value in knob.choices if option.allows(value)),
    )
    few = len((*left.values, *left.choices)) < 2
    return (None if few else left), [said]


def _accepted(option: Option) -> str:
    if option.choices:
        return ", ".join(_text(choice) for choice in option.choices if choice is not None)
    return f"{'/'.join(_bounds(option)) or 'a'} {option.kind}"


def _bounds(option: Option) -> Iterator[str]:
    signs = ((">=", option.low), (">", option.above), ("<=", option.high), ("<", option.below))
    for sign, bound in signs:
        if bound is not None:
            yield f"{sign} {bound:g}"


def _word(path: str) -> str:
    return path.rpartition(".")[2]


def _text(value: Value) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
