"""An answer about trainings as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.cli.recommend_tables import (
    asked_words,
    closing,
    deployment_words,
    evidence_words,
    flag_numbers,
    footnotes,
    no_answer_words,
    plain,
)
from results.metrics import Unit
from results.recommendation.answer import Answer, Between, Recommendation
from results.recommendation.profile import Profile
from results.units import format_value

# Knobs that a table of trainings always names, in this order; the rest where they are no default.
_FIRST = (
    "strategy", "micro_batch_size", "gradient_accumulation_steps", "precision",
    "activation_checkpointing", "compile",
)  # fmt: skip
_SHORT = {
    "micro_batch_size": "micro",
    "gradient_accumulation_steps": "accumulation",
    "activation_checkpointing": "recompute",
}
_QUIET = ("learning_rate", "num_workers", "tensor_parallel_size", "watchdog_s")
# What says that something is not done.
_OFF: Mapping[str, tuple[object, ...]] = {
    "gradient_accumulation_steps": (1,),
    "activation_checkpointing": ("none",),
    "compile": (False,),
    "data": ("synthetic",),
    "loader_workers": (0,),
    "checkpoint_every_steps": (0,),
    "cpu_devices_per_worker": (1,),
}


def training_tables(answer: Answer) -> RenderableType:
    parts: list[RenderableType] = [Text(f"\n{_asked(answer)}", style="bold")]
    if answer.no_answer is not None:
        parts += no_answer_words(answer.no_answer, how)
    else:
        parts += [_ranked(answer), _details(answer), *footnotes(answer)]
    return Group(*parts, *closing(answer))


def _asked(answer: Answer) -> str:
    q = answer.question
    said = [
        f"training of {q.model or 'any model'}",
        f"sequences of {q.sequence_length} tokens" if q.sequence_length else "",
        f"{q.sequences_per_step} of them a step" if q.sequences_per_step else "",
        f"{q.training_tokens:g} tokens in all" if q.training_tokens else "",
        q.precision,
        str(q.objective),
    ]
    return asked_words(answer, said, "configurations")


def _ranked(answer: Answer) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("hardware", no_wrap=True)
    # Time and money come from the throughput, and are as uncertain as it is: one column says that.
    names = ["tokens/s", "95 %", "per chip", "step", "MFU", "memory", "startup", "$/M tok"]
    whole = answer.question.training_tokens is not None
    for name in [*names, *(("hours", "$ in all") if whole else ()), "Pareto"]:
        table.add_column(name, justify="right", no_wrap=True)
    numbers = flag_numbers(answer)
    for one in answer.recommendations:
        marks = ",".join(str(numbers[flag]) for flag in one.flags)
        hardware = deployment_words(one.profile.machine, 1) + (f" [{marks}]" if marks else "")
        table.add_row(str(one.rank), hardware, *_figures(one, whole), str(one.pareto_rank))
    return table


def _figures(one: Recommendation, whole: bool) -> list[str]:
    t = one.training
    assert t is not None  # an answer about trainings has nothing else
    figures = [
        _value(t.tokens_per_s),
        _share(t.tokens_per_s),
        _value(t.tokens_per_s_per_chip),
        _value(t.step_time_s, Unit.SECONDS),
        "n/a" if t.mfu is None else f"{t.mfu.value:.1%}",
        _value(t.peak_memory_bytes, Unit.BYTES),
        _value(t.startup_s, Unit.SECONDS),
        _value(t.usd_per_million_tokens),
    ]
    return [*figures, _value(t.hours), _value(t.usd)] if whole else figures


def _value(one: Between | None, unit: Unit | None = None) -> str:
    if one is None:
        return "n/a"
    return plain(one.value) if unit is None else format_value(one.value, unit)


def _share(one: Between | None) -> str:
    """Half of the interval as a share of the value: ``±2.1 %``."""
    if one is None or one.low is None or one.high is None or not one.value:
        return "n/a"
    return f"±{50.0 * (one.high - one.low) / one.value:.2g} %"


def _details(answer: Answer) -> Table:
    """What runs on each, in a line; what stands behind it, and against what it was better."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("#", justify="right")
    table.add_column("configuration")
    for one in answer.recommendations:
        model = "" if answer.question.model else f"{one.profile.configuration.model}: "
        better = one.profile.improvement
        against = ""
        if better is not None:
            interval = "" if better.low is None else f" ({better.low:.3g}–{better.high:.3g})"
            against = f"; {better.metric} ×{better.ratio:.3g}{interval} of the study's baseline"
        behind = f"profile {one.profile.profile_id}, {evidence_words(one.profile)}"
        table.add_row(f"#{one.rank}", f"{model}{how(one.profile)} ({behind}{against})")
    return table


def how(profile: Profile) -> str:
    """The configuration in a line: ``torch 2.13.0 fsdp=8 micro=4 …``."""
    c, step = profile.configuration, profile.training
    parallel = [f"{name}={n}" for name, n in c.parallelism.items()]
    known = [n for n in _FIRST if n in c.engine_args]
    rest = [n for n in c.engine_args if n not in (*_FIRST, *_QUIET)]
    knobs = [
        f"{_SHORT.get(n, n)}={_knob(c.engine_args[n])}"
        for n in (*known, *rest)
        if c.engine_args[n] not in _OFF.get(n, ())
    ]
    shape = f"{step.sequences_per_step} x {step.sequence_length} a step" if step else ""
    return " ".join(
        filter(None, [c.model_server, c.model_server_version, *parallel, *knobs, shape])
    )


def _knob(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
