"""``windtunnel run``: deploy it, measure it, keep it, tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.again import command_again
from harness.cli.exits import exit_code, told
from harness.cli.live import progress
from harness.cli.options import (
    Json,
    Overrides,
    Pools,
    Prices,
    Quiet,
    Ray,
    SpecPath,
    Store,
    store_of,
)
from harness.cli.output import print_json, record_document, stderr, stdout
from harness.cli.report import write_report
from harness.cli.session import deployer, run_context
from harness.cli.tables import run_tables
from harness.errors import SpecError
from harness.faults import parse_fault
from harness.progress import Progress
from harness.runner import run_spec
from harness.spec import RunSpec
from harness.spec_checks import require_valid
from harness.specfile import read_specs
from results.clock import SystemClock
from results.errors import InvalidStopRule, UnknownMetric
from results.lost import seal_lost
from results.record import RunRecord
from results.stopping import MIN_RUNS, StopRule, parse_until


def run(
    spec: SpecPath,
    override: Overrides = None,
    ray: Ray = "local",
    pools: Pools = None,
    prices: Prices = None,
    store: Store = None,
    until: Annotated[
        str,
        typer.Option(
            "--until",
            metavar="RULES",
            help="Repeat until the runs agree so well, at most num_repeats times: 'ttft_p99 ±5%'.",
        ),
    ] = "",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="WHAT@WHEN",
            help="Strike a training: kill_worker@step=10,rank=1, kill_node@s=30, preempt_pool@s=9. "
            "May be repeated; restarts.max_restarts says how often it starts again.",
        ),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run every spec of a file: deploy, drive, measure, and keep one record per run.

    Examples: `windtunnel run examples/quickstart.yaml`,
    `windtunnel run examples/serving-poisson.yaml --set traffic.arrivals.rate_rps=2`,
    `windtunnel run examples/gpu-fallback.yaml --pools examples/pools-two.yaml`,
    `windtunnel run examples/endpoint.yaml --set num_repeats=10 --until 'ttft_p50 ±5%'`
    """
    with told(as_json):
        specs = _struck(read_specs(str(spec), override or []), fault or [])
        rules = _rules(until, specs)
        kept = store_of(store)
        kept.prepare()
        clock = SystemClock()
        with progress(stderr(), clock, quiet) as shown:
            _tell_lost(seal_lost(kept, clock), shown)
            with deployer(ray, pools, clock, shown) as ours:
                context = run_context(ours, kept, clock, shown, prices)
                records = [r for one in specs for r in run_spec(one, context, rules)]
        page = write_report(records, kept, command=command_again()) if report else None
        _print(records, page, as_json)
    raise typer.Exit(exit_code(records))


def _struck(specs: Sequence[RunSpec], faults: Sequence[str]) -> Sequence[RunSpec]:
    """The specs with these faults added to their own. Raises SpecError."""
    added = tuple(parse_fault(text) for text in faults)
    if not added:
        return specs
    struck = [replace(spec, faults=(*spec.faults, *added)) for spec in specs]
    for spec in struck:
        require_valid(spec)
    return struck


def _rules(until: str, specs: Sequence[RunSpec]) -> tuple[StopRule, ...]:
    """Raises SpecError for words that are no rules, and for specs that never get far enough."""
    if not until:
        return ()
    try:
        rules = parse_until(until)
    except (InvalidStopRule, UnknownMetric) as error:
        raise SpecError(str(error)) from None
    for spec in specs:
        if spec.num_repeats < MIN_RUNS:
            raise SpecError(
                f"--until needs {MIN_RUNS} runs to tell how much they differ; {spec.name} has "
                f"num_repeats {spec.num_repeats}: give the most you want, --set num_repeats=10"
            )
    return rules


def _tell_lost(lost: Sequence[RunRecord], shown: Progress) -> None:
    for record in lost:
        shown.phase("lost", f"sealed {record.run_id} ({record.name}) as lost: its driver died")


def _print(records: Sequence[RunRecord], page: Path | None, as_json: bool) -> None:
    if as_json:
        body = {
            "records": [record_document(r) for r in records],
            "report": str(page) if page else None,
        }
        print_json("windtunnel.run/1", body)
        return
    console = stdout()
    for record in records:
        console.print(run_tables(record))
    if page is not None:
        console.print(f"\nreport  {page}", soft_wrap=True)
