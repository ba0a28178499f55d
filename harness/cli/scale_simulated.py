"""``windtunnel scale --simulate``: what a model says that many more chips would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer
from rich.table import Table

from harness.cli.exits import Exit, told
from harness.cli.live import progress
from harness.cli.load_options import Outputs, with_groups
from harness.cli.load_outputs import Written, tell, write
from harness.cli.options import Quiet, Store, store_of
from harness.cli.output import stderr, stdout
from harness.errors import SpecError
from harness.scale_simulated import (
    DEFAULT_PRESET,
    SCHEMA,
    SimulatedAsk,
    document_of,
    record_of,
    setup_of,
    warnings_of,
)
from results.clock import SystemClock
from results.goodput import Part
from results.simulated_training import Range, ScalePredicted
from results.store_files import FileStore
from results.units import format_interval, format_value
from workloads.simulated.training.predict import Setup, predict
from workloads.simulated.training.presets import PRESETS

_PANEL = "Simulation (with --simulate)"


def _opt(name: str, metavar: str, help_: str, low: float | None = None) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(
        name, metavar=metavar, help=help_, min=low, rich_help_panel=_PANEL
    )
    return found


Simulate = Annotated[
    bool, typer.Option("--simulate", help="Simulate, from a preset.", rich_help_panel=_PANEL)
]
Chips = Annotated[int | None, _opt("--chips", "N", "Of the whole job.", 1)]
ChipsPerDomain = Annotated[
    int | None, _opt("--chips-per-domain", "N", "On one ICI or NVLink network.", 1)
]
Preset = Annotated[str, _opt("--preset", "NAME", ", ".join(PRESETS) + ".")]
Calibrate = Annotated[
    list[str] | None,
    _opt("--calibrate", "RUN", "A training's or a collectives record; may be repeated."),
]
Algorithm = Annotated[
    Literal["ring", "tree"] | None,
    typer.Option("--algorithm", help="Between domains.", rich_help_panel=_PANEL),
]
Checkpoint = Annotated[
    float | None, _opt("--checkpoint-s", "S", "A save stops the training so long.", 0)
]
Interval = Annotated[
    float | None,
    _opt("--checkpoint-interval-s", "S", "Work between saves. Default: the best found.", 1e-6),
]
Restart = Annotated[
    float | None, _opt("--restart-s", "S", "Failure noticed → the processes run and compiled.", 0)
]
Mtbf = Annotated[float | None, _opt("--mtbf-chip-hours", "H", "Chip-hours per interruption.", 1e-6)]
Shape = Annotated[
    float | None, _opt("--weibull-shape", "K", "Of a chip's life; 1: no memory.", 0.1)
]
LinkMtbf = Annotated[
    float | None,
    _opt("--link-mtbf-hours", "H", "Per interruption by one domain's way out.", 1e-6),
]
Spares = Annotated[int | None, _opt("--spares", "N", "Units of hardware that stand by.", 0)]
Days = Annotated[float | None, _opt("--days", "D", "Of simulated training.", 1e-3)]
Seeds = Annotated[int, _opt("--seeds", "N", "Simulated worlds; 19 give 90 % ranges.", 2)]
Seed = Annotated[int, _opt("--seed", "N", "Where the randomness begins.", 0)]
NoStore = Annotated[
    bool, typer.Option("--no-store", help="Keep no record.", rich_help_panel=_PANEL)
]


@with_groups
def scale_simulated(
    *,
    simulate: Simulate = True,
    chips: Chips = None,
    preset: Preset = DEFAULT_PRESET,
    calibrate: Calibrate = None,
    chips_per_domain: ChipsPerDomain = None,
    algorithm: Algorithm = None,
    checkpoint_s: Checkpoint = None,
    checkpoint_interval_s: Interval = None,
    restart_s: Restart = None,
    mtbf_chip_hours: Mtbf = None,
    weibull_shape: Shape = None,
    link_mtbf_hours: LinkMtbf = None,
    spares: Spares = None,
    days: Days = None,
    seeds: Seeds = 20,
    seed: Seed = 0,
    no_store: NoStore = False,
    store: Store = None,
    outputs: Outputs,
    quiet: Quiet = False,
) -> None:
    """Simulate training on many chips: efficiency, failures, goodput, the best checkpoint interval.

    Nothing is measured: every number is a model's, and is kept and shown as `simulated`.

    Example: `windtunnel scale --simulate --chips 50944 --preset maxtext-v5e-32b`
    """
    with told(outputs.as_json):
        if not simulate:
            raise SpecError("scale: name a SPEC to measure, or --simulate")
        outputs.checked()
        ask = SimulatedAsk(
            preset=preset, num_chips=chips, chips_per_domain=chips_per_domain,
            algorithm=algorithm, checkpoint_s=checkpoint_s, interval_s=checkpoint_interval_s,
            restart_s=restart_s, mtbf_chip_hours=mtbf_chip_hours, weibull_shape=weibull_shape,
            link_mtbf_hours=link_mtbf_hours, num_spares=spares, days=days, num_seeds=seeds,
            seed=seed,
        )  # fmt: skip
        kept = None if no_store and not calibrate else store_of(store)
        setup = setup_of(ask, [kept.get(run) for run in calibrate or []] if kept else [])
        _predict_and_tell(setup, None if no_store else kept, outputs, quiet)
    raise typer.Exit(Exit.OK)


def _predict_and_tell(setup: Setup, store: FileStore | None, outputs: Outputs, quiet: bool) -> None:
    clock = SystemClock()
    started_at, begun_s = clock.now_utc(), clock.monotonic_s()
    if store is not None:
        store.prepare()
    with progress(stderr(), clock, quiet) as shown:
        predicted = predict(setup, lambda words: shown.phase("simulate", words))
    took_s = clock.monotonic_s() - begun_s
    record = record_of(setup, predicted, started_at, clock.now_utc(), took_s)
    if store is not None:
        record = store.seal(record, {})
    written = Written()
    if not outputs.no_page or outputs.picture is not None:
        from reports.plots_simulated import efficiency_plot
        from reports.simulated_report import simulated_report

        written = write(
            outputs,
            lambda: simulated_report(predicted, record.doubts),
            lambda: efficiency_plot(predicted, "efficiency"),
            record.run_id,
            f"{record.name}, simulated",
        )
    run_id = record.run_id if store is not None else None
    body = {**document_of(predicted, run_id, took_s), "report": written.report}
    if not tell(outputs, SCHEMA, body):
        _print(predicted, run_id, took_s, written)
    written.complain()


def _print(
    predicted: ScalePredicted,
    run_id: str | None,
    took_s: float,
    written: Written,
) -> None:
    from reports.simulated_report import simulated_sentence

    console = stdout()
    console.print(
        f"{predicted.name}: {predicted.num_chips:,} chips in {predicted.num_domains:,} domains  "
        "[simulated]",
        markup=False,
        style="bold",
    )
    console.print(simulated_sentence(predicted), markup=False, soft_wrap=True)
    console.print(_figures(predicted))
    console.print(_parts(predicted))
    for doubt in warnings_of(predicted):
        console.print(
            f"{doubt.code}: {doubt.message}", style="yellow", markup=False, soft_wrap=True
        )
    for words in predicted.assumptions:
        console.print(f"assumed: {words}", style="dim", markup=False, soft_wrap=True)
    if run_id:
        console.print(f"record  {run_id}  ({took_s:.1f} s)", markup=False, soft_wrap=True)
    written.print_on(console)


def _figures(p: ScalePredicted) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (("", "left"), ("predicted", "right"), ("90 % of seeds", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    rows: Sequence[tuple[str, Range, str]] = (
        ("efficiency against one domain", p.efficiency, "ratio"),
        ("goodput", p.goodput, "ratio"),
        ("both together", p.useful, "ratio"),
        ("step time", p.step_s, "s"),
        ("failures per day", p.failures_per_day, "count"),
        *((("time to recover", p.time_to_recover_s, "s"),) if p.time_to_recover_s else ()),
        ("best checkpoint interval", p.best_interval_s, "s"),
    )
    for name, found, unit in rows:
        table.add_row(name, *_words(found, unit))
    table.add_row("Young's interval", format_value(p.young_interval_s, "s"), "")
    table.add_row("Daly's interval", format_value(p.daly_interval_s, "s"), "")
    return table


def _parts(p: ScalePredicted) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, justify in (("of the time", "left"), ("share", "right"), ("90 % of seeds", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for part in Part:
        found = p.parts[part]
        if found.value > 0:
            table.add_row(part.value.replace("_", " "), *_words(found, "ratio"))
    return table


def _words(found: Range, unit: str) -> tuple[str, str]:
    return format_value(found.value, unit), format_interval(found.low, found.high, unit)
