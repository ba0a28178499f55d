"""A scaling experiment as one page: the answer, the curve, where the loss went, every run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reports.model import (
    Badge,
    Block,
    Cell,
    Column,
    Fact,
    Listing,
    Paragraph,
    Report,
    Section,
    Table,
)
from reports.page import asked, drawn, evidence_badge, present, warnings
from reports.plots_scale import efficiency_plot, loss_plot
from reports.scale_words import contention_sentence, scaling_sentence
from results.scaling.efficiency import Ratio, Scaling, SizeSeen
from results.scaling.extrapolate import Extrapolation, ModelJudged, Prediction
from results.scaling.further import AGAINST_CONTROL, what_is_predicted
from results.scaling.runs import ScaleRun
from results.scaling.told import ScaleTold
from results.units import NOT_AVAILABLE, format_interval, format_value

_CONTROLLED = (
    " Predicted is what training together leaves of the control: what the host takes says nothing "
    "about more hosts."
)


def scale_report(
    told: ScaleTold,
    scaling: Scaling,
    further: Extrapolation | None,
    runs: Sequence[ScaleRun],
) -> Report:
    return Report(
        title=f"Scaling of {told.name}",
        kind="scaling",
        sentence=scaling_sentence(told, scaling),
        badges=_badges(told),
        banners=_banners(told, scaling),
        sections=present(
            Section(
                key="curve",
                heading="Efficiency by size",
                blocks=(
                    *drawn(efficiency_plot(scaling, further, "efficiency")),
                    _sizes(scaling),
                ),
            ),
            Section(
                key="loss",
                heading="Where the loss went",
                blocks=drawn(loss_plot(scaling, "loss-parts")),
            ),
            _further(further, what_is_predicted(scaling)),
            Section(key="runs", heading="Runs", blocks=(_runs(runs), *_doubts(runs))),
            _asked(told),
        ),
    )


def _badges(told: ScaleTold) -> tuple[Badge, ...]:
    rule = "work per worker" if told.mode == "weak" else "work of all workers"
    mode = Badge(text=f"{told.mode} scaling", meaning=f"The {rule} is the same at every size.")
    came = evidence_badge(
        told.evidence,
        measured="Measured by real runs.",
        simulated="The runs say of themselves that they are simulated.",
    )
    return came, mode


def _banners(told: ScaleTold, scaling: Scaling) -> tuple[Paragraph, ...]:
    missing = (
        f"{told.missing} of the runs asked for were not made; --resume {told.experiment_id} makes "
        "them."
    )
    return warnings(contention_sentence(told, scaling), missing if told.missing else "")


def _sizes(scaling: Scaling) -> Table:
    with_control = any(s.host is not None for s in scaling.sizes)
    columns = [
        Column(name="workers"),
        Column(name="throughput", numeric=True, meaning="tokens of all workers, mean of the runs"),
        Column(name="efficiency", numeric=True, meaning=scaling.rule),
    ]
    if with_control:
        columns += [
            Column(
                name="run / control",
                numeric=True,
                meaning="the run against the same ranks on the same cores without exchange",
            ),
            Column(
                name="control alone",
                numeric=True,
                meaning=f"the control here against n₀ = {scaling.n0}: what the host takes",
            ),
        ]
    columns += [
        Column(name="startup", numeric=True, meaning="not part of the efficiency"),
        Column(name="runs", numeric=True),
        Column(name="threads on cores", numeric=True),
    ]
    return Table(
        caption="What each size did",
        columns=tuple(columns),
        rows=tuple(_size_row(s, with_control) for s in scaling.sizes),
        note="Under a value its 95 % interval over the rounds. Startup counts from the ask to the "
        "end of the first step; under it its share of the whole run.",
    )


def _size_row(size: SizeSeen, with_control: bool) -> tuple[Cell, ...]:
    control = (_ratio(size.together), _ratio(size.host)) if with_control else ()
    share = format_value(size.startup_share, "ratio") if size.startup_share is not None else ""
    return (
        Cell(text=str(size.num_workers)),
        Cell(text=format_value(size.throughput, "tokens/s")),
        _ratio(size.efficiency),
        *control,
        Cell(text=format_value(size.startup_s, "s"), detail=share),
        Cell(text=str(size.num_runs)),
        Cell(
            text=f"{size.num_threads} on {size.num_cores}" if size.num_cores else "not known",
            tone="warn" if size.is_oversubscribed else "plain",
        ),
    )


def _ratio(ratio: Ratio | None) -> Cell:
    if ratio is None:
        return Cell(text="–", tone="muted")
    if ratio.value is None:
        return Cell(text=NOT_AVAILABLE, tone="muted", meaning=ratio.reason)
    interval = format_interval(ratio.low, ratio.high, "ratio")
    return Cell(text=format_value(ratio.value, "ratio"), detail=interval, meaning=ratio.reason)


def _further(further: Extrapolation | None, what: str) -> Section:
    heading = "What more would do"
    if further is None:
        return Section(key="further", heading=heading)
    blocks: list[Block] = []
    if further.models:
        blocks.append(
            Paragraph(
                text="Predicted, not measured. Each model was fitted without the largest size and "
                "asked for it; how near it came is its weight, and the prediction is the weighted "
                f"mean. Nearest came {further.chosen}."
                + (_CONTROLLED if what == AGAINST_CONTROL else "")
            )
        )
    blocks.append(_predictions(further, what))
    if further.models:
        blocks.append(_models(further.models))
    notes = dict.fromkeys(note for p in further.predictions for note in p.notes)
    blocks += [Paragraph(text=f"{note[0].upper()}{note[1:]}.", tone="muted") for note in notes]
    return Section(key="further", heading=heading, blocks=tuple(blocks))


def _predictions(further: Extrapolation, what: str) -> Table:
    return Table(
        caption=f"{what[0].upper()}{what[1:]}, n₀ = {further.n0:g}, with 90 % intervals",
        columns=(
            Column(name="workers"),
            Column(name=what, numeric=True),
            Column(name="interval", numeric=True),
            Column(name="models alone", meaning="the lowest and the highest single model"),
        ),
        rows=tuple(_prediction_row(p) for p in further.predictions),
    )


def _prediction_row(p: Prediction) -> tuple[Cell, ...]:
    if p.efficiency is None:
        none = Cell(text=NOT_AVAILABLE, tone="muted")
        return Cell(text=f"{p.n:g}"), none, none, Cell(text=p.reason, tone="muted")
    ordered = sorted(p.by_model, key=lambda m: m[1])
    (worst, low), (best, high) = ordered[0], ordered[-1]
    words = f"{worst} {format_value(low, 'ratio')} … {best} {format_value(high, 'ratio')}"
    return (
        Cell(text=f"{p.n:g}"),
        Cell(text=format_value(p.efficiency, "ratio")),
        Cell(text=format_interval(p.low, p.high, "ratio")),
        Cell(text=words),
    )


def _models(models: Sequence[ModelJudged]) -> Table:
    return Table(
        caption="The models",
        columns=(
            Column(name="model"),
            Column(name="E(m), m = n/n₀, d domains"),
            Column(name="fitted"),
            Column(name="missed by", numeric=True, meaning="predicted − measured, largest size"),
            Column(name="weight", numeric=True),
        ),
        rows=tuple(
            (
                Cell(text=m.name, code=True),
                Cell(text=m.formula),
                Cell(text=", ".join(f"{p:.3g}" for p in m.parameters)),
                Cell(text=f"{m.held_out_error * 100:+.2f} points".replace("-", "−")),
                Cell(text=format_value(m.weight, "ratio")),
            )
            for m in models
        ),
        note="Models that fit alike share one vote.",
    )


def _runs(runs: Sequence[ScaleRun]) -> Table:
    ordered = sorted(runs, key=lambda r: r.run_id)
    return Table(
        caption="One row per run, in the order made",
        columns=(
            Column(name="round"),
            Column(name="workers", numeric=True),
            Column(name="role"),
            Column(name="throughput", numeric=True),
            Column(name="startup", numeric=True),
            Column(name="run"),
            Column(name="doubts"),
        ),
        rows=tuple(
            (
                Cell(text=str(r.round_index + 1)),
                Cell(text=str(r.num_workers)),
                Cell(text="control" if r.is_control else "run"),
                Cell(
                    text=format_value(r.throughput, "tokens/s"),
                    detail=r.fault,
                    tone="bad" if r.fault else "plain",
                ),
                Cell(text=format_value(r.startup_s, "s")),
                Cell(text=r.run_id, code=True),
                Cell(text=", ".join(d.partition(":")[0] for d in r.doubts) or "none"),
            )
            for r in ordered
        ),
    )


def _doubts(runs: Sequence[ScaleRun]) -> tuple[Listing, ...]:
    lines = dict.fromkeys(d for r in runs for d in r.doubts)
    if not lines:
        return ()
    return (Listing(title="Doubts of the runs", text="\n".join(lines), folded=True),)


def _asked(told: ScaleTold) -> Section:
    facts = (
        Fact(label="spec", value=told.name, code=True),
        Fact(label="workload", value=told.workload, code=True),
        Fact(label="accelerator", value=told.accelerator),
        Fact(label="sizes", value=", ".join(map(str, told.workers))),
        Fact(label="rounds", value=str(told.num_rounds)),
        Fact(label="control", value="yes" if told.control else "no"),
        Fact(label="fast domain", value=str(told.domain) if told.domain else "not given"),
        Fact(label="experiment", value=told.experiment_id, code=True),
    )
    return asked(facts, told.command)
