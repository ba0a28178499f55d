"""The options that say what is to be deployed: shared by the commands that ask for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import SpecError
from harness.pricefile import WAYS_TO_PAY
from results.clock import SystemClock
from results.recommendation.question import (
    ALLOWED,
    TRAINING,
    USE_CASES,
    Allowed,
    Objective,
    Question,
    Target,
)

_CASES = ", ".join(
    f"{name} ({u.input_tokens}/{u.output_tokens} tokens)" for name, u in USE_CASES.items()
)

Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", help="The model to serve; the preset, where one is trained."
    ),
]
Server = Annotated[
    str,
    typer.Option(
        "--model-server", metavar="NAME", help="vllm, sglang, trtllm, …; of a training torch, jax."
    ),
]
ServerVersion = Annotated[
    str,
    typer.Option(
        "--model-server-version", metavar="V", help="This version only, superseded or not."
    ),
]
Case = Annotated[
    str,
    typer.Option(
        "--use-case",
        metavar="NAME",
        help=f"Lengths: {_CASES}; or {TRAINING}: how to train the model instead.",
    ),
]
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
CostRatio = Annotated[
    float, typer.Option(help="How many times an output token costs an input token.")
]
Goal = Annotated[Objective, typer.Option("--objective", help="What the first of the list is.")]
Allow = Annotated[
    str,
    typer.Option(
        "--allow",
        metavar="KINDS",
        help="Estimates too, marked as such: transferred, analytic, or both with a comma. "
        "`windtunnel forecast` makes them.",
    ),
]
SequenceLength = Annotated[int | None, typer.Option(help="Of a training: tokens of a sequence.")]
SequencesPerStep = Annotated[
    int | None, typer.Option(help="Of a training: sequences of one step, of all ranks.")
]
TrainingTokens = Annotated[
    float | None,
    typer.Option(help="Of a training: tokens in all, such as 2e9; gives its hours and its cost."),
]
Precision = Annotated[str, typer.Option(help="Of a training: float32 or bfloat16.")]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The model, its traffic, its targets, and how it is paid for."""

    model: Model = ""
    use_case: Case = ""
    input_tokens: InputTokens = None
    output_tokens: OutputTokens = None
    rate: Rate = None
    concurrency: Concurrency = None
    target_ttft: Ttft = None
    target_itl: Itl = None
    target_tpot: Tpot = None
    target_ntpot: Ntpot = None
    target_e2e: E2e = None
    percentile: Percentile = None
    accelerator: Accelerators = None
    region: Region = ""
    pricing_model: Capacity = ""
    output_input_cost_ratio: CostRatio = 4.0
    objective: Goal = Objective.CHEAPEST
    with_simulated: WithSimulated = False
    allow: Allow = ""
    sequence_length: SequenceLength = None
    sequences_per_step: SequencesPerStep = None
    training_tokens: TrainingTokens = None
    precision: Precision = ""

    def question(self) -> Question:
        """Raises SpecError or InvalidQuestion."""
        return Question(
            model=self.model,
            use_case=self.use_case,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            rate_rps=self.rate,
            concurrency=self.concurrency,
            targets=self._targets(),
            accelerators=tuple(self.accelerator or ()),
            region=self.region,
            capacity=_way_to_pay(self.pricing_model),
            output_input_cost_ratio=self.output_input_cost_ratio,
            objective=self.objective,
            with_simulated=self.with_simulated,
            allow=allowed(self.allow),
            sequence_length=self.sequence_length,
            sequences_per_step=self.sequences_per_step,
            training_tokens=self.training_tokens,
            precision=self.precision,
        )

    def _targets(self) -> tuple[Target, ...]:
        limits_ms = {
            "ttft_s": self.target_ttft,
            "itl_s": self.target_itl,
            "tpot_s": self.target_tpot,
            "ntpot_s": self.target_ntpot,
            "e2e_s": self.target_e2e,
        }
        targets = tuple(
            Target(metric=metric, limit_s=limit_ms / 1e3, percentile=self.percentile)
            for metric, limit_ms in limits_ms.items()
            if limit_ms is not None
        )
        if self.percentile is not None and not targets:
            raise SpecError("--percentile says which statistic a target is of; name a target too")
        return targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowed:
    """What else must hold, and which evidence is good enough."""

    probability: Annotated[
        float | None,
        typer.Option(help="Of keeping all targets in the next run, at least, such as 0.95."),
    ] = None
    max_error_share: Annotated[
        float | None, typer.Option(help="Of requests not answered in full, at most.")
    ] = None
    machine_type: Annotated[
        list[str] | None, typer.Option("--machine-type", help="May be repeated.")
    ] = None
    topology: Annotated[str, typer.Option(help="Of a TPU slice, such as 2x4.")] = ""
    max_accelerators: Annotated[
        int | None, typer.Option(help="Chips of all replicas together, at most.")
    ] = None
    max_cost: Annotated[
        float | None,
        typer.Option(help="$ per million output tokens (of a training: tokens), at most."),
    ] = None
    max_cost_per_hour: Annotated[
        float | None, typer.Option(help="$ per hour of all replicas, at most.")
    ] = None
    min_throughput: Annotated[
        float | None,
        typer.Option(help="Output tokens (of a training: tokens) per second in all, at least."),
    ] = None
    max_hours: Annotated[
        float | None, typer.Option(help="Of a training of --training-tokens, at most.")
    ] = None
    max_cost_of_run: Annotated[
        float | None, typer.Option(help="$ of a training of --training-tokens, at most.")
    ] = None
    max_final_loss: Annotated[
        float | None, typer.Option(help="Of a training: at the end of the measured steps, at most.")
    ] = None
    model_server: Server = ""
    model_server_version: ServerVersion = ""
    measured_only: Annotated[
        bool, typer.Option("--measured-only", help="Nothing imported or transferred.")
    ] = False
    max_age_days: Annotated[
        float | None, typer.Option(help="Of the last measurement, at most.")
    ] = None
    min_repeats: Annotated[int, typer.Option(help="Runs behind an answer, at least.")] = 1
    fresh_only: Annotated[
        bool, typer.Option("--fresh-only", help="Nothing stale by engine version or drift.")
    ] = False
    limit: Annotated[int, typer.Option(help="Recommendations, at most.")] = 10

    def of(self, question: Question) -> Question:
        """Raises InvalidQuestion."""
        max_cost = self.max_cost
        return replace(
            question,
            max_cost_usd_per_million_output_tokens=None if question.is_training else max_cost,
            max_cost_usd_per_million_training_tokens=max_cost if question.is_training else None,
            model_server=self.model_server,
            model_server_version=self.model_server_version,
            probability=self.probability,
            max_error_share=self.max_error_share,
            max_cost_usd_per_hour=self.max_cost_per_hour,
            max_accelerators=self.max_accelerators,
            min_throughput=self.min_throughput,
            max_hours=self.max_hours,
            max_cost_usd=self.max_cost_of_run,
            max_final_loss=self.max_final_loss,
            machine_types=tuple(self.machine_type or ()),
            topology=self.topology,
            measured_only=self.measured_only,
            max_age_days=self.max_age_days,
            min_repeats=self.min_repeats,
            fresh_only=self.fresh_only,
            limit=self.limit,
        )


def _way_to_pay(name: str) -> str:
    """GIQ says 3-years-cud; both are taken."""
    plain = name.replace("-years-", "-year-")
    if plain and plain not in WAYS_TO_PAY:
        raise SpecError(f"--pricing-model {name}: there are {', '.join(WAYS_TO_PAY)}")
    return plain


def allowed(text: str) -> tuple[Allowed, ...]:
    """Raises SpecError for a kind that is none."""
    named = [part.strip() for part in text.split(",") if part.strip()]
    strange = [name for name in named if name not in ALLOWED]
    if strange:
        raise SpecError(f"--allow {strange[0]}: there are {', '.join(ALLOWED)}")
    return tuple(kind for kind in ALLOWED if kind in named)


def day_of(when: datetime | None) -> date | None:
    """Raises SpecError for a day that has not begun: nothing can have been measured by its end."""
    if when is None:
        return None
    today = SystemClock().now_utc().date()
    if when.date() > today:
        raise SpecError(f"--as-of {when.date()}: that day is yet to come; today is {today} (UTC)")
    return when.date()
