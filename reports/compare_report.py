"""Two sides on one page: the verdicts, how they were come by, and what else differs."""

from __future__ import annotations

from reports.change_words import (
    TONES,
    better_text,
    change_text,
    comparison_sentence,
    design_text,
    interval_text,
    label,
    value_text,
    verdict_text,
)
from reports.compare import Change, Comparison, Verdict
from reports.model import (
    Badge,
    Block,
    Cell,
    Column,
    Fact,
    Facts,
    Listing,
    Paragraph,
    Plots,
    Report,
    Section,
    Table,
)
from reports.plots_changes import changes_plot
from results.metrics import metric
from results.units import counted, format_change

MAX_DIFFERENCES = 40
_ORDER = tuple(Verdict)


def compare_report(comparison: Comparison, command: str = "") -> Report:
    """Pure: the same comparison, the same page."""
    sections = [
        _verdicts(comparison),
        _design(comparison),
        _environment(comparison),
    ]
    if command:
        made = Listing(title="The command that makes it again", text=command)
        sections.append(Section(key="reproduce", heading="Reproduce", blocks=(made,)))
    verdict = comparison.verdict
    return Report(
        title=f"{comparison.a} and {comparison.b}",
        sentence=comparison_sentence(comparison),
        kind="comparison",
        badges=(
            Badge(
                text=verdict.value,
                meaning="The gravest verdict of all metrics.",
                tone=TONES[verdict],
            ),
        ),
        banners=_banners(comparison),
        sections=tuple(sections),
    )


def _banners(comparison: Comparison) -> tuple[Paragraph, ...]:
    if not comparison.differences:
        return ()
    first = ", ".join(f"{d.key}: {d.a} → {d.b}" for d in comparison.differences[:3])
    more = len(comparison.differences) - 3
    text = f"The environments differ, and may be why numbers do: {first}"
    return (Paragraph(text=f"{text}{f', and {more} more' if more > 0 else ''}.", tone="warn"),)


def _verdicts(comparison: Comparison) -> Section:
    changes = sorted(
        comparison.changes, key=lambda c: (_ORDER.index(c.verdict), -abs(c.change or 0.0))
    )
    table = Table(
        caption=f"Each metric: {comparison.b} against {comparison.a}",
        columns=(
            Column(name="metric"),
            Column(name=comparison.a, numeric=True),
            Column(name=comparison.b, numeric=True),
            Column(name="change", numeric=True, meaning="B against A, with its 95 % interval"),
            Column(name="verdict"),
            Column(
                name="detectable",
                numeric=True,
                meaning="the smallest change that so many pairs find in four of five comparisons",
            ),
        ),
        rows=tuple(_row(c) for c in changes),
        note="Values are means over runs (geometric for ratios). Small print: 95 % interval over "
        "pairs of runs. A change counts as one when it stands out after allowing for all the "
        f"metrics judged here (Holm, 5 %); as none when its 90 % interval lies within "
        f"{100 * comparison.margin:g} %.",
        legend=tuple(Fact(label=label(c), value=metric(c.metric).meaning) for c in changes),
    )
    plot = changes_plot(changes, comparison.margin)
    blocks: tuple[Block, ...] = (table, *((Plots(plots=(plot,)),) if plot is not None else ()))
    return Section(key="verdicts", heading="Verdicts", blocks=blocks)


def _row(change: Change) -> tuple[Cell, ...]:
    few = change.detectable is not None
    return (
        Cell(
            text=label(change),
            detail=better_text(change.direction),
            meaning=metric(change.metric).meaning,
        ),
        Cell(text=value_text(change.a, change)),
        Cell(text=value_text(change.b, change)),
        Cell(text=change_text(change), detail=interval_text(change)),
        Cell(text=verdict_text(change), detail=change.reason, tone=TONES[change.verdict]),
        Cell(text=_detectable(change) if few else "–", tone="plain" if few else "muted"),
    )


def _detectable(change: Change) -> str:
    if change.scale.value == "ratio":
        return format_change(change.detectable).lstrip("+")
    return value_text(change.detectable, change)


def _design(comparison: Comparison) -> Section:
    blocks: list[Block] = [
        Paragraph(text=design_text(comparison)),
        Facts(
            facts=(
                Fact(label=comparison.a, value=counted(len(comparison.a_runs), "run")),
                Fact(label=comparison.b, value=counted(len(comparison.b_runs), "run")),
                Fact(
                    label="workload hash",
                    value=comparison.workload_hash,
                    code=True,
                    meaning="Equal on both sides: the same was asked of each.",
                ),
            )
        ),
    ]
    if comparison.left_out:
        columns = (Column(name="run"), Column(name="side"), Column(name="why"))
        rows = tuple(
            (Cell(text=run.run_id, code=True), Cell(text=run.side), Cell(text=run.why))
            for run in comparison.left_out
        )
        blocks.append(Table(caption="Left out", columns=columns, rows=rows))
    return Section(key="design", heading="How it was compared", blocks=tuple(blocks))


def _environment(comparison: Comparison) -> Section:
    heading = "Environment"
    if not comparison.differences:
        known = comparison.a_environments and comparison.b_environments
        text = (
            "Both sides have the same environment hash: the same hardware, versions and resolved "
            "flags answered."
            if known
            else "What answered is not known of both sides: numbers may differ for any reason."
        )
        tone = Paragraph(text=text, tone="plain" if known else "warn")
        return Section(key="environment", heading=heading, blocks=(tone,))
    shown = comparison.differences[:MAX_DIFFERENCES]
    left = len(comparison.differences) - len(shown)
    table = Table(
        caption="What answered differently",
        columns=(Column(name="key"), Column(name=comparison.a), Column(name=comparison.b)),
        rows=tuple((Cell(text=d.key, code=True), Cell(text=d.a), Cell(text=d.b)) for d in shown),
        note=f"{left} more differences are in the records." if left else "",
    )
    return Section(key="environment", heading=heading, blocks=(table,))
