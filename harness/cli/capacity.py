"""``windtunnel capacity``: the highest rate at which a server still meets its SLO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.capacity.document import CAPACITY_SCHEMA, capacity_document
from harness.capacity.judge import conditions_of
from harness.capacity.loop import find_capacity
from harness.capacity.points import slowest_queue_s
from harness.capacity.search import Measure, Question, result_now
from harness.capacity.slo import Slo, slo_of
from harness.cli.exits import Exit, told
from harness.cli.live import progress
from harness.cli.load_options import (
    Keeping,
    LoadOptions,
    Outputs,
    Sending,
    duration_of,
    share_of,
    with_groups,
)
from harness.cli.load_outputs import Written, about, patient, reach, tell, told_of, write
from harness.cli.options import Quiet
from harness.cli.output import stderr, stdout
from harness.errors import EngineDied, SpecError
from results.capacity import Capacity, LoadTold, Point, RateJudged, Verdict
from results.clock import SystemClock
from results.units import format_interval, format_value

_Opt = typer.Option
SloText = Annotated[
    str, _Opt("--slo", metavar="LIMITS", help="chat, mlperf-…, or ttft_p99=500ms,tpot=50ms.")
]
Attainment = Annotated[
    str | None,
    _Opt(
        "--attainment", metavar="SHARE", help="Of requests within all limits. Default: the SLO's."
    ),
]
Minimum = Annotated[
    float | None, _Opt("--min", min=1e-6, metavar="R", help="No rate below, requests/s.")
]
Maximum = Annotated[
    float | None, _Opt("--max", min=1e-6, metavar="R", help="No rate above, requests/s.")
]
Tolerance = Annotated[
    str, _Opt("--tolerance", metavar="SHARE", help="How near pass and fail are to be.")
]
Confidence = Annotated[
    str,
    _Opt("--confidence", metavar="SHARE", help="That the capacity lies between pass and fail."),
]
Budget = Annotated[str, _Opt("--budget", metavar="TIME", help="Wall clock for all points.")]
MaxPoints = Annotated[int, _Opt("--max-points", min=1, metavar="N", help="At most so many.")]
_STYLE = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.UNDECIDED: "dim"}


@with_groups
def capacity(
    *,
    slo: SloText,
    attainment: Attainment = None,
    minimum: Minimum = None,
    maximum: Maximum = None,
    tolerance: Tolerance = "5%",
    confidence: Confidence = "95%",
    budget: Budget = "10m",
    max_points: MaxPoints = 60,
    load: LoadOptions,
    sending: Sending,
    keeping: Keeping,
    outputs: Outputs,
    quiet: Quiet = False,
) -> None:
    """Find the highest request rate at which an endpoint meets an SLO, as an interval.

    Every point has prompts of its own. A point that the client spoiled never counts against the
    server. Ctrl-C tells what is known until then.

    Examples: `windtunnel capacity --endpoint http://127.0.0.1:8000 --slo chat`,
    `windtunnel capacity --endpoint URL --slo ttft_p99=500ms,tpot=50ms --budget 5m`
    """
    with told(outputs.as_json):
        outputs.checked()
        limits = slo_of(slo)
        if attainment is not None:
            share = share_of(attainment, "--attainment", low=0.0, high=1.0)
            limits = replace(limits, attainment=share)
        question = _question(limits, minimum, maximum, tolerance, confidence, budget, max_points)
        code = _search(load, limits, question, outputs, sending, keeping, quiet)
    raise typer.Exit(code)


def _question(
    slo: Slo,
    minimum: float | None,
    maximum: float | None,
    tolerance: str,
    confidence: str,
    budget: str,
    max_points: int,
) -> Question:
    if minimum is not None and maximum is not None and minimum > maximum:
        raise SpecError(f"--min {minimum:g} is above --max {maximum:g}")
    shares = tuple(c.wanted for c in conditions_of(slo.limits, slo.attainment))
    if max(shares) >= 1.0:
        raise SpecError("no number of requests shows that all of them will meet the SLO: ask less")
    question = Question(
        shares=shares,
        min_rps=minimum,
        max_rps=maximum,
        tolerance=share_of(tolerance, "--tolerance", low=0.0, high=10.0),
        confidence=share_of(confidence, "--confidence", low=0.5, high=1.0),
        budget_s=duration_of(budget, "--budget"),
        max_points=max_points,
        shortest_pass_s=slowest_queue_s(slo.limits),
    )
    if question.shortest_pass_s > question.budget_s:
        raise SpecError(
            f"--budget {budget}: with these limits one rate takes {question.shortest_pass_s:.0f} s "
            "to pass, for a slowly growing queue to show; give more time"
        )
    return question


def _search(
    load: LoadOptions,
    slo: Slo,
    question: Question,
    outputs: Outputs,
    sending: Sending,
    keeping: Keeping,
    quiet: bool,
) -> Exit:
    clock, ask = SystemClock(), load.ask()
    points: list[Point] = []
    code: Exit | None = None
    with (
        progress(stderr(), clock, quiet) as shown,
        reach(
            load, ask, slo, name="capacity",
            keeping=keeping, sending=sending, clock=clock, shown=shown,
        ) as reached,
    ):  # fmt: skip

        def begin(next_one: Measure) -> None:
            spent_s = sum(p.took_s for p in points)
            shown.phase(
                "point",
                f"{next_one.rate_rps:g}/s for {next_one.duration_s:.0f} s ({next_one.why}); "
                f"{spent_s:.0f} of {question.budget_s:.0f} s spent",
            )

        try:
            found = find_capacity(
                question,
                conditions_of(slo.limits, slo.attainment),
                patient(ask.traffic, slo),
                reached.measure,
                points=points,
                begin=begin,
            )
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
            found = result_now(question, points, "stopped by the user")
        except EngineDied as error:
            code = Exit.INFRASTRUCTURE
            found = result_now(question, points, str(error))
    head = told_of(reached, ask, slo, points)
    _tell(head, found, points, outputs, reached.search_id)
    if code is not None:
        return code
    return Exit.OK if found.is_conclusive else Exit.INVALID


def _tell(
    head: LoadTold, found: Capacity, points: Sequence[Point], outputs: Outputs, search_id: str
) -> None:
    written = Written()
    if points and (not outputs.no_page or outputs.picture is not None):
        from reports.plots_sweep import attainment_plot
        from reports.sweep_report import capacity_report

        written = write(
            outputs,
            lambda: capacity_report(head, found, points),
            lambda: attainment_plot(found, "attainment"),
            search_id,
            about(head),
        )
    body = {**capacity_document(head, found, points), "report": written.report}
    if not tell(outputs, CAPACITY_SCHEMA, body):
        _print(head, found, points, written)
    written.complain()


def _print(head: LoadTold, found: Capacity, points: Sequence[Point], written: Written) -> None:
    from reports.sweep_words import capacity_sentence

    console = stdout()
    mark = "  [simulated]" if head.evidence == "simulated" else ""
    console.print(f"capacity of {head.model}, {head.slo}{mark}", markup=False, style="bold")
    console.print(capacity_sentence(found), markup=False, soft_wrap=True)
    for sentence in found.violations:
        console.print(sentence, style="yellow", markup=False, soft_wrap=True)
    for sentence in _not_counted(points):
        console.print(sentence, style="yellow", markup=False, soft_wrap=True)
    if found.rates:
        console.print(_table(found.rates))
    written.print_on(console)


def _not_counted(points: Sequence[Point]) -> Iterator[str]:
    """The points that cost time and say nothing about the server, each with its reason."""
    for p in points:
        if not p.is_usable and p.rate_rps is not None:
            why = "; ".join(p.faults) or "invalid"
            yield f"not counted: {p.rate_rps:g}/s for {p.took_s:.0f} s: {why}"


def _table(rates: Sequence[RateJudged]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("rate", justify="right")
    table.add_column("verdict")
    for name in ("met by", "bounds", "requests", "effective"):
        table.add_column(name, justify="right")
    table.add_column("queue")
    table.add_column("nearest condition")
    for rate in rates:
        c = rate.constraints[0] if rate.constraints else None
        table.add_row(
            f"{rate.rate_rps:g}/s",
            Text(rate.verdict.value, style=_STYLE[rate.verdict]),
            format_value(c.attainment, "ratio") if c else "n/a",
            format_interval(c.low, c.high, "ratio") if c else "",
            f"{c.num_judged:,}" if c else "",
            f"{c.effective_n:,.0f}" if c else "",
            "grows" if rate.saturated else "may grow" if rate.growing else "steady",
            c.name if c else "",
        )
    return table
