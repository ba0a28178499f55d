"""A step's tokens, made on the host and put where the mesh wants them. Imports JAX."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax import Array
from jax.sharding import NamedSharding

from workloads.jax_layout import MeshLayout
from workloads.params import JaxWorkload
from workloads.torch_data import TokenStream
from workloads.torch_shape import shape_of

Batches = dict[int, npt.NDArray[np.int32]]  # by feed: (G, micro_batch_size, T + 1)


class Feed:
    """``size`` is (G, B, T + 1), over all processes. Threads that make batches ahead
    (``loader_workers``) are started with the first step and end with ``close``."""

    def __init__(self, params: JaxWorkload, layout: MeshLayout, sharding: NamedSharding) -> None:
        self._params, self._sharding = params, sharding
        self._stream = TokenStream.make(shape_of(params.preset).vocab_size, params.seed)
        self.size = (
            params.gradient_accumulation_steps,
            layout.num_feeds * params.micro_batch_size,
            params.sequence_length + 1,
        )
        here = sharding.addressable_devices_indices_map(self.size).values()
        self._feeds = sorted({self._feed_of(index) for index in here})
        self._ahead: dict[int, Future[Batches]] = {}
        workers = params.loader_workers
        self._pool = ThreadPoolExecutor(workers) if workers else None

    def num_tokens_of(self, rank: int, world_size: int) -> int:
        """The rank's share of a step's tokens; the last position of a sequence is a target only."""
        batches, rows, length = self.size
        share, rest = divmod(batches * rows * (length - 1), world_size)
        return share + (rank < rest)

    def tokens(self, step: int) -> Array:
        """The tokens of a step, on the devices; only this process's rows are made here."""
        made = self._made(step)

        def part(index: Any) -> npt.NDArray[np.int32]:
            first, last, _ = index[1].indices(self.size[1])
            start = first % self._params.micro_batch_size
            return made[self._feed_of(index)][:, start : start + last - first]

        put = jax.make_array_from_callback(self.size, self._sharding, part)
        put.block_until_ready()
        return put

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _feed_of(self, index: Any) -> int:
        """A shard is within one feed's rows."""
        first: int = index[1].indices(self.size[1])[0]
        return first // self._params.micro_batch_size

    def _made(self, step: int) -> Batches:
        if self._pool is None:
            return self._make(step)
        last = min(step + self._params.prefetch_batches, self._params.num_steps - 1)
        for coming in range(step, last + 1):
            if coming not in self._ahead:
                self._ahead[coming] = self._pool.submit(self._make, coming)
        return self._ahead.pop(step).result() if step in self._ahead else self._make(step)

    def _make(self, step: int) -> Batches:
        """Micro-batch g of feed f is the stream's batch of step · G + g and rank f."""
        params, num_micro = self._params, self.size[0]
        return {
            feed: np.stack(
                [
                    self._stream.batch(
                        step * num_micro + g, feed, params.micro_batch_size, params.sequence_length
                    )
                    for g in range(num_micro)
                ]
            ).astype(np.int32)
            for feed in self._feeds
        }
