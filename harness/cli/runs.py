"""``windtunnel runs``: what was measured before."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from harness.cli.again import and_so
from harness.cli.exits import told
from harness.cli.options import Json, Store, index_of, store_of, tell_torn
from harness.cli.output import print_json, record_document, stdout
from harness.cli.tables import facts, run_tables
from results.index_rows import RunRow
from results.metrics import metric
from results.record import Evidence
from results.units import format_value

WIDE = 120  # columns of a terminal that hold the table without folding it

app = typer.Typer(help="What was measured before.", no_args_is_help=True)


@app.command("list")
def list_runs(
    name: Annotated[str, typer.Option(help="Only runs of this spec name; may hold `*`.")] = "",
    workload: Annotated[str, typer.Option(help="Only this workload.")] = "",
    outcome: Annotated[str, typer.Option(help="Only succeeded, invalid or failed runs.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """List the newest runs, one line each.

    Example: `windtunnel runs list --outcome failed --limit 5`
    """
    with told(as_json):
        index = index_of(store_of(store))
        report = index.refresh()
        rows = index.list(limit=limit, name=name, workload=workload, outcome=outcome)
    if as_json:
        print_json("windtunnel.runs/1", {"runs": [asdict(row) for row in rows]})
        return
    if not rows:
        stdout().print("no runs match; `windtunnel run SPEC` makes one")
    else:
        console = stdout()
        if console.width < WIDE:
            for row in rows:
                console.print(
                    *_lines(row), sep="\n", markup=False, no_wrap=True, overflow="ellipsis"
                )
        else:
            console.print(_table(rows))
    tell_torn(report.num_torn)


def _lines(row: RunRow) -> tuple[str, str]:
    """A run where the table has no room: what it is, and below it what came of it. Its id begins
    with when it started."""
    evidence = "" if row.evidence is Evidence.MEASURED else f" [{row.evidence}]"
    what = f"{row.run_id}  {row.name}  {row.workload}"
    return what, f"    {row.outcome}{evidence}, {row.duration_s:.0f} s  {_headline(row)}"


def _table(rows: tuple[RunRow, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("run", "name", "workload", "evidence", "outcome", "started (UTC)"):
        table.add_column(column, no_wrap=column == "run")
    table.add_column("took", justify="right")
    table.add_column("headline")
    for row in rows:
        table.add_row(
            row.run_id,
            row.name,
            row.workload,
            row.evidence.value,
            row.outcome,
            f"{row.started_at:%Y-%m-%d %H:%M:%S}",
            f"{row.duration_s:.0f} s",
            _headline(row),
        )
    return table


def _headline(row: RunRow) -> str:
    """The first three numbers the index keeps of a run, or why it has none."""
    if row.stage:
        return f"{row.stage}: {row.error}"
    parts = []
    for label, value in list(row.headline.items())[:3]:
        name, _, statistic = label.partition(" ")
        shown = "" if statistic == "value" else f" {statistic}"
        parts.append(f"{name}{shown} {format_value(value, metric(name).unit)}")
    return ", ".join(parts)


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run id, or its beginning.")],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Show one run whole.

    Example: `windtunnel runs show 20261123T1700`
    """
    with told(as_json):
        record = store_of(store).get(run_id)
    if as_json:
        print_json("windtunnel.run-record/1", {"record": record_document(record)})
        return
    console = stdout()
    console.print(run_tables(record))
    console.print(
        facts(
            [
                ("started", f"{record.started_at:%Y-%m-%d %H:%M:%S} UTC"),
                ("took", f"{record.duration_s:.1f} s"),
                ("tables", ", ".join(a.name for a in record.artifacts) or "none"),
                ("report", f"windtunnel report {record.run_id}{and_so('--store')}"),
            ]
        )
    )


@app.callback()
def group() -> None:
    """What was measured before."""
