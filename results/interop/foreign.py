"""What another tool's result says, in our words and units, before it becomes a record.

An importer maps a figure to one of our metrics only where the definitions agree; where they agree
but for a detail, ``definitions`` says which. Everything else is kept by name in ``unmapped`` with
its numbers in ``figures``: nothing is dropped without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from results.record import Doubt, Placement
from results.samples import RequestSamples
from results.serving import Serving

MS = 1e-3
EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)  # of a measurement: nobody served such models before


class Nonsense(ValueError):
    """``field`` holds what no measurement can have given."""

    def __init__(self, field: str, found: str, wanted: str) -> None:
        super().__init__(field, found, wanted)
        self.field, self.found, self.wanted = field, found, wanted

    def __str__(self) -> str:
        return f"{self.field} is {self.found}; wanted: {self.wanted}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One number of the tool, already in our unit. ``n``: the samples that the tool says are
    behind it. ``source`` is the tool's own name for it."""

    metric: str
    statistic: str
    value: float
    n: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRun:
    """One benchmark of one tool.

    ``samples`` holds its requests one by one, where the file has all of them. Their ``intended_s``
    is the tool's schedule where ``schedule_known`` says so, else the moment the tool started its
    timer, which is the send. ``asked`` is what identifies the question (no paths, no ids, no keys);
    it is hashed, so two imports of one question may be put side by side.
    """

    tool: str
    version: str  # "" where the file does not say
    model: str
    asked: Mapping[str, Any]
    num_requests: int
    num_failed: int
    reported: tuple[Reported, ...]
    figures: Mapping[str, Any]  # the tool's summary numbers, in its own names and units
    unmapped: tuple[str, ...]
    definitions: tuple[str, ...]  # where its definitions differ from ours in a detail
    started_at: datetime | None = None
    duration_s: float | None = None
    samples: RequestSamples | None = None
    schedule_known: bool = False
    slo: Mapping[str, float] = field(default_factory=dict)  # our latency metrics → limits, seconds
    seeds: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)  # what somebody noted in the result
    doubts: tuple[Doubt, ...] = ()
    # A line of a table of results: neither its requests nor its timer are told of.
    is_table_row: bool = False
    serving: Serving | None = None
    placement: Placement | None = None

    @property
    def label(self) -> str:
        return f"{self.tool} {self.version or '(version not stated)'}"


def number(value: Any) -> float | None:
    """``value`` as a finite number, or None: for what is absent, null, text, NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def count(value: Any, default: int = 0) -> int:
    found = number(value)
    return default if found is None else int(found)


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def part(tree: Any, *path: str) -> Any:
    """``tree[a][b]…``, or None where something on the way is absent or no mapping."""
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def mapping(tree: Any, *path: str) -> Mapping[str, Any]:
    """Like ``part``, and empty where there is no mapping."""
    found = part(tree, *path)
    return found if isinstance(found, Mapping) else {}


def figures_only(tree: Any) -> Any:
    """``tree`` with its finite numbers alone; None where it has none. What a record can keep."""
    if isinstance(tree, Mapping):
        kept = {str(k): v for k, inner in tree.items() if (v := figures_only(inner)) is not None}
        return kept or None
    found = number(tree)
    return int(found) if found is not None and isinstance(tree, int) else found


def plain(tree: Any) -> Any:
    """``tree`` with None for what a record cannot hold: an infinite number (1e999)."""
    if isinstance(tree, Mapping):
        return {str(k): plain(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [plain(v) for v in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def chosen(tree: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those entries of ``tree`` that say something; an importer names what it takes over, so that
    nothing secret comes along."""
    return {name: tree[name] for name in names if tree.get(name) not in (None, "", [], {})}


def names_taken(reported: Iterable[Reported]) -> set[str]:
    """The tool's metrics that became one of ours, by the first part of their names."""
    return {r.source.partition(".")[0] for r in reported}


def statistics(
    metric: str,
    found: Mapping[str, Any],
    names: Mapping[str, str],
    n: int,
    source: str,
    unit: float,
) -> Iterator[Reported]:
    """The statistics of one metric: ``names`` maps ours to the tool's, ``unit`` times its number is
    ours. ``source`` is the tool's name of the metric; "": the statistics' names say it all."""
    for ours, theirs in names.items():
        value = number(found.get(theirs))
        if value is not None:
            name = f"{source}.{theirs}" if source else theirs
            yield Reported(metric=metric, statistic=ours, value=value * unit, n=n, source=name)


def single(metric: str, value: Any, n: int, source: str, unit: float = 1.0) -> Iterator[Reported]:
    """A metric of which the tool has one number, if it has it."""
    known = number(value)
    if known is not None:
        yield Reported(metric=metric, statistic="value", value=known * unit, n=n, source=source)
