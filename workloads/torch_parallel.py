"""How the model is laid over the ranks: DDP, FSDP2, tensor parallelism, or nobody but oneself.

A mesh of (data, tensor) ranks, tensor-parallel neighbours next to each other: rank r computes part
r % P of the model for data-parallel rank r // P. Tensor parallelism cuts each block's matrices by
columns, then by rows (Megatron-LM's scheme), so that a block needs two all-reduces forward and two
backward. Embedding and norms are whole on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from workloads.batches import Feed
from workloads.params import TorchWorkload
from workloads.torch_model import Transformer

_COLUMNS = (
    "attention.query",
    "attention.key",
    "attention.value",
    "feed_forward.gate",
    "feed_forward.up",
)
_ROWS = ("attention.out", "feed_forward.down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where one rank stands. ``exchanges``: whether ranks tell each other anything at all."""

    feed: Feed
    tensor_index: int
    tensor_size: int
    exchanges: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """``module`` is what is called and saved. ``last(True)`` surrounds the backward pass that
    exchanges the gradients, ``last(False)`` those before it in the same step."""

    module: nn.Module
    last: Callable[[bool], AbstractContextManager[None]]


def layout_of(params: TorchWorkload, rank: int, world_size: int) -> Layout:
    parts = params.tensor_parallel_size
    return Layout(
        feed=Feed(index=rank // parts, num=world_size // parts),
        tensor_index=rank % parts,
        tensor_size=parts,
        exchanges=params.communication == "all" and world_size > 1,
    )


def place(
    model: Transformer, params: TorchWorkload, layout: Layout, device: torch.device
) -> Placed:
    """``model`` is whole, on ``device`` and the same on every rank; it is changed in place."""
    if params.strategy == "ddp" and layout.tensor_size == 1:
        if params.compile:
            _compile(model)
        return _data_parallel(model, layout, device)
    mesh = _mesh(layout, device)
    if layout.tensor_size > 1:
        _split_tensors(model, mesh["tensor"])
    if params.compile:
        _compile(model)
    if params.strategy == "fsdp2":
        return _sharded(model, params, mesh["data"])
    return Placed(module=model, last=lambda _: nullcontext())


def _mesh(layout: Layout, device: torch.device) -> DeviceMesh:
    """Of a job that does not communicate, the data axis of each rank is itself alone: its shards
    are the whole model, and everything else of FSDP2 is there and costs what it costs."""
    num, parts = layout.feed.num, layout.tensor_size
    if layout.exchanges:
        return init_device_mesh(device.type, (num, parts), mesh_dim_names=("data", "tensor"))
    alone = init_device_mesh(device.type, (num, 1, 1), mesh_dim_names=("jobs", "data", "tensor"))
    return alone["data", "tensor"]


def _data_parallel(model: nn.Module, layout: Layout, device: torch.device) -> Placed:
    if not layout.exchanges:
        return Placed(module=model, last=lambda _: nullcontext())
    ddp = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=False,  # they are tables of angles, the same for ever
        gradient_as_bucket_view=True,  # one copy of every gradient less
    )
    return Placed(module=ddp, last=lambda last: nullcontext() if last else ddp.no_sync())


def _split_tensors(model: Transformer, mesh: DeviceMesh) -> None:
    plan = {name: ColwiseParallel() for name in _COLUMNS}
    rows = {name: RowwiseParallel() for name in _ROWS}
    for block in model.blocks:
        parallelize_module(block, mesh, {**plan, **rows})
    parallelize_module(model, mesh, {"head": ColwiseParallel(output_layouts=Replicate())})


def _sharded(model: Transformer, params: TorchWorkload, mesh: DeviceMesh) -> Placed:
    """Each block is gathered when it is computed; the root holds what is in no block. Gradients are
    summed in float32 whatever the arithmetic is."""
    policy = MixedPrecisionPolicy()
    if params.precision == "bfloat16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    assert isinstance(model, FSDPModule)
    sharded: FSDPModule = model

    def last(is_last: bool) -> AbstractContextManager[None]:
        sharded.set_is_last_backward(is_last)
        sharded.set_requires_gradient_sync(is_last)
        return nullcontext()

    return Placed(module=model, last=last)


def _compile(model: Transformer) -> None:
    """Block by block: they share their code, so that it is compiled once, and what is wrapped
    around a block stays outside."""
    for block in model.blocks:
        block.compile()


def make_optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW. One group per mesh that parameters live on: a fused update takes tensors of one kind
    only, and tensor parallelism leaves some whole."""
    by_mesh: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        by_mesh.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
    groups = [{"params": parameters} for parameters in by_mesh.values()]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1)


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter as if nothing were split. Every rank has to ask for it."""
    full = getattr(parameter, "full_tensor", None)
    return full() if full is not None else parameter
