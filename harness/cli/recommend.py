"""``windtunnel recommend``: what to deploy, from what has been measured."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
import yaml

from harness.cli.exits import Exit, told
from harness.cli.load_options import with_groups
from harness.cli.lookups import end_of, fresh_lookup, past_lookup, price_book
from harness.cli.options import Json, Store, store_of
from harness.cli.output import print_json, stdout
from harness.cli.question_options import (
    Asking,
    AsOf,
    Format,
    Narrowed,
    PriceFiles,
    day_of,
)
from harness.cli.recommend_tables import answer_tables
from harness.cli.recommend_training import training_tables
from results.clock import SystemClock
from results.recommendation.answer import FLAG_WORDS, Answer

SCHEMA = "windtunnel.recommendations/1"


@with_groups
def recommend(
    *,
    asking: Asking,
    narrowed: Narrowed,
    prices: PriceFiles = None,
    as_of: AsOf = None,
    format_: Annotated[Format, typer.Option("--format")] = Format.TABLE,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Say which deployment serves a model and its traffic, or trains it, from what was measured.

    Every answer carries its configuration, load point, intervals, cost and evidence. Where nothing
    will do, it says what stands in the way, what comes nearest and what to measure next, and the
    exit code is 4.

    Examples: `windtunnel recommend --model Qwen/Qwen3-32B --use-case chat --rate 20
    --target-ttft-milliseconds 1000 --prices prices.yaml` ·
    `windtunnel recommend --model Qwen/Qwen3-32B --objective pareto --format yaml` ·
    `windtunnel recommend --model 8b --use-case training --training-tokens 2e9 --prices prices.yaml`
    """
    shown = Format.JSON if as_json else format_
    with told(shown is Format.JSON):
        question = narrowed.of(asking.question())
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
            stdout().print(
                training_tables(answer) if answer.question.is_training else answer_tables(answer)
            )


def answer_document(answer: Answer) -> dict[str, Any]:
    """The answer as JSON-like data, with the meaning of every flag in it."""
    document: dict[str, Any] = msgspec.to_builtins(answer)
    shown = list(answer.recommendations)
    if answer.no_answer is not None:
        shown += [miss.recommendation for miss in answer.no_answer.nearest]
    used = {flag for one in shown for flag in one.flags}
    return {**document, "flags": {str(flag): FLAG_WORDS[flag] for flag in sorted(used)}}
