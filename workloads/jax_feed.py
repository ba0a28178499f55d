"""A step's tokens, made on the host and put where the mesh wants them. Imports JAX."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax import Array
from jax.sharding import NamedSharding

from workloads.batches import Feed, batches_of
from workloads.jax_layout import MeshLayout
from workloads.params import JaxWorkload
from workloads.torch_shape import shape_of


def tokens_shape(params: JaxWorkload, layout: MeshLayout) -> tuple[int, int, int]:
    """(G, B, T + 1): a step's tokens over all processes."""
    return (
        params.gradient_accumulation_steps,
        layout.num_feeds * params.micro_batch_size,
        params.sequence_length + 1,
    )


class MeshFeed:
    """The tokens of the steps from ``first_step`` on, in order. Each feed of the layout is what a
    data-parallel rank of the torch workload has; only this process's are made here.

    ``close`` ends what makes batches ahead. Raises TrainingDataUnusable, ``next`` too.
    """

    def __init__(
        self, params: JaxWorkload, layout: MeshLayout, sharding: NamedSharding, first_step: int = 0
    ) -> None:
        self.size = tokens_shape(params, layout)
        self._rows, self._sharding = params.micro_batch_size, sharding
        vocab_size = shape_of(params.preset).vocab_size
        here = sharding.addressable_devices_indices_map(self.size).values()
        self._batches = {
            index: batches_of(
                params,
                vocab_size,
                Feed(index=index, num=layout.num_feeds),
                first_step,
                params.num_steps,
            )
            for index in sorted({self._feed_of(part) for part in here})
        }

    def num_tokens_of(self, rank: int, world_size: int) -> int:
        """The rank's share of a step's tokens; the last position of a sequence is a target only."""
        batches, rows, length = self.size
        share, rest = divmod(batches * rows * (length - 1), world_size)
        return share + (rank < rest)

    def next(self) -> Array:
        """The tokens of the next step, on the devices."""
        made = {index: batches.next() for index, batches in self._batches.items()}

        def part(index: Any) -> npt.NDArray[np.int32]:
            first, last, _ = index[1].indices(self.size[1])
            start = first % self._rows
            rows = made[self._feed_of(index)][:, start : start + last - first]
            return rows.astype(np.int32)

        put = jax.make_array_from_callback(self.size, self._sharding, part)
        put.block_until_ready()
        return put

    def close(self) -> None:
        for batches in self._batches.values():
            batches.close()

    def _feed_of(self, index: Any) -> int:
        """A shard is within one feed's rows."""
        first: int = index[1].indices(self.size[1])[0]
        return first // self._rows
