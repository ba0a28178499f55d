"""``windtunnel store``: is everything that was kept still readable?"""

from __future__ import annotations

from dataclasses import asdict

import typer

from harness.cli.exits import Exit, told
from harness.cli.options import Json, Store, index_of, store_of
from harness.cli.output import print_json, stdout
from harness.cli.tables import facts
from results.clock import SystemClock
from results.store_check import check as check_store
from results.store_compact import Action
from results.store_compact import compact as compact_store

app = typer.Typer(help="The store of records.", no_args_is_help=True)


@app.command()
def check(store: Store = None, as_json: Json = False) -> None:
    """Read every record and table; count what is torn. Exit code 4 when anything is.

    Example: `windtunnel store check --store gs://team/windtunnel`
    """
    with told(as_json):
        report = check_store(store_of(store))
    if as_json:
        print_json("windtunnel.store-check/1", asdict(report))
    else:
        console = stdout()
        console.print(
            facts(
                [
                    ("records", str(report.num_records)),
                    ("torn", str(len(report.torn))),
                    ("open runs", str(report.num_open)),
                    ("compacted", str(report.num_compacted)),
                    ("tables", str(report.num_artifacts)),
                    ("unsealed run folders", str(report.num_unsealed)),
                    ("left-over temporary files", str(len(report.leftovers))),
                ]
            )
        )
        for torn in report.torn:
            console.print(f"  {torn.path}: {torn.reason}", markup=False)
    if report.torn:
        raise typer.Exit(Exit.INVALID)


@app.command()
def reindex(store: Store = None, as_json: Json = False) -> None:
    """Rebuild the index from the records. Never needed for correctness, never harmful.

    Example: `windtunnel store reindex`
    """
    with told(as_json):
        report = index_of(store_of(store)).reindex()
    if as_json:
        print_json(
            "windtunnel.store-reindex/1",
            {"num_records": report.num_records, "num_torn": report.num_torn},
        )
    else:
        stdout().print(f"{report.num_records} records indexed, {report.num_torn} unreadable")


@app.command()
def compact(store: Store = None, as_json: Json = False) -> None:
    """Write each finished day's records into one Parquet file; nothing is deleted.

    Example: `windtunnel store compact`
    """
    with told(as_json):
        report = compact_store(store_of(store), SystemClock())
    if as_json:
        print_json(
            "windtunnel.store-compact/1",
            asdict(report),
        )
    else:
        written = [day for day in report.days if day.action is Action.WRITTEN]
        stdout().print(
            f"{len(report.days)} finished days with {report.num_records} records; "
            f"{len(written)} written now"
        )
        for torn in report.torn:
            stdout().print(f"  {torn.path}: {torn.reason}", markup=False)


@app.callback()
def group() -> None:
    """The store of records."""
