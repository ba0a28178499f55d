"""``windtunnel sweep``: latency and throughput over many loads, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.table import Table

from harness.capacity.curve import (
    Load,
    auto_rates,
    in_order,
    knee_of,
    next_scout,
    rates_of,
    users_of,
)
from harness.capacity.document import SWEEP_SCHEMA, sweep_document
from harness.capacity.judge import conditions_of
from harness.capacity.loop import sweep as measure_loads
from harness.capacity.slo import Slo, slo_of
from harness.cli.exits import Exit, told
from harness.cli.live import progress
from harness.cli.load_options import (
    Duration,
    Keeping,
    LoadOptions,
    NumRequests,
    Outputs,
    Sending,
    Think,
    with_groups,
)
from harness.cli.load_outputs import Reached, Written, about, reach, tell, told_of, write
from harness.cli.options import Quiet
from harness.cli.output import stderr, stdout
from harness.errors import EngineDied, SpecError
from harness.progress import Progress
from reports.sweep_numbers import LoadSeen, loads_seen
from reports.sweep_words import knee_sentence
from results.capacity import Knee, LoadTold, Point
from results.clock import SystemClock
from workloads.traffic.spec import Traffic

_SCOUT_S = 5.0
_DEFAULT_S = 30.0
_Opt = typer.Option
Rates = Annotated[
    str | None,
    _Opt("--rates", metavar="RATES", help="1,2,4 or LOW:HIGH:COUNT on a log scale, or auto."),
]
Users = Annotated[
    str | None,
    _Opt("--concurrency", metavar="USERS", help="Closed loop: 1,8,64 or 1:256 (doubling)."),
]
Repeats = Annotated[int, _Opt("--repeats", min=1, metavar="N", help="Points of each load.")]
SloText = Annotated[
    str, _Opt("--slo", metavar="LIMITS", help="Also tell the share that meets it: see capacity.")
]


@with_groups
def sweep(
    *,
    rates: Rates = None,
    concurrency: Users = None,
    think_time: Think = 0.0,
    duration: Duration = None,
    num_requests: NumRequests = None,
    repeats: Repeats = 1,
    slo: SloText = "",
    load: LoadOptions,
    sending: Sending,
    keeping: Keeping,
    outputs: Outputs,
    quiet: Quiet = False,
) -> None:
    """Measure an endpoint at many loads, in random order: the latency–throughput curve.

    Every point has prompts of its own, and the order is shuffled by the seed, so that neither a
    cache nor a drift is taken for load. Ctrl-C tells what is known until then.

    Examples: `windtunnel sweep --endpoint http://127.0.0.1:8000 --rates 1:64:8`,
    `windtunnel sweep --endpoint URL --concurrency 1:256 --picture curve.svg`
    """
    with told(outputs.as_json):
        outputs.checked()
        if duration is None and num_requests is None:
            duration = _DEFAULT_S
        shape = _Shape(
            loads=_loads(rates, concurrency, think_time), repeats=repeats, duration_s=duration,
            num_requests=num_requests, think_s=think_time,
        )  # fmt: skip
        limits = slo_of(slo) if slo else None
        code = _sweep(load, shape, limits, outputs, sending, keeping, quiet)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What every load of the sweep is like. ``loads`` (): they are found by scouting."""

    loads: tuple[Load, ...]
    repeats: int
    duration_s: float | None
    num_requests: int | None
    think_s: float


def _loads(rates: str | None, concurrency: str | None, think_s: float) -> tuple[Load, ...]:
    """None at all: the rates are found by scouting."""
    if think_s and concurrency is None:
        raise SpecError("--think-time is of users, who are asked for with --concurrency")
    if rates is not None and concurrency is not None:
        raise SpecError("--rates sends whatever the server does, --concurrency waits: name one")
    if concurrency is not None:
        return tuple(Load(num_users=n) for n in users_of(concurrency))
    if rates is None or rates.strip() == "auto":
        return ()
    return tuple(Load(rate_rps=rate) for rate in rates_of(rates))


def _sweep(
    load: LoadOptions,
    shape: _Shape,
    slo: Slo | None,
    outputs: Outputs,
    sending: Sending,
    keeping: Keeping,
    quiet: bool,
) -> Exit:
    clock, ask = SystemClock(), load.ask(num_requests=shape.num_requests)
    conditions = conditions_of(slo.limits, slo.attainment) if slo else ()
    points: list[Point] = []
    code: Exit | None = None
    with (
        progress(stderr(), clock, quiet) as shown,
        reach(
            load, ask, slo, name="sweep",
            keeping=keeping, sending=sending, clock=clock, shown=shown,
        ) as reached,
    ):  # fmt: skip
        try:
            loads, scouted = shape.loads, 0
            if not loads:
                loads, scouted = _scouted(ask.traffic, reached, shown)
            order = in_order(loads, shape.repeats, ask.traffic.seed)

            def begin(i: int, one: Load) -> None:
                shown.phase("point", f"{one.words}, point {i + 1} of {len(order)}")

            measure_loads(
                order, conditions, ask.traffic, reached.measure,
                duration_s=shape.duration_s, think_s=shape.think_s, first_number=scouted,
                points=points, begin=begin,
            )  # fmt: skip
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        except EngineDied as error:
            code = Exit.INFRASTRUCTURE
            stderr().print(f"windtunnel: {error}", markup=False, soft_wrap=True)
    head = told_of(reached, ask, slo, points)
    _tell(head, points, outputs, reached.search_id)
    if code is not None:
        return code
    return Exit.OK if points and all(p.is_usable for p in points) else Exit.INVALID


def _scouted(traffic: Traffic, reached: Reached, shown: Progress) -> tuple[tuple[Load, ...], int]:
    """Rates up to where the server falls behind, and how many points it took to find them."""
    found: list[Point] = []
    while (rate := next_scout(found)) is not None:
        shown.phase("scout", f"does the server keep up with {rate:g}/s?")
        measure_loads(
            [Load(rate_rps=rate)], (), traffic, reached.measure,
            duration_s=_SCOUT_S, think_s=0.0, first_number=len(found),
            points=found, begin=lambda _i, _load: None,
        )  # fmt: skip
    return tuple(Load(rate_rps=rate) for rate in auto_rates(found)), len(found)


def _tell(head: LoadTold, points: Sequence[Point], outputs: Outputs, search_id: str) -> None:
    knee = knee_of(points) if points else None
    loads = loads_seen(points)
    written = Written()
    if knee is not None and (not outputs.no_page or outputs.picture is not None):
        from reports.plots_sweep import latency_curve
        from reports.sweep_report import sweep_report

        at = knee.load
        written = write(
            outputs,
            lambda: sweep_report(head, points, knee),
            lambda: latency_curve(loads, "ttft_s", "curve", knee=at),
            search_id,
            about(head),
        )
    body = {**sweep_document(head, points, knee), "report": written.report}
    if not tell(outputs, SWEEP_SCHEMA, body):
        _print(head, knee, loads, written)
    written.complain()


def _print(head: LoadTold, knee: Knee | None, loads: Sequence[LoadSeen], written: Written) -> None:
    console = stdout()
    mark = "  [simulated]" if head.evidence == "simulated" else ""
    console.print(f"sweep of {head.model}{mark}", markup=False, style="bold")
    if knee is None:
        console.print("no point was measured")
        return
    console.print(knee_sentence(knee, loads), markup=False, soft_wrap=True)
    console.print(_table(loads))
    for fault in dict.fromkeys(f for load in loads for f in load.faults):
        console.print(fault, style="yellow", markup=False, soft_wrap=True)
    written.print_on(console)


def _table(loads: Sequence[LoadSeen]) -> Table:
    columns = (
        ("answered", "achieved_rate", "value", "requests/s"),
        ("output", "output_throughput", "value", "tokens/s"),
        ("TTFT p50", "ttft_s", "p50", "s"),
        ("TTFT p99", "ttft_s", "p99", "s"),
        ("TPOT p50", "tpot_s", "p50", "s"),
        ("e2e p50", "e2e_s", "p50", "s"),
    )
    with_slo = any(load.attainment().value is not None for load in loads)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("load", justify="right")
    for title, *_ in columns:
        table.add_column(title, justify="right")
    if with_slo:
        table.add_column("SLO met by", justify="right")
    for title in ("requests", "failed"):
        table.add_column(title, justify="right")
    table.add_column("server")
    for load in loads:
        cells = [load.number(name, stat).words(unit) for _, name, stat, unit in columns]
        if with_slo:
            cells.append(load.attainment().words("ratio"))
        state = "falls behind" if load.behind else "" if load.is_users else "keeps up"
        if not load.usable:
            state = "invalid"
        table.add_row(load.words, *cells, f"{load.num_requests:,}", f"{load.num_failed:,}", state)
    return table
