"""``windtunnel recommend``: what to deploy, from what has been measured."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
import yaml

from harness.cli.exits import Exit, told
from harness.cli.lookups import end_of, fresh_lookup, past_lookup, price_book
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json, stdout
from harness.cli.question_options import (
    Accelerators,
    AsOf,
    Capacity,
    Case,
    Concurrency,
    E2e,
    Format,
    Goal,
    InputTokens,
    Itl,
    Model,
    Ntpot,
    OutputTokens,
    Percentile,
    PriceFiles,
    Rate,
    Region,
    Server,
    ServerVersion,
    Tpot,
    Ttft,
    WithSimulated,
    check_way_to_pay,
    day_of,
    targets_of,
)
from harness.cli.recommend_tables import answer_tables
from results.clock import SystemClock
from results.recommendation.answer import FLAG_WORDS, Answer
from results.recommendation.question import Objective, Question

SCHEMA = "windtunnel.recommendations/1"


def recommend(
    model: Model = "",
    use_case: Case = "",
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    rate: Rate = None,
    concurrency: Concurrency = None,
    target_ttft: Ttft = None,
    target_itl: Itl = None,
    target_tpot: Tpot = None,
    target_ntpot: Ntpot = None,
    target_e2e: E2e = None,
    percentile: Percentile = None,
    probability: Annotated[
        float | None,
        typer.Option(help="Of keeping all targets in the next run, at least, such as 0.95."),
    ] = None,
    max_error_share: Annotated[
        float | None, typer.Option(help="Of requests not answered in full, at most.")
    ] = None,
    accelerator: Accelerators = None,
    machine_type: Annotated[
        list[str] | None, typer.Option("--machine-type", help="May be repeated.")
    ] = None,
    topology: Annotated[str, typer.Option(help="Of a TPU slice, such as 2x4.")] = "",
    max_accelerators: Annotated[
        int | None, typer.Option(help="Chips of all replicas together, at most.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="$ per million output tokens, at most.")
    ] = None,
    max_cost_per_hour: Annotated[
        float | None, typer.Option(help="$ per hour of all replicas, at most.")
    ] = None,
    min_throughput: Annotated[
        float | None, typer.Option(help="Output tokens per second of all replicas, at least.")
    ] = None,
    region: Region = "",
    pricing_model: Capacity = "",
    output_input_cost_ratio: Annotated[
        float, typer.Option(help="How many times an output token costs an input token.")
    ] = 4.0,
    prices: PriceFiles = None,
    objective: Goal = Objective.CHEAPEST,
    model_server: Server = "",
    model_server_version: ServerVersion = "",
    measured_only: Annotated[
        bool, typer.Option("--measured-only", help="Nothing imported or transferred.")
    ] = False,
    with_simulated: WithSimulated = False,
    max_age_days: Annotated[
        float | None, typer.Option(help="Of the last measurement, at most.")
    ] = None,
    min_repeats: Annotated[int, typer.Option(help="Runs behind an answer, at least.")] = 1,
    fresh_only: Annotated[
        bool, typer.Option("--fresh-only", help="Nothing stale by engine version or drift.")
    ] = False,
    limit: Annotated[int, typer.Option(help="Recommendations, at most.")] = 10,
    as_of: AsOf = None,
    format_: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say which deployment serves a model and its traffic, from what was measured.

    Every answer carries its configuration, load point, intervals, cost and evidence. Where nothing
    will do, it says what stands in the way, what comes nearest and what to measure next, and the
    exit code is 4.

    Examples: `windtunnel recommend --model Qwen/Qwen3-32B --use-case chat --rate 20
    --target-ttft-milliseconds 1000 --prices prices.yaml` ·
    `windtunnel recommend --model Qwen/Qwen3-32B --objective pareto --format yaml`
    """
    shown = Format.JSON if as_json else format_
    with told(shown is Format.JSON):
        question = Question(
            model=model,
            model_server=model_server,
            model_server_version=model_server_version,
            use_case=use_case,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            rate_rps=rate,
            concurrency=concurrency,
            targets=targets_of(
                percentile,
                ttft=target_ttft,
                itl=target_itl,
                tpot=target_tpot,
                ntpot=target_ntpot,
                e2e=target_e2e,
            ),
            probability=probability,
            max_error_share=max_error_share,
            max_cost_usd_per_million_output_tokens=max_cost,
            max_cost_usd_per_hour=max_cost_per_hour,
            max_accelerators=max_accelerators,
            min_throughput=min_throughput,
            accelerators=tuple(accelerator or ()),
            machine_types=tuple(machine_type or ()),
            topology=topology,
            region=region,
            capacity=check_way_to_pay(pricing_model),
            output_input_cost_ratio=output_input_cost_ratio,
            objective=objective,
            measured_only=measured_only,
            with_simulated=with_simulated,
            max_age_days=max_age_days,
            min_repeats=min_repeats,
            fresh_only=fresh_only,
            limit=limit,
        )
        book, kept = price_book(prices), store_of(store)
        day = day_of(as_of)
        if day is None:
            answer = fresh_lookup(kept, book).answer(question, SystemClock().now_utc())
        else:
            answer = past_lookup(kept, day, book).answer(question, end_of(day))
    _print(answer, shown)
    if answer.no_answer is not None:
        raise typer.Exit(Exit.INVALID)


def _print(answer: Answer, shown: Format) -> None:
    match shown:
        case Format.JSON:
            print_json(SCHEMA, answer_document(answer))
        case Format.YAML:
            document = {"schema": SCHEMA, **answer_document(answer)}
            print(  # noqa: T201
                yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end=""
            )
        case Format.TABLE:
            stdout().print(answer_tables(answer))


def answer_document(answer: Answer) -> dict[str, Any]:
    """The answer as JSON-like data, with the meaning of every flag in it."""
    document: dict[str, Any] = msgspec.to_builtins(answer)
    used = {flag for one in answer.recommendations for flag in one.flags}
    return {**document, "flags": {str(flag): FLAG_WORDS[flag] for flag in sorted(used)}}
