"""From a run's spec to its forecast: which of its numbers the arithmetic knows, and what they are.

Only what is known is forecast: a model whose shape stands in the table or in a local
``config.json``, an accelerator that has a data sheet, traffic whose lengths have a mean. Everything
else is a sentence, and the study then begins without a forecast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.spec import RunSpec
from tuners.analytic import Forecast, forecast
from tuners.goals import Wish
from tuners.memory_fit import memory_fit
from tuners.seeds import Predict
from tuners.serving import Load, Serving
from tuners.space import Config
from workloads.model_shape import PRESETS, ModelShape
from workloads.params import MadeModel, SimulatedWorkload, VllmWorkload
from workloads.simulated.accelerators import ACCELERATORS, MODELS
from workloads.traffic.lengths import mean_length
from workloads.traffic.spec import ClosedLoop, Traffic

# What a forecast has, by metric; every statistic of a metric is ranked by the same number.
_OF_METRIC: Mapping[str, Callable[[Forecast, Load], float]] = {
    "output_throughput": lambda f, _: f.output_throughput,
    "output_throughput_per_chip": lambda f, _: f.output_throughput_per_chip,
    "ttft_s": lambda f, _: f.ttft_s,
    "tpot_s": lambda f, _: f.tpot_s,
    "itl_s": lambda f, _: f.tpot_s,
    "e2e_s": lambda f, load: f.ttft_s + f.tpot_s * load.output_tokens,
    "ntpot_s": lambda f, load: f.tpot_s + f.ttft_s / load.output_tokens,
}
_EIGHT_BIT = ("fp8", "int8", "w8a8", "compressed-tensors")
_ROUNDS = 20  # of the fixed point between a rate and what is in flight; it settles in a few


def predictor(spec_of: Callable[[Config], RunSpec], wish: Wish, base: RunSpec) -> Predict | str:
    """What seeds a study of ``base``, or why nothing can."""
    strange = [
        name
        for name in (*(g.metric for g in wish.goals), *(b.metric for b in wish.bounds))
        if name not in _OF_METRIC
    ]
    if strange:
        return f"no arithmetic forecasts {', '.join(dict.fromkeys(strange))}"
    known = serving_of(base)
    if isinstance(known, str):
        return known
    if base.traffic is None:
        return "the workload has no traffic"

    def predict(config: Config) -> Mapping[str, float] | str:
        spec = spec_of(config)
        serving = serving_of(spec)
        if isinstance(serving, str):
            return serving
        fit = memory_fit(serving)
        if not fit.fits:
            return fit.describe()
        seen = _under(serving, spec.traffic or base.traffic)  # type: ignore[arg-type]
        if seen is None:
            return fit.describe()
        found, load = seen
        names = [
            *((g.name, g.metric) for g in wish.goals),
            *((b.name, b.metric) for b in wish.bounds),
        ]
        return {name: _OF_METRIC[metric](found, load) for name, metric in names}

    return predict


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
