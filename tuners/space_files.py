"""Search spaces as data: files that are shipped, one per engine and device, and the user's own.

A study names spaces and adds what is its own: a knob of a path that a space has replaces it, any
other comes last, and ``without`` takes knobs out. What a file may say of a knob is ``KnobSpec``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import SpecError
from harness.spec_errors import nearest
from harness.specfile import read_yaml_as
from tuners.errors import SpaceError

SHIPPED = Path(__file__).parent / "spaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobSpec:
    """``path`` in the run's spec, and exactly one of: ``values`` (numbers that rise; null first for
    the engine's own default), ``choices`` (no order), or ``low`` with ``high`` (``step``: whole
    numbers; ``log``: by ratio). ``when``: other knobs and their values beside which this exists.
    ``about``: what it does, for people."""

    path: str
    values: tuple[int | float | None, ...] = ()
    choices: tuple[str | int | float | bool | None, ...] = ()
    low: int | float | None = None
    high: int | float | None = None
    step: int | None = None
    log: bool = False
    when: Mapping[str, tuple[str | int | float | bool | None, ...]] = field(default_factory=dict)
    about: str = ""

    @property
    def word(self) -> str:
        """What a person calls it: ``max-num-seqs``."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFile:
    """``engine``: whose command line the knobs are of, so that they can be held against the version
    that is installed; empty: no engine's. ``workloads``: the kinds whose runs it can vary."""

    name: str
    about: str
    knobs: tuple[KnobSpec, ...]
    engine: str = ""
    workloads: tuple[str, ...] = ()


def shipped_spaces() -> tuple[str, ...]:
    """The names of the files that are shipped."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def read_space(name: str, beside: Path | None = None) -> SpaceFile:
    """A shipped space by its name; or a file, by a name that ends in ``.yaml``, relative to
    ``beside``. Raises SpaceError."""
    if name.endswith((".yaml", ".yml")):
        path = (beside or Path()) / name
    elif name in shipped_spaces():
        path = SHIPPED / f"{name}.yaml"
    else:
        known = shipped_spaces()
        raise SpaceError(
            f"no space is called {name}{nearest(name, known)}; there are {', '.join(known)}, or a "
            "file whose name ends in .yaml"
        )
    try:
        return read_yaml_as(str(path), SpaceFile)
    except SpecError as error:
        raise SpaceError(str(error)) from None


def joined(
    spaces: Sequence[SpaceFile], own: Sequence[KnobSpec], without: Sequence[str]
) -> tuple[KnobSpec, ...]:
    """The knobs of all spaces in order, less ``without`` (paths, or their last words), with those
    of ``own``. Raises SpaceError."""
    knobs: dict[str, KnobSpec] = {}
    for space in spaces:
        for knob in space.knobs:
            knobs.setdefault(knob.path, knob)
    for name in without:
        found = [path for path, knob in knobs.items() if name in (path, knob.word)]
        if not found:
            words = [knob.word for knob in knobs.values()]
            raise SpaceError(
                f"without: no knob of {', '.join(s.name for s in spaces) or 'any space'} is called "
                f"{name}{nearest(name, words)}; there are {', '.join(words) or 'none'}"
            )
        for path in found:
            knobs.pop(path)
    for knob in own:
        knobs[knob.path] = knob
    return _without_lost_conditions(knobs)


def _without_lost_conditions(knobs: Mapping[str, KnobSpec]) -> tuple[KnobSpec, ...]:
    """A condition on a knob that is gone, and one of whose values was null, holds: what is not
    chosen is left to the engine, as null is. Any other never does, and its knob goes too."""
    kept: dict[str, KnobSpec] = {}
    for path, knob in knobs.items():
        gone = {p: values for p, values in knob.when.items() if p not in knobs}
        if any(None not in values for values in gone.values()):
            continue
        if any(p in knobs and p not in kept for p in knob.when):
            continue  # it hangs on one that went for the same reason
        when = {p: values for p, values in knob.when.items() if p in knobs}
        kept[path] = replace(knob, when=when) if gone else knob
    return tuple(kept.values())
