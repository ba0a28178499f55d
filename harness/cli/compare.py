"""``windtunnel compare``: is B other than A, by how much, and how sure is that?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.cli.again import command_again
from harness.cli.exits import Exit, told
from harness.cli.options import Json, Store, index_of, store_of, tell_torn
from harness.cli.output import check_writable, print_json, stdout, writing
from harness.errors import SpecError
from results.errors import UnknownMetric
from results.measurement import statistic_named
from results.metrics import Direction, metric

if TYPE_CHECKING:
    from reports.compare import Comparison
    from results.selection import Selection

_STYLES = {"bad": "red", "good": "green", "warn": "yellow", "muted": "dim", "plain": ""}


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="What was before: see below.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What is to be judged.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Judge this alone: ttft_p99. Repeatable."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Judge every metric that was measured.")
    ] = False,
    name: Annotated[str, typer.Option(help="Only runs of this spec name.")] = "",
    margin: Annotated[
        str, typer.Option(metavar="SHARE", help="What is no change: 3% or 0.03.")
    ] = "3%",
    trust_blocks: Annotated[
        bool,
        typer.Option(help="Judge runs that were not interleaved as if nothing drifted."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A page; .md for Markdown.")
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Compare the runs of two sides: regressed or improved, no change larger than X %, or
    inconclusive.

    A and B are run ids (several with commas), experiment ids, tags (`engine=new`), git revisions,
    image digests, versions (`vllm==0.32.0`) or spec names. Runs are paired with their neighbours
    in time, so measure them interleaved (A B B A …), five to eight of each. Runs that were asked
    different things are refused; what answered differently is named. Exit code 1 when a metric
    regressed, 4 when one is inconclusive and none regressed.

    Example: `windtunnel compare engine=old engine=new --metric ttft_p50 --margin 2%`
    """
    with told(as_json):
        check_writable("--out", out)
        share, wanted = _share(margin), _metrics(only or [])
        one, other = _sides(a, b, name, store)
        comparison = _compared(one, other, wanted, every, share, trust_blocks)
        if out is not None:
            _write(comparison, out, command_again(options=("--out",)))
    _print(comparison, as_json)
    raise typer.Exit(code_of(comparison))


def code_of(comparison: Comparison) -> Exit:
    from reports.compare import Verdict

    if comparison.verdict is Verdict.REGRESSED:
        return Exit.REGRESSION
    return Exit.INVALID if comparison.verdict is Verdict.INCONCLUSIVE else Exit.OK


def _sides(a: str, b: str, name: str, store: str | None) -> tuple[Selection, Selection]:
    from results.selection import select

    index = index_of(store_of(store))
    tell_torn(index.refresh().num_torn)
    return select(index, a, name), select(index, b, name)


def _compared(
    one: Selection,
    other: Selection,
    wanted: list[tuple[str, str]],
    every: bool,
    margin: float,
    trust_blocks: bool,
) -> Comparison:
    from reports.compare import compare as compare_records
    from reports.compare import judgeable

    asked = judgeable([*one.records, *other.records]) if every and not wanted else tuple(wanted)
    return compare_records(
        one.records,
        other.records,
        a=one.asked,
        b=other.asked,
        metrics=asked,
        margin=margin,
        trust_blocks=trust_blocks,
    )


def _share(text: str) -> float:
    """``3%`` or ``0.03``; raises SpecError."""
    try:
        value = float(text.rstrip("% ")) / (100.0 if text.rstrip().endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1.0:
        raise SpecError(f"--margin {text}: is a share between 0 and 1, such as 3% or 0.03")
    return value


def _metrics(names: list[str]) -> list[tuple[str, str]]:
    found = []
    for asked in names:
        try:
            known, statistic = statistic_named(asked)
        except UnknownMetric as error:
            raise SpecError(f"--metric {asked}: {error}") from None
        if metric(known).direction is Direction.NEITHER:
            raise SpecError(f"--metric {asked}: {known} is neither better low nor high")
        found.append((known, statistic or "value"))
    return found


def _write(comparison: Comparison, out: Path, command: str) -> None:
    from reports.compare_report import compare_report
    from reports.html import render_html
    from reports.markdown import render_markdown

    document = compare_report(comparison, command)
    text = render_markdown(document) if out.suffix == ".md" else render_html(document)
    with writing(out, "--out"):
        out.write_text(text, encoding="utf-8")


def _print(comparison: Comparison, as_json: bool) -> None:
    from dataclasses import asdict

    from reports.change_words import comparison_sentence, design_text

    if as_json:
        body = {"verdict": comparison.verdict, "sentence": comparison_sentence(comparison)}
        print_json("windtunnel.compare/1", {**body, "comparison": asdict(comparison)})
        return
    console = stdout()
    console.print(_table(comparison))
    console.print(design_text(comparison), style="dim")
    for difference in comparison.differences:
        console.print(f"  differs: {difference.key}: {difference.a} → {difference.b}", markup=False)
    for run in comparison.left_out:
        console.print(f"  left out: {run.run_id} ({run.side}): {run.why}", markup=False)
    console.print(comparison_sentence(comparison), markup=False)


def _table(comparison: Comparison) -> Table:
    from reports.change_words import (
        TONES,
        change_text,
        interval_text,
        label,
        value_text,
        verdict_text,
    )

    made = Table(box=None, pad_edge=False, header_style="dim")
    made.add_column("metric")
    for column in (comparison.a, comparison.b, "change", "95 % interval"):
        made.add_column(Text(column), justify="right")
    made.add_column("verdict")
    for c in comparison.changes:
        verdict = Text(verdict_text(c), style=_STYLES[TONES[c.verdict]])
        if c.reason:
            verdict.append(f": {c.reason}")
        made.add_row(
            label(c),
            value_text(c.a, c),
            value_text(c.b, c),
            change_text(c),
            interval_text(c),
            verdict,
        )
    return made
