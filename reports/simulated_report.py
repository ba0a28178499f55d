"""A simulated training at scale as one page: what is predicted, and from what."""

from __future__ import annotations

from collections.abc import Sequence

from reports.model import (
    Badge,
    Block,
    Cell,
    Column,
    Doubts,
    Fact,
    Facts,
    KeyFigure,
    KeyFigures,
    Paragraph,
    Report,
    Section,
    Table,
)
from reports.page import drawn
from reports.plots_goodput import MEANINGS, part_name
from reports.plots_simulated import efficiency_plot, goodput_plot, interval_plot
from reports.sweep_words import percent
from results.goodput import Part
from results.record import Doubt
from results.simulated_training import RANGE_SHARE, Range, ScalePredicted
from results.units import format_interval, format_value


def simulated_sentence(p: ScalePredicted) -> str:
    """The answer in two sentences, for page and terminal."""
    return (
        f"On {p.num_chips:,} chips a chip does {_with_range(p.efficiency)} of what it does in one "
        f"domain of {p.chips_per_domain}, and {_with_range(p.goodput)} of the time is progress "
        f"that lasts. Together {_with_range(p.useful)} of the ideal; with "
        f"{p.failures_per_day.value:.3g} failures a day it is best to save after "
        f"{format_value(p.best_interval_s.value, 's')} of work."
    )


def simulated_report(p: ScalePredicted, doubts: Sequence[Doubt]) -> Report:
    return Report(
        title=f"{p.name} on {p.num_chips:,} chips, simulated",
        kind="simulated scaling",
        sentence=simulated_sentence(p),
        badges=(Badge(text="simulated", meaning="no number here was measured", tone="warn"),),
        banners=(
            Paragraph(
                text="A simulation: every number on this page is a model's. The assumptions "
                "below decide it.",
                tone="warn",
                loud=True,
            ),
        ),
        sections=(
            Section(
                key="figures", heading="Key figures", blocks=(KeyFigures(figures=_figures(p)),)
            ),
            Section(
                key="efficiency",
                heading="Efficiency by size",
                blocks=(*drawn(efficiency_plot(p, "efficiency-plot")), _sizes(p)),
            ),
            Section(
                key="goodput",
                heading="Where the time goes",
                blocks=(*drawn(goodput_plot(p, "goodput-plot")), _parts(p)),
            ),
            Section(
                key="checkpoints",
                heading="How often to save",
                blocks=(*drawn(interval_plot(p, "interval-plot")), _intervals(p)),
            ),
            Section(
                key="basis",
                heading="What it rests on",
                blocks=(Doubts(doubts=tuple(doubts)), *_basis(p)),
            ),
        ),
    )


def _figures(p: ScalePredicted) -> tuple[KeyFigure, ...]:
    def figure(label: str, found: Range | None, unit: str, meaning: str) -> KeyFigure:
        if found is None:
            return KeyFigure(label=label, value="n/a", detail="no failure", meaning=meaning)
        return KeyFigure(
            label=label,
            value=format_value(found.value, unit),
            detail=format_interval(found.low, found.high, unit),
            meaning=meaning,
        )

    return (
        figure("efficiency", p.efficiency, "ratio", "throughput per chip / that of one domain"),
        figure("goodput", p.goodput, "ratio", "share of the time that is progress kept"),
        figure("both together", p.useful, "ratio", "efficiency × goodput"),
        figure("step time", p.step_s, "s", "mean over the simulated steps"),
        figure("waiting", p.wait_share, "ratio", "of a step: for the slowest chip or domain"),
        figure("communication", p.communication_share, "ratio", "of a step: not hidden"),
        figure("failures a day", p.failures_per_day, "count", "interruptions of the whole job"),
        figure("time to recover", p.time_to_recover_s, "s", "failure → end of the first new step"),
    )


def _sizes(p: ScalePredicted) -> Table:
    published = {seen.num_chips: seen.efficiency for seen in p.published}
    return Table(
        caption="Sizes",
        columns=(
            Column(name="chips", numeric=True),
            Column(name="domains", numeric=True),
            Column(name="efficiency", numeric=True),
            Column(name="published", numeric=True),
            Column(name="goodput", numeric=True),
        ),
        rows=tuple(
            (
                Cell(text=f"{size.num_chips:,}"),
                Cell(text=f"{size.num_domains:,}"),
                _cell(size.efficiency),
                Cell(
                    text=format_value(published[size.num_chips], "ratio")
                    if size.num_chips in published
                    else "–"
                ),
                _cell(size.goodput),
            )
            for size in p.sizes
        ),
        note=f"Small print: where {RANGE_SHARE:.0%} of the seeds fall.",
    )


def _parts(p: ScalePredicted) -> Table:
    return Table(
        caption=f"{p.days:g} days",
        columns=(Column(name="part"), Column(name="share", numeric=True), Column(name="what")),
        rows=tuple(
            (
                Cell(text=part_name(part)),
                _cell(p.parts[part]),
                Cell(text=MEANINGS[part]),
            )
            for part in Part
            if p.parts[part].value > 0
        ),
        note=f"Daly's closed form has {percent(p.closed_form_goodput)} goodput for the same "
        "interval, with hardware always at hand.",
    )


def _intervals(p: ScalePredicted) -> Facts:
    best = p.best_interval_s
    return Facts(
        facts=(
            Fact(
                label="best in the simulation",
                value=f"{format_value(best.value, 's')} "
                f"({format_interval(best.low, best.high, 's')})",
            ),
            Fact(
                label="Daly",
                value=format_value(p.daly_interval_s, "s"),
                meaning="√(2δM)·[1 + ⅓√(δ/2M) + ⅑·δ/2M] − δ",
            ),
            Fact(label="Young", value=format_value(p.young_interval_s, "s"), meaning="√(2δM)"),
            Fact(label="used here", value=format_value(p.interval_s, "s")),
            Fact(label="a save stops the training (δ)", value=format_value(p.save_s, "s")),
            Fact(label="time between failures (M)", value=format_value(p.mtbf_s, "s")),
            Fact(label="down after a failure", value=format_value(p.down_s, "s")),
        )
    )


def _basis(p: ScalePredicted) -> tuple[Block, ...]:
    said = [("assumed", words) for words in p.assumptions]
    said += [("source", words) for words in p.sources]
    said.append(("seeds", f"{p.num_seeds}, from {p.seed}"))
    return (
        Table(
            caption="Assumptions and sources",
            columns=(Column(name="kind"), Column(name="what")),
            rows=tuple((Cell(text=kind), Cell(text=words)) for kind, words in said),
        ),
    )


def _cell(found: Range) -> Cell:
    return Cell(
        text=format_value(found.value, "ratio"),
        detail=format_interval(found.low, found.high, "ratio"),
    )


def _with_range(found: Range) -> str:
    bounds = format_interval(found.low, found.high, "ratio")
    return f"{format_value(found.value, 'ratio')}{f' ({bounds})' if bounds else ''}"
