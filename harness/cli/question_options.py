"""The options that say what is to be deployed: shared by the commands that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import SpecError
from harness.pricefile import WAYS_TO_PAY
from results.recommendation.question import USE_CASES, Objective, Target

_CASES = ", ".join(
    f"{name} ({u.input_tokens}/{u.output_tokens} tokens)" for name, u in USE_CASES.items()
)

Model = Annotated[str, typer.Option("--model", metavar="NAME", help="The model to serve.")]
Server = Annotated[
    str, typer.Option("--model-server", metavar="NAME", help="vllm, sglang, trtllm, …")
]
ServerVersion = Annotated[
    str,
    typer.Option(
        "--model-server-version", metavar="V", help="This version only, superseded or not."
    ),
]
Case = Annotated[str, typer.Option("--use-case", metavar="NAME", help=f"Lengths: {_CASES}.")]
InputTokens = Annotated[
    float | None, typer.Option("--input-tokens", help="Mean prompt, in tokens.")
]
OutputTokens = Annotated[
    float | None, typer.Option("--output-tokens", help="Mean answer, in tokens.")
]
Rate = Annotated[
    float | None, typer.Option("--rate", help="Requests per second, of all replicas together.")
]
Concurrency = Annotated[
    float | None, typer.Option("--concurrency", help="Instead of a rate: requests in flight.")
]
Ttft = Annotated[
    float | None, typer.Option("--target-ttft-milliseconds", help="Time to first token, at most.")
]
Itl = Annotated[
    float | None,
    typer.Option("--target-itl-milliseconds", help="Gap between output tokens, at most."),
]
Tpot = Annotated[
    float | None,
    typer.Option("--target-tpot-milliseconds", help="Time per output token after the first."),
]
Ntpot = Annotated[
    float | None,
    typer.Option(
        "--target-ntpot-milliseconds", help="End-to-end time over output tokens, at most."
    ),
]
E2e = Annotated[
    float | None, typer.Option("--target-e2e-milliseconds", help="Send to last token, at most.")
]
Percentile = Annotated[
    float | None,
    typer.Option(
        "--percentile",
        help="Of every target: only evidence that states it counts. Without it: the median, else "
        "the mean, else a figure whose source does not say which it is.",
    ),
]
Accelerators = Annotated[
    list[str] | None,
    typer.Option("--accelerator", metavar="NAME", help="H100, TPU-V6E, …; may be repeated."),
]
Region = Annotated[
    str, typer.Option("--region", help="The region to price for; performance is the same in all.")
]
Capacity = Annotated[
    str,
    typer.Option(
        "--pricing-model",
        metavar="NAME",
        help=f"How it is paid for: {', '.join(WAYS_TO_PAY)}. Default: as it was measured.",
    ),
]
PriceFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        help="YAML or CSV of prices; may be repeated, the last one comes first.",
    ),
]
Goal = Annotated[Objective, typer.Option("--objective", help="What the first of the list is.")]
WithSimulated = Annotated[
    bool, typer.Option("--with-simulated", help="Simulated evidence too, marked as such.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        formats=["%Y-%m-%d"],
        metavar="YYYY-MM-DD",
        help="Answer with what had been measured by the end of that day (UTC).",
    ),
]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def targets_of(
    percentile: float | None,
    *,
    ttft: float | None = None,
    itl: float | None = None,
    tpot: float | None = None,
    ntpot: float | None = None,
    e2e: float | None = None,
) -> tuple[Target, ...]:
    """Milliseconds in, targets out."""

    def each() -> Iterator[Target]:
        for metric, limit_ms in (
            ("ttft_s", ttft),
            ("itl_s", itl),
            ("tpot_s", tpot),
            ("ntpot_s", ntpot),
            ("e2e_s", e2e),
        ):
            if limit_ms is not None:
                yield Target(metric=metric, limit_s=limit_ms / 1e3, percentile=percentile)

    targets = tuple(each())
    if percentile is not None and not targets:
        raise SpecError("--percentile says which statistic a target is about; name a target too")
    return targets


def check_way_to_pay(name: str) -> str:
    """GIQ says 3-years-cud; both are taken."""
    plain = name.replace("-years-", "-year-")
    if plain and plain not in WAYS_TO_PAY:
        raise SpecError(f"--pricing-model {name}: there are {', '.join(WAYS_TO_PAY)}")
    return plain


def day_of(when: datetime | None) -> date | None:
    return None if when is None else when.date()
