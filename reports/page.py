"""What pages have in common: how their numbers came to be, and what was asked."""

from __future__ import annotations

from collections.abc import Iterable

from reports.model import Badge, Block, Fact, Facts, Listing, Paragraph, Plot, Plots, Section


def present(*sections: Section | None) -> tuple[Section, ...]:
    """Those that have something to say."""
    return tuple(s for s in sections if s is not None and (s.blocks or s.sections))


def drawn(*plots: Plot | None) -> tuple[Plots, ...]:
    """The pictures that could be drawn, side by side; nothing where none could."""
    found = tuple(p for p in plots if p is not None)
    return (Plots(plots=found),) if found else ()


def evidence_badge(evidence: str, *, measured: str, simulated: str) -> Badge:
    """``measured`` and ``simulated`` say what each would mean here."""
    if evidence == "simulated":
        return Badge(text=evidence, meaning=simulated, tone="warn")
    return Badge(text=evidence, meaning=measured)


def warnings(*texts: str) -> tuple[Paragraph, ...]:
    """Loud, above everything else; an empty one is left out."""
    return tuple(Paragraph(text=text, tone="warn", loud=True) for text in texts if text)


def asked(facts: Iterable[Fact], command: str) -> Section:
    """What was asked, and the command that asks it again."""
    blocks: tuple[Block, ...] = (Facts(facts=tuple(facts)),)
    if command:
        blocks += (again(command),)
    return Section(key="asked", heading="What was asked", blocks=blocks)


def again(command: str) -> Listing:
    return Listing(title="The command that makes it again", text=command)
