"""A report as data: what is told, in which order, before anyone decides how it looks.

``run_report`` fills it, ``html`` and ``markdown`` print it. Nothing here is computed again later:
a number arrives as the text that people read, a plot as a complete Vega-Lite specification with the
sentence and the table that tell the same to whoever cannot see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.sparkline import path_of, position_of
from results.record import Doubt

Tone = Literal["plain", "good", "warn", "bad", "muted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A word or two beside the title; ``meaning`` says it in a sentence."""

    text: str
    meaning: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """``loud`` makes it a banner: what must be read before any number is."""

    text: str
    tone: Tone = "plain"
    loud: bool = False
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """``detail`` is the interval, or why there is no value."""

    label: str
    value: str
    detail: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigures:
    figures: tuple[KeyFigure, ...]
    kind: Literal["key_figures"] = "key_figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """``words``: holds sentences, and is never squeezed into a word a line."""

    name: str
    numeric: bool = False
    words: bool = False
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """A small line: ``values`` from old to new, None where there is none. ``marked``: the index at
    which something happened; the text beside it must say all that the line shows."""

    values: tuple[float | None, ...]
    marked: int | None = None

    @property
    def path(self) -> str:
        return path_of(self.values)

    @property
    def mark_x(self) -> float | None:
        return None if self.marked is None else position_of(self.values, self.marked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """``detail`` stands under the text, smaller; ``spark`` beside it. ``link``: a page beside this
    one, or an anchor in it."""

    text: str
    detail: str = ""
    tone: Tone = "plain"
    meaning: str = ""
    code: bool = False
    spark: Spark | None = None
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    label: str
    value: str
    meaning: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Every row has one cell per column; the first cell of a row names it. ``legend`` says what
    the names mean, in a fold below."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    legend: tuple[Fact, ...] = ()
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One line of a legend: a name, the colour (CSS) and the shape it is drawn with."""

    name: str
    color: str
    shape: Literal["circle", "square", "triangle", "cross", "hatch"] = "circle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """``spec`` is Vega-Lite without a config or legend: the page brings colours and fonts, and
    prints ``marks`` as the legend (text wraps on a phone, a picture does not).

    ``key`` is unique in the report; ``description`` is read aloud in place of the picture, and
    ``summary`` gives its data in numbers. ``note`` says what was left out, if anything was.
    """

    key: str
    title: str
    spec: Mapping[str, Any]
    description: str
    summary: Table
    marks: tuple[Mark, ...] = ()
    note: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plots:
    plots: tuple[Plot, ...]
    kind: Literal["plots"] = "plots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubts:
    doubts: tuple[Doubt, ...]
    kind: Literal["doubts"] = "doubts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    facts: tuple[Fact, ...]
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Text to be shown letter by letter: a command, a log, a spec. ``folded`` starts closed;
    ``from_end`` shows the end first, where a log says why it ends."""

    title: str
    text: str
    folded: bool = False
    from_end: bool = False
    kind: Literal["listing"] = "listing"


Block = Paragraph | KeyFigures | Table | Plots | Doubts | Facts | Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """``key`` is its anchor, unique in the report. ``folded`` starts closed."""

    key: str
    heading: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    badges: tuple[Badge, ...] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``sentence`` is the answer; everything after it is why."""

    title: str
    sentence: str
    kind: str = "run report"
    badges: tuple[Badge, ...] = ()
    banners: tuple[Paragraph, ...] = ()
    sections: tuple[Section, ...] = field(default_factory=tuple)
