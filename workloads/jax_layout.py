"""How a training's devices, parameters and tokens are laid out. Pure: JAX is not needed for it.

The mesh has three axes. ``data``: each part has other tokens and a copy of the model. ``fsdp``:
each part has other tokens and a part of the model, gathered when it is used. ``tensor``: the parts
share every matrix and have the same tokens. Neighbours on ``tensor`` are neighbours in the machine;
``data`` alone crosses from slice to slice, where the network is slowest and gradients, once a step,
are all that has to be sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from workloads.errors import LaunchRefused
from workloads.params import JaxWorkload
from workloads.torch_shape import shape_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshLayout:
    """``data`` × ``fsdp`` × ``tensor`` devices, ``num_local`` of them in each process.

    A *feed* is a batch of ``micro_batch_size`` sequences of its own. Each process has one, unless
    a tensor-parallel group spans processes: those then share one.
    """

    data: int
    fsdp: int
    tensor: int
    num_local: int
    num_slices: int = 1

    @property
    def num_devices(self) -> int:
        return self.data * self.fsdp * self.tensor

    @property
    def num_shards(self) -> int:
        """Into how many parts the tokens of a micro-batch are split."""
        return self.data * self.fsdp

    @property
    def num_feeds(self) -> int:
        return min(self.num_devices // self.num_local, self.num_shards)

    @property
    def shards_per_feed(self) -> int:
        return self.num_shards // self.num_feeds

    @property
    def whole_model(self) -> bool:
        """Whether each device has all of the model."""
        return self.fsdp == self.tensor == 1

    def describe(self) -> str:
        return (
            f"mesh of {self.data} data × {self.fsdp} fsdp × {self.tensor} tensor devices, "
            f"{self.num_local} per worker"
        )


def layout_of(params: JaxWorkload, num_local: int, num_slices: int) -> MeshLayout:
    """Raises LaunchRefused where the devices cannot be laid out so."""
    num_devices, tensor = params.num_workers * num_local, params.tensor_parallel_size
    per_slice = num_devices // num_slices
    if per_slice % tensor:
        raise LaunchRefused(
            f"workload.tensor_parallel_size is {tensor}, which does not divide the {per_slice} "
            f"devices {'of a slice' if num_slices > 1 else 'there are'} "
            f"({params.num_workers} workers × {num_local})"
        )
    if num_local % tensor and tensor % num_local:
        raise LaunchRefused(
            f"workload.tensor_parallel_size is {tensor} and each worker has {num_local} devices: "
            "one of the two must divide the other"
        )
    shards = per_slice // tensor
    split = params.strategy == "fsdp2"
    return MeshLayout(
        data=num_slices if split else num_slices * shards,
        fsdp=shards if split else 1,
        tensor=tensor,
        num_local=num_local,
        num_slices=num_slices,
    )


def refuse_uneven(params: JaxWorkload, layout: MeshLayout) -> None:
    """XLA splits arrays into equal parts only. Raises LaunchRefused."""
    shape = shape_of(params.preset)
    parts = (
        ("micro_batch_size", params.micro_batch_size, layout.shards_per_feed, "data shards"),
        ("num_kv_heads of the preset", shape.num_kv_heads, layout.tensor, "tensor-parallel parts"),
        ("vocab_size of the preset", shape.vocab_size, layout.tensor, "tensor-parallel parts"),
        ("hidden_dim of the preset", shape.hidden_dim, layout.tensor, "tensor-parallel parts"),
        ("dim of the preset", shape.dim, layout.fsdp, "fsdp parts"),
    )
    for what, number, into, of in parts:
        if number % into:
            raise LaunchRefused(
                f"workload: {what} is {number}, which does not split into {into} {of} "
                f"({layout.describe()})"
            )
