"""``windtunnel selftest``: is what the load client reports what happened?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.cli.exits import Exit, told
from harness.cli.options import Json, Quiet
from harness.cli.output import print_json, stderr, stdout
from harness.selftest.scenarios import Scenario, Setting
from harness.selftest.suite import ALL, ScenarioResult, real_drive, run_scenarios
from results.units import format_value

_NAMES = ", ".join(scenario.name for scenario in ALL)


def selftest(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help=f"Run these alone: {_NAMES}. Repeatable."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="How far a latency may be from the truth, as a share."),
    ] = 0.05,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the load client against servers whose truth is known, in under a minute.

    The servers are processes of their own that keep a log of every byte they send; each number the
    client reports is printed beside the one from that log, or beside a closed form. Exit code 4
    when one of them is too far off: then measure nothing on this machine as it is.

    Example: `windtunnel selftest --only latency --only omission`
    """
    chosen = _chosen(only)
    with told(as_json):
        results = _run(chosen, Setting(drive=real_drive, rel=tolerance), quiet or as_json)
    passed = all(result.passed for result in results)
    if as_json:
        print_json("windtunnel.selftest/1", document(results))
    else:
        stdout().print(table(results))
        stdout().print(_verdict(results))
    if not passed:
        raise typer.Exit(Exit.INVALID)


def _chosen(only: list[str] | None) -> Sequence[Scenario]:
    known = {scenario.name for scenario in ALL}
    for name in only or ():
        if name not in known:
            raise typer.BadParameter(f"{name!r} is no scenario; there are: {_NAMES}")
    return [scenario for scenario in ALL if not only or scenario.name in only]


def _run(chosen: Sequence[Scenario], setting: Setting, quiet: bool) -> Sequence[ScenarioResult]:
    if quiet:
        return run_scenarios(setting, chosen)
    with stderr().status("") as status:
        return run_scenarios(
            setting, chosen, lambda scenario: status.update(f"{scenario.name}: {scenario.about}")
        )


def document(results: Sequence[ScenarioResult]) -> dict[str, object]:
    return {
        "ok": all(result.passed for result in results),
        "took_s": sum(result.took_s for result in results),
        "scenarios": [
            {
                "name": result.scenario.name,
                "about": result.scenario.about,
                "passed": result.passed,
                "took_s": result.took_s,
                "checks": [asdict(c) | {"passed": c.passed} for c in result.checks],
            }
            for result in results
        ],
    }


def table(results: Sequence[ScenarioResult]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "check"):
        made.add_column(column)
    for column in ("client", "truth", "± allowed"):
        made.add_column(column, justify="right")
    made.add_column("")
    for result in results:
        about = f"{result.scenario.about} ({result.scenario.name}, {result.took_s:.1f} s)"
        made.add_row("", Text(about, style="bold"))
        for c in result.checks:
            mark = Text("pass", style="green") if c.passed else Text("FAIL", style="red")
            exact = c.tolerance <= 1e-6 * abs(c.truth or 0.0)
            made.add_row(
                *(mark, f"  {c.name}"),
                *(format_value(c.measured, c.unit), format_value(c.truth, c.unit)),
                "exact" if exact else format_value(c.tolerance, c.unit),
                Text("" if c.passed else c.why, style="red"),
            )
    return made


def _verdict(results: Sequence[ScenarioResult]) -> Text:
    checks = [check for result in results for check in result.checks]
    num_failed = sum(not check.passed for check in checks)
    took_s = sum(result.took_s for result in results)
    if num_failed:
        said = f"{num_failed} of {len(checks)} checks failed, in {took_s:.0f} s"
        load, cpus = os.getloadavg()[0], os.cpu_count() or 1
        if load > cpus:
            said += f"; the machine is busy with load {load:.1f} on {cpus} CPUs: try when it is not"
        return Text(said, style="red")
    return Text(f"all {len(checks)} checks passed, in {took_s:.0f} s", style="green")
