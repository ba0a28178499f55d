"""The same report as Markdown, for a terminal, a pull request or a mail: numbers, no pictures.

Text of a record is escaped, so that a name or a log line stays text wherever this is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reports.model import (
    Block,
    Cell,
    Doubts,
    Facts,
    KeyFigures,
    Listing,
    Paragraph,
    Plots,
    Report,
    Section,
    Table,
)
from reports.sparkline import blocks_of

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")


def render_markdown(report: Report) -> str:
    """GitHub-flavoured Markdown; the same report gives the same bytes."""
    lines = [f"# {escape(report.title)}", "", escape(report.sentence), ""]
    if report.badges:
        lines += [" · ".join(f"**{escape(b.text)}**" for b in report.badges), ""]
    for banner in report.banners:
        lines += [f"> **{escape(banner.text)}**", ""]
    for section in report.sections:
        lines += _section(section, 2)
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """Text that Markdown and the HTML it becomes show as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _section(section: Section, level: int) -> Iterator[str]:
    badges = "".join(f" · {escape(b.text)}" for b in section.badges)
    yield f"{'#' * level} {escape(section.heading)}{badges}"
    yield ""
    for block in section.blocks:
        yield from _block(block)
        yield ""
    for child in section.sections:
        yield from _section(child, min(level + 1, 6))


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            yield escape(block.text)
        case KeyFigures():
            for f in block.figures:
                detail = f" ({escape(f.detail)})" if f.detail else ""
                yield f"- {escape(f.label)}: **{escape(f.value)}**{detail}"
        case Table():
            yield from _table(block)
        case Plots():
            for plot in block.plots:
                yield from (f"**{escape(plot.title)}.** {escape(plot.description)}", "")
                yield from _table(plot.summary)
                yield ""
        case Doubts():
            for d in block.doubts:
                grave = " **Makes the run invalid.**" if d.invalidates else ""
                yield f"- {escape(d.message)} ({escape(d.code)}){grave}"
        case Facts():
            for fact in block.facts:
                yield f"- {escape(fact.label)}: {escape(fact.value)}"
        case Listing():
            yield from _listing(block)


def _table(table: Table) -> Iterator[str]:
    yield f"*{escape(table.caption)}*"
    yield ""
    yield "| " + " | ".join(escape(c.name) for c in table.columns) + " |"
    yield "|" + "|".join("---:" if c.numeric else "---" for c in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    if table.note:
        yield from ("", escape(table.note))
    if table.legend:
        yield ""
        yield from (f"- {escape(f.label)}: {escape(f.value)}" for f in table.legend)


def _cell(cell: Cell) -> str:
    words = escape(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)
    line = blocks_of(cell.spark.values) if cell.spark else ""
    return " ".join(filter(None, (words, line)))


def _listing(block: Listing) -> Iterator[str]:
    # A fence longer than any run of backticks inside cannot be closed from inside.
    longest = max((len(run) for run in re.findall(r"`+", block.text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (f"{escape(block.title)}:", "", fence, block.text.rstrip("\n"), fence)
