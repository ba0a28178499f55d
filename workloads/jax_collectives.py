"""The collectives of XLA over a mesh of devices, each of which is a rank. Imports JAX.

A visit is one compiled program that loops over its calls on the devices, each of which has to wait
for the one before: so Python is asked once and not for each call, XLA can neither leave a call out
nor make two at once, and compiling is over before anything is timed. What the one ask costs stays
in the visit's time, shared by its calls; the same program with no calls tells how much it is.
"""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from workloads.base import TrainRank
from workloads.collective_truth import GIVES_ALL, expected, given
from workloads.collectives import DTYPE_BYTES, Place
from workloads.jax_group import choose_devices, join, leave
from workloads.jax_layout import MeshLayout
from workloads.jax_step import make_mesh
from workloads.params import CollectivesWorkload

_AXIS = "data"
_EACH = PartitionSpec(_AXIS)  # of (n · count,): each device has ``count`` of its own
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_EMPTY_VISITS = 20

Held = tuple[Array, Array]  # between two calls: what a device gives, and what it was given


class JaxMover:
    """``mesh`` has one axis that counts: ``data``. Programs are compiled when they are first used,
    which is in the warm-up."""

    def __init__(self, params: CollectivesWorkload, rank: TrainRank, mesh: Mesh) -> None:
        self._rank, self._mesh = rank, mesh
        self._dtype, self._element_bytes = _DTYPES[params.dtype], DTYPE_BYTES[params.dtype]
        self._lies = NamedSharding(mesh, _EACH)
        self._programs: dict[tuple[str, int], Any] = {}
        self._held: dict[tuple[str, int], Held] = {}
        self._times = {n: self._number(n) for n in (0, 1, params.calls_per_round)}
        self._last: tuple[str, int] | None = None

    @property
    def num_ranks(self) -> int:
        return int(self._mesh.devices.size)

    def facts(self) -> Mapping[str, Any]:
        first = self._mesh.devices.flat[0]
        return {
            "backend": f"xla:{first.platform}",
            "device": first.device_kind,
            "packages": {
                "jax": jax.__version__,
                "jaxlib": importlib.metadata.version("jaxlib"),
                "python": platform.python_version(),
            },
        }

    def observed(self) -> Mapping[str, Any]:
        """``dispatch_s``: the median time of a visit without calls, of the last visit's program."""
        if self._last is None:
            return {}
        took_s = []
        for _ in range(_EMPTY_VISITS):
            self.barrier()
            start_s = self._rank.now_s()
            self._run(*self._last, 0)
            took_s.append(self._rank.now_s() - start_s)
        return {"dispatch_s": statistics.median(took_s)}

    def barrier(self) -> None:
        """An all-reduce of one element for each device."""
        self._run("all_reduce", 1, 1)

    def call(self, collective: str, size_bytes: int, times: int) -> None:
        self._last = (collective, size_bytes // self._element_bytes)
        self._run(*self._last, times)

    def num_wrong(self, collective: str, size_bytes: int) -> int:
        count, n = size_bytes // self._element_bytes, self.num_ranks
        put = self._put(n, lambda rank: given(collective, count, n, rank))
        held = (put, self._zeros(collective, count)[1])
        _, result = self._program(collective, count)(held, self._times[1])
        wrong = 0
        for part in result.addressable_shards:
            must = expected(collective, count, n, self._rank_of(part.index))
            wrong += int((np.asarray(part.data).astype(np.float32) != must).sum())
        return wrong

    def close(self) -> None:
        leave(self._rank)

    def _run(self, collective: str, count: int, times: int) -> None:
        key = (collective, count)
        held = self._held.pop(key, None) or self._zeros(collective, count)
        program = self._program(collective, count)
        if times not in self._times:
            self._times[times] = self._number(times)
        self._held[key] = jax.block_until_ready(program(held, self._times[times]))

    def _program(self, collective: str, count: int) -> Any:
        """Takes what is held, which it consumes, and the number of calls."""
        if (collective, count) not in self._programs:
            one = _CALLS[collective]

            def again(_: Array, held: Held) -> Held:
                """What is given stays the same, and yet the next call has to wait for this one."""
                after: Held = jax.lax.optimization_barrier((held[0], one(held[0])))
                return after

            def calls(held: Held, times: Array) -> Held:
                after: Held = jax.lax.fori_loop(0, times, again, held)
                return after

            self._programs[collective, count] = jax.jit(
                jax.shard_map(
                    calls,
                    mesh=self._mesh,
                    in_specs=(_EACH, PartitionSpec()),
                    out_specs=_EACH,
                    check_vma=False,
                ),
                donate_argnums=0,
            )
        return self._programs[collective, count]

    def _zeros(self, collective: str, count: int) -> Held:
        share = count // self.num_ranks
        gives = count if collective in GIVES_ALL else share
        takes = share if collective == "reduce_scatter" else count
        return (
            self._put(self.num_ranks, lambda _: np.zeros(gives, np.float32)),
            self._put(self.num_ranks, lambda _: np.zeros(takes, np.float32)),
        )

    def _put(self, num_ranks: int, of_rank: Callable[[int], Any]) -> Array:
        """(n · count,): ``of_rank`` makes the (count,) of each rank."""
        size = num_ranks * len(of_rank(0))
        return jax.make_array_from_callback(
            (size,),
            self._lies,
            lambda index: of_rank(self._rank_of(index)).astype(self._dtype),
        )

    def _rank_of(self, index: Any) -> int:
        """Of the device that holds this part of an array of equal parts."""
        first, stop = index[0].start or 0, index[0].stop
        return 0 if stop is None else first // (stop - first)

    def _number(self, value: int) -> Array:
        whole = NamedSharding(self._mesh, PartitionSpec())
        return jax.make_array_from_callback((), whole, lambda _: np.array(value, np.int32))


def _all_to_all(mine: Array) -> Array:
    taken: Array = jax.lax.all_to_all(mine, _AXIS, split_axis=0, concat_axis=0, tiled=True)
    return taken


_CALLS: Mapping[str, Callable[[Array], Array]] = {
    "all_reduce": partial(jax.lax.psum, axis_name=_AXIS),
    "all_gather": partial(jax.lax.all_gather, axis_name=_AXIS, tiled=True),
    "reduce_scatter": partial(jax.lax.psum_scatter, axis_name=_AXIS, tiled=True),
    "all_to_all": _all_to_all,
}


def open_mover(params: CollectivesWorkload, rank: TrainRank, place: Place) -> JaxMover:
    choose_devices(place.device, place.num_local_devices)
    join(rank, place.device)
    layout = MeshLayout(
        data=rank.world_size * place.num_local_devices,
        fsdp=1,
        tensor=1,
        num_local=place.num_local_devices,
        num_slices=place.num_slices,
    )
    return JaxMover(params, rank, make_mesh(layout))
