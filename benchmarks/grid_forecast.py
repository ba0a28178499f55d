"""What the shipped forecast says of a grid's configurations, where the grid says which model on
which chip and its knobs are ones that the arithmetic knows. It never sees the table's answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.grid_file import Column, Table
from tuners.analytic import forecast
from tuners.memory_fit import memory_fit
from tuners.predict import FORECASTS, model_shape
from tuners.serving import Load, Serving
from workloads.simulated.accelerators import ACCELERATORS

if TYPE_CHECKING:
    from benchmarks.replay import Question

# Names under which grids have the knobs that the forecast reads.
_NAMES = {
    "tp": ("tp", "tp_size", "tensor_parallel_size", "tensor-parallel-size"),
    "pp": ("pp", "pp_size", "pipeline_parallel_size", "pipeline-parallel-size"),
    "seqs": ("max_num_seqs", "max-num-seqs", "batch_size", "concurrency"),
    "tokens": ("max_num_batched_tokens", "max-num-batched-tokens"),
    "quant": ("quant", "quantization", "gemm_quant_mode", "precision"),
    "kv": ("kv", "kv_cache_dtype", "kv-cache-dtype"),
}
_EIGHT_BIT = ("fp8", "int8", "w8a8", "compressed-tensors")
# The estimator behind the grids fills the memory to this share and says what does not fit.
_USABLE = 0.96
_DEFAULT_TOKENS = 8192  # vLLM's on chips of 70 GiB and more

Knobs = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecaster:
    """``predict``: of a configuration and its row; ``why_none``: why it forecasts nothing."""

    predict: Callable[[Knobs, Row], Mapping[str, float] | str]
    why_none: str = ""


def forecaster(table: Table, question: Question, columns: Mapping[str, Column]) -> Forecaster:
    """By the model's shape and the chip's data sheet; none, with the reason, where one is missing.
    What has more GPUs than a node is refused all the same."""
    names = [*table.constants, *(knob.path for knob in table.knobs)]
    found = {
        part: next((n for n in aliases if n in names), None) for part, aliases in _NAMES.items()
    }

    max_gpus = question.max_gpus

    def too_many(knobs: Knobs) -> str:
        gpus = [knobs[name] for part in ("tp", "pp") if (name := found[part])]
        asked = gpus[0] * (gpus[1] if len(gpus) == 2 else 1) if gpus else 1
        return f"{asked} GPUs are asked; a node has {max_gpus}" if asked > max_gpus else ""

    why = _why_none(question, found, columns)
    if why:
        return Forecaster(predict=lambda knobs, _: too_many(knobs) or {}, why_none=why)

    # Estimators warn of a cache that cannot hold all sequences at full length; engines do not.
    holds_all = any("warn" in row for row in table.rows.values())

    def predict(knobs: Knobs, _: Row) -> Mapping[str, float] | str:
        refused = too_many(knobs)
        if refused:
            return refused
        return _said(_serving(question, found, knobs), question, columns, holds_all)

    return Forecaster(predict=predict)


def _why_none(
    question: Question, found: Mapping[str, str | None], columns: Mapping[str, Column]
) -> str:
    if model_shape(question.model) is None:
        return f"the shape of the model {question.model or '(not named)'} is not known"
    if question.chip not in ACCELERATORS:
        return f"no data sheet of {question.chip or '(no chip named)'} is in the table"
    strange = [name for name, column in columns.items() if column.metric not in FORECASTS]
    if strange:
        return f"no arithmetic forecasts {', '.join(strange)}"
    bare = [" or ".join(_NAMES[part]) for part in ("tp", "seqs") if found[part] is None]
    return f"no column is {'; and none '.join(bare)}" if bare else ""


def _serving(question: Question, found: Mapping[str, str | None], knobs: Knobs) -> Serving:
    def value(part: str, default: Any) -> Any:
        name = found[part]
        given = knobs.get(name) if name else None
        return default if given is None else given

    model = model_shape(question.model)
    assert model is not None
    eight_bit = str(value("quant", "")).startswith(_EIGHT_BIT)
    pp = int(value("pp", 1))
    return Serving(
        model=model,
        chip=ACCELERATORS[question.chip],
        tensor_parallel_size=int(value("tp", 1)),
        pipeline_parallel_size=pp,
        max_num_seqs=int(value("seqs", 256)) * pp,  # the grids count those of one stage
        max_num_batched_tokens=int(value("tokens", _DEFAULT_TOKENS)),
        max_model_len=question.input_tokens + question.output_tokens,
        gpu_memory_utilization=_USABLE,
        weight_bytes=1.0 if eight_bit else None,
        kv_bytes=1 if str(value("kv", "")).startswith("fp8") else None,
        flops_factor=2.0 if eight_bit else 1.0,
    )


def _said(
    serving: Serving, question: Question, columns: Mapping[str, Column], holds_all: bool
) -> Mapping[str, float] | str:
    needed = serving.max_num_seqs * serving.max_model_len if holds_all else None
    fit = memory_fit(serving, needed_tokens=needed)
    load = Load(
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
        concurrency=serving.max_num_seqs,
    )
    seen = forecast(serving, load) if fit.fits else None
    if seen is None:
        return fit.describe()
    return {column.name: FORECASTS[column.metric](seen, load) for column in columns.values()}
