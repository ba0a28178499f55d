"""``windtunnel store``: is everything that was kept still readable?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli.exits import Exit, told
from harness.cli.lookups import refreshed
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json, stdout
from harness.cli.tables import facts
from results.clock import SystemClock
from results.recommendation.flags import EvidenceFlag, FlagKind, append_flag
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
    """Rebuild the index and the recommendations from the records. Never harmful.

    Example: `windtunnel store reindex`
    """
    with told(as_json):
        table = refreshed(store_of(store), anew=True)
    if as_json:
        print_json(
            "windtunnel.store-reindex/1",
            {
                "num_records": table.num_runs,
                "num_torn": len(table.torn),
                "num_profiles": table.num_profiles,
                "left_out": table.left_out,
                "snapshot_id": table.snapshot_id,
            },
        )
        return
    console = stdout()
    console.print(f"{table.num_runs} records indexed, {len(table.torn)} unreadable")
    console.print(f"{table.num_profiles} profiles to recommend from")
    for reason, number in sorted(table.left_out.items()):
        console.print(f"  left out: {number} records: {reason}", markup=False)


@app.command()
def flag(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Run ids, or beginnings.")],
    reason: Annotated[str, typer.Option(help="Why; shown with every answer that it touches.")],
    kind: Annotated[
        FlagKind,
        typer.Option(help="drift: stale. retracted: counts for nothing. cleared: takes it back."),
    ] = FlagKind.DRIFT,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say something about runs afterwards; nothing is edited, the word is appended.

    Example: `windtunnel store flag 20261124T101500Z --reason "slower since the driver's update"`
    """
    with told(as_json):
        kept = store_of(store)
        run_ids = tuple(kept.get(run).run_id for run in runs)
        said = EvidenceFlag(kind=kind, run_ids=run_ids, message=reason, at=SystemClock().now_utc())
        name = append_flag(kept.objects, said)
    if as_json:
        print_json("windtunnel.store-flag/1", {"event": name, "run_ids": list(run_ids)})
    else:
        stdout().print(f"{kind}: {', '.join(run_ids)}", markup=False)


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
