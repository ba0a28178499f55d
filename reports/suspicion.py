"""What a history suspects: a value that a confirmation answers and a page is built on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from results.metrics import Direction


class Kind(StrEnum):
    STEP = "step"  # lasts three nights and more; the kind whose false-alarm rate is held
    JUMP = "jump"  # tonight alone: worth a confirmation, and no alarm without one


class State(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    EXPECTED = "expected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A series that moved. ``found``: the night in which it was first suspected. The first night
    of the new level is most ``likely`` that one, and lies in ``earliest``…``latest`` with some
    95 %.

    ``before``/``after``: levels in the metric's unit. ``change`` = after/before − 1 with its 95 %
    interval; a step was chosen for being large, so expect a confirmation to find somewhat less.
    ``p_value``: share of null nights that look so, None where the suspicion rests on the repeats
    of two nights alone. ``threshold``: the smallest change that this metric is told of.
    ``environments``/``revisions``: of the last night before and the first after.
    ``said``: the reason that people gave for the state it is in.
    """

    series: str
    name: str
    pool: str
    metric: str
    statistic: str
    direction: Direction
    canary: bool
    kind: Kind
    found: date
    earliest: date
    likely: date
    latest: date
    before: float
    after: float
    change: float
    low: float
    high: float
    p_value: float | None
    threshold: float
    num_before: int
    num_after: int
    environments: tuple[str, str] = ("", "")
    revisions: tuple[str, str] = ("", "")
    state: State = State.OPEN
    said: str = ""

    @property
    def worse(self) -> bool:
        return (self.change > 0.0) == (self.direction is Direction.LOWER)

    @property
    def environment_changed(self) -> bool:
        before, after = self.environments
        return bool(before and after and before != after)


class Standing(StrEnum):
    """What tonight says of a series, beside any suspicion."""

    UNCHANGED = "unchanged"  # the interval of the last three nights lies within the margin
    INCONCLUSIVE = "inconclusive"
    YOUNG = "young"  # too few nights for a history
    SUSPECTED = "suspected"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """``level``: of the nights before the last three; ``change``: of the last three against it,
    with a 95 % interval; None while the series is young. ``apart``: by how much one night differs
    from the next by chance (a standard deviation, as a share): this metric's A/A spread."""

    series: str
    standing: Standing
    num_nights: int
    level: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    apart: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """``night``: the newest of all series. ``suspicions``: found in any night and not superseded,
    newest first; ``new`` are those of ``night``. ``expected_false``: how many of ``num_tested``
    series this night would call, were nothing wrong with any; at most."""

    night: date
    suspicions: tuple[Suspicion, ...]
    states: tuple[SeriesState, ...]
    num_tested: int
    num_young: int
    expected_false: float

    @property
    def new(self) -> tuple[Suspicion, ...]:
        return tuple(s for s in self.suspicions if s.found == self.night and s.state is State.OPEN)
