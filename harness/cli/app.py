"""``windtunnel``: the one door. Each command's module says what it does and how it fails."""

from __future__ import annotations

import typer

from harness import __version__
from harness.cli import (
    capacity,
    doctor,
    model,
    plan,
    report,
    run,
    runs,
    spec,
    store,
    sweep,
)
from harness.cli.exits import interrupt_on_sigterm

app = typer.Typer(
    name="windtunnel",
    help="Measure, compare and tune AI training and inference deployments.",
    epilog="Exit codes: 0 ok · 1 regression · 2 usage · 3 infrastructure · "
    "4 inconclusive or invalid · 130 stopped by the user.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

app.command("doctor")(doctor.doctor)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("capacity")(capacity.capacity)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.add_typer(runs.app, name="runs")
app.add_typer(store.app, name="store")
app.add_typer(model.app, name="model")
app.add_typer(spec.app, name="spec")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"windtunnel {__version__}")  # noqa: T201
        raise typer.Exit()


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Measure, compare and tune AI training and inference deployments."""


def main() -> None:
    interrupt_on_sigterm()
    app()
