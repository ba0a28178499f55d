"""``windtunnel forecast``: what a model would do on hardware where it was never measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from harness.cli.exits import Exit, told
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json, stdout
from harness.cli.recommend_tables import deployment_words
from harness.errors import SpecError
from harness.spec import RunSpec
from results.clock import SystemClock
from results.metrics import Unit
from results.prices import plain_name
from results.recommendation.estimate import Estimate, Estimates, append_estimates
from results.recommendation.question import USE_CASES
from results.units import format_interval, format_value
from tuners.estimates import estimator, measured_specs
from workloads.params import VllmWorkload
from workloads.simulated.accelerators import ACCELERATORS
from workloads.traffic.spec import ClosedLoop, FixedLength, Traffic

_USERS = (1, 8, 32, 128)  # in flight at once, where neither evidence nor the user says
_SHOWN = 20


def forecast(
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The model to serve.")],
    accelerator: Annotated[
        list[str] | None,
        typer.Option("--accelerator", metavar="NAME", help="H100, TPU-V6E, …; may be repeated."),
    ] = None,
    use_case: Annotated[
        str, typer.Option(metavar="NAME", help=f"Lengths: {', '.join(USE_CASES)}.")
    ] = "",
    input_tokens: Annotated[int | None, typer.Option(help="Of a prompt.")] = None,
    output_tokens: Annotated[int | None, typer.Option(help="Of an answer.")] = None,
    concurrency: Annotated[
        list[int] | None,
        typer.Option(help="Requests in flight of one replica; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show them and keep none.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Estimate a model on hardware where it was never measured, and keep that as evidence.

    What was measured of the model elsewhere is scored again for the accelerator (transferred);
    other tensor-parallel sizes, and models that were never measured, are arithmetic (analytic).
    Without lengths the loads are those that were measured. Estimates carry a margin and, where
    enough could be checked, an interval; `windtunnel recommend --allow transferred,analytic`
    answers with them, marked as such. A measurement replaces its estimate.

    Example: `windtunnel forecast --model Qwen/Qwen3-32B --accelerator H200 --use-case chat`
    """
    with told(as_json):
        names = _accelerators(accelerator or ())
        kept, now = store_of(store), SystemClock().now_utc()
        found = estimator(kept.scan().records, now)
        lengths = _lengths(use_case, input_tokens, output_tokens)
        specs = _specs(model, measured_specs(found, model), lengths, concurrency or ())
        made, none = found.estimates(specs, names)
        event = ""
        if made and not dry_run:
            event = append_estimates(kept.objects, Estimates(made_at=now, estimates=made))
    if as_json:
        print_json(
            "windtunnel.forecast/1",
            {"event": event, "estimates": msgspec.to_builtins(made), "left_out": dict(none)},
        )
    else:
        _print(made, none, event)
    if not made:
        raise typer.Exit(Exit.INVALID)


def _accelerators(given: Sequence[str]) -> tuple[str, ...]:
    """As the table of data sheets spells them. Raises SpecError."""
    known = {plain_name(name): name for name in ACCELERATORS}
    if not given:
        raise SpecError(f"name one --accelerator at least; there are {', '.join(ACCELERATORS)}")
    strange = [name for name in given if plain_name(name) not in known]
    if strange:
        raise SpecError(
            f"--accelerator {strange[0]}: no data sheet is in the table; there are "
            f"{', '.join(ACCELERATORS)}"
        )
    return tuple(dict.fromkeys(known[plain_name(name)] for name in given))


def _lengths(use_case: str, inputs: int | None, outputs: int | None) -> tuple[int, int] | None:
    """Raises SpecError."""
    if use_case and use_case not in USE_CASES:
        raise SpecError(f"--use-case {use_case}: there are {', '.join(USE_CASES)}")
    case = USE_CASES.get(use_case)
    found = (
        inputs or (case.input_tokens if case else None),
        outputs or (case.output_tokens if case else None),
    )
    if found == (None, None):
        return None
    if found[0] is None or found[1] is None or min(found[0], found[1]) < 1:
        raise SpecError("lengths are both --input-tokens and --output-tokens, 1 or more")
    return found[0], found[1]


def _specs(
    model: str,
    measured: Sequence[RunSpec],
    lengths: tuple[int, int] | None,
    users: Sequence[int],
) -> list[RunSpec]:
    """Deployments that were measured under their loads, or under the asked one; the engine's
    defaults where none were. Raises SpecError."""
    if any(number < 1 for number in users):
        raise SpecError("--concurrency: at least one request is in flight")
    if lengths is None:
        if users:
            raise SpecError("--concurrency is of a load: give its lengths, or a --use-case")
        if not measured:
            raise SpecError(
                f"nothing was measured of {model} that could be a guide; give a --use-case, or "
                "--input-tokens and --output-tokens, and it is arithmetic alone"
            )
        return list(measured)
    workloads = {repr(s.workload): s.workload for s in measured}
    return [
        RunSpec(
            name="forecast",
            workload=workload,
            traffic=Traffic(
                arrivals=ClosedLoop(num_users=number),
                prompt_tokens=FixedLength(tokens=lengths[0]),
                output_tokens=FixedLength(tokens=lengths[1]),
            ),
        )
        for workload in (list(workloads.values()) or [VllmWorkload(model=model)])
        for number in (users or _USERS)
    ]


def _print(made: Sequence[Estimate], none: Counter[str], event: str) -> None:
    console = stdout()
    if made:
        console.print(_table(made[:_SHOWN]))
        if len(made) > _SHOWN:
            console.print(Text(f"… and {len(made) - _SHOWN} more (--json has all)", style="dim"))
        for words in dict.fromkeys(one.estimated.words for one in made):
            console.print(Text(words, style="yellow"))
    for why, number in sorted(none.items()):
        console.print(Text(f"no estimate of {number}: {why}", style="dim"))
    if event:
        console.print(Text(f"{len(made)} estimates kept; none of them was measured"))
        console.print(
            Text("`windtunnel recommend --allow transferred,analytic` answers with them"),
            style="dim",
        )


def _table(made: Sequence[Estimate]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("deployment", no_wrap=True)
    for name in ("tokens", "in flight", "output tok/s", "TTFT", "TPOT"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("estimate", no_wrap=True)
    for one in made:
        lengths = f"{one.traffic.input_tokens:g}/{one.traffic.output_tokens:g}"
        source = one.estimated.transferred_from
        table.add_row(
            deployment_words(one.machine, 1),
            lengths,
            "n/a" if one.concurrency is None else f"{one.concurrency:.3g}",
            _shown(one, "output_throughput", Unit.TOKENS_PER_S),
            _shown(one, "ttft_s", Unit.SECONDS),
            _shown(one, "tpot_s", Unit.SECONDS),
            f"{one.kind}, from {source}" if source else str(one.kind),
        )
    return table


def _shown(one: Estimate, metric: str, unit: Unit) -> str:
    found = [s for s in one.statistics if s.metric == metric and s.value is not None]
    if not found:
        return "n/a"
    best = min(found, key=lambda s: _order(s.statistic))
    assert best.value is not None
    text = format_value(best.value, unit)
    interval = format_interval(best.low, best.high, unit)
    return f"{text} ({interval})" if interval else text


def _order(statistic: str) -> int:
    known = ("value", "p50", "mean", "unstated")
    return known.index(statistic) if statistic in known else len(known)
