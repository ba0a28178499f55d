"""A scaling experiment on the terminal."""

from __future__ import annotations

from rich.table import Table

from harness.cli.load_outputs import Written
from harness.cli.output import stdout
from reports.scale_words import (
    contention_sentence,
    loss_sentence,
    prediction_words,
    ratio_words,
    scaling_sentence,
)
from results.scaling.efficiency import Scaling
from results.scaling.extrapolate import Extrapolation
from results.scaling.further import what_is_predicted
from results.scaling.told import ScaleTold
from results.units import format_value


def print_scaling(
    told: ScaleTold, scaling: Scaling, further: Extrapolation | None, written: Written
) -> None:
    console = stdout()
    mark = "  [simulated]" if told.evidence == "simulated" else ""
    console.print(f"scaling of {told.name}, {told.mode}{mark}", markup=False, style="bold")
    console.print(scaling_sentence(told, scaling), markup=False, soft_wrap=True)
    if scaling.n0 is not None:
        console.print(f"efficiency: {scaling.rule}", style="dim", markup=False, soft_wrap=True)
    if crowded := contention_sentence(told, scaling):
        console.print(crowded, style="yellow", markup=False, soft_wrap=True)
    console.print(_sizes(scaling))
    for size in scaling.sizes:
        if words := loss_sentence(size):
            console.print(f"{size.num_workers} workers: {words}", markup=False, soft_wrap=True)
    for fault in dict.fromkeys(f for s in scaling.sizes for f in s.faults):
        console.print(fault, style="yellow", markup=False, soft_wrap=True)
    if further is not None:
        _print_further(further, what_is_predicted(scaling))
    written.print_on(console)


def _sizes(scaling: Scaling) -> Table:
    with_control = any(s.host is not None for s in scaling.sizes)
    table = Table(box=None, pad_edge=False, header_style="dim")
    titles = ["workers", "throughput", "efficiency"]
    titles += ["run / control", "control alone"] if with_control else []
    for title in (*titles, "startup", "of the run", "runs"):
        table.add_column(title, justify="right")
    for size in scaling.sizes:
        control = [ratio_words(size.together), ratio_words(size.host)] if with_control else []
        table.add_row(
            str(size.num_workers),
            format_value(size.throughput, "tokens/s"),
            ratio_words(size.efficiency),
            *("" if c == "n/a" else c for c in control),
            format_value(size.startup_s, "s"),
            format_value(size.startup_share, "ratio"),
            str(size.num_runs),
        )
    return table


def _print_further(further: Extrapolation, what: str) -> None:
    console = stdout()
    console.print(
        f"extrapolated: {what}, {further.confidence:.0%} intervals"
        + (f"; least held-out error: {further.chosen}" if further.chosen else ""),
        style="bold",
        markup=False,
    )
    for p in further.predictions:
        console.print(f"{p.n:g} workers: {prediction_words(p)}", markup=False, soft_wrap=True)
    for note in dict.fromkeys(n for p in further.predictions for n in p.notes):
        console.print(f"  {note}", style="dim", markup=False, soft_wrap=True)
