"""What a training cannot be meant to do: every fault of its knobs, with what is accepted. Pure.

Nothing here knows what computes the training, nor where: the same for every engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from workloads.errors import LaunchRefused
from workloads.params import JaxWorkload, TokenFiles, TorchWorkload
from workloads.torch_shape import PRESETS, ModelShape


class KnobFault(NamedTuple):
    """``says`` completes the knob's name to a sentence."""

    path: tuple[str, ...]
    says: str


Faults = Iterator[KnobFault]
Rule = tuple[str, Callable[[float], bool], str]

_LEAST: tuple[tuple[str, float], ...] = (
    ("num_workers", 1),
    ("num_steps", 1),
    ("num_warmup_steps", 0),
    ("micro_batch_size", 1),
    ("sequence_length", 2),
    ("seed", 0),
    ("threads_per_worker", 1),
    ("tensor_parallel_size", 1),
    ("gradient_accumulation_steps", 1),
    ("loader_workers", 0),
    ("prefetch_batches", 1),
    ("checkpoint_every_steps", 0),
    ("watchdog_s", 0),
)
_ABOVE_0 = ("learning_rate", "cpus_per_worker")


Params = TorchWorkload | JaxWorkload


def require_trainable(params: TorchWorkload) -> None:
    """Raise LaunchRefused, with every fault found, unless ``params`` can be trained with."""
    refuse_faults(training_faults(params))


def refuse_faults(found: Faults) -> None:
    """Raise LaunchRefused with all of them, if there are any."""
    faults = list(found)
    if faults:
        raise LaunchRefused(
            "; ".join(f"workload.{'.'.join(fault.path)}: {fault.says}" for fault in faults)
        )


def training_faults(params: TorchWorkload) -> Faults:
    """Every fault; none where a job can be started, the hardware allowing."""
    yield from knob_faults(params)
    if not any(_numbers(params)):
        yield from _layout(params)


def knob_faults(params: Params) -> Faults:
    """Faults that do not depend on how the model is laid out over workers or devices."""
    yield from _numbers(params)
    if params.num_warmup_steps >= params.num_steps >= 1:
        yield KnobFault(
            ("num_warmup_steps",),
            f"found {params.num_warmup_steps}; accepted: less than num_steps = {params.num_steps}, "
            "which counts the warm-up steps too",
        )
    yield from _data(params)
    yield from _checkpoints(params)


def num_data_ranks(params: TorchWorkload) -> int:
    """How many parts of the batch are computed side by side."""
    return params.num_workers // params.tensor_parallel_size


def _numbers(params: Params) -> Faults:
    for name, least in _LEAST:
        value = getattr(params, name)
        if not (math.isfinite(value) and value >= least):
            yield KnobFault((name,), f"found {value}; accepted: at least {least}")
    for name in _ABOVE_0:
        value = getattr(params, name)
        if not (math.isfinite(value) and value > 0):
            yield KnobFault((name,), f"found {value}; accepted: more than 0")


def _layout(params: TorchWorkload) -> Faults:
    parts, workers = params.tensor_parallel_size, params.num_workers
    if workers % parts:
        yield KnobFault(
            ("tensor_parallel_size",),
            f"found {parts}; num_workers is {workers}, and each copy of the model takes "
            f"{parts} of them",
        )
        return
    if params.preset in PRESETS:
        yield from _split(PRESETS[params.preset], params)
    ranks = num_data_ranks(params)
    if parts > 1 and params.strategy == "ddp" and ranks > 1:
        yield KnobFault(
            ("strategy",),
            f"found ddp with {ranks} data-parallel ranks of {parts} tensor-parallel workers each; "
            "PyTorch's DDP does not go with tensor parallelism: accepted: fsdp2",
        )
    if params.communication == "none" and parts > 1:
        yield KnobFault(
            ("communication",),
            f"found none; a worker cannot train alone with a part of the model "
            f"(tensor_parallel_size is {parts})",
        )
    yield from _batch(params, ranks)


def _split(shape: ModelShape, params: TorchWorkload) -> Faults:
    """Heads are whole; columns are cut into equal parts."""
    parts = params.tensor_parallel_size
    for what, number in (
        ("key-value heads", shape.num_kv_heads),
        ("hidden columns", shape.hidden_dim),
        ("tokens in its vocabulary", shape.vocab_size),
    ):
        if number % parts:
            yield KnobFault(
                ("tensor_parallel_size",),
                f"found {parts}; preset {params.preset} has {number} {what}, which do not split "
                "evenly",
            )


def _batch(params: TorchWorkload, ranks: int) -> Faults:
    asked = params.global_batch_size
    have = ranks * params.micro_batch_size * params.gradient_accumulation_steps
    if asked is None or asked == have:
        return
    per_rank = f"{ranks} data-parallel ranks x gradient_accumulation_steps = "
    per_rank += f"{params.gradient_accumulation_steps}"
    share, rest = divmod(asked, ranks * params.gradient_accumulation_steps)
    advice = (
        f"it does not divide into {per_rank}"
        if rest or share < 1
        else f"with {per_rank}, micro_batch_size must be {share}, and is {params.micro_batch_size}"
    )
    yield KnobFault(("global_batch_size",), f"found {asked}; {advice}")


def _data(params: Params) -> Faults:
    if not isinstance(params.data, TokenFiles):
        return
    for name in ("path", "column"):
        if not getattr(params.data, name).strip():
            yield KnobFault(("data", name), "is empty; name the files and their column")


def _checkpoints(params: Params) -> Faults:
    if (params.checkpoint_every_steps or params.resume) and not params.checkpoint_dir:
        yield KnobFault(
            ("checkpoint_dir",),
            "is empty; name a folder that every worker's node reaches, or make no checkpoints",
        )
    if params.checkpoint_every_steps and params.communication == "none":
        yield KnobFault(
            ("checkpoint_every_steps",),
            f"found {params.checkpoint_every_steps}; with communication: none there are as many "
            "models as workers, and none is worth keeping: accepted: 0",
        )
