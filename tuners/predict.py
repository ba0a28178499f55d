"""From a run's spec to its forecast: which of its numbers the arithmetic knows, what they are, and
what is known to fail.

Only what is known is forecast: a model whose shape stands in the table or in a local
``config.json``, an accelerator that has a data sheet, traffic whose lengths have a mean. Everything
else is a sentence, and the study then begins without a forecast; what the engine refuses and what
no memory holds is foreseen all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.fitting import num_chips
from harness.spec import RunSpec
from tuners.analytic import Forecast, forecast
from tuners.goals import Wish
from tuners.memory_fit import memory_fit
from tuners.seeds import Predict
from tuners.serving import Load, Serving, most_memory_bytes
from tuners.space import Config
from tuners.training_fit import jax_fit, torch_fit
from workloads.errors import LaunchRefused
from workloads.jax_layout import layout_of
from workloads.model_shape import PRESETS, ModelShape
from workloads.params import (
    JaxWorkload,
    MadeModel,
    SimulatedWorkload,
    TorchWorkload,
    VllmWorkload,
)
from workloads.simulated.accelerators import ACCELERATORS, MODELS
from workloads.traffic.lengths import mean_length
from workloads.traffic.spec import ClosedLoop, Traffic

# What a forecast has, by metric; every statistic of a metric is ranked by the same number.
FORECASTS: Mapping[str, Callable[[Forecast, Load], float]] = {
    "output_throughput": lambda f, _: f.output_throughput,
    "output_throughput_per_chip": lambda f, _: f.output_throughput_per_chip,
    # At one dollar a chip-hour: what a chip really costs is a factor, and found like any other.
    "cost_per_million_output_tokens_usd": lambda f, load: (
        1e6 / 3600 / f.output_throughput_per_chip / (1 + load.input_tokens / load.output_tokens / 4)
    ),
    "ttft_s": lambda f, _: f.ttft_s,
    "tpot_s": lambda f, _: f.tpot_s,
    "itl_s": lambda f, _: f.tpot_s,
    "e2e_s": lambda f, load: f.ttft_s + f.tpot_s * load.output_tokens,
    "ntpot_s": lambda f, load: f.tpot_s + f.ttft_s / load.output_tokens,
}
_EIGHT_BIT = ("fp8", "int8", "w8a8", "compressed-tensors")
_ROUNDS = 20  # of the fixed point between a rate and what is in flight; it settles in a few


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """``predict``: of a configuration its forecast, nothing, or why it cannot run.
    ``why_no_forecast``: a sentence where nothing is ever forecast."""

    predict: Predict
    why_no_forecast: str = ""


def foresight(spec_of: Callable[[Config], RunSpec], wish: Wish, base: RunSpec) -> Foresight:
    """What is known of the configurations of ``base`` before any is run. ``spec_of`` raises
    SpecError for a configuration that is none."""
    names = [
        *((g.name, g.metric) for g in wish.goals),
        *((b.name, b.metric) for b in wish.bounds),
    ]
    why = _why_no_forecast(base, [metric for _, metric in names])

    def predict(config: Config) -> Mapping[str, float] | str:
        try:
            spec = spec_of(config)
        except SpecError as error:
            return str(error)
        refused = refusal(spec)
        if refused:
            return refused
        found = {} if why else forecasts_of(spec)
        return {} if isinstance(found, str) or not found else {n: found[m] for n, m in names}

    return Foresight(predict=predict, why_no_forecast=why)


def _why_no_forecast(base: RunSpec, metrics: Sequence[str]) -> str:
    strange = [name for name in dict.fromkeys(metrics) if name not in FORECASTS]
    if strange:
        return f"no arithmetic forecasts {', '.join(strange)}"
    known = serving_of(base)
    if isinstance(known, str):
        return known
    return "" if base.traffic is not None else "the workload has no traffic"


def refusal(spec: RunSpec) -> str:
    """Why a run is sure to fail, or "". Never of one that might not."""
    workload = spec.workload
    if isinstance(workload, VllmWorkload | SimulatedWorkload):
        return _refused_by_scheduler(spec) or _too_much_to_serve(spec)
    if isinstance(workload, TorchWorkload | JaxWorkload):
        return _too_much_to_train(spec)
    return ""


def _refused_by_scheduler(spec: RunSpec) -> str:
    """What vLLM's SchedulerConfig checks before anything is loaded (0.32, config/scheduler.py)."""
    arguments: Any = getattr(spec.workload, "engine_args", {})
    tokens, seqs = (arguments.get(n) for n in ("max-num-batched-tokens", "max-num-seqs"))
    length = arguments.get("max-model-len")
    if spec.workload.kind != "vllm" or not _is_number(tokens):
        return ""
    if _is_number(seqs) and tokens < seqs:
        return f"max-num-batched-tokens is {tokens}, fewer than the {seqs} of max-num-seqs"
    whole = arguments.get("enable-chunked-prefill") is False
    if whole and _is_number(length) and tokens < length:
        return (
            f"max-num-batched-tokens is {tokens}; without chunked prefill a prompt of "
            f"max-model-len {length} must fit into one step"
        )
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _too_much_to_serve(spec: RunSpec) -> str:
    serving = serving_of(spec)
    if isinstance(serving, str):
        return ""
    fit = memory_fit(serving, memory_bytes=most_memory_bytes(serving.chip))
    return "" if fit.fits else fit.describe()


def _too_much_to_train(spec: RunSpec) -> str:
    """Where every ask names a chip whose memory is known, and none of them is enough."""
    workload, said = spec.workload, ""
    for ask in spec.hardware:
        chip = ACCELERATORS.get(ask.accelerator)
        if chip is None:
            return ""
        memory = most_memory_bytes(chip)
        if isinstance(workload, TorchWorkload):
            fit = torch_fit(workload, memory)
        else:
            assert isinstance(workload, JaxWorkload)
            local, rest = divmod(num_chips(spec, ask), workload.num_workers)
            if rest or not local:
                return ""  # the plan says so, with its numbers
            try:
                fit = jax_fit(workload, layout_of(workload, local, num_slices=1), memory)
            except LaunchRefused as refused:
                return str(refused) if not ask.topology else ""
        if fit.fits:
            return ""
        said = f"{fit.describe()} on {ask.accelerator}"
    return said


def forecasts_of(spec: RunSpec) -> Mapping[str, float] | str:
    """What the arithmetic says of a run, by metric; empty where it says nothing of this one; or why
    it knows nothing."""
    serving = serving_of(spec)
    if isinstance(serving, str):
        return serving
    if spec.traffic is None:
        return "the workload has no traffic"
    seen = _under(serving, spec.traffic)
    if seen is None:
        return {}
    found, load = seen
    return {name: value(found, load) for name, value in FORECASTS.items()}


def _under(serving: Serving, traffic: Traffic) -> tuple[Forecast, Load] | None:
    """A closed loop has its users in flight; an open one what Little's law keeps there."""
    lengths = {
        "input_tokens": mean_length(traffic.prompt_tokens),
        "output_tokens": mean_length(traffic.output_tokens),
    }
    arrivals = traffic.arrivals
    if isinstance(arrivals, ClosedLoop):
        load = Load(**lengths, concurrency=arrivals.num_users)
        found = forecast(serving, load)
        return None if found is None else (found, load)
    rate = getattr(arrivals, "rate_rps", 1.0)
    load = Load(**lengths, concurrency=1)
    for _ in range(_ROUNDS):
        found = forecast(serving, load)
        if found is None:
            return None
        inside = rate * (found.ttft_s + found.tpot_s * load.output_tokens)
        settled = max(1, min(round(inside), 100_000))
        if settled == load.concurrency:
            break
        load = Load(**lengths, concurrency=settled)
    return None if found is None else (found, load)


def serving_of(spec: RunSpec) -> Serving | str:
    """The deployment in numbers, or why it cannot be told."""
    workload = spec.workload
    if not isinstance(workload, VllmWorkload | SimulatedWorkload):
        return f"no arithmetic is known of a {workload.kind} workload"
    shape = model_shape(workload.model)
    if shape is None:
        return f"the shape of the model {workload.model} is not known here"
    asked = getattr(workload, "accelerator", "") or spec.hardware[0].accelerator
    chip = ACCELERATORS.get(asked)
    if chip is None:
        return f"no data sheet of {asked} is in the table"
    arguments: Mapping[str, Any] = workload.engine_args

    def number(name: str, default: float) -> float:
        value = arguments.get(name)
        return default if value is None or isinstance(value, str | bool) else float(value)

    eight_bit = str(arguments.get("quantization") or "").startswith(_EIGHT_BIT)
    tensor = number("tensor-parallel-size", workload.tensor_parallel_size)
    return Serving(
        model=shape,
        chip=chip,
        tensor_parallel_size=int(tensor),
        pipeline_parallel_size=int(number("pipeline-parallel-size", 1)),
        max_num_seqs=int(number("max-num-seqs", 256)),
        max_num_batched_tokens=int(number("max-num-batched-tokens", 2048)),
        max_model_len=int(number("max-model-len", shape.max_position_embeddings)),
        gpu_memory_utilization=number("gpu-memory-utilization", 0.92),
        weight_bytes=1.0 if eight_bit else None,
        kv_bytes=1 if str(arguments.get("kv-cache-dtype") or "").startswith("fp8") else None,
        flops_factor=2.0 if eight_bit and asked.startswith(("H", "B", "L4")) else 1.0,
    )


def model_shape(model: str | MadeModel) -> ModelShape | None:
    """Of a preset, a model of the table, or a local folder's ``config.json``; None: not known."""
    if isinstance(model, MadeModel):
        return PRESETS.get(model.preset)
    known = MODELS.get(model.rpartition("/")[2].lower().removesuffix("-instruct"))
    if known is not None:
        return known
    try:
        config = json.loads((Path(model).expanduser() / "config.json").read_text("utf-8"))
        heads = int(config["num_attention_heads"])
        return ModelShape(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads", heads),
            max_position_embeddings=config["max_position_embeddings"],
            head_dim=config.get("head_dim"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
