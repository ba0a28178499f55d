"""What may be chosen, as data: knobs, their legal values, and which knobs exist only beside others.

A knob is named by the path it has in a run's spec (``workload.engine_args.max-num-seqs``). The
value None leaves it out, so that the engine resolves its own default where it runs. Numbers that
are tried at steps of two are ordinals: a sampler sees their places (0, 1, 2 …), not their sizes,
and so knows that 256 lies between 128 and 512.

Samplers that model the space (Gaussian processes) know no conditions. ``branches`` therefore splits
a conditional space into parts without any, and each part has a study of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tuners.errors import SpaceError

Value = str | int | float | bool | None
Config = Mapping[str, Value]  # a knob's path → its value; None: left to the engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordinal:
    """Numbers in rising order, each a step from the next. None may stand first: the default."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        numbers = tuple(v for v in self.values if v is not None)
        if any(isinstance(v, bool | str) for v in numbers):
            raise SpaceError(f"an ordinal's values are numbers; found {list(self.values)}")
        sizes = [float(v) for v in numbers if not isinstance(v, str)]
        if not sizes or sizes != sorted(set(sizes)) or None in self.values[1:]:
            raise SpaceError(
                f"an ordinal's values rise, and null may only come first; found {list(self.values)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorical:
    """Values with no order among them."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or len({(type(v), v) for v in self.values}) != len(self.values):
            raise SpaceError(f"choices are given, each once; found {list(self.values)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Integers:
    """``low`` … ``high``, both included, at steps of ``step``; ``log``: by ratio (step 1 only)."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)
        if self.step < 1 or (self.log and self.step != 1):
            raise SpaceError(f"step is {self.step}; it is at least 1, and 1 where log is true")
        if (self.high - self.low) % self.step:
            reached = self.high - (self.high - self.low) % self.step
            raise SpaceError(
                f"steps of {self.step} from {self.low} do not reach {self.high}; the last they "
                f"reach is {reached}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reals:
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)


# Beyond it neighbouring whole numbers are one number to a sampler.
_MAX_WHOLE = 2**53

Domain = Ordinal | Categorical | Integers | Reals


def _check_range(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpaceError(f"a range has a low below its high; found {low} … {high}")
    if isinstance(low, int) and isinstance(high, int) and max(abs(low), abs(high)) > _MAX_WHOLE:
        raise SpaceError(f"a range of whole numbers lies within ±2⁵³; found {low} … {high}")
    if log and low <= 0:
        raise SpaceError(f"a range by ratio begins above 0; found {low}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """``when``: other knobs and the values of theirs beside which this one exists; all must
    hold."""

    path: str
    domain: Domain
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A part of a space in which every knob always exists. ``fixed`` are those with one value."""

    name: str
    knobs: tuple[Knob, ...]
    fixed: Config = field(default_factory=dict)

    @property
    def num_points(self) -> float:
        """How many configurations it holds; infinite where a knob is continuous."""
        return math.prod(num_values(knob.domain) for knob in self.knobs)

    def holds(self, config: Config) -> bool:
        """Whether ``config`` names exactly this branch's knobs, each with a legal value."""
        if config.keys() != {*self.fixed, *(knob.path for knob in self.knobs)}:
            return False
        return all(same(config[p], v) for p, v in self.fixed.items()) and all(
            legal(knob.domain, config[knob.path]) for knob in self.knobs
        )

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every configuration; raises SpaceError where a knob is continuous."""
        columns = [values_of(knob.domain) for knob in self.knobs]
        for row in itertools.product(*columns):
            yield {
                **self.fixed,
                **{k.path: v for k, v in zip(self.knobs, row, strict=True)},
            }


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Raises SpaceError for knobs of one name, and for a condition that can never hold."""

    knobs: tuple[Knob, ...]

    def __post_init__(self) -> None:
        if not self.knobs:
            raise SpaceError("a space without knobs leaves nothing to choose")
        seen: dict[str, Knob] = {}
        for knob in self.knobs:
            if knob.path in seen:
                raise SpaceError(f"{knob.path} is given twice")
            for path, values in knob.when.items():
                _check_condition(knob, path, values, seen)
            seen[knob.path] = knob

    def branches(self) -> tuple[Branch, ...]:
        """The space in parts without conditions; together they hold every configuration once.

        Values of a deciding knob that lead to the same knobs stay together in one branch, if it is
        the only one that decides; else each combination of deciding values is a branch.
        """
        deciding = [k for k in self.knobs if any(k.path in other.when for other in self.knobs)]
        if not deciding:
            return (Branch(name="", knobs=self.knobs),)
        groups: dict[tuple[str, ...], list[dict[str, Value]]] = {}
        for choice in self._choices(deciding):
            there = tuple(k.path for k in self.knobs if self._exists(k, choice))
            groups.setdefault(there, []).append(choice)
        found: list[Branch] = []
        for there, choices in groups.items():
            together = [choices] if len(deciding) == 1 else [[choice] for choice in choices]
            found += [self._branch(there, part) for part in together]
        return tuple(found)

    def branch_of(self, config: Config) -> Branch | None:
        """The branch that holds ``config``, or None where it is not of this space."""
        return next((branch for branch in self.branches() if branch.holds(config)), None)

    def _choices(self, deciding: list[Knob]) -> Iterator[dict[str, Value]]:
        """Every combination of the deciding knobs' values, less those of knobs that do not
        exist."""
        seen: set[tuple[tuple[str, Value], ...]] = set()
        for row in itertools.product(*(values_of(k.domain) for k in deciding)):
            choice = dict(zip((k.path for k in deciding), row, strict=True))
            for knob in deciding:  # in the order given, and a condition names only earlier knobs
                if not self._exists(knob, choice):
                    choice.pop(knob.path)
            key = tuple(choice.items())
            if key not in seen:
                seen.add(key)
                yield choice

    @staticmethod
    def _exists(knob: Knob, choice: Config) -> bool:
        return all(
            path in choice and any(same(choice[path], v) for v in values)
            for path, values in knob.when.items()
        )

    def _branch(self, there: tuple[str, ...], choices: list[dict[str, Value]]) -> Branch:
        fixed: dict[str, Value] = {}
        free: dict[str, Domain] = {}
        for path in choices[0]:
            values = tuple(choice[path] for choice in choices)
            if len(values) == 1:
                fixed[path] = values[0]
            else:
                domain = self._knob(path).domain
                free[path] = (Ordinal if isinstance(domain, Ordinal) else Categorical)(
                    values=values
                )
        knobs = tuple(
            Knob(path=path, domain=free.get(path, self._knob(path).domain))
            for path in there
            if path not in fixed
        )
        name = ", ".join(
            f"{path.rpartition('.')[2]}={'/'.join(_text(c[path]) for c in choices)}"
            for path in choices[0]
        )
        return Branch(name=name, knobs=knobs, fixed=fixed)

    def _knob(self, path: str) -> Knob:
        return next(knob for knob in self.knobs if knob.path == path)


def _check_condition(
    knob: Knob, path: str, values: tuple[Value, ...], seen: Mapping[str, Knob]
) -> None:
    if path not in seen:
        raise SpaceError(f"{knob.path} depends on {path}, which is not a knob given before it")
    domain = seen[path].domain
    if not isinstance(domain, Ordinal | Categorical):
        raise SpaceError(
            f"{knob.path} depends on {path}, which is a range; list its values instead"
        )
    strange = [v for v in values if not legal(domain, v)]
    if strange or not values:
        raise SpaceError(
            f"{knob.path} depends on {path} being {strange or 'nothing'}; it is one of "
            f"{list(domain.values)}"
        )


def same(left: Value, right: Value) -> bool:
    """Equal, and true is not 1."""
    return isinstance(left, bool) is isinstance(right, bool) and left == right


def legal(domain: Domain, value: Value) -> bool:
    if isinstance(domain, Ordinal | Categorical):
        return any(same(value, v) for v in domain.values)
    if value is None or isinstance(value, bool | str) or not domain.low <= value <= domain.high:
        return False
    return isinstance(domain, Reals) or (
        value == int(value) and (int(value) - domain.low) % domain.step == 0
    )


def values_of(domain: Domain) -> tuple[Value, ...]:
    """Every value, in order. Raises SpaceError for a continuous range."""
    if isinstance(domain, Ordinal | Categorical):
        return domain.values
    if isinstance(domain, Integers):
        return tuple(range(domain.low, domain.high + 1, domain.step))
    raise SpaceError(f"{domain.low} … {domain.high} is continuous: it cannot be listed")


def num_values(domain: Domain) -> float:
    """Without listing them: a range may hold more than memory does."""
    if isinstance(domain, Reals):
        return math.inf
    if isinstance(domain, Integers):
        return (domain.high - domain.low) // domain.step + 1
    return len(domain.values)


def _text(value: Value) -> str:
    return "default" if value is None else str(value).lower()
